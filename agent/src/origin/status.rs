//! What others may see of the guard: documents that the control socket serves as JSON.

use serde::{Deserialize, Serialize};

use super::{
    model::{Secrets, Stage, Standing},
    secret::SecretId,
    settings::Leave,
};
use crate::clock::Timestamp;

/// The state of the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// How the web server stands.
    pub state: State,
    /// The header.
    pub header: String,
    /// Where its value is read.
    pub source: SourceStatus,
    /// The accepted secrets, the newest last.
    pub secrets: Vec<SecretStatus>,
    /// Seconds since the one in use was made, or first seen where the source does not say.
    pub secret_age_seconds: Option<u64>,
    /// Requests that were refused, about: one in sixteen is noted.
    pub refused: u64,
    /// The last one that was noted.
    pub last_refused: Option<Timestamp>,
    /// Until when requests are counted.
    pub counted: Option<Timestamp>,
    /// When nginx last read the files because we said so.
    pub last_reload: Option<Timestamp>,
    /// What else does not work, in words.
    pub troubles: Vec<String>,
}

/// How the web server stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// Nothing was tried yet.
    Starting,
    /// No secret is known: where the guard is included, every request is refused, unless files of before
    /// are there.
    Closed,
    /// nginx answers by the secrets below.
    InForce,
    /// The files are in place; nginx reads them when it starts, or is told by somebody else.
    Written,
    /// They are not in force; what was before is.
    Failed {
        /// All causes.
        why: String,
        /// What can be done about it.
        hint: Option<String>,
        /// Tries since it last worked.
        failures: u32,
    },
}

/// Where secrets are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Where.
    pub location: String,
    /// When a good answer last came.
    pub checked: Option<Timestamp>,
    /// Why the last try failed, or what of its answer was no secret. Nothing is dropped meanwhile.
    pub error: Option<String>,
    /// What can be done about it.
    pub hint: Option<String>,
    /// Failures since the last good answer.
    pub failures: u32,
}

/// One accepted secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretStatus {
    /// The first 8 hexadecimal digits of its SHA-256.
    pub id: SecretId,
    /// What the source has it as; none if it does not, or only as a previous one.
    pub stage: Option<Stage>,
    /// What the source calls it.
    pub version: String,
    /// When it was first accepted here.
    pub since: Timestamp,
    /// When it was made, if the source said.
    pub created: Option<Timestamp>,
    /// Since when the source has another.
    pub left: Option<Timestamp>,
    /// When it is dropped at the latest.
    pub goes: Option<Timestamp>,
    /// Requests that had it, of the newest about: one in sixteen is noted.
    pub hits: u64,
    /// The last one that was noted.
    pub last_hit: Option<Timestamp>,
}

/// What a look at the source brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// What changed, in words.
    pub changes: Vec<String>,
    /// The state after it.
    pub status: Status,
}

/// The accepted secrets as others see them.
pub(super) fn secrets(secrets: &Secrets, leave: &Leave) -> Vec<SecretStatus> {
    let one = |a: &super::model::Accepted| {
        let (stage, left) = match a.standing {
            Standing::Offered(stage) => (Some(stage), None),
            Standing::Left(at) => (None, Some(at)),
        };
        SecretStatus {
            id: a.secret.id(),
            stage,
            version: a.version.clone(),
            since: a.since,
            created: a.created,
            left,
            goes: left.map(|at| at.plus(leave.at_most)),
            hits: a.hits,
            last_hit: a.last_hit,
        }
    };
    secrets.accepted().iter().map(one).collect()
}

/// Seconds since the one in use was made.
pub(super) fn age(secrets: &Secrets, now: Timestamp) -> Option<u64> {
    secrets.current().map(|a| now.since(a.created.unwrap_or(a.since)).as_secs())
}
