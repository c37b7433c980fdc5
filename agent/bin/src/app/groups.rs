//! What Supervisor's tools ask of the agent as a whole: groups in and out of force, and all anew.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use palisade_agent::{
    config,
    control::{GroupChanges, GroupRefusal, group_changes, keep_own_url, with_group, without_group},
    errors::Chain,
    supervise::{self, ProcessSpec, Target},
};
use palisade_types::{
    ProcessState,
    control::{Failure, FailureKind, Phase},
};
use tokio::time;

use super::{App, STOP_SLACK, remember, stale};

/// The configuration as last read, in force or not.
pub(super) struct Reading {
    pub(super) processes: Vec<ProcessSpec>,
    /// Its texts, where they are not kept yet for a start with a broken file.
    pub(super) files: Option<config::Texts>,
}

/// Everything being stopped, to be started anew.
pub(super) type Restarting = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// Waits until everything is stopped; for ever if nothing is being stopped.
pub(super) async fn all_stopped(restarting: &mut Restarting) {
    match restarting {
        Some(stopping) => stopping.await,
        None => std::future::pending().await,
    }
}

impl App {
    /// Reads the configuration anew for requests about groups, and changes nothing.
    pub(super) fn reread(&mut self, by: &str) -> Result<GroupChanges, Failure> {
        match config::read(&self.config) {
            Ok((new, files)) => {
                let socket = new.control.supervisor_socket;
                let mut processes = new.supervise.processes;
                let served = self.settings.control.supervisor_socket.as_deref();
                keep_own_url(&mut processes, served, socket.as_deref());
                let changes = group_changes(&self.settings.supervise.processes, &processes);
                self.read = Reading { processes, files: Some(files) };
                // The mistakes that another reading found are gone.
                if let Some(before) = self.before_mistakes.take() {
                    self.status.send_modify(|s| s.config = before);
                }
                Ok(changes)
            }
            Err(mistakes) => {
                let list = self.refuse(&mistakes, by);
                Err(Failure::new(FailureKind::BadRequest, list))
            }
        }
    }

    /// Tells of the mistakes that a reading found, and returns them on one line.
    pub(super) fn refuse(&mut self, mistakes: &config::Mistakes, by: &str) -> String {
        let list: Vec<_> = mistakes.all().iter().map(ToString::to_string).collect();
        let list = list.join("; ");
        let path = self.config.display().to_string();
        self.events.asked("config", "configuration refused", path, list.clone(), by);
        let mut state = stale(&self.config, mistakes);
        self.status.send_modify(|s| std::mem::swap(&mut s.config, &mut state));
        self.before_mistakes.get_or_insert(state);
        list
    }

    /// Puts a group of the configuration as last read in force.
    pub(super) async fn add_group(&mut self, group: &str, by: &str) -> Result<(), GroupRefusal> {
        let all = with_group(&self.settings.supervise.processes, &self.read.processes, group)?;
        self.put_in_force(all).await?;
        self.events.asked("supervise", "group added", group, "", by);
        Ok(())
    }

    /// Takes a group that is stopped out of force.
    pub(super) async fn remove_group(&mut self, group: &str, by: &str) -> Result<(), GroupRefusal> {
        let left = without_group(&self.settings.supervise.processes, group)?;
        let infos = self.supervise.infos().await.map_err(|_| GroupRefusal::Busy)?;
        let is_over = |state| match state {
            ProcessState::Stopped
            | ProcessState::Exited
            | ProcessState::Fatal
            | ProcessState::Unknown => true,
            ProcessState::Starting
            | ProcessState::Running
            | ProcessState::Backoff
            | ProcessState::Stopping => false,
        };
        if infos.iter().any(|i| i.spec.group.as_str() == group && !is_over(i.state)) {
            return Err(GroupRefusal::StillRunning);
        }
        self.put_in_force(left).await?;
        self.events.asked("supervise", "group removed", group, "", by);
        Ok(())
    }

    async fn put_in_force(&mut self, processes: Vec<ProcessSpec>) -> Result<(), GroupRefusal> {
        let settings = supervise::Settings { processes, ..self.settings.supervise.clone() };
        self.supervise.update(settings.clone()).await.map_err(|_| GroupRefusal::Busy)?;
        self.settings.supervise = settings;
        // All that was read is in force: it is what a start with a broken file is to begin with.
        let changes = group_changes(&self.settings.supervise.processes, &self.read.processes);
        if changes == GroupChanges::default()
            && let Some(files) = self.read.files.take()
        {
            remember(&self.settings, &files);
        }
        Ok(())
    }

    /// Begins to stop everything, group by group as at the end.
    pub(super) fn begin_restart(&mut self, by: &str) {
        self.events.asked("agent", "all programs are started anew", "", "", by);
        self.set_phase(Phase::Stopping);
        let groups = groups(&self.settings.supervise.processes);
        let supervise = self.supervise.clone();
        self.restarting = Some(Box::pin(async move {
            for (group, patience) in groups {
                // One that does not stop in time is stopped once more when its settings are gone.
                let stopping = supervise.stop_for_restart(vec![Target::Group(group)]);
                if let Ok(Err(e)) = time::timeout(patience + STOP_SLACK, stopping).await {
                    tracing::warn!(error = %Chain(&e), "a group was not stopped");
                }
            }
        }));
    }

    /// Starts everything anew, from the configuration as it is now, or as it was if it has mistakes.
    pub(super) async fn finish_restart(&mut self) {
        self.restarting = None;
        let nothing =
            supervise::Settings { processes: Vec::new(), ..self.settings.supervise.clone() };
        // Nobody remembers what was stopped by hand or given up: that is what makes it a restart.
        let emptied = self.supervise.update(nothing).await;
        if self.update("restart").await.is_err() {
            let before = self.supervise.update(self.settings.supervise.clone()).await;
            if let Err(e) = emptied.and(before) {
                tracing::error!(error = %Chain(&e), "programs were not started anew");
            }
        }
        self.set_phase(Phase::Running);
    }
}

/// Groups in the order in which they stop, with how long each may take.
fn groups(processes: &[ProcessSpec]) -> Vec<(palisade_types::GroupName, Duration)> {
    let mut all = BTreeMap::new();
    for spec in processes {
        let slowest: &mut Duration =
            all.entry((spec.group_priority, spec.group.clone())).or_default();
        *slowest = spec.longest_stop().max(*slowest);
    }
    all.into_iter().rev().map(|((_, group), slowest)| (group, slowest)).collect()
}
