//! Twins of the ports that behave like a host: packages that are installed, services that go stale.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Facts, Found, HostError, Journal, Packages, Power, RebootNeed, Record, Said, Services, Starter,
    lists::SourceList,
    plan::{Broken, Update},
    services::{Action, Done, Stale},
};
use crate::clock::Timestamp;

/// A host in memory. All clones are one host.
#[derive(Clone, Debug, Default)]
pub struct MemHost(Arc<Mutex<State>>);

/// What the host in memory is like.
#[derive(Debug, Default)]
pub struct State {
    /// Installed versions, and whether whole.
    pub installed: BTreeMap<String, Found>,
    /// What the archive has.
    pub archive: BTreeMap<String, String>,
    /// Packages whose installation fails half-way.
    pub bad: Vec<String>,
    /// Why the package manager does not answer.
    pub mute: Option<String>,
    /// Why no process can be started.
    pub barren: Option<String>,
    /// Who holds the lock.
    pub locked_by: Option<String>,
    /// When the lists were fetched last.
    pub fetched: Option<Timestamp>,
    /// Services that go stale with a package.
    pub users: BTreeMap<String, Vec<Stale>>,
    /// What is stale now.
    pub stale: Vec<Stale>,
    /// Units that do not come up again.
    pub sick: Vec<String>,
    /// What was done to services, in order.
    pub acted: Vec<Action>,
    /// Which boot this is.
    pub boot: u32,
    /// Packages that ask for a restart when installed.
    pub kernels: Vec<String>,
    /// Why a restart is needed.
    pub need: RebootNeed,
    /// Who is logged in.
    pub sessions: Vec<String>,
    /// What was told to everybody.
    pub told: Vec<String>,
    /// The journal.
    pub journal: Option<Record>,
    /// Every state of it that was written.
    pub saved: Vec<Record>,
    /// Runs that are over.
    pub history: Vec<Record>,
    /// Runs that were started.
    pub started: Vec<Record>,
    /// Whether a run's process lives.
    pub running: bool,
}

impl MemHost {
    /// The state, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn broken(&self) -> Vec<Broken> {
        let half = self.installed.iter().filter(|(_, f)| !f.whole);
        half.map(|(n, _)| Broken { name: n.clone(), what: "half-configured".to_owned() }).collect()
    }

    fn updates(&self, excluded: &[String]) -> Vec<Update> {
        let newer = |(name, to): (&String, &String)| {
            let from = self.installed.get(name)?.version.clone();
            let wanted = from != *to && !excluded.contains(name);
            wanted.then(|| Update {
                name: name.clone(),
                from: Some(from),
                to: to.clone(),
                ..Update::default()
            })
        };
        self.archive.iter().filter_map(newer).collect()
    }
}

impl Packages for MemHost {
    async fn lock_holder(&mut self) -> Option<String> {
        self.state().locked_by.clone()
    }

    async fn refresh(&mut self, now: Timestamp) -> Result<(), HostError> {
        self.state().fetched = Some(now);
        Ok(())
    }

    async fn facts(&mut self, excluded: &[String]) -> Result<Facts, HostError> {
        if let Some(why) = &self.state().mute {
            return Err(HostError::new(why.clone()));
        }
        let s = self.state();
        Ok(Facts {
            sources: vec![SourceList {
                source: "mem security".to_owned(),
                security: true,
                present: true,
                fetched: s.fetched,
                trouble: None,
            }],
            wanted: s.updates(&[]),
            doable: s.updates(excluded),
            broken: s.broken(),
            reboot: s.need.clone(),
            ..Facts::default()
        })
    }

    async fn repair(&mut self) -> Result<Said, HostError> {
        let mut s = self.state();
        let bad = s.bad.clone();
        for (name, found) in s.installed.iter_mut().filter(|(_, f)| !f.whole) {
            found.whole = !bad.contains(name);
        }
        Ok(Said { broken: s.broken(), ..Said::default() })
    }

    async fn install(&mut self, excluded: &[String], names: &[String]) -> Result<Said, HostError> {
        let mut s = self.state();
        if s.locked_by.is_some() {
            return Ok(Said { locked_by: s.locked_by.clone(), ..Said::default() });
        }
        let mut said = Said::default();
        for update in s.updates(excluded) {
            let whole = !s.bad.contains(&update.name);
            if !whole {
                said.errors.push((update.name.clone(), "exit status 3".to_owned()));
            }
            let users = s.users.get(&update.name).cloned().unwrap_or_default();
            s.stale.extend(users);
            if s.kernels.contains(&update.name) {
                s.need.reasons.push(format!("{} was installed", update.name));
            }
            s.installed.insert(update.name, Found { version: update.to, whole });
        }
        let of = |n: &String| Some((n.clone(), s.installed.get(n)?.clone()));
        said.found = names.iter().filter_map(of).collect();
        said.broken = s.broken();
        Ok(said)
    }
}

impl Services for MemHost {
    async fn stale(&mut self) -> Vec<Stale> {
        self.state().stale.clone()
    }

    async fn act(&mut self, action: &Action, _within: Duration) -> Done {
        let mut s = self.state();
        s.acted.push(action.clone());
        let name = match action {
            Action::RestartUnit(name)
            | Action::ReloadUnit(name)
            | Action::RestartProgram(name)
            | Action::Leave { name, .. } => name.clone(),
            Action::UpgradeAgent => "palisade".to_owned(),
        };
        if s.sick.contains(&name) {
            return Done::Failed { why: "it is not up".to_owned() };
        }
        s.stale.retain(|p| !p.cgroup.contains(&name));
        Done::Restarted
    }
}

impl Power for MemHost {
    fn boot(&self) -> String {
        self.state().boot.to_string()
    }

    async fn need(&mut self) -> RebootNeed {
        self.state().need.clone()
    }

    async fn sessions(&mut self) -> Vec<String> {
        self.state().sessions.clone()
    }

    async fn tell(&mut self, text: &str) {
        self.state().told.push(text.to_owned());
    }

    async fn restart(&mut self) -> Result<(), HostError> {
        let mut s = self.state();
        s.boot += 1;
        s.need = RebootNeed::default();
        s.stale.clear();
        Ok(())
    }
}

impl Journal for MemHost {
    fn load(&self) -> io::Result<Option<Record>> {
        Ok(self.state().journal.clone())
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        let mut s = self.state();
        s.journal = Some(record.clone());
        s.saved.push(record.clone());
        Ok(())
    }

    fn close(&mut self, record: &Record) -> io::Result<()> {
        self.save(record)?;
        self.state().history.push(record.clone());
        Ok(())
    }

    fn history(&self, n: usize) -> io::Result<Vec<Record>> {
        let s = self.state();
        Ok(s.history.iter().skip(s.history.len().saturating_sub(n)).cloned().collect())
    }
}

impl Starter for MemHost {
    async fn start(&mut self, record: &Record) -> Result<(), HostError> {
        let mut s = self.state();
        if let Some(why) = &s.barren {
            return Err(HostError::new(why.clone()));
        }
        s.started.push(record.clone());
        s.running = true;
        Ok(())
    }

    async fn is_running(&mut self) -> bool {
        self.state().running
    }
}
