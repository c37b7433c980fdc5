//! The record of what was put in force: every change of the kernel's rules, when, on whose word, and
//! what it changed.
//!
//! One JSON object a line, in a file that is moved aside when it is large. A line that was cut by a
//! power cut, or that a later version wrote in another way, is counted and passed over. The firewall
//! never waits for its record: an entry that finds the queue full is dropped, and the next one says
//! how many were.

mod task;
#[cfg(test)]
mod tests;

use std::{fmt, fmt::Write as _, path::PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    observe::Observed,
    plan::{self, Change},
    ports::Changed,
    ruleset::Ruleset,
    status::SetChange,
};
use crate::clock::Timestamp;

use task::Message;
pub use task::{Ask, HistoryFile, Listed, Pending, new, run};

/// The form written today.
const VERSION: u32 = 1;
/// Prefixes of one set that an entry names, of those that came and of those that went.
const MAX_PREFIXES: usize = 32;
/// Differences that an entry names, and bytes of each.
const MAX_WORDS: usize = 32;
const MAX_WORD: usize = 300;
/// Reasons of one change; more than that are not told apart.
const MAX_REASONS: usize = 8;

/// One change of the rules in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The form of this line.
    pub v: u32,
    /// When it was seen in force.
    pub at: Timestamp,
    /// On whose word; several where they came together.
    pub who: Vec<Who>,
    /// What changed in sets of addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetDelta>,
    /// What differed, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// The kernel's number of the transaction, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Hash of the whole ruleset, by which two hosts, or two moments, are compared.
    pub ruleset: String,
    /// For a repair: milliseconds from the kernel's word to the rules being back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Entries before this one that could not be kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// On whose word rules change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Who {
    /// `palisade firewall load`, before the network.
    Boot,
    /// The agent as it started, with the lists that it had kept.
    Start,
    /// The agent, which found the kernel other than it should be and nobody to name.
    Agent,
    /// A new configuration.
    Configuration,
    /// Somebody at the control socket.
    Operator {
        /// By the kernel's word: `uid 0 pid 123`.
        by: String,
        /// What was asked for.
        what: String,
    },
    /// A newer list.
    Feed {
        /// The source.
        source: String,
        /// Version of the list.
        version: u64,
    },
    /// Ranges that their list no longer has, closed after the time they stay.
    Withdrawal {
        /// The source.
        source: String,
    },
    /// SSH grants that came or went.
    Grants,
    /// The guardian of a trial, whose agent was dead or stuck when its time was over.
    Guardian,
    /// The agent, undoing what another program did.
    Repair {
        /// That program, where the kernel named it.
        culprit: Option<Culprit>,
    },
}

/// A program that changed our rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Culprit {
    /// Its process.
    pub pid: u32,
    /// Its name, as the kernel has it.
    pub name: String,
    /// Its file, where it was still there to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<PathBuf>,
    /// The systemd unit that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl Culprit {
    /// The one that a word of the kernel names.
    #[must_use]
    pub fn of(changed: &Changed) -> Option<Self> {
        let (pid, name) = changed.by.clone()?;
        let (exe, unit) =
            changed.place.clone().map_or((None, None), |place| (place.exe, place.unit));
        Some(Self { pid, name, exe, unit })
    }
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}", self.name, self.pid)?;
        if let Some(exe) = &self.exe {
            write!(f, ", {}", exe.display())?;
        }
        if let Some(unit) = &self.unit {
            write!(f, ", {unit}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot => f.write_str("load at boot"),
            Self::Start => f.write_str("start of the agent"),
            Self::Agent => f.write_str("the agent"),
            Self::Configuration => f.write_str("configuration"),
            Self::Operator { by, what } => write!(f, "{what} by {by}"),
            Self::Feed { source, version } => write!(f, "list of {source}, version {version}"),
            Self::Withdrawal { source } => write!(f, "withdrawn ranges of {source}"),
            Self::Grants => f.write_str("grants"),
            Self::Guardian => f.write_str("guardian of a trial that was not confirmed in time"),
            Self::Repair { culprit: Some(c) } => write!(f, "repair of a change by {c}"),
            Self::Repair { culprit: None } => f.write_str("repair of a foreign change"),
        }
    }
}

/// What changed in one set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDelta {
    /// Its name in the kernel.
    pub set: String,
    /// Prefixes that came.
    pub added: usize,
    /// Prefixes that went.
    pub removed: usize,
    /// The first of those that came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plus: Vec<String>,
    /// The first of those that went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub minus: Vec<String>,
}

impl From<SetChange> for SetDelta {
    fn from(c: SetChange) -> Self {
        let first = |all: &[String]| all.iter().take(MAX_PREFIXES).cloned().collect();
        Self {
            added: c.added.len(),
            removed: c.removed.len(),
            plus: first(&c.added),
            minus: first(&c.removed),
            set: c.set,
        }
    }
}

impl Entry {
    /// What a change did. `have` is what was there before it.
    pub(super) fn of(who: Vec<Who>, have: &Observed, change: &Change, at: Timestamp) -> Self {
        let short = |w: &String| w.chars().take(MAX_WORD).collect();
        let sets = plan::set_changes(&change.want, have);
        Self {
            v: VERSION,
            at,
            who,
            sets: sets.into_iter().map(SetDelta::from).collect(),
            changes: change.differences.iter().take(MAX_WORDS).map(short).collect(),
            generation: None,
            ruleset: fingerprint(&change.want),
            took_ms: None,
            lost: 0,
        }
    }
}

/// A line, with its newline.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    // Numbers, names and lists only: it cannot fail.
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The last `n` entries of a file's bytes, oldest first, and how many lines could not be read.
#[must_use]
pub fn decode(bytes: &[u8], n: usize) -> (Vec<Entry>, usize) {
    let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    let mut damaged = 0;
    let mut entries: Vec<Entry> = lines
        .filter_map(|line| {
            let entry = serde_json::from_slice(line).ok().filter(|e: &Entry| e.v == VERSION);
            damaged += usize::from(entry.is_none());
            entry
        })
        .collect();
    (entries.split_off(entries.len().saturating_sub(n)), damaged)
}

/// Hash of all that a ruleset says.
#[must_use]
pub(super) fn fingerprint(want: &Ruleset) -> String {
    // Names, numbers and addresses only: it cannot fail.
    let text = serde_json::to_vec(want).unwrap_or_default();
    Sha256::digest(&text).iter().fold(String::new(), |mut hex, b| {
        write!(hex, "{b:02x}").unwrap_or_default();
        hex
    })
}

/// Writes entries, and keeps in mind on whose word the next change will be.
#[derive(Debug, Default)]
pub struct Book {
    to: Option<mpsc::Sender<Message>>,
    reasons: Vec<Who>,
    lost: u64,
}

impl Book {
    /// A book whose entries are kept.
    fn new(to: mpsc::Sender<Message>) -> Self {
        Self { to: Some(to), ..Self::default() }
    }

    /// The next change is on this word, perhaps among others.
    pub(super) fn because(&mut self, who: Who) {
        if self.reasons.len() < MAX_REASONS && !self.reasons.contains(&who) {
            self.reasons.push(who);
        }
    }

    /// There was nothing to change: words until now changed nothing.
    pub(super) fn nothing(&mut self) {
        self.reasons.clear();
    }

    /// A change of ours is in force. `have` is what was there before it.
    pub(super) fn applied(
        &mut self,
        have: &Observed,
        change: &Change,
        generation: Option<u32>,
        now: Timestamp,
    ) {
        let mut who = std::mem::take(&mut self.reasons);
        if who.is_empty() {
            who.push(Who::Agent);
        }
        self.write(who, have, change, generation, now, None);
    }

    /// A change by another program is undone. `have` is what it had left there.
    pub(super) fn repaired(
        &mut self,
        culprit: Option<Culprit>,
        have: &Observed,
        change: &Change,
        generation: Option<u32>,
        now: Timestamp,
        took_ms: u64,
    ) {
        self.write(vec![Who::Repair { culprit }], have, change, generation, now, Some(took_ms));
    }

    fn write(
        &mut self,
        who: Vec<Who>,
        have: &Observed,
        change: &Change,
        generation: Option<u32>,
        at: Timestamp,
        took_ms: Option<u64>,
    ) {
        let Some(to) = &self.to else { return };
        let entry = Entry::of(who, have, change, at);
        let entry = Entry { generation, took_ms, lost: self.lost, ..entry };
        match to.try_send(Message::Record(Box::new(entry))) {
            Ok(()) => self.lost = 0,
            Err(_) => self.lost += 1,
        }
    }
}
