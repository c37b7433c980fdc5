//! What is asked of a process that runs: whether it is well, and how much memory it uses.
//!
//! One task for each question and process, from the moment it is up until it is not; it only tells,
//! and the owner of the table decides. A process that is not asked anything has no such task.

use std::time::Duration;

use palisade_types::{ByteSize, ProcessName};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{self, Instant},
};

use super::{
    FdStore, Health, Host, OutputSink, ProbeTarget,
    handle::{Event as Happening, Note},
    machine::State,
    task::{Mode, News, Owner},
    twin::Part,
};
use crate::clock::WallClock;

/// How often the memory of a process is looked at.
const MEMORY_EVERY: Duration = Duration::from_secs(5);

/// The least time between two replacements of a process for its memory.
pub(super) const RECYCLE_MIN: Duration = Duration::from_secs(300);

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// Starts to ask a process that runs what its settings say.
    pub(super) fn mind(&mut self, key: &ProcessName) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let (State::Running { pid }, Part::Current) = (slot.state, slot.part) else { return };
        let token = self.rest.child_token();
        slot.minders = Some(token.clone().drop_guard());
        if let Some(health) = slot.spec.health.clone() {
            let ask =
                ask_for_health(self.host.clone(), health, key.clone(), pid, self.news.clone());
            let token = token.clone();
            self.scope.spawn("health", async move {
                // Stopped at any moment: it holds nothing.
                token.run_until_cancelled(ask).await;
            });
        }
        if let Some(most) = slot.spec.upkeep.max_memory {
            let look = look_at_memory(self.host.clone(), most, key.clone(), pid, self.news.clone());
            self.scope.spawn("memory", async move {
                token.run_until_cancelled(look).await;
            });
        }
    }

    /// Whether this is the current instance of a process that is meant to run, and does.
    fn is_minded(&self, key: &ProcessName, pid: i32) -> bool {
        matches!(self.mode, Mode::Minding)
            && self.slots.get(key).is_some_and(|s| {
                s.part == Part::Current && s.wanted && s.state == State::Running { pid }
            })
    }

    pub(super) fn hear_well(&mut self, key: &ProcessName, pid: i32) {
        if !self.is_minded(key, pid) {
            return;
        }
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.past.repairs.helped();
        self.is_dirty |= slot.ill.take().is_some();
    }

    /// It failed to answer often enough to be restarted, unless that was tried lately and in vain.
    pub(super) fn hear_ill(&mut self, key: &ProcessName, pid: i32, why: String) {
        if !self.is_minded(key, pid) {
            return;
        }
        let Some(slot) = self.slots.get_mut(key) else { return };
        self.is_dirty = true;
        slot.ill = Some(why.clone());
        if slot.roll.is_none() && slot.past.repairs.may(Instant::now(), &slot.spec.name) {
            self.remark(key, Note::Unhealthy, why.clone());
            self.replace(key, &why, true);
        }
    }

    /// It uses more memory than it may before it is replaced.
    pub(super) fn hear_grown(&mut self, key: &ProcessName, pid: i32, bytes: u64, most: ByteSize) {
        if !self.is_minded(key, pid) {
            return;
        }
        let Some(slot) = self.slots.get_mut(key) else { return };
        let now = Instant::now();
        let is_too_soon = slot.past.recycled_at.is_some_and(|t| now < t + RECYCLE_MIN);
        if slot.roll.is_some() || is_too_soon {
            return;
        }
        slot.past.recycled_at = Some(now);
        let why = format!("it uses {} MiB, more than max_memory {most}", bytes >> 20);
        self.remark(key, Note::Recycled, why.clone());
        self.replace(key, &why, true);
    }

    /// Tells something about a process that is no change of its state.
    pub(super) fn remark(&mut self, key: &ProcessName, note: Note, why: String) {
        let wall = self.clock.now();
        if let Some(slot) = self.slots.get(key).filter(|s| s.part == Part::Current) {
            tracing::info!(process = %slot.spec.name, why, "{}", note.words());
            let happening = Happening { note: Some(note), ..slot.happening(wall, why) };
            // Without listeners nobody wants to know.
            drop(self.events.send(happening));
        }
    }
}

async fn ask_for_health<H: Host>(
    host: H,
    health: Health,
    key: ProcessName,
    pid: i32,
    news: mpsc::Sender<News>,
) {
    let (mut bad, mut was_well) = (0, false);
    loop {
        time::sleep(health.every).await;
        let told = if host.ask(&health.target, health.timeout).await {
            bad = 0;
            if std::mem::replace(&mut was_well, true) {
                continue;
            }
            News::Well(key.clone(), pid)
        } else {
            bad += 1;
            if bad < health.failures {
                continue;
            }
            (bad, was_well) = (0, false);
            let (what, n) = (target(&health.target), health.failures);
            News::Ill(key.clone(), pid, format!("unhealthy: no good answer from {what}, {n} times"))
        };
        if news.send(told).await.is_err() {
            return;
        }
    }
}

fn target(target: &ProbeTarget) -> String {
    match target {
        ProbeTarget::Tcp(addr) => format!("tcp {addr}"),
        ProbeTarget::Unix(path) => format!("unix {}", path.display()),
        ProbeTarget::Http { host, path, .. } => format!("http://{host}{path}"),
    }
}

async fn look_at_memory<H: Host>(
    host: H,
    most: ByteSize,
    key: ProcessName,
    pid: i32,
    news: mpsc::Sender<News>,
) {
    loop {
        time::sleep(MEMORY_EVERY).await;
        // It reads files, so it is done beside the agent's one thread.
        let (reader, of) = (host.clone(), [(key.clone(), pid)]);
        let Ok(seen) = spawn_blocking(move || reader.usage(&of)).await else { continue };
        let used = seen.get(&key).map_or(0, |r| r.memory);
        if used > most.bytes()
            && news.send(News::Grown(key.clone(), pid, used, most)).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
#[path = "minders_tests.rs"]
mod tests;
