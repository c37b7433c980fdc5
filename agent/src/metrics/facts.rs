//! What a sample is made of: the host as the kernel has it, and the agent as its parts have it. What could
//! not be read is none.

use std::{collections::BTreeMap, time::Duration};

/// The agent's parts. What is not configured is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Every process; empty also while nobody knows.
    pub processes: Vec<ProcessFacts>,
    /// The firewall.
    pub firewall: Option<FirewallFacts>,
    /// Age of the origin's secret.
    pub origin_secret_age: Option<Duration>,
    /// Log shipping.
    pub logs: Option<LogsFacts>,
    /// Patches, as the last look found them.
    pub patch: Option<PatchFacts>,
    /// Access.
    pub access: Option<AccessFacts>,
}

/// One process of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The program.
    pub program: String,
    /// The process.
    pub process: String,
    /// Whether it is up.
    pub running: bool,
    /// Whether it is ready; none if it is not wanted up, or is a job that comes and goes.
    pub ready: Option<bool>,
    /// Whether it was given up.
    pub fatal: bool,
    /// Restarts, since whenever.
    pub restarts: u64,
    /// What it uses, with all that it started.
    pub used: Option<Used>,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Tells it from another process of the name.
    pub start_ticks: u64,
    /// CPU time.
    pub cpu: Duration,
    /// Bytes of memory, now.
    pub memory: u64,
}

/// The firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallFacts {
    /// Whether the kernel has what is wanted.
    pub in_force: bool,
    /// Ranges, by source.
    pub ranges: Vec<(String, u64)>,
    /// Time since a good answer, by source.
    pub feed_ages: Vec<(String, Duration)>,
    /// Changes that wait for a person.
    pub held: u64,
    /// Repairs.
    pub repairs: u64,
    /// Packets turned away, by the kernel's counters.
    pub dropped: BTreeMap<String, u64>,
}

/// Log shipping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsFacts {
    /// Each source.
    pub sources: Vec<SourceFacts>,
    /// Lines dropped, of all sources and of those that are gone.
    pub dropped: u64,
    /// Events in the dead-letter file, the same.
    pub dead_lettered: u64,
}

/// What is shipped from one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFacts {
    /// Its log group.
    pub group: String,
    /// Its name within: a process or a file.
    pub name: String,
    /// Bytes not delivered.
    pub backlog: u64,
    /// Age of the oldest of them.
    pub lag: Duration,
    /// Lines dropped.
    pub dropped: u64,
    /// Events in the dead-letter file.
    pub dead_lettered: u64,
}

/// Patches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchFacts {
    /// Missing updates, if that can be told.
    pub missing: Option<u64>,
    /// Failed ones.
    pub failed: u64,
    /// Whether one waits for a restart of the host.
    pub pending_reboot: bool,
    /// Age of the lists, if they were ever fetched.
    pub lists_age: Option<Duration>,
}

/// Access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessFacts {
    /// Live grants.
    pub live: u64,
    /// What was refused.
    pub refused: u64,
}

/// The host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostFacts {
    /// CPU time so far.
    pub cpu: Option<CpuTicks>,
    /// Memory.
    pub memory: Option<MemoryFacts>,
    /// Disks.
    pub disks: Vec<DiskFacts>,
    /// Load average of a minute.
    pub load1: Option<f64>,
    /// Bytes so far, by interface.
    pub network: BTreeMap<String, Traffic>,
    /// Waiting.
    pub pressure: PressureFacts,
}

/// CPU time in the kernel's ticks, of all CPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTicks {
    /// Not idle.
    pub busy: u64,
    /// All.
    pub all: u64,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFacts {
    /// All.
    pub total: u64,
    /// What new programs can have.
    pub available: u64,
}

/// A disk, in blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// Where it is mounted.
    pub mount: String,
    /// In use.
    pub used: u64,
    /// Free for anybody.
    pub available: u64,
}

/// Bytes over an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// In.
    pub received: u64,
    /// Out.
    pub transmitted: u64,
}

/// Shares of the last ten seconds in which something waited, in hundredths.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureFacts {
    /// For a CPU.
    pub cpu: Option<f64>,
    /// For memory.
    pub memory: Option<f64>,
    /// For a disk.
    pub io: Option<f64>,
}
