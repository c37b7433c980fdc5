//! What the operator wants of patching.

use std::{path::PathBuf, time::Duration};

use super::window::Windows;
use crate::clock::Timestamp;

/// Everything that patching needs to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The package manager; none means the one that is here, apt first.
    pub manager: Option<ManagerKind>,
    /// When runs may begin.
    pub windows: Windows,
    /// Which updates are wanted.
    pub scope: Scope,
    /// Whether the host may be restarted.
    pub reboot: Reboot,
    /// Programs and units whose restart has an order; others that are affected follow by name.
    pub restart: Vec<Unit>,
    /// Units that are never restarted, beside those that palisade never restarts by itself.
    pub leave: Vec<String>,
    /// Packages that stay as they are for a while.
    pub holds: Vec<Hold>,
    /// Most packages that one run updates; the rest follows in the next.
    pub max_packages: Option<usize>,
    /// Where the host stands is told to somebody.
    pub compliance: Tell,
    /// Hosts of one window begin spread over this much of it.
    pub splay: Duration,
    /// Before the end of a window: nothing new begins, and the host is not restarted any more.
    pub cutoff: Duration,
    /// Package lists older than this say nothing.
    pub lists_max_age: Duration,
    /// How long a run waits for another program that holds the package manager's lock.
    pub lock_timeout: Duration,
    /// How long a restart of the host waits for people who are logged in.
    pub session_grace: Duration,
    /// How long a restarted service may take until it is up.
    pub service_timeout: Duration,
    /// What marks the distribution's security updates in apt; empty means by the distribution's name.
    pub apt_security: Vec<String>,
    /// The release that dnf's repositories are locked to: `latest`, or one such as `2023.6.20260101`.
    pub release: Option<String>,
    /// Where the journal and the history are kept: `STATE_DIR/patch`.
    pub state_dir: PathBuf,
}

impl Settings {
    /// The holds that are in force.
    pub fn holds_at(&self, now: Timestamp) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |h| h.until.is_none_or(|until| now < until))
    }
}

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagerKind {
    /// Debian's.
    Apt,
    /// Fedora's.
    Dnf,
}

/// Which updates are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that the distribution calls security updates.
    Security,
    /// All.
    All,
}

/// Whether the host may be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reboot {
    /// Never by us; that one is needed is reported.
    Never,
    /// Inside a window, when an update takes it.
    WhenNeeded,
}

/// Whether where the host stands is told to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// Nobody.
    Nobody,
    /// Systems Manager.
    Ssm,
}

/// Something that is restarted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// A program of this agent, with all its processes.
    Program(String),
    /// A unit of systemd: `nginx.service`.
    Systemd(String),
}

/// A package that stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its name.
    pub package: String,
    /// The moment when the hold ends; none if it does not.
    pub until: Option<Timestamp>,
    /// The reason, for the report.
    pub why: String,
}
