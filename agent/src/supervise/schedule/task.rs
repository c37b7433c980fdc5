//! The task that minds all schedules: waits for their times, asks the supervisor, remembers.
//!
//! It decides nothing (`rules.rs`) and touches no process: what it asks for goes through the handle,
//! and what became of it is read from the status. Requests run beside it, so that a process that is
//! slow to start or to stop keeps no other schedule waiting.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use palisade_types::{ProcessName, ProcessState, ProcessStatus, ScheduleStatus};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Handle, Overlap, Schedule, Scheduled, StartError, SuperviseError, Target},
    Diary, Ledger,
    record::{Record, Run},
    rules::{self, Act, Note, Outcome},
};
use crate::{
    clock::{Timestamp, WallClock},
    errors::Chain,
    task::Scope,
};

/// How often the clock is looked at: it may have been set, which wakes nobody.
const LOOK: Duration = Duration::from_secs(60);

/// The pause before a request is made again that came while the supervisor took none.
const AGAIN: Duration = Duration::from_secs(1);

/// Answers that may wait to be heard; a request that is answered waits when it is full.
const ANSWERS: usize = 64;

/// How long requests that are under way may take to be dropped at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of a request.
enum Answer {
    /// It was started, or tried to: the status says the rest, beside why it was refused at once.
    Tried(Option<String>),
    /// The supervisor takes no requests just now.
    Refused,
}

/// One scheduled process.
struct Entry {
    schedule: Schedule,
    record: Record,
    /// What is on disk.
    saved: Option<Record>,
    /// [`rules::next`], which may look fifty years ahead.
    next: Option<Timestamp>,
    /// The `done` and the retry that it is for; none if it is to be looked for, and what is due with it.
    next_for: Option<(Timestamp, Option<Run>)>,
    /// A request is under way.
    is_asking: bool,
    /// What was about to begin when the last agent ended is not looked after yet.
    is_owing: bool,
    /// No request before.
    not_before: Option<Instant>,
    /// Why the last request came to nothing, while nothing else is known of it.
    failure: Option<String>,
}

struct Clerk<L, D, C> {
    handle: Handle,
    ledger: L,
    diary: D,
    clock: C,
    entries: BTreeMap<ProcessName, Entry>,
    shown: BTreeMap<ProcessName, ScheduleStatus>,
    scope: Scope,
    answers: mpsc::Sender<(ProcessName, Answer)>,
    /// Nothing was taken over yet.
    is_first: bool,
    /// The last write failed; told once.
    is_disk_bad: bool,
}

/// Minds the schedules of all processes that `handle` has, until told to stop.
pub async fn run<L: Ledger, D: Diary, C: WallClock>(
    handle: Handle,
    ledger: L,
    diary: D,
    clock: C,
    stop: CancellationToken,
) {
    let mut rows = handle.status();
    let mut schedules = handle.schedules();
    let (answers, mut answered) = mpsc::channel(ANSWERS);
    let scope = Scope::new(&stop);
    let mut clerk = Clerk {
        handle,
        ledger,
        diary,
        clock,
        entries: BTreeMap::new(),
        shown: BTreeMap::new(),
        scope,
        answers,
        is_first: true,
        is_disk_bad: false,
    };
    loop {
        clerk.take(&schedules.borrow_and_update().clone());
        let wake = clerk.look(&mut rows, &schedules);
        // Every arm only waits: the next round looks at everything anew.
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = schedules.changed() => if changed.is_err() { break },
            changed = rows.changed() => if changed.is_err() { break },
            Some((name, answer)) = answered.recv() => clerk.hear(&name, &answer),
            Some(ended) = clerk.scope.next_end() => if let Err(e) = ended {
                tracing::error!(error = %Chain(&e), "a request of a schedule panicked");
            },
            () = time::sleep_until(wake) => {}
        }
    }
    clerk.scope.shut_down(PATIENCE).await;
}

impl<L: Ledger, D: Diary, C: WallClock> Clerk<L, D, C> {
    /// Takes over the schedules that are in force.
    fn take(&mut self, schedules: &BTreeMap<ProcessName, Scheduled>) {
        let is_same = |(name, e): (_, &Entry)| {
            schedules.get(name).is_some_and(|new| new.schedule == e.schedule)
        };
        let has_changed =
            self.entries.len() != schedules.len() || !self.entries.iter().all(is_same);
        // The first time in any case: what is kept may be of schedules that are no more.
        if !std::mem::replace(&mut self.is_first, false) && !has_changed {
            return;
        }
        let kept = self.ledger.names().unwrap_or_else(|e| {
            tracing::warn!(error = %Chain(&e), "what is kept of schedules not found");
            Vec::new()
        });
        let gone: BTreeSet<_> = kept.iter().chain(self.entries.keys()).cloned().collect();
        for name in gone.into_iter().filter(|name| !schedules.contains_key(name)) {
            self.entries.remove(&name);
            self.shown.remove(&name);
            if let Err(e) = self.ledger.remove(&name) {
                tracing::warn!(process = %name, error = %Chain(&e), "record of a schedule not removed");
            }
        }
        let now = self.clock.now();
        for (name, Scheduled { schedule, .. }) in schedules {
            let entry = match self.entries.remove(name) {
                Some(mut entry) => {
                    entry.record.adapt(schedule, now);
                    Entry { schedule: schedule.clone(), ..entry }
                }
                None => self.remembered(name, schedule, now),
            };
            self.entries.insert(name.clone(), Entry { next_for: None, ..entry });
        }
    }

    /// What is kept of a process that was not scheduled until now.
    fn remembered(&self, name: &ProcessName, schedule: &Schedule, now: Timestamp) -> Entry {
        let loaded = match self.ledger.load(name) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => Record::decode(&bytes).map(Some),
            Err(e) => Err(Chain(&e).to_string()),
        };
        let saved = loaded.unwrap_or_else(|why| {
            self.diary.note(name, "schedule begins anew", format!("its record is not read: {why}"));
            None
        });
        let mut record = saved.clone().unwrap_or_else(|| Record::new(schedule, now));
        record.adapt(schedule, now);
        Entry {
            schedule: schedule.clone(),
            is_owing: record.pending.is_some(),
            record,
            saved,
            next: None,
            next_for: None,
            is_asking: false,
            not_before: None,
            failure: None,
        }
    }

    /// Looks at every schedule, does what is due, and says when to look again.
    fn look(
        &mut self,
        rows: &mut watch::Receiver<Vec<ProcessStatus>>,
        schedules: &watch::Receiver<BTreeMap<ProcessName, Scheduled>>,
    ) -> Instant {
        let (now, mono) = (self.clock.now(), Instant::now());
        let mut wake = mono + LOOK;
        if self.entries.is_empty() {
            // Nothing but new settings can give it work, and they wake it.
            return mono + LOOK * 1440;
        }
        let mut requests = Vec::new();
        let mut shown = BTreeMap::new();
        let mut notes = Vec::new();
        {
            let rows = rows.borrow_and_update();
            let schedules = schedules.borrow();
            for (name, entry) in &mut self.entries {
                let Some(row) = rows.iter().find(|r| r.name == *name) else { continue };
                let is_called_off = schedules.get(name).is_some_and(|s| s.is_called_off);
                let (act, told) = entry.look(row, is_called_off, now, mono);
                notes.extend(told.into_iter().map(|note| (name.clone(), note)));
                if act != Act::Wait {
                    entry.is_asking = true;
                    requests.push((name.clone(), act));
                }
                let next_for = Some((entry.record.done, entry.record.retry));
                if entry.next_for != next_for {
                    entry.next = rules::next(&entry.schedule, &entry.record);
                    entry.next_for = next_for;
                }
                // What is due and not done waits for a change, which wakes too.
                if let Some(next) = entry.next.filter(|next| *next > now) {
                    wake = wake.min(mono + next.since(now));
                }
                if let Some(at) = entry.not_before.filter(|at| *at > mono) {
                    wake = wake.min(at);
                }
                shown.insert(name.clone(), entry.record.status(&entry.schedule, entry.next));
            }
        }
        self.save();
        for (name, note) in notes {
            let (what, why) = words(&note);
            self.diary.note(&name, what, why);
        }
        for (name, act) in requests {
            self.ask(name, act);
        }
        // Not taken just now: the next look tells it again.
        if shown != self.shown && self.handle.tell_schedules(shown.clone()) {
            self.shown = shown;
        }
        wake
    }

    /// Writes down what changed. A run goes on even if that fails: it matters more.
    fn save(&mut self) {
        let mut failure = None;
        for (name, entry) in &mut self.entries {
            if entry.saved.as_ref() == Some(&entry.record) {
                continue;
            }
            let bytes = entry.record.encode().map_err(std::io::Error::from);
            match bytes.and_then(|bytes| self.ledger.save(name, &bytes)) {
                Ok(()) => entry.saved = Some(entry.record.clone()),
                Err(e) => failure = Some((name.clone(), Chain(&e).to_string())),
            }
        }
        let was_bad = std::mem::replace(&mut self.is_disk_bad, failure.is_some());
        if let (Some((name, why)), false) = (failure, was_bad) {
            let why =
                format!("{why}; if the agent dies now, a run may be made twice or not at all");
            self.diary.note(&name, "record of schedule not written", why);
        }
    }

    /// Asks the supervisor, beside this task.
    fn ask(&mut self, name: ProcessName, act: Act) {
        let (handle, answers) = (self.handle.clone(), self.answers.clone());
        let stop = self.scope.stop();
        self.scope.spawn("scheduled run", async move {
            let target = vec![Target::Process(name.clone())];
            let request = async {
                if act == Act::Replace {
                    handle.stop(target.clone()).await?;
                }
                handle.start(target).await
            };
            // Given up at any moment: the record says that the run is owed.
            let Some(done) = stop.run_until_cancelled(request).await else { return };
            let is_refused = |done: &[(ProcessName, Result<(), StartError>)]| {
                done.iter().any(|(_, result)| *result == Err(StartError::ShuttingDown))
            };
            let answer = match done {
                Ok(done) if is_refused(&done) => Answer::Refused,
                Err(SuperviseError::Ended) => Answer::Refused,
                Ok(done) => Answer::Tried(done.into_iter().find_map(|(_, result)| match result {
                    Ok(()) | Err(StartError::AlreadyStarted) => None,
                    Err(e) => Some(e.to_string()),
                })),
                Err(e) => Answer::Tried(Some(Chain(&e).to_string())),
            };
            // If the task is gone, so is whoever wanted to know.
            answers.send((name, answer)).await.unwrap_or_default();
        });
    }

    fn hear(&mut self, name: &ProcessName, answer: &Answer) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.is_asking = false;
        match answer {
            Answer::Tried(failure) => {
                entry.record.run = entry.record.pending.take();
                entry.failure.clone_from(failure);
            }
            Answer::Refused => {
                entry.is_owing = true;
                entry.not_before = Some(Instant::now() + AGAIN);
            }
        }
    }
}

impl Entry {
    /// What is to be done, and what is to be told.
    fn look(
        &mut self,
        row: &ProcessStatus,
        is_called_off: bool,
        now: Timestamp,
        mono: Instant,
    ) -> (Act, Vec<Note>) {
        let is_alive = matches!(
            row.state,
            ProcessState::Starting
                | ProcessState::Running
                | ProcessState::Backoff
                | ProcessState::Stopping
                | ProcessState::Unknown
        );
        let mut notes = Vec::new();
        let is_held = self.is_asking || self.not_before.is_some_and(|at| at > mono);
        if !is_held && std::mem::take(&mut self.is_owing) {
            let begun = self.record.pending.is_some_and(|run| row.since >= run.at.as_millis());
            let has_begun = begun && row.state != ProcessState::Stopped;
            let (act, told) = rules::resume(&self.schedule, &mut self.record, now, has_begun);
            notes.extend(told);
            if act != Act::Wait {
                return (act, notes);
            }
        }
        if is_alive {
            self.failure = None;
        } else if !self.is_asking && self.record.run.is_some() {
            let end = match self.failure.take() {
                Some(why) if row.state == ProcessState::Stopped => Outcome::Badly(why),
                Some(_) | None => outcome(row, is_called_off),
            };
            notes.extend(rules::ended(&self.schedule, &mut self.record, now, end));
            self.next_for = None;
        }
        let is_due = self.next_for.is_none()
            || self.next.is_some_and(|next| next <= now)
            || self.record.queued.is_some();
        let is_back = now < self.record.done;
        if !is_due && !is_back {
            return (Act::Wait, notes);
        }
        let mut schedule = self.schedule.clone();
        if self.is_asking && schedule.overlap == Overlap::Replace {
            // The run that is being made is the new one already.
            schedule.overlap = Overlap::Skip;
        }
        let is_alive = is_alive || self.is_asking;
        let (act, told) = rules::step(&schedule, &mut self.record, now, is_alive);
        notes.extend(told);
        (act, notes)
    }
}

/// How the run of a process that does not run any more ended.
fn outcome(row: &ProcessStatus, is_called_off: bool) -> Outcome {
    let exit = || row.exit.clone().unwrap_or_else(|| "unknown".to_owned());
    match (row.state, &row.error) {
        (ProcessState::Exited, None) => Outcome::Well(exit()),
        (ProcessState::Exited, Some(_)) => Outcome::Badly(exit()),
        (ProcessState::Stopped, _) if is_called_off => {
            Outcome::Stopped("stopped before its end".to_owned())
        }
        (ProcessState::Stopped, _) => {
            Outcome::Badly("cut off: the agent or the host stopped".to_owned())
        }
        (_, error) => Outcome::Badly(error.clone().unwrap_or_else(exit)),
    }
}

fn words(note: &Note) -> (&'static str, String) {
    match note {
        Note::Skipped(due) => ("scheduled run left out", format!("{due}: the one before goes on")),
        Note::Queued(due) => ("scheduled run waits", format!("{due}: the one before goes on")),
        Note::Missed(due) => ("scheduled run missed", format!("last due at {due}")),
        Note::MadeUp(due) => ("scheduled run made up for", format!("missed up to {due}")),
        Note::ClockBack(was) => {
            ("schedule follows the clock", format!("it was set back from {was} or later"))
        }
        Note::Failed { result, retry: None } => ("scheduled run failed", result.clone()),
        Note::Failed { result, retry: Some(at) } => {
            ("scheduled run failed", format!("{result}; tried again at {at}"))
        }
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
