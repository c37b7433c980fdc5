//! A run as it is written down: the journal while it goes on, the history when it is over.
//!
//! The journal is on disk before each phase begins, so that a run that was cut off goes on where it
//! was. What a phase does, it may do twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    plan::{Broken, KeptBack, RebootNeed, Update},
    services::Outcome,
};
use crate::clock::Timestamp;

/// Runs that the history keeps; older ones are dropped.
pub const HISTORY: usize = 200;

/// Why a run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A window opened.
    Window,
    /// Somebody asked, inside a window.
    Asked,
    /// Somebody asked for it outside of every window.
    Now,
}

/// What a run is at. The order is that of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for the package manager's lock.
    Lock,
    /// Fetches lists.
    Lists,
    /// Repairs what is half installed, and installs.
    Install,
    /// Restarts what runs old code.
    Services,
    /// Waits to restart the host, or did.
    Reboot,
    /// Over.
    Done,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Ended {
    /// All that was planned is so.
    Done,
    /// Some of it is not.
    Partly {
        /// What, each on its own.
        failed: Vec<String>,
    },
    /// Nothing was begun, for a reason that passes.
    Deferred {
        /// Which.
        why: String,
    },
    /// It could not go on.
    Failed {
        /// Why.
        why: String,
    },
}

/// A package that was to be installed and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedPackage {
    /// What it should be.
    #[serde(flatten)]
    pub update: Update,
    /// What went wrong.
    pub why: String,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this document.
    pub v: u32,
    /// Its name: `20261125T191648Z`.
    pub id: String,
    /// Why it began.
    pub trigger: Trigger,
    /// Who asked for it, if somebody did.
    pub by: String,
    /// When it began.
    pub started: Timestamp,
    /// Nothing new begins from then on, and the host is not restarted; none: not in a window, so the
    /// host is not restarted at all.
    pub last_call: Option<Timestamp>,
    /// What it is at.
    pub phase: Phase,
    /// Which boot of the host began the phase.
    pub boot: String,
    /// How often the run was taken up again.
    pub resumed: u32,
    /// What was planned when the installation began.
    pub planned: Vec<Update>,
    /// What is installed now of it.
    pub installed: Vec<Update>,
    /// What is not.
    pub failed: Vec<FailedPackage>,
    /// What was left, and why.
    pub kept_back: Vec<KeptBack>,
    /// New versions of configuration files that were put beside the edited ones.
    pub conffiles: Vec<String>,
    /// What was restarted and what was not, in order.
    pub services: Vec<Outcome>,
    /// Why the host needs a restart.
    pub reboot: RebootNeed,
    /// Whether this run restarted the host.
    pub rebooted: bool,
    /// What else is worth telling.
    pub notes: Vec<String>,
    /// The release that the sources were locked to.
    pub release: Option<String>,
    /// When it was over.
    pub ended: Option<Timestamp>,
    /// How.
    pub outcome: Option<Ended>,
}

impl Record {
    /// A run that begins.
    #[must_use]
    pub fn new(
        trigger: Trigger,
        by: &str,
        started: Timestamp,
        last_call: Option<Timestamp>,
    ) -> Self {
        Self {
            v: 1,
            id: run_id(started),
            trigger,
            by: by.to_owned(),
            started,
            last_call,
            phase: Phase::Lock,
            boot: String::new(),
            resumed: 0,
            planned: Vec::new(),
            installed: Vec::new(),
            failed: Vec::new(),
            kept_back: Vec::new(),
            conffiles: Vec::new(),
            services: Vec::new(),
            reboot: RebootNeed::default(),
            rebooted: false,
            notes: Vec::new(),
            release: None,
            ended: None,
            outcome: None,
        }
    }

    /// Sorts what was planned into what is installed and what is not, by what is on the host now
    /// (version and whether it is whole) and what the package manager said of each.
    pub fn settle(&mut self, now: &BTreeMap<String, Found>, said: &[(String, String)]) {
        self.installed.clear();
        self.failed.clear();
        for update in &self.planned {
            let found = now.get(&update.name);
            if found.is_some_and(|f| f.version == update.to && f.whole) {
                self.installed.push(update.clone());
                continue;
            }
            let words = said.iter().find(|(name, _)| *name == update.name).map(|(_, w)| w.clone());
            let why = words.unwrap_or_else(|| match found {
                None => "it is not installed".to_owned(),
                Some(f) if !f.whole => format!("version {} is half installed", f.version),
                Some(f) => format!("version {} is still installed", f.version),
            });
            self.failed.push(FailedPackage { update: update.clone(), why });
        }
    }

    /// Adds what is half installed though nobody planned to install it.
    pub fn also_broken(&mut self, broken: &[Broken], said: &[(String, String)]) {
        for b in broken {
            if self.failed.iter().any(|f| f.update.name == b.name) {
                continue;
            }
            let words = said.iter().find(|(name, _)| *name == b.name).map(|(_, w)| w.clone());
            let update = Update { name: b.name.clone(), ..Update::default() };
            self.failed
                .push(FailedPackage { update, why: words.unwrap_or_else(|| b.what.clone()) });
        }
    }

    /// How the run ended, from what it did.
    #[must_use]
    pub fn judge(&self) -> Ended {
        let packages = self.failed.iter().map(|f| format!("{}: {}", f.update.name, f.why));
        let services = self.services.iter().filter(|s| s.is_bad()).map(ToString::to_string);
        let failed: Vec<String> = packages.chain(services).collect();
        if failed.is_empty() { Ended::Done } else { Ended::Partly { failed } }
    }
}

/// A package as it is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its version.
    pub version: String,
    /// Whether it is wholly installed.
    pub whole: bool,
}

fn run_id(started: Timestamp) -> String {
    let text = started.to_string();
    text.chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_the_moment_of_its_start() {
        let r = Record::new(Trigger::Now, "root", Timestamp::from_millis(1_787_411_825_007), None);
        assert_eq!(r.id, "20260822T151705007Z");
    }

    #[test]
    fn what_is_on_the_host_decides_what_was_installed_and_not_what_was_said() {
        let update = |name: &str| Update {
            name: name.into(),
            from: Some("1".into()),
            to: "2".into(),
            ..Update::default()
        };
        let mut r = Record::new(Trigger::Now, "", Timestamp::from_secs(0), None);
        r.planned = ["good", "half", "old", "gone"].map(update).to_vec();
        let found = |v: &str, whole| Found { version: v.to_owned(), whole };
        let now = BTreeMap::from([
            ("good".to_owned(), found("2", true)),
            ("half".to_owned(), found("2", false)),
            ("old".to_owned(), found("1", true)),
        ]);
        r.settle(&now, &[("half".to_owned(), "postinst: exit status 3".to_owned())]);
        assert_eq!(r.installed, [update("good")]);
        let why: Vec<_> = r.failed.iter().map(|f| f.why.as_str()).collect();
        assert_eq!(
            why,
            ["postinst: exit status 3", "version 1 is still installed", "it is not installed"]
        );
        assert!(matches!(r.judge(), Ended::Partly { failed } if failed.len() == 3));
    }

    #[test]
    fn phases_are_in_the_order_of_a_run() {
        use Phase::{Done, Install, Lists, Lock, Reboot, Services};
        assert!([Lock, Lists, Install, Services, Reboot, Done].is_sorted());
    }
}
