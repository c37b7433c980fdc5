//! Why something asked of the supervisor was not done.

use std::io;

use palisade_types::{GroupName, ProcessName};

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// No such file.
    #[error("can't find command '{0}'")]
    NoFile(String),
    /// A file that may not be executed, or is none.
    #[error("command at '{0}' is not executable")]
    NotExecutable(String),
    /// A step of the preparation failed.
    #[error("{step}: {why}")]
    Step {
        /// What was tried.
        step: String,
        /// The answer.
        why: String,
    },
}

impl SpawnError {
    /// A step that the kernel refused.
    #[must_use]
    pub fn step(step: impl Into<String>, why: &io::Error) -> Self {
        Self::Step { step: step.into(), why: why.to_string() }
    }
}

/// Why a name means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// No process of that name.
    #[error("no such process {0}")]
    Process(ProcessName),
    /// No group of that name.
    #[error("no such group {0}")]
    Group(GroupName),
}

/// Why a process did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It runs, or is on its way.
    #[error("already started")]
    AlreadyStarted,
    /// It could not be made.
    #[error(transparent)]
    Spawn(SpawnError),
    /// It ended before it was up, or was stopped meanwhile.
    #[error("abnormal termination")]
    AbnormalTermination,
    /// It waits for others, of which one failed.
    #[error("{0}")]
    InVain(String),
    /// The agent is stopping or handing over.
    #[error("the agent is shutting down")]
    ShuttingDown,
}

/// How a process was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rolled {
    /// The new instance was ready before the old one was told to stop.
    Replaced {
        /// The old one's pid.
        before: i32,
        /// The new one's.
        after: i32,
    },
    /// It was sent its `reload` signal, and is ready again.
    Reloaded,
    /// It was stopped and started, or started if it did not run.
    Restarted {
        /// Why not with overlap, where the settings say so.
        why: Option<String>,
    },
}

impl std::fmt::Display for Rolled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Replaced { before, after } => write!(f, "replaced (pid {before} by {after})"),
            Self::Reloaded => f.write_str("reloaded"),
            Self::Restarted { why: None } => f.write_str("restarted"),
            Self::Restarted { why: Some(why) } => write!(f, "restarted without overlap ({why})"),
        }
    }
}

/// Why a process was not replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// The new instance did not come up.
    #[error("the new instance did not come up, the old one stays: {0}")]
    NotReady(String),
    /// It was not ready again after its `reload` signal.
    #[error("not ready again after its reload signal: {0}")]
    NotReloaded(String),
    /// New settings made it what it was.
    #[error("its settings were put back meanwhile, the old one stays")]
    TakenBack,
    /// It ended or was stopped meanwhile.
    #[error("it ended or was stopped meanwhile")]
    Ended,
    /// It was stopped and did not come up again.
    #[error(transparent)]
    NotStarted(StartError),
    /// The agent is stopping or handing over.
    #[error("the agent is shutting down")]
    ShuttingDown,
}

/// Why a process was not stopped or signalled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// It does not run.
    #[error("not running")]
    NotRunning,
    /// The kernel refused.
    #[error("{0}")]
    Refused(String),
}

/// Why nothing was sent to a process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StdinError {
    /// No such process.
    #[error("no such process {0}")]
    Unknown(ProcessName),
    /// It does not run.
    #[error("not running")]
    NotRunning,
    /// It has no pipe as its standard input.
    #[error("its standard input is not a pipe")]
    NoPipe,
    /// It is an event listener.
    #[error("its standard input is where its events come from")]
    Listener,
    /// More than may be sent at once.
    #[error("at most {most} bytes may be sent at once")]
    TooMuch {
        /// Bytes.
        most: usize,
    },
    /// It has not read what it was sent before.
    #[error("its standard input is full: it does not read")]
    Full,
    /// The kernel refused.
    #[error("{0}")]
    Refused(String),
}

/// Why the supervisor as a whole did not do something.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The name means nothing here.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The process has no log file for this stream.
    #[error("no log file")]
    NoLogFile,
    /// A log file could not be read or emptied.
    #[error("log file {path}")]
    LogFile {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pipes of a process could not be opened at start.
    #[error("output pipe of {process}")]
    Pipe {
        /// Whose.
        process: ProcessName,
        /// Why.
        source: io::Error,
    },
    /// Nothing was sent to a process.
    #[error(transparent)]
    Stdin(#[from] StdinError),
    /// The agent is stopping or has handed over.
    #[error("the supervisor has ended or is handing over")]
    Ended,
    /// Output or the table could not be brought to a rest in time.
    #[error("hand over: {0}")]
    HandOver(&'static str),
}
