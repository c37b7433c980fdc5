//! What is shipped, whereto, and how much may wait on disk.

use std::{path::PathBuf, time::Duration};

use palisade_types::ByteSize;

/// Everything the shipper needs. Names are already filled in but for `{program}` and `{process}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Log group: may hold `{program}`, which is `files` and `journal` for what no program wrote.
    pub group: String,
    /// Log stream: may hold `{process}`, which is the file's path for a tailed file.
    pub stream: String,
    /// Retention given to groups that we create.
    pub retention_days: Option<u32>,
    /// Whether the programs' output is shipped.
    pub programs: bool,
    /// Files to follow.
    pub files: Vec<FileSource>,
    /// How much may wait on disk.
    pub spool: Spool,
    /// Send gzip bodies.
    pub compress: bool,
    /// Where lines go.
    pub sink: Sink,
    /// A part-filled batch is sent after this.
    pub flush_every: Duration,
    /// Where the spool, checkpoints and local output are kept: `STATE_DIR/logs`.
    pub state_dir: PathBuf,
}

/// Files to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSource {
    /// Absolute path; the last part may hold `*` and `?`.
    pub path: PathBuf,
}

/// How much may wait on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Largest size of all segments together.
    pub max: ByteSize,
    /// What happens then.
    pub on_full: OnFull,
}

/// What happens to a program's output when the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// It is not read until there is room: a program that writes on will wait.
    Block,
    /// The oldest segment goes, and one line in the stream says how much was dropped.
    DropOldest,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// CloudWatch Logs, or whatever speaks its API at `AWS_ENDPOINT_URL`.
    CloudWatch,
    /// Newline-delimited JSON below `STATE_DIR/logs/local`.
    Local,
}
