//! What is remembered of one scheduled process, over the agent's death and the host's.
//!
//! A due time is written down as dealt with before anything is done about it. So no time is dealt with
//! twice, whoever dies when; and a run that was written down as about to begin, and of which nothing
//! is to be seen afterwards, is known to be still owed.

use palisade_types::{LastRun, ScheduleStatus};
use serde::{Deserialize, Serialize};

use super::super::Schedule;
use crate::clock::Timestamp;

const VERSION: u32 = 1;

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    v: u32,
    /// The calendar that it is about; another one begins anew.
    schedule: String,
    /// Every due time up to here is dealt with.
    pub(super) done: Timestamp,
    /// A run that is about to begin.
    pub(super) pending: Option<Run>,
    /// The run that goes on, as far as is known.
    pub(super) run: Option<Run>,
    /// A due time that waits for the end of the run.
    pub(super) queued: Option<Timestamp>,
    /// A failed run that is to be tried again.
    pub(super) retry: Option<Run>,
    /// How the last run ended.
    pub(super) last: Option<LastRun>,
    /// Due times left out because the run before went on.
    pub(super) skipped: u64,
    /// How often due times were missed: with no agent there, or jumped over by the clock.
    pub(super) missed: u64,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The time that it is for.
    pub(super) due: Timestamp,
    /// When it was begun; of a retry, when it is to begin.
    pub(super) at: Timestamp,
    /// Failed runs for the same time before it.
    pub(super) tries: u32,
}

/// What tells one calendar from another.
fn key(schedule: &Schedule) -> String {
    format!("{} {}", schedule.when.text(), schedule.when.zone())
}

impl Record {
    /// Nothing is owed from before now.
    pub(super) fn new(schedule: &Schedule, now: Timestamp) -> Self {
        Self {
            v: VERSION,
            schedule: key(schedule),
            done: now,
            pending: None,
            run: None,
            queued: None,
            retry: None,
            last: None,
            skipped: 0,
            missed: 0,
        }
    }

    /// With another calendar: its times begin now, what was and what runs stays known.
    pub(super) fn adapt(&mut self, schedule: &Schedule, now: Timestamp) {
        if self.schedule != key(schedule) {
            self.schedule = key(schedule);
            self.done = now;
            (self.queued, self.retry) = (None, None);
        }
    }

    pub(super) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// # Errors
    /// Why it cannot be read.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if record.v == VERSION {
            Ok(record)
        } else {
            Err(format!("version {} is not {VERSION}", record.v))
        }
    }

    /// For people.
    pub(super) fn status(&self, schedule: &Schedule, next: Option<Timestamp>) -> ScheduleStatus {
        ScheduleStatus {
            when: schedule.when.text().to_owned(),
            timezone: schedule.when.zone().to_owned(),
            next: next.map(Timestamp::as_millis),
            last: self.last.clone(),
            skipped: self.skipped,
            missed: self.missed,
        }
    }
}
