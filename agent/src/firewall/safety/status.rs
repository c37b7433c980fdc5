//! What others may see of safe changes: documents that the control socket serves as JSON.

use serde::{Deserialize, Serialize};

use super::super::status::Plan;
use crate::clock::Timestamp;

/// What waits to be confirmed, and what is kept back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafetyStatus {
    /// Settings in force until they are confirmed or their time is over.
    pub trial: Option<TrialStatus>,
    /// Why the settings of the file are not those in force, where that is so.
    pub kept_back: Option<KeptBack>,
    /// Why the state of this cannot be kept on disk, where that is so.
    pub trouble: Option<String>,
}

/// Settings on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialStatus {
    /// When they are rolled back, by the clock of the day as it stands now.
    pub until: Timestamp,
    /// Who asked for it.
    pub by: String,
}

/// Settings that are not put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBack {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub why: String,
}

impl KeptBack {
    /// What to do about it.
    pub const HINT: &str = "the settings before stay in force; see palisade firewall plan, mend the \
                            file, or palisade firewall apply --confirm 60s";
}

/// A connection that would be cut, or could not be opened again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutSession {
    /// The other end.
    pub from: String,
    /// Our port.
    pub port: u16,
    /// Whether it is an SSH session.
    pub ssh: bool,
    /// Whether it is that of whoever asks.
    pub own: bool,
}

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResult {
    /// The test.
    pub test: String,
    /// Whether all is as it expects.
    pub passed: bool,
    /// Packets that were sent for it.
    pub packets: usize,
    /// What is not.
    pub wrong: Vec<String>,
}

/// What the configuration file would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Ranges and rules.
    #[serde(flatten)]
    pub plan: Plan,
    /// Whether the file says something else than the settings in force.
    pub settings_differ: bool,
    /// Live connections that would be cut, or could not be opened again.
    pub cut: Vec<CutSession>,
    /// Why `apply` would refuse it.
    pub refused: Vec<String>,
    /// The tests of the policy.
    pub tests: Vec<TestResult>,
    /// Why the tests were answered by reading the rules and not by packets, where that is so.
    pub not_probed: Option<String>,
}

/// What came of `apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// What it changed.
    pub proposal: Proposal,
    /// When it is rolled back unless it is confirmed.
    pub until: Option<Timestamp>,
}
