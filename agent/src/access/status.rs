//! What access says of itself.

use palisade_types::grant::{Binding, GrantRow};
use serde::{Deserialize, Serialize};

/// Where access stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Live grants, and ended ones whose logins are still being ended.
    pub grants: Vec<GrantRow>,
    /// How strictly logins are tied to sessions.
    pub binding: Binding,
    /// Since the agent began.
    pub counts: Counts,
    /// Number and hash of the last line of the audit log.
    pub audit: (u64, String),
    /// What works less than fully.
    pub troubles: Vec<String>,
}

/// Totals since the agent began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Grants given.
    pub granted: u64,
    /// Requests refused.
    pub refused: u64,
    /// Logins.
    pub logins: u64,
    /// Granted keys that were used where they must not be.
    pub logins_refused: u64,
    /// Logins that we ended.
    pub sessions_ended: u64,
}
