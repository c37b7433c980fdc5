//! Programs that run at times or once, and the commands around a start.

use std::time::Duration;

use super::super::schedule::Calendar;

/// A program that is started by the calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// When.
    pub when: Calendar,
    /// What a due time does while the last run goes on.
    pub overlap: Overlap,
    /// What is made up for of times at which no agent ran.
    pub missed: Missed,
    /// How often a run that failed is tried again before the next due time.
    pub retries: u32,
    /// How long to wait before that.
    pub retry_after: Duration,
}

/// A schedule in force, and what became of the last run that the supervisor alone knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// The schedule.
    pub schedule: Schedule,
    /// Somebody asked for the end of the run, and not for a start since.
    pub is_called_off: bool,
}

/// What a due time does while the last run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing: this time is left out, and counted.
    #[default]
    Skip,
    /// One more run follows once this one ended.
    Queue,
    /// The run is stopped, and a new one started.
    Replace,
}

/// What is made up for of times at which no agent ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// Nothing.
    #[default]
    Skip,
    /// One run, however many times were missed.
    Once,
}

/// A command around a start. It runs as the program's user, in its directory and environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Killed after this, which counts as a failure.
    pub timeout: Duration,
}

/// Commands around a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Before each start; one that fails makes the start fail.
    pub pre_start: Vec<Hook>,
    /// After the process is up; one that fails is told and changes nothing.
    pub post_start: Vec<Hook>,
}
