//! What the sampler needs of the world.

use std::future::Future;

use super::facts::{Facts, HostFacts};

/// The host's own figures.
pub trait HostSource: Send + Sync + 'static {
    /// Reads them; what cannot be read is left out. It may block.
    fn read(&self) -> HostFacts;
}

/// The agent's parts.
pub trait AgentSource: Send + 'static {
    /// Asks them. Losing the wait loses nothing.
    fn facts(&mut self) -> impl Future<Output = Facts> + Send;
}

/// Where documents go.
pub trait Lines: Send + 'static {
    /// Takes one line, without its newline, and says what became of it. It must not wait: a sample that
    /// is not taken is followed by the next one.
    fn write(&mut self, line: &str) -> Taken;
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is on its way.
    Yes,
    /// Nobody wants lines: logs are not configured.
    Unwanted,
    /// There was no room, or the disk refused.
    Dropped,
}
