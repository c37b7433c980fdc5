//! What others may know about the log path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of the log path: what `palisade logs status` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Why a person should look, where that is so. The data is kept meanwhile.
    pub degraded: Option<String>,
    /// Bytes in the spool's files.
    pub spool_bytes: u64,
    /// Each source.
    pub sources: Vec<SourceStatus>,
    /// Events delivered since start, also of sources that are gone.
    pub delivered_events: u64,
    /// Lines dropped since start, because the spool was full or damaged.
    pub dropped_lines: u64,
    /// Events in the dead-letter file since start.
    pub dead_lettered_events: u64,
    /// Events sent again since start because a try got no answer; it may have arrived or not.
    pub duplicate_risk_events: u64,
    /// Requests that the service asked to slow down for, since start.
    #[serde(default)]
    pub throttled_requests: u64,
    /// Lines in which bytes that are not UTF-8 were replaced.
    pub bad_utf8_lines: u64,
    /// How often each kind of secret was taken out since start, by its name in `logs.redact`. What is
    /// read again counts again.
    #[serde(default)]
    pub redacted: BTreeMap<String, u64>,
    /// The same of the second sink, where there is one.
    #[serde(default)]
    pub new_relic: Option<Box<Status>>,
    /// What was found damaged or missing at start or later, newest last, 20 at most.
    pub incidents: Vec<String>,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// The process, or the file's path.
    pub name: String,
    /// Log group.
    pub group: String,
    /// Log stream.
    pub stream: String,
    /// Bytes that are not delivered. For a process this counts the spool's framing too.
    pub backlog_bytes: u64,
    /// Age of the oldest line that is not delivered, in milliseconds.
    pub lag_ms: u64,
    /// Events delivered since start.
    pub delivered_events: u64,
    /// Lines dropped since start.
    pub dropped_lines: u64,
    /// Events in the dead-letter file since start.
    pub dead_lettered_events: u64,
    /// Events sent again since start because a try got no answer; it may have arrived or not.
    pub duplicate_risk_events: u64,
    /// The failure that is being waited out.
    pub last_error: Option<String>,
}

impl Status {
    /// Bytes not delivered, of all sources.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        self.sources.iter().map(|s| s.backlog_bytes).sum()
    }

    /// The largest lag of all sources.
    #[must_use]
    pub fn lag_ms(&self) -> u64 {
        self.sources.iter().map(|s| s.lag_ms).max().unwrap_or(0)
    }
}
