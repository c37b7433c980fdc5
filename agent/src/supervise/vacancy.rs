//! Held sockets behind which nobody is, nor is coming.
//!
//! While a program is started anew its visitors wait in the socket's queue, and lose nothing. Once it
//! is told to stop for good, or given up, they would wait for their time-outs: then the socket is closed,
//! so that they are refused at once and whoever sends them can turn to another host. The next start
//! opens it again.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{
    FdStore, Host, Inherited, OutputSink, machine::State, reconcile::socket_key, slot::Slot,
    task::Owner,
};
use crate::clock::WallClock;

/// How long a socket is held for nobody: longer than a stop and a start one after the other take.
const HELD_FOR: Duration = Duration::from_secs(3);

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// Notes which sockets nobody serves, and closes those that nobody served for a while.
    pub(super) fn let_go_of_vacant(&mut self) {
        if self.sockets.is_empty() {
            return;
        }
        let now = Instant::now();
        let served: BTreeSet<String> = self
            .slots
            .values()
            .filter(|s| is_served(s))
            .flat_map(|s| [s.spec.clone(), s.rules()])
            .flat_map(|spec| spec.sockets.iter().map(|s| socket_key(&s.listen)).collect::<Vec<_>>())
            .chain(
                self.slots.values().filter_map(Slot::shared_socket).map(|s| socket_key(&s.listen)),
            )
            .collect();
        self.vacant.retain(|key, _| !served.contains(key));
        for key in self.sockets.keys().filter(|k| !served.contains(*k)) {
            self.vacant.entry(key.clone()).or_insert(now);
        }
        let is_over = |(key, since): (&String, &Instant)| {
            *since + HELD_FOR <= now && self.sockets.contains_key(key)
        };
        if self.vacant.iter().any(is_over) {
            self.sort_out_sockets(&mut Inherited::new());
        }
    }

    /// Whether the sockets of this process were held for nobody for long enough.
    pub(super) fn is_vacant(&self, slot: &Slot<H>) -> bool {
        let now = Instant::now();
        let is_over = |since: &Instant| *since + HELD_FOR <= now;
        !is_served(slot)
            && slot
                .spec
                .sockets
                .iter()
                .any(|s| self.vacant.get(&socket_key(&s.listen)).is_some_and(is_over))
    }

    /// When the next socket is closed.
    pub(super) fn next_vacancy(&self) -> Option<Instant> {
        let held = self.vacant.iter().filter(|(key, _)| self.sockets.contains_key(*key));
        // Only what is to come: a socket that is still held by then is held for another reason.
        let now = Instant::now();
        held.map(|(_, since)| *since + HELD_FOR).filter(|due| *due > now).min()
    }
}

/// Whether somebody is there, or coming, to take connections.
fn is_served<H: Host>(slot: &Slot<H>) -> bool {
    match slot.state {
        State::Spawning { .. }
        | State::Starting { .. }
        | State::Running { .. }
        | State::Backoff { .. } => true,
        // One that stops takes no more connections, or soon none.
        State::Stopping { .. } | State::Stopped => slot.wanted || slot.comes_back,
        State::Exited | State::Fatal => false,
    }
}
