//! What this module needs from the cloud and from the host. `agent/aws` and `sys` fill it in.

use std::{fmt::Debug, future::Future, io, path::Path, sync::Arc};

use super::batch::Batch;

/// Where batches go.
///
/// A batch given to [`put`](Self::put) belongs to one stream, keeps every rule of PutLogEvents and
/// is not empty.
pub trait CloudLogs: Send + Sync + 'static {
    /// Sends one batch, once. Whoever calls decides about trying again.
    fn put(
        &self,
        group: &str,
        stream: &str,
        batch: &Arc<Batch>,
    ) -> impl Future<Output = Outcome> + Send;

    /// Makes the group (so, if it did not exist) and the stream. That they exist already is success.
    fn ensure_stream(
        &self,
        group: &str,
        stream: &str,
        new: &NewGroups,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// How far each lane got, where the sink itself keeps that; asked once, before the first put.
    fn delivered(&self) -> impl Future<Output = io::Result<Vec<Delivered>>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Makes sure that everything put so far survives a power cut; called before a checkpoint says
    /// that it was delivered.
    fn settle(&self) -> impl Future<Output = io::Result<()>> + Send {
        async { Ok(()) }
    }

    /// Whether the sink answers [`delivered`](Self::delivered) exactly, so that nobody else may
    /// note acknowledgements ahead of a checkpoint.
    fn keeps_positions(&self) -> bool {
        false
    }
}

/// How a group is made that does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewGroups {
    /// Days that its events are kept; for ever if none are given.
    pub retention_days: Option<u32>,
    /// The KMS key that encrypts it, by its ARN; the service's own if none is given.
    pub kms_key: Option<String>,
}

/// A position that the sink holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The lane.
    pub lane: u64,
    /// Everything up to here arrived.
    pub upto: u64,
}

/// What became of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is in.
    Accepted,
    /// The request was accepted but for the events named.
    AcceptedBut(Refused),
    /// Nothing is in, or nobody knows.
    Failed(Failure),
}

/// Events that an accepted request leaves out: `rejectedLogEventsInfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Events before this index are too old.
    pub too_old_end: Option<usize>,
    /// Events before this index are older than the group's retention.
    pub expired_end: Option<usize>,
    /// Events from this index on are too far in the future.
    pub too_new_start: Option<usize>,
}

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The service asks to slow down.
    Throttled,
    /// No answer, a broken connection, or an error on the service's side: events may have arrived.
    Unavailable(String),
    /// No event left this host: there was no connection, or nothing to send over it.
    NotSent(String),
    /// The group or the stream does not exist.
    Missing,
    /// The service will never take this request as it is.
    Invalid(String),
    /// We may not.
    Denied(String),
    /// There are no credentials, or they are expired or wrong.
    Credentials(String),
}

/// The file system of spool, checkpoint, dead letters and local output.
pub trait SpoolFs: Debug + Send + Sync + 'static {
    /// Opens for reading and writing, making the file (0600) and its directories (0700) if absent.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SpoolFile>>;
    /// The names in a directory; none if it does not exist.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Removes a file; that there is none is success.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Renames over whatever is there.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in this directory survive a power cut.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// How much of the disk under this directory is free for us.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn room(&self, dir: &Path) -> io::Result<Room>;
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free for whoever is not root.
    pub free: u64,
    /// All of it.
    pub all: u64,
}

/// An open file of ours.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait SpoolFile: Debug + Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes; 0 at the end.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of it. After an error any part of it may be there.
    ///
    /// # Errors
    /// Whatever the file system says; a full disk above all.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Present length.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn len(&self) -> io::Result<u64>;
    /// Cuts to this length.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and length survive a power cut.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync(&self) -> io::Result<()>;
}

/// The file system of the files that are followed. It is only read.
pub trait TailFs: Debug + Send + Sync + 'static {
    /// The regular files in a directory.
    ///
    /// # Errors
    /// `NotFound` if it does not exist, or whatever the file system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<TailEntry>>;
    /// Opens for reading.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn TailFile>>;
    /// Number of the device that a directory is on.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn device(&self, dir: &Path) -> io::Result<u64>;
}

/// One file that is followed, open.
pub trait TailFile: Debug + Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes; 0 at the end.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// What the file is now, whatever name it has.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn stat(&self) -> io::Result<TailStat>;
}

/// A name in a directory and the file behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailEntry {
    /// The name. One that is not UTF-8 is not listed.
    pub name: String,
    /// It is a symbolic link to the file.
    pub link: bool,
    /// The file.
    pub stat: TailStat,
}

/// Which file, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailStat {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content, in milliseconds since the epoch.
    pub modified_ms: i64,
}

/// Says that something may have happened in a directory. It may miss things: the rescan is what
/// counts.
pub trait Hints: Send + 'static {
    /// Watches this directory from now on. That it cannot be watched is no error.
    fn watch(&mut self, dir: &Path);
    /// Waits for the next hint; several may come as one.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// Nobody hints; the rescan alone finds what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHints;

impl Hints for NoHints {
    fn watch(&mut self, _dir: &Path) {}

    async fn changed(&mut self) {
        std::future::pending().await
    }
}
