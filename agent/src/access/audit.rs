//! The audit log: one JSON object a line, each naming the hash of the line before it.
//!
//! Invariant: a line is never changed or left out without the chain showing it. A line's `prev` is the
//! SHA-256 of the bytes of the line before it; `seq` counts by one; a small head file has the number
//! and the hash of the last line, so that a cut end shows too. Whoever is root can forge all of it at
//! once: each line's hash also goes to the agent's own record, which is shipped off the host.

use palisade_types::grant::{Binding, GrantId, Only, Owner, Reason, Source, Target, UserName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::model::{Boot, Ended, Moment};
use crate::clock::Timestamp;

/// Version of the lines.
pub const AUDIT_VERSION: u32 = 1;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The agent began to answer.
    Started {
        /// Which boot of the host.
        boot_id: String,
        /// Grants that were live already.
        live: usize,
    },
    /// A grant was given.
    Granted {
        /// Its id.
        grant: GrantId,
        /// Whom it logs in as.
        user: UserName,
        /// Of its key.
        fingerprint: String,
        /// Who asked.
        owner: Owner,
        /// What for.
        only: Only,
        /// Where its tunnel leads.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<Target>,
        /// From where.
        source: Source,
        /// Why.
        reason: Reason,
        /// When it was asked for, by the clock of who asked.
        issued_at: i64,
        /// Its end, by the host's clock, in seconds.
        expires_at: i64,
        /// How strictly logins are tied to a session.
        binding: Binding,
        /// Who brought it, at the socket.
        by: String,
    },
    /// A request was refused.
    Refused {
        /// Its id, where it had one.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        grant: String,
        /// For which user.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        user: String,
        /// Who asked.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        owner: String,
        /// Why.
        why: String,
        /// Who brought it, at the socket.
        by: String,
    },
    /// Somebody logged in.
    Login {
        /// By which grant.
        grant: GrantId,
        /// As whom.
        user: UserName,
        /// With which key.
        fingerprint: String,
        /// Whose grant it is.
        owner: Owner,
        /// Through which SSM session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// The pid of its sshd, as in sshd's own log.
        sshd: i32,
        /// Why it is not tied to a session, where policy let that pass.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unbound: Option<String>,
        /// Whether it was over before it was seen to be one: then sshd's own log says whether it let
        /// it in.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        brief: bool,
    },
    /// A granted key was used where it must not be.
    LoginRefused {
        /// Which grant.
        grant: GrantId,
        /// As whom.
        user: UserName,
        /// With which key.
        fingerprint: String,
        /// Whose grant it is.
        owner: Owner,
        /// Whose session it came through.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_owner: Option<String>,
        /// Through which SSM session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// The pid of its sshd.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sshd: Option<i32>,
        /// Why.
        why: String,
    },
    /// Logins were told that their grant ends soon.
    Warned {
        /// Which grant.
        grant: GrantId,
        /// How many seconds it had left.
        left_s: u64,
        /// How many logins were told.
        sessions: usize,
    },
    /// A grant ended.
    Ended {
        /// Which.
        grant: GrantId,
        /// As whom it logged in.
        user: UserName,
        /// How.
        how: Ended,
        /// Who took it back.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
        /// Open logins at the time.
        sessions: usize,
    },
    /// A login is over.
    Logout {
        /// Of which grant.
        grant: GrantId,
        /// As whom.
        user: UserName,
        /// Through which SSM session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// The pid of its sshd.
        sshd: i32,
        /// Whether we ended it, and why; empty if it ended by itself.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// Lines that could not be written: too many at once, or the disk refused.
    Lost {
        /// How many.
        count: u64,
    },
    /// The file did not end where the head said it did.
    Cut {
        /// The last number that the head knew.
        head: u64,
        /// The last number that the file had.
        file: u64,
    },
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Version.
    pub v: u32,
    /// Counts by one.
    pub seq: u64,
    /// Hash of the line before; empty for the first ever.
    pub prev: String,
    /// The host's clock.
    pub ts: Timestamp,
    /// Time since boot in milliseconds: the clock that grants end by.
    pub boot_ms: Boot,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What the head file has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version.
    pub v: u32,
    /// Number of the last line; 0 if there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

/// A line that was written, for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
    /// What happened.
    pub event: Event,
}

/// SHA-256 in hexadecimal.
fn hash(line: &[u8]) -> String {
    Sha256::digest(line).iter().map(|b| format!("{b:02x}")).collect()
}

impl Head {
    /// The next line after this, without its newline, and the head after it.
    ///
    /// # Errors
    /// Never in practice: it is plain data.
    pub fn next(&self, event: Event, now: Moment) -> serde_json::Result<(Vec<u8>, Self)> {
        let seq = self.seq.saturating_add(1);
        let line = Line {
            v: AUDIT_VERSION,
            seq,
            prev: self.hash.clone(),
            ts: now.wall,
            boot_ms: now.boot,
            event,
        };
        let bytes = serde_json::to_vec(&line)?;
        let head = Self { v: AUDIT_VERSION, seq, hash: hash(&bytes) };
        Ok((bytes, head))
    }

    /// The head after the last line that a file has, where that is a line.
    #[must_use]
    pub fn of_line(line: &[u8]) -> Option<Self> {
        let parsed: Line = serde_json::from_slice(line).ok()?;
        Some(Self { v: AUDIT_VERSION, seq: parsed.seq, hash: hash(line) })
    }
}

/// Checks a chain, line by line from the oldest.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    lines: u64,
    first: u64,
    last: Option<Head>,
    faults: Vec<String>,
}

/// Lines that the log may be ahead of its head: one batch of the writer, with what it adds to it.
const MAX_AHEAD: u64 = 66;
/// Faults that are told; further ones are counted only.
const MAX_FAULTS: usize = 20;

/// What was found of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Lines that were read.
    pub lines: u64,
    /// Number of the first line there is; older ones were removed by age.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// Hash of the last line, to compare with what was shipped off the host.
    pub hash: String,
    /// What is wrong, in order; at most twenty.
    pub faults: Vec<String>,
}

impl Verifier {
    fn fault(&mut self, what: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(what);
        }
    }

    /// The next line, without its newline.
    pub fn line(&mut self, bytes: &[u8]) {
        self.lines += 1;
        let at = self.lines;
        let Ok(line) = serde_json::from_slice::<Line>(bytes) else {
            self.fault(format!("line {at} cannot be read"));
            return;
        };
        match &self.last {
            None => self.first = line.seq,
            Some(last) if line.seq != last.seq.saturating_add(1) => {
                let expected = last.seq.saturating_add(1);
                self.fault(format!("line {at} is number {}, not {expected}", line.seq));
            }
            Some(last) if line.prev != last.hash => {
                self.fault(format!("number {} was changed, or the one after it", last.seq));
            }
            Some(_) => {}
        }
        if let Event::Cut { head, file } = line.event {
            self.fault(format!("the file was cut: it ended at {file} and not at {head}"));
        }
        self.last = Some(Head { v: AUDIT_VERSION, seq: line.seq, hash: hash(bytes) });
    }

    /// The verdict, with what the head file says; the log may be ahead of it by what was written
    /// when the agent died.
    #[must_use]
    pub fn verdict(self, head: Option<&Head>) -> Verdict {
        self.verdict_between(head, head)
    }

    /// The same of a log that may have grown while it was read: with the head before that, which the
    /// lines must reach, and the head after it, which they may be ahead of.
    #[must_use]
    pub fn verdict_between(mut self, before: Option<&Head>, after: Option<&Head>) -> Verdict {
        let last = self.last.clone().unwrap_or_default();
        match before {
            Some(head) if head.seq > last.seq => self.fault(format!(
                "the log ends at {} and its head says {}: the end was cut off",
                last.seq, head.seq
            )),
            Some(_) | None => {}
        }
        let is_other = |h: &&Head| h.seq == last.seq && h.hash != last.hash;
        if before.filter(is_other).or(after.filter(is_other)).is_some() {
            self.fault(format!("number {}, the last, was changed", last.seq));
        }
        match after {
            Some(head) if last.seq > head.seq.saturating_add(MAX_AHEAD) => self.fault(format!(
                "the log has {} lines that its head does not know",
                last.seq - head.seq
            )),
            None if self.lines > 0 => self.fault("the head file is missing".to_owned()),
            Some(_) | None => {}
        }
        Verdict {
            ok: self.faults.is_empty(),
            lines: self.lines,
            first: self.first,
            last: last.seq,
            hash: last.hash,
            faults: self.faults,
        }
    }
}

/// A text from outside, for a log: printable ASCII, everything else as `?`, cut at 200 characters.
#[must_use]
pub fn plain(text: &str) -> String {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(200).map(printable).collect()
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
