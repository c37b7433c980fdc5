//! How a process is told from another, and how it ended.

use std::fmt;

use nix::sys::signal::Signal;
use palisade_types::{ProcessName, ProgramName};
use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// The kernel killed it: it, or what it started, needed more than `limits.memory`.
    OutOfMemory,
    /// It ended while no agent was there to see how.
    Unknown,
}

/// The code of a child whose agent was gone before it was let go to become its program.
pub const NOT_LET_GO: i32 = 113;

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(number) => match Signal::try_from(number) {
                Ok(s) => write!(f, "signal {}", s.as_str().trim_start_matches("SIG")),
                Err(_) => write!(f, "signal {number}"),
            },
            Self::OutOfMemory => f.write_str("out of memory: killed at limits.memory"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// What tells a process from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    pub start_ticks: u64,
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// Who wrote some output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutputSource {
    /// The program.
    pub program: ProgramName,
    /// Which copy of it.
    pub process: ProcessName,
    /// Which of its streams.
    pub stream: Stream,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_read_as_in_the_manual() {
        let shown: Vec<_> = [Exit::Code(1), Exit::Signal(9), Exit::Signal(64), Exit::Unknown]
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["exit 1", "signal KILL", "signal 64", "unknown"]);
    }
}
