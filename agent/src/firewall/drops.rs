//! What the rules turned away: counted by source, protocol, port and reason, told once a minute.
//!
//! ```text
//! DropLog (the kernel's packet log) --Batch--> Tally (bounded) --each minute--> Minute --> Lines
//! Counters (what the kernel counted) ------------------------------------------>   |
//!                                                                                  v
//!                                                       the last minutes --> Handle::report
//! ```
//! The kernel logs only so many packets a second, so what was logged says who and where, and the
//! kernel's own counters beside it say how many. Everything is bounded: sources that are told apart,
//! ports of each, reasons, minutes that are kept. What no longer fits is counted as others.

mod summary;
mod tally;
mod task;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, future::Future, io, net::IpAddr};

use serde::{Deserialize, Serialize};

pub use summary::{Minute, PortCount, Report, SourceCount};
pub use tally::{MAX_PORTS, MAX_REASONS, MAX_SOURCES, Tally};
pub use task::{Ask, Drops, Parts, new, refused};

/// The group that rules log to, where the configuration says nothing.
pub const DEFAULT_GROUP: u16 = 5;

/// What is done with packets that the rules turn away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The packet log's group that the rules log to, and that is read; none logs nothing.
    pub group: Option<u16>,
    /// Whether one packet in a hundred is told on a line of its own too, at most one a second.
    pub samples: bool,
}

/// A packet that was turned away and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The word of the rule: `palisade dropped`.
    pub reason: String,
    /// Where it says it comes from.
    pub source: IpAddr,
    /// The IP protocol number.
    pub protocol: u8,
    /// The destination port, where there is one.
    pub port: Option<u16>,
}

/// What came from the log at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The packets.
    pub packets: Vec<Dropped>,
    /// Packets that the log could not hand over, known by the gaps in its numbers.
    pub lost: u64,
    /// Times that the log ran over.
    pub overruns: u64,
    /// Packets that are not IP, or too short to tell.
    pub unclear: u64,
}

/// The kernel's packet log.
pub trait DropLog: Send + 'static {
    /// Asks for the packets of a group, in place of those asked for before.
    ///
    /// # Errors
    /// When the kernel gives them to nobody, or to somebody else.
    fn open(&mut self, group: u16) -> Result<(), BadLog>;
    /// Adds what comes next to `batch`. Losing the wait loses nothing.
    fn next(&mut self, batch: &mut Batch) -> impl Future<Output = io::Result<()>> + Send;
}

/// Why there is no packet log.
#[derive(Debug, thiserror::Error)]
pub enum BadLog {
    /// One program may read each group, and it is not us.
    #[error(
        "another program reads this group of the packet log; set another as firewall.drops.group"
    )]
    Taken,
    /// We lack `CAP_NET_ADMIN`.
    #[error("reading the packet log needs CAP_NET_ADMIN")]
    NotAllowed,
    /// The kernel has no packet log.
    #[error("this kernel has no packet log; load the module nfnetlink_log")]
    Missing,
    /// Anything else.
    #[error("open the packet log")]
    Failed(#[source] io::Error),
}

/// The kernel's own counters of packets, by name, as they stand.
pub trait Counters: Send + 'static {
    /// Reads them; none where they cannot be read.
    fn read(&mut self) -> impl Future<Output = Option<BTreeMap<String, u64>>> + Send;
}

impl Counters for super::Handle {
    async fn read(&mut self) -> Option<BTreeMap<String, u64>> {
        self.status().await.ok().map(|s| s.packets)
    }
}

/// Where lines go. A line that cannot be taken at once is dropped by whoever takes it, and counted
/// there: packets must not wait for a disk.
pub trait Lines: Send + 'static {
    /// Takes one line of JSON, without its newline.
    fn write(&mut self, line: &str);
}
