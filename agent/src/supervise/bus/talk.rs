//! The bus and its listeners: who comes and goes, what they say, and what they are sent.

use std::io;

use palisade_types::{GroupName, ProcessName};
use tokio::time::Instant;

use super::{
    Join, Line,
    pool::{Numbered, Pool, Sent},
    protocol::{self, Phase, READY_LEN, Said},
    saved::{self, Last},
    task::{Bus, count},
};
use crate::{
    clock::WallClock,
    supervise::{Notes, WrittenTo},
};

impl<N: Notes, C: WallClock> Bus<N, C> {
    pub(super) fn pool_of(&mut self, name: &ProcessName) -> Option<&mut Pool> {
        let (group, _) = self.lines.get(name)?;
        self.pools.get_mut(group)
    }

    pub(super) fn join(&mut self, join: Join) {
        let Join { name, group, pid, is_adopted, is_up, line } = join;
        let Some(pool) = self.pools.get_mut(&group) else { return };
        let mut event = None;
        if is_adopted {
            let last = take_over(&self.notes, &name, pid, line.as_ref());
            if let Some(last) = &last {
                self.next = self.next.max(last.sent.serial + 1);
                pool.was_sent(last.sent, last.event.is_none());
            }
            // Noted, and the agent ended before it was sent: then it still is the next of its pool.
            let is_sent = line.written() != WrittenTo::No;
            match last.and_then(|l| l.unanswered()) {
                Some(unsent) if !is_sent => {
                    count(&mut self.dropped, &group, pool.put_back(unsent).len());
                }
                unanswered => event = unanswered,
            }
        } else {
            saved::forget_last(&self.notes, &name);
        }
        if event.is_none() {
            // Before it is sent anything, so that this tells what comes.
            mark(&name, line.as_ref());
        }
        pool.join(name.clone(), pid, event);
        pool.set_up(&name, is_up);
        self.lines.insert(name.clone(), (group, line));
        self.look(&name, None);
    }

    pub(super) fn leave(&mut self, name: &ProcessName, pid: i32) {
        if !self.is_member(name, pid) {
            return;
        }
        // Its last word may be an answer.
        self.look(name, None);
        let Some((group, _)) = self.lines.remove(name) else { return };
        let Some(pool) = self.pools.get_mut(&group) else { return };
        let gone = pool.leave(name);
        count(&mut self.dropped, &group, gone.len());
        self.save();
        saved::forget_last(&self.notes, name);
    }

    /// A listener of an earlier agent is gone, perhaps with its event unanswered.
    pub(super) fn lost(&mut self, name: &ProcessName, group: &GroupName) {
        let Some(last) = saved::last(&self.notes, name) else { return };
        if let Some(pool) = self.pools.get_mut(group) {
            self.next = self.next.max(last.sent.serial + 1);
            pool.was_sent(last.sent, last.event.is_none());
            let gone = last.unanswered().map(|e| pool.put_back(e)).unwrap_or_default();
            count(&mut self.dropped, group, gone.len());
            self.save();
        }
        saved::forget_last(&self.notes, name);
    }

    fn is_member(&mut self, name: &ProcessName, pid: i32) -> bool {
        self.pool_of(name).and_then(|p| p.member(name)).is_some_and(|m| m.pid == pid)
    }

    /// Reads what a listener said.
    pub(super) fn look(&mut self, name: &ProcessName, pid: Option<i32>) {
        if pid.is_some_and(|pid| !self.is_member(name, pid)) {
            return;
        }
        let mut seen = std::mem::take(&mut self.seen);
        // Each round takes something out, or ends; the phase alone changes once in between.
        while let Some((group, line)) = self.lines.get(name) {
            if let Err(e) = line.peek(&mut seen) {
                tracing::warn!(process = %name, error = %e, "listener not heard");
                break;
            }
            let group = group.clone();
            let Some(pool) = self.pools.get_mut(&group) else { break };
            let Some(phase) = pool.phase(name) else { break };
            let (said, bytes) = protocol::listen(phase, &seen);
            let is_over = said == Said::Nothing && bytes == 0;
            let in_hand = pool.in_hand(name);
            let is_done = said == Said::Done;
            let is_settled = is_done || matches!(said, Said::Refused | Said::Nonsense(_));
            let mut gone = Vec::new();
            match said {
                Said::Nothing => {}
                Said::Ready => pool.ready(name),
                Said::Done => pool.done(name),
                Said::Refused => {
                    tracing::warn!(process = %name, "event refused; it is sent again");
                    gone = pool.refused(name);
                }
                Said::Nonsense(text) => {
                    tracing::warn!(process = %name, text,
                        "listener does not keep to the protocol; it is sent no more events");
                    gone = pool.give_up(name);
                }
            }
            if let Some(sent) = in_hand.filter(|_| is_settled) {
                if !is_done {
                    // It waits again: written down before its note says that it is answered.
                    self.save();
                }
                self.answered(name, sent);
            }
            count(&mut self.dropped, &group, gone.len());
            let Some((_, line)) = self.lines.get(name) else { break };
            if let Err(e) = line.consume(bytes) {
                tracing::warn!(process = %name, error = %e, "listener not heard");
                break;
            }
            if is_over {
                break;
            }
        }
        self.seen = seen;
    }

    /// The event of a listener is dealt with. First the note and then the mark: an agent that finds
    /// the note of an event unanswered must find the mark of that event's sending.
    fn answered(&mut self, name: &ProcessName, sent: Sent) {
        saved::answered(&self.notes, name, sent);
        if let Some((_, line)) = self.lines.get(name) {
            mark(name, line.as_ref());
        }
    }

    /// Sends what waits to those that wait.
    pub(super) fn dispatch(&mut self) {
        for (group, pool) in &mut self.pools {
            while let Some((name, event)) = pool.next_send() {
                let name = name.clone();
                let Some((_, line)) = self.lines.get(&name) else { break };
                let Numbered { serial, pool_serial, .. } = *event;
                let pid = pool.member(&name).map_or(0, |m| m.pid);
                let sent = Sent { pid, serial, pool_serial, left: pool.left() + 1 };
                saved::about_to_send(&self.notes, &name, sent, &event.event);
                match line.offer(pool.envelope(event).as_bytes()) {
                    Ok(()) => {
                        if let Err(e) = line.consume(READY_LEN) {
                            tracing::warn!(process = %name, error = %e, "listener not heard");
                        }
                        pool.sent(&name);
                    }
                    Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                        tracing::error!(pool = %group, event = %event.event.name,
                            bytes = event.event.payload.len(), error = %e,
                            "event dropped: it fits into no pipe");
                        pool.discard();
                        saved::forget_last(&self.notes, &name);
                    }
                    Err(e) => {
                        tracing::warn!(process = %name, error = %e, "listener says that it is \
                            ready and does not read; it is sent no more events");
                        count(&mut self.dropped, group, pool.give_up(&name).len());
                        saved::forget_last(&self.notes, &name);
                    }
                }
                self.unsaved.get_or_insert_with(Instant::now);
            }
        }
    }
}

fn mark(name: &ProcessName, line: &dyn Line) {
    if let Err(e) = line.mark() {
        tracing::debug!(process = %name, error = %e, "pipe not marked");
    }
}

/// The last event that a listener was sent by an earlier agent. Takes out of its pipe what that agent
/// had dealt with.
fn take_over(notes: &impl Notes, name: &ProcessName, pid: i32, line: &dyn Line) -> Option<Last> {
    let last = saved::last(notes, name).filter(|last| last.sent.pid == pid);
    let is_busy =
        last.as_ref().is_some_and(|l| l.event.is_some()) && line.written() != WrittenTo::No;
    let phase = if is_busy { Phase::Busy } else { Phase::Acknowledged };
    let mut seen = Vec::new();
    let taken = line.peek(&mut seen).and_then(|()| line.consume(protocol::left_over(phase, &seen)));
    if let Err(e) = taken {
        tracing::warn!(process = %name, error = %e, "listener not heard");
    }
    last
}
