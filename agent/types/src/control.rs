//! What travels over the control socket: HTTP with JSON bodies, described in
//! `docs/protocol/control.md`. Status documents of the modules are the modules' own types.

use serde::{Deserialize, Serialize};

/// Version of the protocol: the first part of every path.
pub const API: &str = "/v1";

/// Names to act on: a process, a program, `GROUP:*` or `all`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// At least one.
    pub names: Vec<String>,
}

/// A signal for some processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalNames {
    /// As in [`Names`].
    pub names: Vec<String>,
    /// `HUP`, `SIGHUP` or `1`.
    pub signal: String,
}

/// A change of a source of the firewall that a guard held back, and that is let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The source's name in the configuration.
    pub source: String,
    /// The version that is meant; none is whatever waits.
    #[serde(default)]
    pub version: Option<u64>,
}

/// A secret of the origin guard that is not to be accepted any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropSecret {
    /// Its id, as `palisade origin status` shows it.
    pub id: String,
}

/// How the firewall's section of the configuration file is to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirewallApply {
    /// Milliseconds after which it is rolled back unless it is confirmed; for good without.
    pub confirm_ms: Option<u64>,
    /// Whether to apply also what would be refused.
    pub force: bool,
}

/// How long a flush may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flush {
    /// Milliseconds.
    pub timeout_ms: u64,
}

/// Which run of patches is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchRun {
    /// Whether it may begin outside of every window.
    pub now: bool,
}

/// Which grant of access is to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Its id.
    pub id: crate::grant::GrantId,
}

/// What came of a request for one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The process, or the name as given if there is none.
    pub name: String,
    /// Whether what was asked for is so now.
    pub ok: bool,
    /// `started`, `stopped`, `signalled`, or what went wrong: `no such process`, `spawn error: …`.
    pub what: String,
}

/// What an update of the configuration changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// Processes that are new.
    pub added: Vec<String>,
    /// Processes that are gone.
    pub removed: Vec<String>,
    /// Processes that were restarted because their settings changed.
    pub changed: Vec<String>,
    /// Other sections that changed: `firewall`, `logs`.
    pub sections: Vec<String>,
    /// Sections whose change takes a restart of the agent, as `host`, or an upgrade, as `logs.sink`.
    pub needs_restart: Vec<String>,
    /// Sections whose change was not taken because it could lock somebody out, and why.
    #[serde(default)]
    pub kept_back: Vec<String>,
}

/// The agent itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Version of the running binary.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Unix time in milliseconds of its start, or of the last upgrade in place.
    pub since: i64,
    /// How often it replaced its own binary under this process id.
    pub upgrades: u32,
    /// `starting`, `running` or `stopping`.
    pub phase: Phase,
    /// Whether the settings in force are those on disk.
    pub config: ConfigState,
    /// What works less than fully, and why.
    pub degraded: Vec<String>,
    /// Why the last upgrade came to nothing, if it did.
    #[serde(default)]
    pub not_upgraded: Option<String>,
}

/// What the agent is doing with its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not everything is up yet.
    Starting,
    /// At work.
    Running,
    /// Ending, or about to replace its binary.
    Stopping,
}

/// Whether the settings in force are those on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ConfigState {
    /// As of the last reading.
    Current {
        /// The file.
        path: String,
        /// Unix time in milliseconds of the last reading.
        since: i64,
    },
    /// The last reading found mistakes; the settings before it are still in force.
    Stale {
        /// The file.
        path: String,
        /// Unix time in milliseconds of that reading.
        since: i64,
        /// Every mistake, one line each.
        mistakes: Vec<String>,
    },
}

/// Why a request failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// What failed and why, on one line.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What kind of failure it is: decides the HTTP status and the exit code.
    pub kind: FailureKind,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request makes no sense: 400, exit code 2.
    BadRequest,
    /// There is nothing of that name, or the module is not configured: 404, exit code 1.
    NotFound,
    /// A guard or a policy said no: 403, exit code 5.
    Refused,
    /// The agent is starting, stopping, or has too many requests: 503, exit code 1.
    Busy,
    /// It was tried and did not work: 500, exit code 1.
    Failed,
}

impl FailureKind {
    /// HTTP status of the answer.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Refused => 403,
            Self::NotFound => 404,
            Self::Failed => 500,
            Self::Busy => 503,
        }
    }

    /// Exit code of the command line.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::BadRequest => 2,
            Self::Refused => 5,
            Self::NotFound | Self::Failed | Self::Busy => 1,
        }
    }
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(kind: FailureKind, error: impl Into<String>) -> Self {
        Self { error: error.into(), hint: None, kind }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
