//! What `palisade status --json` prints of each process.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{GroupName, ProcessName, ProgramName};

/// Supervisor's process states, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u16)]
pub enum ProcessState {
    /// Stopped by request, or never started.
    Stopped = 0,
    /// Started, not yet up for `startsecs` or not yet ready.
    Starting = 10,
    /// Up.
    Running = 20,
    /// Ended too soon; waits before the next try.
    Backoff = 30,
    /// Told to stop.
    Stopping = 40,
    /// Ended on its own.
    Exited = 100,
    /// Could not be started.
    Fatal = 200,
    /// The kernel refused to tell or to act.
    Unknown = 1000,
}

impl ProcessState {
    /// Supervisor's number of this state.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Whether `status` counts the process as up (exit code 0 and not 3), as `supervisorctl` does.
    #[must_use]
    pub fn counts_as_up(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Backoff | Self::Stopping)
    }
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::Fatal => "FATAL",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// One process of one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Unique name of the process inside its group.
    pub name: ProcessName,
    /// The program it is a process of.
    pub program: ProgramName,
    /// The group it is started and stopped with.
    pub group: GroupName,
    /// Where it is.
    pub state: ProcessState,
    /// Its process id, 0 when it has none.
    pub pid: i32,
    /// Whether it said, or was seen, to be ready.
    pub ready: bool,
    /// Restarts by the agent since the program was last started by request.
    pub restarts: u64,
    /// Unix time in milliseconds when the state began.
    pub since: i64,
    /// How the last run ended: `exit 1`, `signal KILL`, `unknown` (it ended while no agent was
    /// there to see how), or nothing if it never ended.
    pub exit: Option<String>,
    /// Why it could not be started, where that is so.
    pub error: Option<String>,
    /// When it is started by its schedule, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
}

impl ProcessStatus {
    /// Whether it is as it should be: up, or on its way; or done with what it runs once for; or waiting
    /// for the next time of its schedule after a run that did not fail.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let is_at_rest = matches!(self.state, ProcessState::Stopped | ProcessState::Exited);
        let waits_well = |s: &ScheduleStatus| s.last.as_ref().is_none_or(|last| last.ok);
        self.state.counts_as_up()
            || (self.state == ProcessState::Exited && self.ready)
            || (is_at_rest && self.schedule.as_ref().is_some_and(waits_well))
    }
}

/// The schedule of a process, and what became of it. Times are Unix times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleStatus {
    /// The calendar, as written.
    pub when: String,
    /// The time zone that it is in.
    pub timezone: String,
    /// When it runs next; nothing if never again.
    pub next: Option<i64>,
    /// The last run that the schedule began and that has ended.
    pub last: Option<LastRun>,
    /// Due times left out because the run before went on.
    pub skipped: u64,
    /// How often due times were missed.
    pub missed: u64,
}

/// One run of a scheduled process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// The time that it was for.
    pub due: i64,
    /// When it was begun.
    pub started: i64,
    /// When it had ended.
    pub ended: i64,
    /// Whether it ended with an expected exit code.
    pub ok: bool,
    /// How it ended: `exit 0`, `signal KILL`, or why it could not be started.
    pub result: String,
}
