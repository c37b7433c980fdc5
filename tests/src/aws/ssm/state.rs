//! What the fake keeps, what goes wrong, and what it counts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{compliance::Report, inventory::Table, parameters::Parameter};
use crate::aws::http::ApiError;

/// What goes wrong, until changed. Numbers count down with the requests that they hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// So many requests are answered with ThrottlingException.
    pub throttle: u32,
    /// So many requests are answered with status 500, nothing taken.
    pub error: u32,
    /// So many requests are done, and the connection closed without an answer.
    pub drop_ack: u32,
    /// Requests are read and never answered.
    pub hang: bool,
    /// Connections are closed at once.
    pub refuse: bool,
    /// Each answer comes so much later.
    pub delay_ms: u64,
    /// Every request is refused with AccessDeniedException.
    pub denied: bool,
    /// Every request is refused with ExpiredTokenException.
    pub expired: bool,
    /// No host is a managed node.
    pub unregistered: bool,
}

/// What arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// All requests of services.
    pub requests: u64,
    /// Requests that were done, by the name of the call.
    pub done: BTreeMap<String, u64>,
    /// Uploads left as they were, since their hash was known, by the name of the call.
    pub unchanged: BTreeMap<String, u64>,
    /// Rules broken, and how often.
    pub violations: BTreeMap<String, u64>,
    /// Errors given, and how often.
    pub errors: BTreeMap<String, u64>,
    /// Access keys that requests were signed with.
    pub access_keys: BTreeSet<String>,
    /// The longest body.
    pub largest_body: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) faults: Faults,
    pub(super) stats: Stats,
    /// By resource and type.
    pub(super) compliance: BTreeMap<(String, String), Report>,
    /// By instance and type.
    pub(super) inventory: BTreeMap<(String, String), Table>,
    pub(super) parameters: BTreeMap<String, Vec<Parameter>>,
}

impl State {
    /// Refuses what breaks a rule, and takes note of it.
    pub(super) fn broken(&mut self, kind: &'static str, rule: &str) -> ApiError {
        *self.stats.violations.entry(rule.to_owned()).or_default() += 1;
        (400, kind, rule.to_owned())
    }

    /// Takes note of an upload that changed nothing.
    pub(super) fn unchanged(&mut self, op: &str) {
        *self.stats.unchanged.entry(op.to_owned()).or_default() += 1;
    }
}
