//! How a command ends: its exit code, and what it says when it failed.

use std::{fmt, process::ExitCode};

use palisade_types::control::{Failure, FailureKind};

/// Some program is not running (`status`).
pub(crate) const NOT_RUNNING: u8 = 3;
/// A run would change something (`patch plan --exit-code`).
pub(crate) const WOULD_CHANGE: u8 = 6;
/// Nobody can tell whether something is missing (`patch plan --exit-code`).
pub(crate) const UNKNOWN: u8 = 7;
/// Wrong usage, or mistakes in the configuration.
pub(crate) const USAGE: u8 = 2;
const UNREACHABLE: u8 = 4;
const FAILED: u8 = 1;

/// A guard or a policy said no to a part of what was asked.
pub(crate) fn refused() -> ExitCode {
    ExitCode::from(FailureKind::Refused.exit_code())
}

/// A command that failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The agent said no, or could not.
    Agent(Failure),
    /// No agent answers at the socket.
    Unreachable {
        /// What was tried and the causes.
        error: String,
        /// What to do.
        hint: String,
    },
    /// Wrong usage beyond what the parser sees.
    Usage(String),
    /// Anything else, with its causes.
    Other(anyhow::Error),
}

impl Failed {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Agent(f) => f.kind.exit_code(),
            Self::Unreachable { .. } => UNREACHABLE,
            Self::Usage(_) => USAGE,
            Self::Other(_) => FAILED,
        })
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::Agent(f) => f.hint.as_deref(),
            Self::Unreachable { hint, .. } => Some(hint),
            Self::Usage(_) => Some("see palisade --help"),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(failure) => write!(f, "{failure}"),
            Self::Unreachable { error, .. } | Self::Usage(error) => f.write_str(error),
            Self::Other(e) => write!(f, "{e:#}"),
        }
    }
}

impl From<anyhow::Error> for Failed {
    fn from(e: anyhow::Error) -> Self {
        Self::Other(e)
    }
}
