//! Grants, logins and moments as values.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use palisade_types::{
    Ed25519Key,
    grant::{
        GrantId, GrantRow, GrantState, Only, Owner, Reason, SessionRow, Source, Target, UserName,
    },
};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Time since the host booted, suspension included, in milliseconds. Nobody can set it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Boot(pub u64);

impl Boot {
    /// So much later.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this, zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Now, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The host's clock, which may be set.
    pub wall: Timestamp,
    /// Time since boot.
    pub boot: Boot,
}

/// A process that cannot be mistaken for a later one with its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Ticks since boot when it started.
    pub start_ticks: u64,
}

/// What the user database says of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// Its login shell.
    pub shell: String,
}

/// A grant that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its name.
    pub id: GrantId,
    /// Whom it logs in as.
    pub user: UserName,
    /// The user's number at the time.
    pub uid: u32,
    /// With which key.
    pub key: Ed25519Key,
    /// What for.
    pub only: Only,
    /// Where its tunnel leads.
    pub target: Option<Target>,
    /// From where.
    pub source: Source,
    /// Who asked.
    pub owner: Owner,
    /// Why.
    pub reason: Reason,
    /// When it was given, by the host's clock of that time.
    pub granted_at: Timestamp,
    /// Its end by that clock: what people are told, and with the slack a second limit.
    pub expires_at: Timestamp,
    /// When it was given, since boot.
    pub granted_boot: Boot,
    /// Its end since boot: what decides.
    pub deadline: Boot,
    /// How it ended, once it has.
    pub ended: Option<Ended>,
    /// Warnings given so far: none, at five minutes, at one.
    pub warned: u8,
    /// Logins, and attempts at one.
    pub sessions: Vec<Session>,
}

/// How a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Its time was over.
    Expired,
    /// The wall clock went so far ahead that its time may be over.
    ClockAhead,
    /// Somebody took it back.
    Revoked,
}

impl Ended {
    /// In words for the person whose login ends.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Expired => "the grant expired",
            Self::ClockAhead => "the host's clock went past the end of the grant",
            Self::Revoked => "the grant was revoked",
        }
    }
}

/// A connection to sshd that was told this grant's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its sshd.
    pub sshd: Process,
    /// The SSM session that it came through, where that is known.
    pub session_id: Option<String>,
    /// When the key was asked for.
    pub since: Timestamp,
    /// The same since boot.
    pub since_boot: Boot,
    /// Whether somebody is logged in; before that it is an attempt.
    pub open: bool,
    /// How often it was told the key: sshd asks again when it is shown a signature.
    pub asked: u32,
    /// Why it is not bound to a session of the owner, where policy let that pass.
    pub unbound: Option<String>,
}

/// What is known of a connection's login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// Its sshd is gone.
    Gone,
    /// Nobody is logged in yet.
    Waits,
    /// Somebody is.
    In,
}

/// A process of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub process: Process,
    /// What it is to the login.
    pub role: Role,
    /// Number of its pseudo-terminal, where it has one.
    pub tty: Option<u32>,
}

/// What a process is to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of its sshd's.
    Sshd,
    /// Something that the user runs.
    User,
}

/// What is known of a login's processes, from one look to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    /// Its sshd.
    pub sshd: Process,
    /// Whose login it is.
    pub uid: u32,
    /// Those that were seen and may still live: their children are the login's too.
    pub members: BTreeMap<Process, Role>,
    /// What it can be known by once sshd is gone.
    pub marks: Marks,
}

/// What every process of a login has, whoever its parent is by now; nothing that is shared with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Scopes that systemd-logind made.
    pub scopes: BTreeSet<PathBuf>,
    /// Audit sessions.
    pub sessions: BTreeSet<String>,
}

impl Trail {
    /// Nothing was looked at yet.
    #[must_use]
    pub fn new(sshd: Process, uid: u32) -> Self {
        Self { sshd, uid, members: [(sshd, Role::Sshd)].into(), marks: Marks::default() }
    }
}

/// How to ask a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The terminal is gone.
    Hangup,
    /// Please.
    Terminate,
    /// Now.
    Kill,
}

impl Grant {
    /// Whether it admits logins.
    #[must_use]
    pub fn is_live(&self, now: Moment, slack: Duration) -> bool {
        self.ended.is_none() && self.over(now, slack).is_none()
    }

    /// Whether and how its time is over.
    #[must_use]
    pub fn over(&self, now: Moment, slack: Duration) -> Option<Ended> {
        if now.boot >= self.deadline {
            return Some(Ended::Expired);
        }
        (now.wall >= self.expires_at.plus(slack)).then_some(Ended::ClockAhead)
    }

    /// How long it still has by the time since boot.
    #[must_use]
    pub fn left(&self, now: Moment) -> Duration {
        self.deadline.since(now.boot)
    }

    /// For people.
    #[must_use]
    pub fn row(&self) -> GrantRow {
        let open = self.sessions.iter().filter(|s| s.open);
        GrantRow {
            id: self.id.clone(),
            user: self.user.clone(),
            fingerprint: self.key.fingerprint(),
            owner: self.owner.clone(),
            only: self.only,
            target: self.target.clone(),
            source: self.source,
            reason: self.reason.clone(),
            granted_at: self.granted_at.as_secs(),
            expires_at: self.expires_at.as_secs(),
            state: match self.ended {
                None => GrantState::Live,
                Some(Ended::Expired | Ended::ClockAhead) => GrantState::Expired,
                Some(Ended::Revoked) => GrantState::Revoked,
            },
            sessions: open
                .map(|s| SessionRow {
                    session_id: s.session_id.clone().unwrap_or_default(),
                    pid: s.sshd.pid,
                    since: s.since.as_secs(),
                })
                .collect(),
        }
    }
}
