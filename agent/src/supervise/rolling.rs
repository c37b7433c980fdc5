//! Replacing a process while it serves: the new instance is up and ready before the old one is told
//! to stop, or it goes and the old one stays.
//!
//! That a process is to be replaced is a level on its slot ([`Roll`]); each turn looks at it and at
//! the instance beside it. So nothing is lost when the agent is killed in the middle: the next one
//! finds both, and goes on.
//!
//! ```text
//! Roll, nobody beside it -> enough memory? -> make an instance (Incoming) -> ready -> swap
//!                            no: stop, start        |                           old: Outgoing
//!                                                   +-> ended, not ready in time: it is Outgoing,
//!                                                       the old one stays, who asked is told
//! ```

use std::time::Duration;

use palisade_types::{ProcessName, ProgramName};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Exit, FdStore, Host, Inherited, ListenAddr, OutputSink, RollError, Rolled, UnknownName,
    handle::{Event as Happening, Note},
    machine::{Event, State},
    reconcile::address,
    slot::Slot,
    task::{Mode, Owner},
    twin::{Part, beside},
};
use crate::{clock::WallClock, errors::Chain};

/// How long one that had all its time to stop may take to be gone.
const TO_BE_GONE: Duration = Duration::from_secs(5);

/// What a request for a replacement is told.
pub(super) type RollReply = oneshot::Sender<Result<RollAnswer, UnknownName>>;

/// What comes of a request for a replacement, as far as the owner of the table goes.
#[derive(Debug)]
pub(super) enum RollAnswer {
    /// It is over.
    Over(Result<Rolled, RollError>),
    /// It is to be stopped and started: it has no overlap, does not run, or there is no room for two.
    Restart(Option<String>),
}

/// That a process is to be replaced.
#[derive(Debug, Default)]
pub(super) struct Roll {
    /// Why.
    pub(super) why: String,
    /// It is the agent's own doing, and counts as a restart.
    pub(super) is_own: bool,
    /// Who waits for it.
    pub(super) replies: Vec<RollReply>,
    /// What it waits for itself.
    pub(super) waits: Option<Wait>,
}

/// The instance before still goes, in the place of the one to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) pid: i32,
    /// It is waited for no longer than this.
    pub(super) until: Instant,
}

impl Roll {
    /// Tells those who asked; the last of them may be gone, then nobody wants to know.
    fn tell(self, answer: impl Fn() -> RollAnswer) {
        for reply in self.replies {
            drop(reply.send(Ok(answer())));
        }
    }
}

/// The program of a process that is to be replaced because its settings changed, which nobody waits for.
fn new_settings_of<H: Host>(slot: Option<&Slot<H>>) -> Option<ProgramName> {
    let slot = slot.filter(|s| !s.is_as_set())?;
    let is_asked_by_none = slot.roll.as_ref().is_some_and(|r| !r.is_own && r.replies.is_empty());
    is_asked_by_none.then(|| slot.spec.program.clone())
}

/// Whether only one of these two can be listened on.
fn exclude_each_other(a: &ListenAddr, b: &ListenAddr) -> bool {
    match (a, b) {
        (ListenAddr::Tcp(a), ListenAddr::Tcp(b)) => {
            let has_all = a.ip().is_unspecified() || b.ip().is_unspecified();
            a != b && a.port() == b.port() && has_all
        }
        _ => false,
    }
}

/// gunicorn's codes for a worker that does not boot and an application that does not load.
fn is_bad_release(exit: Option<Exit>) -> bool {
    matches!(exit, Some(Exit::Code(3 | 4)))
}

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// Asks for the replacement of a process, by whatever way its settings have.
    pub(super) fn roll(&mut self, name: &ProcessName, reply: RollReply) {
        let Some(key) = self.current(name) else {
            drop(reply.send(Err(UnknownName::Process(name.clone()))));
            return;
        };
        if !matches!(self.mode, Mode::Minding) {
            drop(reply.send(Ok(RollAnswer::Over(Err(RollError::ShuttingDown)))));
            return;
        }
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let State::Running { pid } = slot.state else {
            drop(reply.send(Ok(RollAnswer::Restart(None))));
            return;
        };
        if slot.spec.rolling.overlap {
            self.want_roll(&key, "a rolling restart was asked for", false, Some(reply));
        } else if let (Some(reload), true) = (slot.spec.reload, slot.is_as_set()) {
            self.reload(&key, pid, reload.signal, reply);
        } else {
            drop(reply.send(Ok(RollAnswer::Restart(None))));
        }
    }

    /// Marks a process as one to be replaced. It is begun, and gone on with, at the end of each turn.
    pub(super) fn want_roll(
        &mut self,
        key: &ProcessName,
        why: &str,
        is_own: bool,
        reply: Option<RollReply>,
    ) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let roll = slot.roll.get_or_insert_with(|| Roll {
            why: why.to_owned(),
            is_own,
            replies: Vec::new(),
            waits: None,
        });
        roll.replies.extend(reply);
        self.is_dirty = true;
    }

    /// Replaces a process that runs, with overlap where its settings say so; one that has none, or
    /// does not run, is stopped and started.
    pub(super) fn replace(&mut self, key: &ProcessName, why: &str, is_own: bool) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.spec.rolling.overlap && matches!(slot.state, State::Running { .. }) && slot.wanted {
            self.want_roll(key, why, is_own, None);
        } else {
            slot.is_own_doing = is_own;
            self.feed(key, Event::Replace, why);
        }
    }

    /// Goes on with every replacement that is wanted.
    pub(super) fn go_on_rolling(&mut self) {
        let is_over = matches!(self.mode, Mode::Stopping { .. });
        let mut rolling: Vec<_> = self
            .slots
            .values()
            .filter(|s| s.roll.is_some() && s.part == Part::Current)
            .map(|s| s.key.clone())
            .collect();
        // Those under way first: what they make room for is begun in the same turn.
        rolling.sort_by_key(|key| !self.has_incoming(key));
        for key in rolling {
            if is_over {
                self.give_up_roll(&key, || RollError::ShuttingDown);
            } else if self.slots.get(&key).is_some_and(|s| s.roll.is_some()) {
                self.go_on_with(&key);
            }
        }
    }

    fn go_on_with(&mut self, key: &ProcessName) {
        let Some(slot) = self.slots.get(key) else { return };
        let is_up = matches!(slot.state, State::Running { .. }) && slot.wanted && !slot.is_removed;
        if !is_up {
            // It ended or was stopped; what starts it, if anything, uses its present settings.
            self.drop_incoming(key, "what it was to replace does not run");
            self.give_up_roll(key, || RollError::Ended);
            return;
        }
        let Some(next) = beside(key) else {
            self.restart_instead(key, "its name is too long for a second instance");
            return;
        };
        let Some(other) = self.slots.get(&next) else {
            // One at a time, each checked against the memory that the ones before it really took.
            if !self.is_sibling_coming(key) {
                self.begin_roll(key, &next);
            }
            return;
        };
        match (other.part, other.state) {
            (Part::Incoming, State::Running { .. }) => self.swap(key, &next),
            (Part::Incoming, State::Stopped | State::Spawning { .. } | State::Starting { .. }) => {}
            (
                Part::Incoming,
                State::Backoff { .. } | State::Stopping { .. } | State::Exited | State::Fatal,
            ) => self.fail_roll(key, &next),
            (Part::Outgoing, _) => self.wait_for_room(key, &next),
            (Part::Current, _) => {
                self.restart_instead(key, "another process has the name of its second instance");
            }
        }
    }

    /// The one before is still going, in the place that the next one needs. It has its time for that,
    /// unless the present one is unwell.
    fn wait_for_room(&mut self, key: &ProcessName, next: &ProcessName) {
        let Some(other) = self.slots.get(next) else { return };
        let (pid, longest) = (other.state.pid().unwrap_or(0), other.rules().longest_stop());
        let Some(slot) = self.slots.get_mut(key) else { return };
        let is_unwell = slot.ill.is_some();
        let Some(roll) = &mut slot.roll else { return };
        let now = Instant::now();
        self.is_dirty |= roll.waits.is_none();
        let wait = roll.waits.get_or_insert(Wait { pid, until: now + longest + TO_BE_GONE });
        if is_unwell || wait.until <= now {
            self.restart_instead(
                key,
                &format!("pid {pid}, an instance before it, is not gone yet"),
            );
        }
    }

    /// An address of the new settings that the kernel will not give us beside one that is held for the
    /// instance that runs, as `0.0.0.0:80` beside `127.0.0.1:80`.
    fn is_in_its_own_way(&self, key: &ProcessName) -> Option<String> {
        let slot = self.slots.get(key)?;
        let (new, held) = (&slot.spec.sockets, &slot.rules().sockets);
        let mut pairs = new.iter().flat_map(|n| held.iter().map(move |h| (&n.listen, &h.listen)));
        let (new, held) = pairs.find(|(new, held)| exclude_each_other(new, held))?;
        Some(format!("{} cannot be had beside {}", address(new), address(held)))
    }

    /// Whether the instance that is to replace this process is there.
    fn has_incoming(&self, key: &ProcessName) -> bool {
        let other = beside(key).and_then(|next| self.slots.get(&next));
        other.is_some_and(|s| s.part == Part::Incoming)
    }

    /// Whether another process of the same program is being replaced.
    fn is_sibling_coming(&self, key: &ProcessName) -> bool {
        let Some(slot) = self.slots.get(key) else { return false };
        let is_coming =
            |s: &Slot<H>| s.part == Part::Incoming && s.spec.program == slot.spec.program;
        self.slots.values().any(is_coming)
    }

    fn begin_roll(&mut self, key: &ProcessName, next: &ProcessName) {
        if let Some(why) = self.is_in_its_own_way(key).or_else(|| self.lacks_memory(key)) {
            self.restart_instead(key, &why);
            return;
        }
        let Some(spec) = self.slots.get(key).map(|s| s.spec.as_ref().clone()) else { return };
        if let Err(e) = self.add_slot(next, spec, Part::Incoming, &mut Inherited::new()) {
            let why = Chain(&e).to_string();
            tracing::error!(process = %key, error = why, "no second instance");
            self.give_up_roll(key, || RollError::NotReady(why.clone()));
            return;
        }
        if let Some(slot) = self.slots.get_mut(next) {
            slot.wanted = true;
        }
        self.pump(next);
        self.feed(next, Event::Start, "it is to replace the one that runs");
        let failed = |s: &Slot<H>| matches!(s.state, State::Backoff { .. } | State::Fatal);
        if self.slots.get(next).is_some_and(failed) {
            self.fail_roll(key, next);
        }
    }

    /// Two instances need twice the memory: what the present one uses must be there once more.
    fn lacks_memory(&self, key: &ProcessName) -> Option<String> {
        let pid = self.slots.get(key)?.state.pid()?;
        let used = self.host.usage(&[(key.clone(), pid)]).get(key)?.memory;
        let free = self.host.available_memory()?;
        (used > free).then(|| {
            let mib = |bytes: u64| bytes >> 20;
            format!("a second instance needs {} MiB and {} MiB are free", mib(used), mib(free))
        })
    }

    /// Stops and starts it, as there cannot be two.
    fn restart_instead(&mut self, key: &ProcessName, why: &str) {
        tracing::warn!(process = %key, why, "replaced without overlap");
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(roll) = slot.roll.take() else { return };
        if roll.replies.is_empty() {
            slot.is_own_doing = roll.is_own;
            self.feed(key, Event::Replace, &format!("{}; without overlap: {why}", roll.why));
        } else {
            roll.tell(|| RollAnswer::Restart(Some(why.to_owned())));
        }
    }

    /// The new one is the process from now on, and the old one goes.
    fn swap(&mut self, old_key: &ProcessName, new_key: &ProcessName) {
        let wall = self.clock.now();
        let Some(old) = self.slots.get_mut(old_key) else { return };
        let roll = old.roll.take().unwrap_or_default();
        let before = old.state.pid().unwrap_or(0);
        let (restarts, past) = (old.restarts, old.past);
        old.retire();
        let Some(new) = self.slots.get_mut(new_key) else { return };
        new.part = Part::Current;
        new.past = past;
        new.restarts = if roll.is_own { restarts + 1 } else { 0 };
        new.since = wall;
        let after = new.state.pid().unwrap_or(0);
        let happening = Happening {
            pid: after,
            note: Some(Note::Replaced),
            ..new.happening(wall, format!("{}; pid {before} was replaced", roll.why))
        };
        drop(self.events.send(happening));
        self.tell_replaced(new_key, before, after);
        self.mind(new_key);
        // An agent that is killed now must not take the old one, which is about to go, for the process.
        if let Err(e) = self.save() {
            tracing::error!(error = %Chain(&e), "table of processes not written");
        }
        self.is_dirty = true;
        self.feed(old_key, Event::Tick, &format!("pid {after} has taken its place"));
        roll.tell(|| RollAnswer::Over(Ok(Rolled::Replaced { before, after })));
    }

    /// The new one did not come up: it goes, and the old one stays.
    fn fail_roll(&mut self, key: &ProcessName, next: &ProcessName) {
        let Some(new) = self.slots.get(next) else { return };
        if new.is_word_lost && matches!(new.state, State::Stopping { .. }) {
            // It may be as good as the one that stays: nobody knows, and the next one is heard.
            self.drop_incoming(key, "its word may have been lost with the last agent");
            return;
        }
        let mut why = new.error.clone().unwrap_or_else(|| match new.state {
            State::Stopping { .. } => "not ready in time".to_owned(),
            _ => "it ended".to_owned(),
        });
        if is_bad_release(new.exit) {
            why.push_str(": its workers do not boot or its application does not load");
        }
        self.drop_incoming(key, "it did not come up");
        let settings = new_settings_of(self.slots.get(key));
        self.give_up_roll(key, || RollError::NotReady(why.clone()));
        // A release that one of a program could not take is not tried on the others.
        let Some(program) = settings else { return };
        let waits = |s: &&Slot<H>| {
            new_settings_of(Some(s)).as_ref() == Some(&program) && !self.has_incoming(&s.key)
        };
        let others: Vec<_> = self.slots.values().filter(waits).map(|s| s.key.clone()).collect();
        for other in others {
            let why = format!("not tried, as {} could not: {why}", self.outer(key));
            self.give_up_roll(&other, || RollError::NotReady(why.clone()));
        }
    }

    /// Lets the instance go that was to replace this one.
    pub(super) fn drop_incoming(&mut self, key: &ProcessName, why: &str) {
        let Some(next) = beside(key) else { return };
        let Some(slot) = self.slots.get_mut(&next) else { return };
        if slot.part == Part::Incoming {
            slot.retire();
            self.is_dirty = true;
            self.feed(&next, Event::Tick, why);
        }
    }

    /// Ends a replacement without one, and tells why.
    pub(super) fn give_up_roll(&mut self, key: &ProcessName, error: impl Fn() -> RollError) {
        let wall = self.clock.now();
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(roll) = slot.roll.take() else { return };
        self.is_dirty = true;
        if let (e @ RollError::NotReady(_), State::Running { .. }) = (error(), slot.state) {
            let why = format!("{}: {}", roll.why, Chain(&e));
            slot.error = Some(e.to_string());
            let happening =
                Happening { note: Some(Note::NotReplaced), ..slot.happening(wall, why) };
            drop(self.events.send(happening));
        }
        roll.tell(|| RollAnswer::Over(Err(error())));
    }

    /// The current one ended while its successor is coming up: that is the process now.
    pub(super) fn promote(&mut self, key: &ProcessName, why: &str) {
        let Some(next) = beside(key) else { return };
        if !self.slots.get(&next).is_some_and(|s| s.part == Part::Incoming && s.is_alive()) {
            return;
        }
        let wall = self.clock.now();
        let Some(old) = self.slots.get_mut(key).filter(|s| s.part == Part::Current) else { return };
        let (restarts, past, from) = (old.restarts, old.past, old.state.shown());
        let (gone, mut pid) = (old.state.pid().unwrap_or(0), 0);
        let roll = old.roll.take().unwrap_or_default();
        old.retire();
        if let Some(new) = self.slots.get_mut(&next) {
            new.part = Part::Current;
            new.restarts = restarts + 1;
            new.past = past;
            pid = new.state.pid().unwrap_or(0);
            let why = format!("{why}; the instance that was to replace it takes its place");
            let happening = Happening { from, ..new.happening(wall, why) };
            drop(self.events.send(happening));
        }
        self.tell_replaced(&next, gone, pid);
        self.mind(&next);
        roll.tell(|| RollAnswer::Over(Err(RollError::Ended)));
    }
}

impl<H: Host> Slot<H> {
    /// It goes, and is shown no more.
    pub(super) fn retire(&mut self) {
        self.part = Part::Outgoing;
        self.is_removed = true;
        self.wanted = false;
        self.comes_back = false;
        self.minders = None;
    }
}

#[cfg(test)]
#[path = "rolling_tests.rs"]
mod tests;
