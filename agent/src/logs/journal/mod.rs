//! The systemd journal as a source.
//!
//! ```text
//! Journals::follow ──> entries, in the journal's order ──> pick: which stream ──> a lane for each unit
//!                                     │                                                │ acknowledged
//!                                     └──> ledger: how far everything is acknowledged <┘
//! ```
//!
//! The journal keeps its entries, so that they are not written to the spool. Each entry gets a number;
//! the lanes' positions are such numbers, and the ledger knows which cursor each one is. The cursor in
//! the checkpoint moves only over entries that are all acknowledged. Units that were ahead of it when the
//! agent ended are found again by the hash of the cursor of their last entry.
//!
//! Bounds: at most [`WINDOW`] entries, of 4 MiB, are read and not acknowledged; then reading stops
//! and the journal keeps the rest.

mod ledger;
mod pick;
mod reader;

pub(super) use ledger::{Ledger, WINDOW};
pub(super) use pick::pick;
pub(super) use reader::{Item, JournalReader};

use std::{any::Any, collections::BTreeMap, fmt, fmt::Debug};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

/// The fields that are read of an entry.
pub const JOURNAL_FIELDS: [&str; 9] = [
    "MESSAGE",
    "MESSAGE_ID",
    "N_DROPPED",
    "SYSLOG_IDENTIFIER",
    "UNIT",
    "_PID",
    "_SYSTEMD_CGROUP",
    "_SYSTEMD_UNIT",
    "_TRANSPORT",
];
/// `MESSAGE_ID` of journald's word that it dropped what a unit said too fast.
pub const JOURNAL_DROPPED: &str = "a596d6fe7bfa4994828e72309e95d61e";

/// One entry, as the journal has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalEntry {
    /// Where it is: `__CURSOR`.
    pub cursor: String,
    /// When it was received, in microseconds since the epoch: `__REALTIME_TIMESTAMP`.
    pub realtime_us: u64,
    /// Its fields, as far as they are among [`JOURNAL_FIELDS`]. Values may be any bytes.
    pub fields: BTreeMap<&'static str, Vec<u8>>,
}

impl JournalEntry {
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(|v| std::str::from_utf8(v).ok())
    }
}

/// A place in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPlace {
    /// After the entry with this cursor; none for a place given by time only.
    pub cursor: Option<String>,
    /// From this time on, in microseconds since the epoch, where there is no cursor or its entry is gone.
    pub realtime_us: u64,
}

/// What is asked of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalAsk {
    /// What these units write and what systemd says of them; every entry if empty.
    pub units: Vec<String>,
    /// Where to begin.
    pub from: JournalPlace,
    /// Hashes of cursors to look for among the first entries.
    pub find: Vec<u64>,
    /// Among how many.
    pub within: usize,
}

/// What the journal tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalTold {
    /// The first thing told: reading begins.
    Begun {
        /// The entry at the cursor is not there any more, and reading begins by time.
        gone: bool,
        /// Which of the hashes that were asked for are among the entries to come.
        found: Vec<u64>,
    },
    /// The next entry.
    Entry(JournalEntry),
    /// Reading has ended; nothing more comes.
    Failed(String),
}

/// The journal being followed. Reading ends when this is dropped.
pub struct JournalFollow {
    /// What it tells; the channel is bounded, and reading waits while it is full.
    pub told: mpsc::Receiver<JournalTold>,
    /// Dropping it ends the reading.
    pub guard: Box<dyn Any + Send>,
}

impl Debug for JournalFollow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalFollow").finish_non_exhaustive()
    }
}

/// The journal of this host.
pub trait Journals: Debug + Send + Sync + 'static {
    /// Follows the journal without end. That it cannot be read is told, as anything else is.
    fn follow(&self, ask: JournalAsk) -> JournalFollow;
    /// The unit that this process is of: its entries are not to be shipped, but for what programs write.
    fn own_unit(&self) -> Option<String>;
}

/// A host without a journal.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoJournal;

impl Journals for NoJournal {
    fn follow(&self, _ask: JournalAsk) -> JournalFollow {
        let (tell, told) = mpsc::channel(1);
        let said = tell.try_send(JournalTold::Failed("this host has no journal".to_owned()));
        debug_assert!(said.is_ok(), "a new channel has room");
        JournalFollow { told, guard: Box::new(()) }
    }

    fn own_unit(&self) -> Option<String> {
        None
    }
}

/// What stands for a cursor where eight bytes must do.
#[must_use]
pub fn cursor_hash(cursor: &str) -> u64 {
    let digest = Sha256::digest(cursor.as_bytes());
    digest.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b))
}
