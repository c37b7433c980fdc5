//! What the patch task says of itself.

use serde::{Deserialize, Serialize};

use super::{model::Report, plan::Plan, record::Record, window::Opening};
use crate::clock::Timestamp;

/// Where patching stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What the last look found; none before the first.
    pub report: Option<Report>,
    /// Packages that the next run would install.
    pub waiting: usize,
    /// Why the last look failed, if it did.
    pub error: Option<String>,
    /// The window that is open.
    pub open: Option<Opening>,
    /// The next one.
    pub next: Option<Opening>,
    /// When this host's next run begins.
    pub due: Option<Timestamp>,
    /// The run that goes on.
    pub running: Option<Record>,
    /// The last one that is over.
    pub last: Option<Record>,
    /// What is told to others.
    pub told: Told,
}

/// How it stands with telling others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Told {
    /// Nobody is told.
    #[default]
    Off,
    /// Something is still to be told.
    Waiting {
        /// What went wrong with the last try, if one was made.
        error: Option<String>,
        /// Tries so far.
        tries: u32,
    },
    /// The latest report was taken.
    UpToDate {
        /// When.
        at: Timestamp,
    },
    /// It was refused, and the same will be refused again.
    Refused {
        /// Why.
        error: String,
    },
}

/// What was planned or done, with where the host stands: the answer to `patch plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// When it would be carried out.
    pub due: Option<Timestamp>,
    /// Whether the host would be restarted if something takes it.
    pub may_restart: bool,
}
