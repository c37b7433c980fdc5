//! What is done about a process that runs: asked for its health, recycled, reloaded, replaced.

use std::time::Duration;

use nix::sys::signal::Signal;
use palisade_types::ByteSize;

use super::ProbeTarget;

/// A process that runs is asked again and again; one that fails too often in a row is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub target: ProbeTarget,
    /// How often.
    pub every: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// Failures in a row that count.
    pub failures: u32,
}

/// How a process takes up new code without ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// The signal that asks for it.
    pub signal: Signal,
}

/// How a process is replaced while it serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rolling {
    /// The new one is up and ready before the old one is stopped.
    pub overlap: bool,
}

/// One step of stopping: a signal, and how long to wait after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopStep {
    /// What is sent.
    pub signal: Signal,
    /// How long the process may take before the next step.
    pub wait: Duration,
}

/// Restarts a minute that are no storm where the settings do not say: far beyond what helps anybody.
pub const RESTARTS_PER_MINUTE: u32 = 120;

/// What is done about a process as it grows old or fails often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Replaced gracefully once it, and all that it started, uses more.
    pub max_memory: Option<ByteSize>,
    /// The most starts of a process that came up and ended again, within a minute; slower from then on.
    /// 0 for never slower; [`RESTARTS_PER_MINUTE`] if not given.
    pub restarts_per_minute: Option<u32>,
}
