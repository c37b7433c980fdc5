//! News in, steps of the machine, and what they change.

use std::{collections::BTreeSet, time::Duration};

use palisade_types::ProcessName;
use tokio::time::Instant;

use super::{
    Exit, FdStore, Host, Notice, NotifyFrom, OutputSink, Ready, StartError,
    handle::{Event as Happening, Note},
    machine::{self, Effect, Event, State, Then, Want, step},
    ports::Child as _,
    reconcile,
    task::{Mode, News, Owner},
    twin::Part,
};
use crate::clock::WallClock;

/// Why a process is stopped that neither said nor showed in time that it is ready.
const NOT_READY: &str = "not ready in time";

/// What the kernel's answer to a signal is to the machine, where that is news.
fn answer_to_signal(state: State, sent: Result<(), String>) -> Option<(Event, String)> {
    match (sent, state) {
        (Err(why), _) => Some((Event::Refused, why)),
        (Ok(()), State::Stopping { refused: true, .. }) => {
            Some((Event::Taken, "the kernel takes its signals again".to_owned()))
        }
        (Ok(()), _) => None,
    }
}

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// Hears what happened. News of a child that is no longer the present one is old.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Execed(name, pid, Ok(())) if self.is_present(&name, pid) => {
                self.feed(&name, Event::Execed, "it runs");
            }
            News::Execed(name, pid, Err(error)) if self.is_present(&name, pid) => {
                let why = error.to_string();
                if let Some(slot) = self.slots.get_mut(&name) {
                    slot.failed(&error);
                    slot.forget_child();
                }
                self.listener_left(&name, pid);
                self.feed(&name, Event::SpawnFailed, &why);
            }
            News::Ended(name, pid, exit, at) if self.is_present(&name, pid) => {
                if let Some(slot) = self.slots.get_mut(&name) {
                    slot.exit = Some(exit);
                    if slot.went_with_its_agent(exit) {
                        // No failure of its own: it is started anew, with all its tries.
                        slot.state = State::Stopped;
                        slot.forget_child();
                        self.feed(&name, Event::Tick, "it never became its program");
                        return;
                    }
                    slot.last_failure = StartError::AbnormalTermination;
                }
                let why = format!("it ended: {exit}");
                self.promote(&name, &why);
                let pause = self.pause(&name, exit, at);
                self.feed(&name, Event::Exited { exit, at, pause }, &why);
            }
            News::Ready(name, pid) if self.is_present(&name, pid) => {
                self.hear_ready(&name, "it is ready");
            }
            News::Execed(..) | News::Ended(..) | News::Ready(..) => {}
            News::Notice(notice) => self.hear_notice(&notice),
            News::Hooks(name, run, outcome) => self.hear_hooks(&name, run, outcome),
            News::Well(name, pid) => self.hear_well(&name, pid),
            News::Log => self.is_dirty = true,
            News::Ill(name, pid, why) => self.hear_ill(&name, pid, why),
            News::Grown(name, pid, bytes, most) => self.hear_grown(&name, pid, bytes, most),
        }
    }

    fn hear_ready(&mut self, name: &ProcessName, why: &str) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.readies += 1;
        }
        self.feed(name, Event::Ready, why);
    }

    /// How long a process that was up and ended like this waits before it is started again. None, as
    /// in Supervisor, but for one that does so far too often.
    fn pause(&mut self, name: &ProcessName, exit: Exit, at: Instant) -> Duration {
        let Some(slot) = self.slots.get_mut(name) else { return Duration::ZERO };
        let rules = slot.rules();
        let is_again = slot.wanted
            && machine::was_up(slot.state, at, &rules)
            && machine::restarts(&rules, exit);
        if !is_again {
            return Duration::ZERO;
        }
        let per_minute = rules.upkeep.restarts_per_minute;
        let (pause, begins) = slot.past.storm.restart(Instant::now(), per_minute);
        if begins {
            let why = format!("it came up and ended too often: {exit}; slower from now on");
            self.remark(name, Note::StormBegan, why);
        }
        pause
    }

    /// Tells of the storms that are over.
    pub(super) fn end_storms(&mut self) {
        let now = Instant::now();
        let over: Vec<_> = self
            .slots
            .iter_mut()
            .filter_map(|(key, s)| Some((key.clone(), s.past.storm.passed(now)?)))
            .collect();
        for (key, restarts) in over {
            let why = format!("it stays up again, after {restarts} slowed restarts");
            self.remark(&key, Note::StormEnded, why);
        }
    }

    pub(super) fn is_present(&self, name: &ProcessName, pid: i32) -> bool {
        self.slots.get(name).is_some_and(|s| s.state.pid() == Some(pid))
    }

    pub(super) fn hear_notice(&mut self, notice: &Notice) {
        let sender = self.slots.iter().find(|(name, slot)| {
            slot.state.pid().is_some_and(|p| p == notice.pid || Some(p) == notice.group)
                || notice.process.as_ref() == Some(*name)
        });
        let Some((name, slot)) = sender else {
            tracing::debug!(pid = notice.pid, "notification from a process that is not ours");
            return;
        };
        let name = name.clone();
        let listens = match slot.rules().ready {
            Ready::Notify { from: NotifyFrom::Any, .. } => true,
            Ready::Notify { from: NotifyFrom::Worker, .. } => slot.state.pid() != Some(notice.pid),
            Ready::Delay | Ready::Probe(_) => false,
        };
        for line in notice.text.lines() {
            match line.split_once('=') {
                Some(("READY", "1")) if listens => {
                    self.hear_ready(&name, "it said READY=1");
                }
                Some(("STATUS", text)) => tracing::info!(process = %name, text, "status"),
                _ => tracing::debug!(process = %name, line, "notification ignored"),
            }
        }
    }

    pub(super) fn tick_due(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, s)| s.state.wake_at(&s.rules()).is_some_and(|t| t <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            if let (State::Starting { .. }, Some(child)) = (slot.state, &slot.child) {
                // Its end is on its way here and will be judged by its time.
                slot.is_dying = !child.is_alive();
                if slot.is_dying {
                    continue;
                }
            }
            if slot.is_word_lost && slot.is_late(now) && slot.part == Part::Current {
                let why = "it stayed up for its time, and its word may have been lost";
                tracing::warn!(process = %name, "taken for ready: {why}");
                self.hear_ready(&name, why);
                continue;
            }
            self.feed(&name, Event::Tick, "time passed");
        }
    }

    /// Asks every process in order of priority.
    pub(super) fn tick_all(&mut self, why: &str) {
        for name in self.in_order() {
            self.feed(&name, Event::Tick, why);
        }
    }

    /// The inner names of all, in the order in which they start.
    pub(super) fn in_order(&self) -> Vec<ProcessName> {
        let mut order: Vec<_> = self.slots.iter().map(|(key, s)| (s.spec.order(), key)).collect();
        order.sort();
        order.into_iter().map(|(_, key)| key.clone()).collect()
    }

    /// Gives an event to the machine of one process and does what it says, to the end.
    pub(super) fn feed(&mut self, name: &ProcessName, event: Event, why: &str) {
        let is_held = self.is_held(name);
        let mut next = Some((event, why.to_owned()));
        while let Some((event, why)) = next.take() {
            let now = Instant::now();
            let Some(slot) = self.slots.get_mut(name) else { return };
            let before = slot.state;
            // What ends while the agent stops everything is not started again.
            let is_over = matches!(event, Event::Exited { .. } | Event::SpawnFailed)
                || matches!(before, State::Backoff { .. });
            let want = match self.mode {
                Mode::Stopping { .. } if is_over => Want::Down,
                Mode::Stopping { .. } | Mode::Minding | Mode::HandedOver => slot.want(is_held),
            };
            let (state, effect) = step(before, want, event, now, &slot.rules());
            slot.state = state;
            slot.errand.look(&state, want);
            if let (Event::Exited { .. }, Some(pid)) = (event, before.pid()) {
                slot.forget_child();
                self.listener_left(name, pid);
            }
            self.note_change(name, before, event, &why);
            match effect {
                Some(Effect::Spawn) => next = self.spawn(name),
                Some(Effect::Terminate(signal)) => {
                    next = answer_to_signal(state, self.terminate(name, signal));
                }
                Some(Effect::Kill) => next = answer_to_signal(state, self.kill(name)),
                None => {}
            }
        }
    }

    pub(super) fn is_held(&self, name: &ProcessName) -> bool {
        let Some(slot) = self.slots.get(name) else { return false };
        // One that replaces another has what it waits for.
        let waits = slot.part == Part::Current && !slot.spec.after.is_empty();
        waits && !self.may_start().contains(&slot.spec.name)
    }

    /// Those that need not wait for others. Only processes with `after` ever wait.
    pub(super) fn may_start(&self) -> BTreeSet<ProcessName> {
        if self.slots.values().all(|s| s.spec.after.is_empty()) {
            return self.slots.values().map(|s| s.spec.name.clone()).collect();
        }
        let current = self.slots.values().filter(|s| s.part == Part::Current);
        reconcile::may_start(current.map(|s| (s.spec.as_ref(), s.progress())))
    }

    /// Counts, tells and marks for saving what a step changed.
    pub(super) fn note_change(
        &mut self,
        name: &ProcessName,
        before: State,
        event: Event,
        why: &str,
    ) {
        let wall = self.clock.now();
        let Some(slot) = self.slots.get_mut(name) else { return };
        let after = slot.state;
        if before == after {
            return;
        }
        let exit = slot.exit.filter(|_| matches!(event, Event::Exited { .. }));
        self.is_dirty = true;
        self.tell_step(name, before, event);
        let Some(slot) = self.slots.get_mut(name) else { return };
        if let Some(exit) = exit {
            let expected = machine::is_expected(&slot.spec, exit);
            slot.chronicle.ended(wall, exit, after.shown(), expected);
        }
        if slot.spec.schedule.is_some() && matches!(after, State::Exited | State::Fatal) {
            // Its next run is for its schedule to ask for.
            slot.wanted = false;
        }
        match after {
            State::Running { .. } => {
                slot.ups += 1;
                slot.error = None;
                slot.probe = None;
                slot.errand.is_post_left = !slot.spec.hooks.post_start.is_empty();
                slot.past.storm.is_up(Instant::now());
            }
            // One of too many restarts, and no failure to start.
            State::Backoff { failures: 0, .. } => {
                if matches!(before, State::Starting { .. }) {
                    slot.ups += 1;
                }
                slot.error = Some(format!("{why}; restarts far too often, and is slowed down"));
            }
            State::Backoff { .. } | State::Fatal => {
                slot.failures += 1;
                if slot.last_failure == StartError::AbnormalTermination {
                    slot.error = Some(match event {
                        _ if matches!(before, State::Stopping { .. }) => NOT_READY.to_owned(),
                        Event::Exited { exit, .. } if slot.spec.oneshot => exit.to_string(),
                        Event::Exited { exit, .. } => format!("exited too quickly: {exit}"),
                        _ => why.to_owned(),
                    });
                }
            }
            State::Spawning { .. } => match (before, event) {
                (State::Running { .. }, Event::Exited { .. })
                | (State::Backoff { .. }, Event::Tick) => {
                    slot.restarts += 1;
                }
                (State::Starting { .. }, Event::Exited { .. }) => {
                    // It was up, for less than a turn of this task.
                    slot.ups += 1;
                    slot.restarts += 1;
                }
                _ if std::mem::take(&mut slot.is_own_doing) => slot.restarts += 1,
                _ => slot.restarts = 0,
            },
            State::Exited => {
                if matches!(before, State::Starting { .. }) {
                    slot.ups += 1;
                }
                if slot.spec.oneshot {
                    slot.error = None;
                }
                if let Some(exit) = slot.exit.filter(|e| !machine::is_expected(&slot.spec, *e)) {
                    slot.error = Some(format!("ended unexpectedly: {exit}"));
                }
            }
            State::Stopping { refused: true, .. } => slot.error = Some(why.to_owned()),
            State::Stopping { .. } if event == Event::Taken => slot.error = None,
            State::Stopped | State::Starting { .. } | State::Stopping { .. } => {}
        }
        if before.shown() == after.shown() && before.pid() == after.pid() {
            return;
        }
        if !matches!(after, State::Running { .. }) {
            slot.minders = None;
        }
        let is_at_rest = matches!(after, State::Stopped | State::Exited | State::Fatal);
        let is_asked_for =
            matches!((before, after), (State::Stopping { .. }, State::Spawning { .. }));
        let calmed = if is_at_rest || is_asked_for { slot.past.storm.end() } else { None };
        slot.since = wall;
        // Between the decision to spawn and its outcome nobody can look: one change, not two.
        if matches!(after, State::Spawning { .. }) {
            slot.spawning = Some((before.shown(), why.to_owned(), exit));
            if calmed.is_some() {
                self.remark(name, Note::StormEnded, "it was started anew".to_owned());
            }
            return;
        }
        let (from, cause, exit) = match slot.spawning.take() {
            Some((from, cause, end)) if matches!(after, State::Starting { .. }) => {
                (from, cause, end)
            }
            Some((from, _, end)) => (from, why.to_owned(), end),
            None => (before.shown(), why.to_owned(), exit),
        };
        let why = match (after, event) {
            (State::Fatal, _) => slot.error.clone().unwrap_or(cause),
            (State::Running { .. }, Event::Tick) => "it stayed up for startsecs".to_owned(),
            (State::Stopping { then: Then::Failed(_), .. }, _) => NOT_READY.to_owned(),
            _ => cause,
        };
        let happening = Happening { from, exit, ..slot.happening(wall, why) };
        tracing::debug!(process = %name, from = %happening.from, to = %happening.to,
            pid = happening.pid, why = happening.why, "process state");
        // What comes and goes beside the current one is told when it takes its place.
        if slot.part == Part::Current {
            // Without listeners nobody wants to know.
            drop(self.events.send(happening));
        }
        if calmed.is_some() {
            self.remark(name, Note::StormEnded, "it was stopped".to_owned());
        }
        self.mind(name);
    }
}
