//! The one table of metrics, and the page that is made of it.

use std::fmt::Write as _;

/// How the value behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is as it is now.
    Gauge,
    /// It counts up since the agent's start, and begins anew with the next agent.
    Total,
}

/// CloudWatch's words for what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Hundredths.
    Percent,
    /// None.
    None,
}

impl Unit {
    /// As CloudWatch spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::Seconds => "Seconds",
            Self::Percent => "Percent",
            Self::None => "None",
        }
    }
}

/// What a value is of, beside the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Per {
    /// Of the host as a whole.
    Host,
    /// Of a program, by its name.
    Program,
    /// Of a source, and what that is.
    Source(&'static str),
}

impl Per {
    /// The dimension that it has beside those of the host.
    #[must_use]
    pub fn dimension(self) -> Option<&'static str> {
        match self {
            Self::Host => None,
            Self::Program => Some("Program"),
            Self::Source(_) => Some("Source"),
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name in CloudWatch, in capitals and small letters.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What is counted.
    pub unit: Unit,
    /// What a value is of.
    pub per: Per,
    /// What it means, in a sentence.
    pub help: &'static str,
}

impl Metric {
    /// Its name in Prometheus: `ProgramRestartsTotal` is `palisade_program_restarts_total`.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        let mut name = "palisade".to_owned();
        for c in self.name.chars() {
            if c.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }
}

macro_rules! table {
    ($($constant:ident: $name:literal, $kind:ident, $unit:ident, $per:expr, $help:literal;)*) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            per: $per,
            help: $help,
        };)*
        /// Every metric.
        pub const TABLE: &[Metric] = &[$($constant),*];
    };
}

const FEED: Per = Per::Source("source of the firewall");
const GROUP: Per = Per::Source("log group");
const MOUNT: Per = Per::Source("mount point");

table! {
    AGENT_UP: "AgentUp", Gauge, Count, Per::Host,
        "1 while the agent runs; in CloudWatch once in each minute of the clock, so that the sum of a minute is the number of agents.";
    PROGRAM_RUNNING: "ProgramRunning", Gauge, Count, Per::Program,
        "Processes of the program that are RUNNING.";
    PROGRAM_READY: "ProgramReady", Gauge, Count, Per::Program,
        "1 if every process of the program that is wanted up is ready, 0 if one is not (also if it is FATAL). Left out while none is wanted up, and for programs that run once or by a schedule.";
    PROGRAM_FATAL: "ProgramFatal", Gauge, Count, Per::Program,
        "Processes of the program that are FATAL: the agent has given up.";
    PROGRAM_RESTARTS: "ProgramRestartsTotal", Total, Count, Per::Program,
        "Restarts of the program's processes by the agent itself.";
    PROGRAM_MEMORY: "ProgramMemoryBytes", Gauge, Bytes, Per::Program,
        "Memory of the program's processes and all that they started, as palisade status --usage counts it.";
    PROGRAM_CPU: "ProgramCpuPercent", Gauge, Percent, Per::Program,
        "CPU of the program's processes and all that they started since the sample before, in hundredths of one CPU: two busy CPUs are 200.";
    FIREWALL_IN_FORCE: "FirewallInForce", Gauge, Count, Per::Host,
        "1 if the kernel was seen to have the rules that are wanted, 0 if not (also with enforce: false).";
    FIREWALL_RANGES: "FirewallRanges", Gauge, Count, FEED,
        "Ranges of addresses that the rules let in for the source.";
    FIREWALL_FEED_AGE: "FirewallFeedAgeSeconds", Gauge, Seconds, FEED,
        "Time since a good answer about the source's list last came; of several lists the oldest.";
    FIREWALL_HELD: "FirewallHeldChanges", Gauge, Count, Per::Host,
        "Changes that wait for a person: lists that a guard holds, and settings that would have locked somebody out.";
    FIREWALL_DRIFT: "FirewallDriftTotal", Total, Count, Per::Host,
        "Changes of the rules by others that were repaired.";
    FIREWALL_DROPPED: "FirewallDroppedTotal", Total, Count, Per::Host,
        "Packets that the rules turned away, by the kernel's counters.";
    ORIGIN_SECRET_AGE: "OriginSecretAgeSeconds", Gauge, Seconds, Per::Host,
        "Age of the origin's secret in use, by its source, or since it was first seen here.";
    LOGS_BACKLOG: "LogsBacklogBytes", Gauge, Bytes, GROUP,
        "Bytes that are written and not delivered.";
    LOGS_LAG: "LogsLagSeconds", Gauge, Seconds, GROUP,
        "Age of the oldest line that is not delivered.";
    LOGS_DROPPED: "LogsDroppedTotal", Total, Count, GROUP,
        "Lines that are lost: the spool was full or damaged, or a file went away unread. Of what is followed no more the source is (gone).";
    LOGS_DEAD_LETTERED: "LogsDeadLetteredTotal", Total, Count, GROUP,
        "Events that CloudWatch will never take, kept in the dead-letter file. Of what is followed no more the source is (gone).";
    PATCH_MISSING: "PatchMissing", Gauge, Count, Per::Host,
        "Updates in scope that are known and not installed; left out while nobody can tell, as with old lists.";
    PATCH_FAILED: "PatchFailed", Gauge, Count, Per::Host,
        "Updates that the last run tried and that failed.";
    PATCH_PENDING_REBOOT: "PatchPendingReboot", Gauge, Count, Per::Host,
        "1 if an installed update waits for a restart of the host, else 0.";
    PATCH_LISTS_AGE: "PatchListsAgeSeconds", Gauge, Seconds, Per::Host,
        "Time since the oldest of the package lists was fetched.";
    ACCESS_LIVE: "AccessGrantsLive", Gauge, Count, Per::Host,
        "Grants that let somebody in now.";
    ACCESS_REFUSED: "AccessRefusedTotal", Total, Count, Per::Host,
        "Requests for access and logins with granted keys that were refused.";
    HOST_CPU: "HostCpuPercent", Gauge, Percent, Per::Host,
        "CPU of the host since the sample before; 100 is all CPUs busy.";
    HOST_MEMORY: "HostMemoryUsedPercent", Gauge, Percent, Per::Host,
        "Memory that is not available to new programs.";
    HOST_DISK: "HostDiskUsedPercent", Gauge, Percent, MOUNT,
        "Disk space in use, of what anybody but root may use, as df says: every mounted disk that can be written to, 16 at most.";
    HOST_LOAD: "HostLoad1", Gauge, None, Per::Host,
        "Load average of one minute.";
    HOST_NETWORK_RECEIVE: "HostNetworkReceiveBytesTotal", Total, Bytes, Per::Host,
        "Bytes that came in over the host's network interfaces (not loopback, nor bridges and pairs of containers).";
    HOST_NETWORK_TRANSMIT: "HostNetworkTransmitBytesTotal", Total, Bytes, Per::Host,
        "Bytes that went out over them.";
    HOST_PRESSURE_CPU: "HostPressureCpuPercent", Gauge, Percent, Per::Host,
        "Share of the last ten seconds in which something waited for a CPU; left out where the kernel does not count it (PSI).";
    HOST_PRESSURE_MEMORY: "HostPressureMemoryPercent", Gauge, Percent, Per::Host,
        "Share of the last ten seconds in which something waited for memory; the same.";
    HOST_PRESSURE_IO: "HostPressureIoPercent", Gauge, Percent, Per::Host,
        "Share of the last ten seconds in which something waited for a disk; the same.";
}

/// The table as it stands in `docs/metrics.md`.
#[must_use]
pub fn page() -> String {
    let mut page =
        "| metric | in Prometheus | kind | unit | beside the host | meaning |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for m in TABLE {
        let kind = match m.kind {
            Kind::Gauge => "gauge",
            Kind::Total => "total",
        };
        let per = match m.per {
            Per::Host => String::new(),
            Per::Program => "`Program`".to_owned(),
            Per::Source(what) => format!("`Source`: {what}"),
        };
        let (name, unit, help) = (m.prometheus_name(), m.unit.as_str(), m.help);
        // Writing to a string does not fail.
        writeln!(page, "| `{}` | `{name}` | {kind} | {unit} | {per} | {help} |", m.name)
            .unwrap_or_default();
    }
    page
}
