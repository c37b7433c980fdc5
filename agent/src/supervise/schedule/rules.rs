//! What a due time does. Pure: the record, the time and whether it runs come in, what to do goes out.
//!
//! ```text
//! due, on time ── does it run? no ──────────────────────────> start
//!      |                      yes: skip │ queue │ replace ──> nothing, later, stop and start
//!      └─ late: missed: skip │ once ───────────────────────> nothing, as on time
//! ended badly ── retries left? ── after retry_after ────────> start
//! ```
//!
//! Invariants, each a test below: no due time begins two runs; a clock set back begins none again;
//! however many times were missed, at most one run makes up for them.

use std::time::Duration;

use palisade_types::LastRun;

use super::{
    super::{Missed, Overlap, Schedule},
    record::{Record, Run},
};
use crate::clock::Timestamp;

/// Later than this, a due time counts as missed: the agent may be replaced or die and come back
/// within it.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// A clock set back by up to this repeats no due time. One that was further in the future was wrong,
/// and what it made of the schedule does not count.
const BACK_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing.
    Wait,
    /// Start it.
    Start,
    /// Stop it, and start it anew.
    Replace,
}

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// A due time is left out: the run before goes on.
    Skipped(Timestamp),
    /// A due time waits for the end of the run that goes on.
    Queued(Timestamp),
    /// Due times up to this one were missed, and are left out.
    Missed(Timestamp),
    /// Due times up to this one were missed, and one run makes up for them.
    MadeUp(Timestamp),
    /// The clock was set back from so far ahead that the time before does not count.
    ClockBack(Timestamp),
    /// A run failed.
    Failed { result: String, retry: Option<Timestamp> },
}

/// The next moment at which [`step`] may have something to do.
pub(super) fn next(schedule: &Schedule, record: &Record) -> Option<Timestamp> {
    let due = schedule.when.next_after(record.done);
    due.into_iter().chain(record.retry.map(|r| r.at)).min()
}

/// Deals with the times that came.
pub(super) fn step(
    schedule: &Schedule,
    record: &mut Record,
    now: Timestamp,
    is_alive: bool,
) -> (Act, Vec<Note>) {
    let mut notes = Vec::new();
    if now.plus(BACK_MAX) < record.done {
        notes.push(Note::ClockBack(record.done));
        record.done = now;
        // Moments of the wrong clock say nothing about this one.
        record.queued = None;
        record.retry =
            record.retry.map(|r| Run { at: r.at.min(now.plus(schedule.retry_after)), ..r });
    }
    let is_busy = is_alive || record.run.is_some() || record.pending.is_some();
    let mut act = Act::Wait;
    if let Some(due) = schedule.when.last_between(record.done, now) {
        let has_earlier = schedule.when.next_after(record.done) != Some(due);
        let is_late = now.since(due) > GRACE;
        record.done = due;
        let is_wanted = match (is_late, has_earlier, schedule.missed) {
            (false, false, _) => true,
            (true, _, Missed::Skip) => {
                record.missed += 1;
                notes.push(Note::Missed(due));
                false
            }
            (false, true, Missed::Skip) | (_, _, Missed::Once) => {
                record.missed += 1;
                notes.push(Note::MadeUp(due));
                true
            }
        };
        if is_wanted {
            // The time has come for another run: the failed one is not tried again.
            record.retry = None;
            act = match (is_busy, schedule.overlap) {
                (false, _) => Act::Start,
                (true, Overlap::Replace) => Act::Replace,
                (true, Overlap::Skip) => {
                    record.skipped += 1;
                    notes.push(Note::Skipped(due));
                    Act::Wait
                }
                (true, Overlap::Queue) => {
                    record.skipped += u64::from(record.queued.is_some());
                    record.queued = Some(due);
                    notes.push(Note::Queued(due));
                    Act::Wait
                }
            };
            if act != Act::Wait {
                record.pending = Some(Run { due, at: now, tries: 0 });
            }
        }
    }
    if act == Act::Wait && !is_busy {
        let retry = record.retry.filter(|r| r.at <= now);
        let run = record.queued.map(|due| Run { due, at: now, tries: 0 });
        if let Some(run) = run.or(retry.map(|r| Run { at: now, ..r })) {
            (record.queued, record.retry) = (None, None);
            record.pending = Some(run);
            act = Act::Start;
        }
    }
    (act, notes)
}

/// What a new agent does about a run that the last one was about to begin, given whether it is to be
/// seen that it did.
pub(super) fn resume(
    schedule: &Schedule,
    record: &mut Record,
    now: Timestamp,
    has_begun: bool,
) -> (Act, Vec<Note>) {
    let Some(run) = record.pending else { return (Act::Wait, Vec::new()) };
    let is_late = now.since(run.at) > GRACE;
    if has_begun {
        record.pending = None;
        record.run = Some(run);
        (Act::Wait, Vec::new())
    } else if is_late && schedule.missed == Missed::Skip {
        record.pending = None;
        record.missed += 1;
        (Act::Wait, vec![Note::Missed(run.due)])
    } else {
        (Act::Start, Vec::new())
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With an expected exit code.
    Well(String),
    /// Otherwise.
    Badly(String),
    /// It was stopped by request, so nobody wants it again.
    Stopped(String),
}

/// Notes the end of the run.
pub(super) fn ended(
    schedule: &Schedule,
    record: &mut Record,
    now: Timestamp,
    outcome: Outcome,
) -> Vec<Note> {
    let Some(run) = record.run.take() else { return Vec::new() };
    let (ok, result, may_retry) = match outcome {
        Outcome::Well(result) => (true, result, false),
        Outcome::Badly(result) => (false, result, true),
        Outcome::Stopped(result) => (false, result, false),
    };
    record.last = Some(LastRun {
        due: run.due.as_millis(),
        started: run.at.as_millis(),
        ended: now.as_millis().max(run.at.as_millis()),
        ok,
        result: result.clone(),
    });
    if !may_retry {
        return Vec::new();
    }
    let is_left = run.tries < schedule.retries && record.queued.is_none();
    let again = Run { due: run.due, at: now.plus(schedule.retry_after), tries: run.tries + 1 };
    record.retry = is_left.then_some(again);
    vec![Note::Failed { result, retry: record.retry.map(|r| r.at) }]
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
