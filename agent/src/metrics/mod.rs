//! What the agent counts, for CloudWatch and for Prometheus.
//!
//! ```text
//! HostSource (/proc, statvfs) ─┐                       ┌─ each `every`: emf ──> Lines (the log path)
//! AgentSource (the modules) ───┴─> gather ─> Snapshot ─┤
//!                                  (table)             └─ when asked: prometheus ──> Handle::text
//! ```
//!
//! Every metric stands once, in [`TABLE`]: its name, unit, kind, dimension and what it means. EMF, the
//! Prometheus text and `docs/metrics.md` are made of that. There are gauges, and totals since the agent's
//! start, so that an event that arrives twice changes nothing. What cannot be read is left out and never
//! sent as nought.

mod emf;
mod facts;
mod gather;
mod ports;
mod prometheus;
mod rates;
mod settings;
mod snapshot;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod totals;

pub use emf::{BadDocument, Document, Encoded, MAX_DIMENSIONS, MAX_METRICS, Value, encode};
pub use facts::{
    AccessFacts, CpuTicks, DiskFacts, Facts, FirewallFacts, HostFacts, LogsFacts, MemoryFacts,
    PatchFacts, PressureFacts, ProcessFacts, SourceFacts, Traffic, Used,
};
pub use ports::{AgentSource, HostSource, Lines, Taken};
pub use prometheus::CONTENT_TYPE;
pub use settings::{DEFAULT_EVERY, EVERY, Settings, is_namespace};
pub use table::{Kind, Metric, Per, TABLE, Unit, page};
pub use task::{Gone, Handle, Identity, Parts, Task, new};
