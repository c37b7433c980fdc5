//! What is asked of the supervisor through its [`Handle`](super::Handle).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use palisade_types::ProcessName;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    Changes, FdStore, HandOver, Host, Inherited, OutputSink, PerProcess, ProcessSpec, Settings,
    StartError, StopError, Stream, SuperviseError, Target, UnknownName, Whom,
    handle::Command,
    machine::{Event, State},
    ports::{Child as _, OutputPipe as _},
    reconcile::changes,
    slot::log_path,
    task::{Mode, Owner},
    waiters::Waiter,
    watch::pipe_key,
};
use crate::{clock::WallClock, errors::Chain};

/// How long a pump may take to end once its sink is no longer waited for.
const ABANDONED_WITHIN: Duration = Duration::from_secs(1);

/// Whoever asked may be gone when the answer is there; then nobody wants it.
fn answer<T>(reply: tokio::sync::oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    pub(super) async fn obey(&mut self, command: Command) {
        match command {
            Command::Start(targets, reply) => match self.select_to_start(&targets) {
                Err(e) => answer(reply, Err(e)),
                Ok(names) => {
                    let (open, done) = self.start_these(&names);
                    self.waiters.push(Waiter::Start { open, done, reply });
                }
            },
            Command::Stop(targets, reply) => match self.select(&targets) {
                Err(e) => answer(reply, Err(e)),
                Ok(names) => {
                    let (open, done) = self.stop_these(&names);
                    self.waiters.push(Waiter::Stop { open, done, reply });
                }
            },
            Command::Signal(signal, whom, targets, reply) => {
                let result = self.select(&targets).map(|names| {
                    names.into_iter().map(|n| (n.clone(), self.signal(&n, signal, whom))).collect()
                });
                answer(reply, result);
            }
            Command::Infos(reply) => answer(reply, self.infos()),
            Command::LogPath(name, stream, reply) => answer(reply, self.log_path(&name, stream)),
            Command::Tail(name, stream, bytes, reply) => {
                answer(reply, self.tail(&name, stream, bytes));
            }
            Command::Clear(name, reply) => answer(reply, self.clear(&name)),
            Command::Plan(settings, reply) => answer(reply, self.plan(&settings)),
            Command::Update(settings, reply) => answer(reply, self.update(*settings)),
            Command::ShutDown(deadline, reply) => {
                self.resume();
                let wanted = self.slots.iter().filter(|(_, s)| s.wanted);
                let wanted = wanted.map(|(name, _)| name.clone()).collect();
                self.mode = Mode::Stopping {
                    deadline: Instant::now() + deadline,
                    killed: 0,
                    wanted,
                    reply,
                };
                self.is_dirty = true;
            }
            Command::HandOver(deadline, reply) => answer(reply, self.hand_over(deadline).await),
            Command::TellSchedules(shown) => {
                for (name, shown) in shown {
                    if let Some(slot) = self.slots.get_mut(&name) {
                        slot.errand.scheduled = Some(shown);
                    }
                }
                self.is_dirty = true;
            }
            Command::Resume(reply) => {
                self.resume();
                answer(reply, ());
            }
        }
    }

    /// The processes meant, in order of priority.
    fn select(&self, targets: &[Target]) -> Result<Vec<ProcessName>, UnknownName> {
        let mut chosen = std::collections::BTreeSet::new();
        let known = || self.slots.values().filter(|s| !s.is_removed).map(|s| &s.spec);
        for target in targets {
            let before = chosen.len();
            match target {
                Target::All => chosen.extend(known().map(|s| s.name.clone())),
                Target::Group(group) => {
                    let members: Vec<_> = known().filter(|s| s.group == *group).collect();
                    if members.is_empty() {
                        return Err(UnknownName::Group(group.clone()));
                    }
                    chosen.extend(members.into_iter().map(|s| s.name.clone()));
                }
                Target::Process(name) if known().any(|s| s.name == *name) => {
                    chosen.insert(name.clone());
                }
                Target::Process(name) => return Err(UnknownName::Process(name.clone())),
            }
            debug_assert!(chosen.len() >= before);
        }
        Ok(self.in_order().into_iter().filter(|n| chosen.contains(n)).collect())
    }

    /// As [`Self::select`], without scheduled ones that are not named themselves: whoever starts all
    /// does not mean the nightly run.
    fn select_to_start(&self, targets: &[Target]) -> Result<Vec<ProcessName>, UnknownName> {
        let is_meant = |name: &ProcessName| {
            let is_scheduled = self.slots.get(name).is_some_and(|s| s.spec.schedule.is_some());
            !is_scheduled || targets.contains(&Target::Process(name.clone()))
        };
        Ok(self.select(targets)?.into_iter().filter(is_meant).collect())
    }

    fn start_these(
        &mut self,
        names: &[ProcessName],
    ) -> (BTreeMap<ProcessName, (u64, u64)>, PerProcess<StartError>) {
        let (mut open, mut done) = (BTreeMap::new(), Vec::new());
        for name in names {
            let Some(slot) = self.slots.get_mut(name) else { continue };
            if !matches!(self.mode, Mode::Minding) {
                done.push((name.clone(), Err(StartError::ShuttingDown)));
                continue;
            }
            let is_up = matches!(
                slot.state,
                State::Spawning { .. }
                    | State::Starting { .. }
                    | State::Running { .. }
                    | State::Backoff { .. }
            );
            if is_up && slot.wanted {
                done.push((name.clone(), Err(StartError::AlreadyStarted)));
                continue;
            }
            // Known to fail: then nothing is tried, and the process stays where it is.
            if let Err(error) = self.host.check(&slot.spec) {
                done.push((name.clone(), Err(StartError::Spawn(error))));
                continue;
            }
            open.insert(name.clone(), (slot.ups, slot.failures));
            slot.wanted = true;
            self.is_dirty = true;
        }
        // After all of them are wanted, so that those that wait for each other know.
        for name in names.iter().filter(|n| open.contains_key(*n)) {
            self.feed(name, Event::Start, "start requested");
        }
        (open, done)
    }

    fn stop_these(
        &mut self,
        names: &[ProcessName],
    ) -> (BTreeMap<ProcessName, Option<i32>>, PerProcess<StopError>) {
        let (mut open, mut done) = (BTreeMap::new(), Vec::new());
        for name in names.iter().rev() {
            let Some(slot) = self.slots.get_mut(name) else { continue };
            let was_up = slot.is_alive()
                || matches!(slot.state, State::Backoff { .. })
                || (slot.state == State::Stopped && slot.wanted);
            self.is_dirty |= slot.wanted;
            slot.wanted = false;
            if was_up {
                open.insert(name.clone(), slot.state.pid());
                self.feed(name, Event::Tick, "stop requested");
            } else {
                done.push((name.clone(), Err(StopError::NotRunning)));
            }
        }
        (open, done)
    }

    fn signal(
        &self,
        name: &ProcessName,
        signal: nix::sys::signal::Signal,
        whom: Whom,
    ) -> Result<(), StopError> {
        let child = self.slots.get(name).and_then(|s| s.child.as_ref());
        let child = child.ok_or(StopError::NotRunning)?;
        child.signal(signal, whom).map_err(|e| StopError::Refused(e.to_string()))
    }

    fn log_path(
        &self,
        name: &ProcessName,
        stream: Stream,
    ) -> Result<Option<std::path::PathBuf>, UnknownName> {
        let slot = self.slots.get(name).filter(|s| !s.is_removed);
        let slot = slot.ok_or_else(|| UnknownName::Process(name.clone()))?;
        Ok(log_path(&self.settings.log_dir, &slot.spec, stream))
    }

    fn tail(
        &self,
        name: &ProcessName,
        stream: Stream,
        bytes: u64,
    ) -> Result<Vec<u8>, SuperviseError> {
        let path = self.log_path(name, stream)?.ok_or(SuperviseError::NoLogFile)?;
        self.host.tail(&path, bytes).map_err(|source| SuperviseError::LogFile { path, source })
    }

    fn clear(&self, name: &ProcessName) -> Result<(), SuperviseError> {
        let mut paths = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            paths.extend(self.log_path(name, stream)?);
        }
        if paths.is_empty() {
            return Err(SuperviseError::NoLogFile);
        }
        for path in paths {
            if let Err(source) = self.host.clear(&path) {
                return Err(SuperviseError::LogFile { path, source });
            }
        }
        Ok(())
    }

    fn plan(&self, settings: &Settings) -> Changes {
        let have: Vec<&ProcessSpec> =
            self.slots.values().filter(|s| !s.is_removed).map(|s| s.spec.as_ref()).collect();
        changes(have.into_iter(), settings.processes.iter())
    }

    fn update(&mut self, settings: Settings) -> Changes {
        let plan = self.plan(&settings);
        for name in &plan.removed {
            if let Some(slot) = self.slots.get_mut(name) {
                slot.is_removed = true;
                slot.wanted = false;
            }
            self.feed(name, Event::Tick, "its settings are gone");
        }
        let specs: BTreeMap<_, _> =
            settings.processes.iter().map(|s| (s.name.clone(), s.clone())).collect();
        self.settings = Settings {
            run_dir: self.settings.run_dir.clone(),
            log_dir: self.settings.log_dir.clone(),
            cgroup: self.settings.cgroup.clone(),
            processes: settings.processes,
        };
        for name in &plan.adjusted {
            let (Some(slot), Some(spec)) = (self.slots.get_mut(name), specs.get(name)) else {
                continue;
            };
            slot.set_spec(spec.clone());
            if slot.born.is_some() {
                slot.born = Some(Arc::clone(&slot.spec));
            }
        }
        for name in plan.changed.iter().chain(&plan.added) {
            if let Some(spec) = specs.get(name) {
                self.put_spec(spec.clone());
            }
        }
        let touched = plan.adjusted.iter().chain(&plan.changed).chain(&plan.added);
        self.repump(touched.cloned().collect());
        for name in plan.changed.iter().chain(&plan.added) {
            // A run that goes on goes on to its end; the next one has the new settings.
            if self.slots.get(name).is_some_and(|s| s.spec.schedule.is_none()) {
                self.feed(name, Event::Replace, "its settings changed");
            }
        }
        self.is_dirty = true;
        self.tick_all("settings changed");
        self.sort_out_sockets(&mut Inherited::new());
        plan
    }

    /// Gives a slot a new spec, or makes one. A process whose settings were gone and are back is wanted
    /// again as they say; one stopped by hand stays stopped.
    fn put_spec(&mut self, spec: ProcessSpec) {
        let name = spec.name.clone();
        match self.slots.get_mut(&name) {
            None => {
                if let Err(e) = self.add_slot(spec, &mut Inherited::new()) {
                    tracing::error!(process = %name, error = %Chain(&e), "process not added");
                }
            }
            Some(slot) => {
                if slot.is_removed {
                    slot.wanted = spec.autostart;
                }
                slot.is_removed = false;
                if spec.user != slot.spec.user {
                    // The pipes change hands, and the same pipes are opened anew.
                    match self.host.pipe(&spec, Stream::Stdout, None) {
                        Ok(pipe) => slot.stdout = Arc::new(pipe),
                        Err(e) => tracing::error!(process = %name, error = %Chain(&e), "no pipe"),
                    }
                    slot.stderr = None;
                }
                if !spec.redirect_stderr && slot.stderr.is_none() {
                    match self.host.pipe(&spec, Stream::Stderr, None) {
                        Ok(pipe) => slot.stderr = Some(Arc::new(pipe)),
                        Err(e) => {
                            tracing::error!(process = %name, error = %Chain(&e), "no pipe");
                        }
                    }
                }
                if spec.schedule.is_none() {
                    slot.errand.scheduled = None;
                }
                slot.set_spec(spec);
            }
        }
    }

    /// Ends the pumps of these processes and starts them with the present settings.
    fn repump(&mut self, names: Vec<ProcessName>) {
        for name in names {
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.pumps.cancel();
            }
            self.pump(&name);
        }
    }

    /// Stops the next priority once the last one is gone; kills what is left at the deadline.
    pub(super) fn go_on_stopping(&mut self) {
        let Mode::Stopping { deadline, killed, .. } = &mut self.mode else { return };
        if *deadline <= Instant::now() {
            let left: Vec<_> = self
                .slots
                .values()
                .filter_map(|s| s.child.as_ref().map(|c| (s.rules(), c)))
                .collect();
            *killed = left.len().max(*killed);
            *deadline = Instant::now() + Duration::from_secs(1);
            for (rules, child) in left {
                let whom = if rules.killasgroup { Whom::Group } else { Whom::Process };
                if let Err(e) = child.kill(whom) {
                    tracing::error!(process = %rules.name, error = %Chain(&e), "not killed");
                }
            }
            for slot in self.slots.values_mut() {
                slot.wanted = false;
            }
            self.tick_all("the agent stops");
            return;
        }
        let alive = self.slots.values().filter(|s| s.is_alive() || s.wanted);
        let Some(level) = alive.map(|s| s.spec.priority).max() else { return };
        let names: Vec<_> = self
            .slots
            .values()
            .filter(|s| s.spec.priority == level && s.wanted)
            .map(|s| s.spec.name.clone())
            .collect();
        let was_idle = names.is_empty();
        self.stop_these(&names);
        if !was_idle && !self.slots.values().any(|s| s.spec.priority == level && s.is_alive()) {
            self.go_on_stopping();
        }
    }

    /// Brings everything of the agent's to a rest and returns what the next agent needs.
    async fn hand_over(&mut self, deadline: Duration) -> Result<HandOver, SuperviseError> {
        if !matches!(self.mode, Mode::Minding) {
            return Err(SuperviseError::Ended);
        }
        self.rest.cancel();
        self.alive = None;
        // What a sink does not take in time stays in its pipe, and may come to it twice.
        if !self.come_to_rest(deadline).await {
            self.abandon.cancel();
            if !self.come_to_rest(ABANDONED_WITHIN).await {
                self.resume();
                return Err(SuperviseError::HandOver("output did not come to a rest in time"));
            }
        }
        while let Ok(news) = self.heard.try_recv() {
            self.hear(news);
        }
        self.is_dirty = true;
        self.settle();
        self.mode = Mode::HandedOver;
        if let Err(e) = self.save() {
            tracing::error!(error = %Chain(&e), "table of processes not written");
            self.resume();
            return Err(SuperviseError::HandOver("the table of processes could not be written"));
        }
        match self.open_files() {
            Ok(files) => Ok(files),
            Err(e) => {
                tracing::error!(error = %Chain(&e), "no file descriptors left");
                self.resume();
                Err(SuperviseError::HandOver("there are no file descriptors left"))
            }
        }
    }

    /// Hears news until every watcher and pump has ended; false if that takes too long.
    async fn come_to_rest(&mut self, within: Duration) -> bool {
        let timeout = time::sleep(within);
        tokio::pin!(timeout);
        loop {
            // `recv` loses nothing when another arm wins.
            tokio::select! {
                biased;
                Some(news) = self.heard.recv() => self.hear(news),
                none = self.all_ended.recv() => return none.is_none(),
                () = &mut timeout => return false,
            }
        }
    }

    fn open_files(&self) -> std::io::Result<HandOver> {
        let mut files: HandOver = self.host.keep()?.into_iter().collect();
        for (key, (_, fd)) in &self.sockets {
            files.insert(key.clone(), fd.try_clone()?);
        }
        for (name, slot) in &self.slots {
            files.insert(pipe_key(name, Stream::Stdout), slot.stdout.duplicate()?);
            if let Some(stderr) = &slot.stderr {
                files.insert(pipe_key(name, Stream::Stderr), stderr.duplicate()?);
            }
        }
        Ok(files)
    }

    /// Goes on with everything after it was brought to a rest.
    fn resume(&mut self) {
        if self.alive.is_some() {
            return;
        }
        let (alive, all_ended) = mpsc::channel(1);
        self.alive = Some(alive);
        self.all_ended = all_ended;
        self.rest = CancellationToken::new();
        self.abandon = CancellationToken::new();
        self.mode = Mode::Minding;
        self.watch_all();
        self.tick_all("the agent goes on");
    }
}
