//! What schedules need of the host and of their neighbours.

use std::io;

use palisade_types::ProcessName;

/// Where what is remembered of scheduled processes is kept: it survives the death of the host.
pub trait Ledger: Send + Sync + 'static {
    /// The processes of which something is kept.
    ///
    /// # Errors
    /// What the file system says.
    fn names(&self) -> io::Result<Vec<ProcessName>>;

    /// What is kept of a process, if anything.
    ///
    /// # Errors
    /// What the file system says.
    fn load(&self, name: &ProcessName) -> io::Result<Option<Vec<u8>>>;

    /// Keeps this, whole or not at all.
    ///
    /// # Errors
    /// What the file system says; what was kept before is kept then.
    fn save(&self, name: &ProcessName, record: &[u8]) -> io::Result<()>;

    /// Keeps nothing any more.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, name: &ProcessName) -> io::Result<()>;
}

/// Who is told what happened to schedules. Must not block.
pub trait Diary: Send + Sync + 'static {
    /// Something happened: `what`, a few words that are always the same, and why.
    fn note(&self, process: &ProcessName, what: &str, why: String);
}
