//! What is shipped, whereto, and how much may wait on disk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use palisade_types::ByteSize;

use super::{
    content::{LineRules, Redactor},
    ports::NewGroups,
    source,
};

/// Everything the shipper needs. Names are already filled in but for `{program}` and `{process}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Log group: may hold `{program}`, which is `files` and `journal` for what no program wrote.
    pub group: String,
    /// Log stream: may hold `{process}`, which is the file's path for a tailed file, and the unit's
    /// name without `.service` for the journal.
    pub stream: String,
    /// How groups are made that do not exist.
    pub new_groups: NewGroups,
    /// Whether the programs' output is shipped.
    pub programs: bool,
    /// How its lines are read.
    pub program_lines: Arc<LineRules>,
    /// What is taken out of every line before it reaches a disk or the wire.
    pub redact: Redactor,
    /// Whether the agent's own events are shipped.
    pub agent: bool,
    /// Files to follow.
    pub files: Vec<FileSource>,
    /// What of the systemd journal to follow, if anything.
    pub journald: Option<Journald>,
    /// How much may wait on disk.
    pub spool: Spool,
    /// Send gzip bodies.
    pub compress: bool,
    /// Where lines go.
    pub sink: Sink,
    /// A second sink beside it.
    pub new_relic: Option<NewRelic>,
    /// A part-filled batch is sent after this.
    pub flush_every: Duration,
    /// Where the spool, checkpoints and local output are kept: `STATE_DIR/logs`.
    pub state_dir: PathBuf,
}

impl Settings {
    /// Whether a file is to be followed.
    pub(super) fn follows(&self, path: &Path) -> bool {
        self.files.iter().any(|entry| is_of(entry, path))
    }

    /// How the lines of a followed file are read: as its first entry says. What is still to be sent of a
    /// file whose entry is gone is read line by line.
    pub(super) fn rules_of_file(&self, path: &Path) -> Arc<LineRules> {
        let entry = self.files.iter().find(|entry| is_of(entry, path));
        entry.map_or_else(|| Arc::new(LineRules::plain()), |entry| entry.lines.clone())
    }
}

fn is_of(entry: &FileSource, path: &Path) -> bool {
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned());
    entry.path.parent() == path.parent()
        && match (name(&entry.path), name(path)) {
            (Some(pattern), Some(name)) => source::matches(&pattern, &name),
            _ => false,
        }
}

/// Files to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSource {
    /// Absolute path; the last part may hold `*` and `?`.
    pub path: PathBuf,
    /// How its lines are read.
    pub lines: Arc<LineRules>,
}

/// What of the systemd journal to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journald {
    /// Units by their full names, as `ssh.service`. None means everything but what the agent itself says; its
    /// unit's name means what its programs write to the journal.
    pub units: Vec<String>,
}

/// How much may wait on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Largest size of all segments together.
    pub max: ByteSize,
    /// What happens then.
    pub on_full: OnFull,
    /// With less than this share of the disk free, in thousandths, the spool holds little.
    pub reserve_permille: u32,
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

/// New Relic as a second sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRelic {
    /// The file with the license key, root's and mode 600.
    pub key_file: PathBuf,
    /// Where the Log API is.
    pub endpoint: String,
    /// How much may wait for it on disk, beside what waits for the first sink.
    pub spool: Spool,
}

impl Settings {
    /// What ships to New Relic, if anything does: the same sources, with a backlog, checkpoint and
    /// dead letters of its own, so that neither sink waits for the other.
    #[must_use]
    pub fn second(&self) -> Option<Self> {
        let new_relic = self.new_relic.clone()?;
        Some(Self {
            compress: true,
            spool: new_relic.spool,
            state_dir: self.state_dir.join("new-relic"),
            ..self.clone()
        })
    }
}
