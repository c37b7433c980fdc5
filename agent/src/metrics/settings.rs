//! What is told, and how often.

use std::{ops::RangeInclusive, time::Duration};

/// How often may be asked for. Alarms count the agents that a minute has heard of, so at least once in a
/// minute; and a sample reads all of `/proc` that concerns the programs, so not all the time.
pub const EVERY: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(60);

/// How often where nothing is said.
pub const DEFAULT_EVERY: Duration = Duration::from_secs(60);

/// Everything that the sampler is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// CloudWatch's namespace.
    pub namespace: String,
    /// How often; within [`EVERY`].
    pub every: Duration,
    /// Whether the host is told of too, beside the agent and its programs.
    pub host: bool,
}

/// Whether CloudWatch takes this as a namespace of somebody's own.
#[must_use]
pub fn is_namespace(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"._#:/-".contains(&b);
    (1..=255).contains(&name.len())
        && name.bytes().all(ok)
        && !name.starts_with(':')
        && !name.starts_with("AWS/")
}
