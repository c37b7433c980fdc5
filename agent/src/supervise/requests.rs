//! What is asked of the supervisor through its [`Handle`](super::Handle).

use std::{collections::BTreeSet, time::Duration};

use palisade_types::ProcessName;
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    EventName, FdStore, HandOver, Host, OutputSink, PerProcess, Restarted, StartError, StopError,
    Stream, SuperviseError, Target, UnknownName, Whom,
    bus::BusEvent,
    handle::{Command, Until},
    machine::{Event, State},
    ports::{Child as _, OutputPipe as _},
    settings::ending::longest_of_all,
    slot::{Slot, log_path},
    task::{Mode, Owner},
    twin::{Part, beside},
    waiters::{OpenRestart, OpenStart, OpenStop, Waiter},
    watch::pipe_key,
};
use crate::{clock::WallClock, errors::Chain};

/// How long a pump may take to end once its sink is no longer waited for.
const ABANDONED_WITHIN: Duration = Duration::from_secs(1);

/// Whoever asked may be gone when the answer is there; then nobody wants it.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
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
            Command::Restart(targets, reply) => {
                match self.select(&targets).and_then(|s| Ok((s, self.select_to_start(&targets)?))) {
                    Err(e) => answer(reply, Err(e)),
                    Ok((to_stop, to_start)) => self.restart(&to_stop, to_start, reply),
                }
            }
            Command::Stop(targets, until, reply) => match self.select(&targets) {
                Err(e) => answer(reply, Err(e)),
                Ok(names) => {
                    let (open, done) = self.stop_these(&names, until);
                    self.waiters.push(Waiter::Stop { open, done, reply });
                }
            },
            Command::Roll(name, reply) => self.roll(&name, reply),
            Command::Replaced(names, reply) => {
                self.waiters.push(Waiter::Replaced { names, reply });
            }
            Command::Signal(signal, whom, targets, reply) => {
                let one = |key: ProcessName| (self.outer(&key), self.signal(&key, signal, whom));
                let result = self.select(&targets).map(|keys| keys.into_iter().map(one).collect());
                answer(reply, result);
            }
            Command::Infos(reply) => answer(reply, self.infos()),
            Command::LogPath(name, stream, reply) => answer(reply, self.log_path(&name, stream)),
            Command::Tail(name, stream, bytes, reply) => {
                answer(reply, self.tail(&name, stream, bytes));
            }
            Command::Clear(name, reply) => answer(reply, self.clear(&name)),
            Command::SendStdin(name, bytes, reply) => {
                answer(reply, self.send_stdin(&name, &bytes).map_err(Into::into));
            }
            Command::Remote(kind, data, reply) => {
                self.publish(BusEvent::remote(&kind, &data));
                answer(reply, ());
            }
            Command::Plan(settings, reply) => answer(reply, self.plan(&settings)),
            Command::Update(settings, reply) => answer(reply, self.update(*settings)),
            Command::LongestStop(reply) => {
                let of = |s: &Slot<H>| {
                    ((s.spec.group_priority, s.spec.priority), s.rules().longest_stop())
                };
                answer(reply, longest_of_all(self.slots.values().map(of)));
            }
            Command::ShutDown(deadline, reply) => {
                self.resume();
                let stopping = EventName::SupervisorStateChangeStopping;
                self.publish(BusEvent::supervisor(stopping));
                let wanted = self.slots.iter().filter(|(_, s)| s.wanted || s.comes_back);
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
                    let key = self.current(&name);
                    if let Some(slot) = key.and_then(|key| self.slots.get_mut(&key)) {
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

    /// The inner name of the instance that a process is at present.
    pub(super) fn current(&self, name: &ProcessName) -> Option<ProcessName> {
        self.instance(name).filter(|key| self.slots.get(key).is_some_and(Slot::is_shown))
    }

    /// The same, also of a process that is going.
    pub(super) fn instance(&self, name: &ProcessName) -> Option<ProcessName> {
        [Some(name.clone()), beside(name)].into_iter().flatten().find(|key| {
            self.slots.get(key).is_some_and(|s| s.spec.name == *name && s.part == Part::Current)
        })
    }

    /// What people call a process of this inner name.
    pub(super) fn outer(&self, key: &ProcessName) -> ProcessName {
        self.slots.get(key).map_or_else(|| key.clone(), |s| s.spec.name.clone())
    }

    /// The processes meant by their inner names, in order of priority.
    fn select(&self, targets: &[Target]) -> Result<Vec<ProcessName>, UnknownName> {
        let mut chosen = BTreeSet::new();
        let known = || self.slots.values().filter(|s| s.is_shown());
        for target in targets {
            let meant: Vec<_> = match target {
                Target::All => known().map(|s| s.key.clone()).collect(),
                Target::Group(group) => {
                    let members: Vec<_> =
                        known().filter(|s| s.spec.group == *group).map(|s| s.key.clone()).collect();
                    if members.is_empty() {
                        return Err(UnknownName::Group(group.clone()));
                    }
                    members
                }
                Target::Process(name) => match self.current(name) {
                    Some(key) => vec![key],
                    None => return Err(UnknownName::Process(name.clone())),
                },
            };
            chosen.extend(meant);
        }
        Ok(self.in_order().into_iter().filter(|n| chosen.contains(n)).collect())
    }

    /// As [`Self::select`], without scheduled ones that are not named themselves: whoever starts all
    /// does not mean the nightly run.
    fn select_to_start(&self, targets: &[Target]) -> Result<Vec<ProcessName>, UnknownName> {
        let is_meant = |key: &ProcessName| {
            let scheduled = self.slots.get(key).filter(|s| s.spec.schedule.is_some());
            scheduled.is_none_or(|s| targets.contains(&Target::Process(s.spec.name.clone())))
        };
        Ok(self.select(targets)?.into_iter().filter(is_meant).collect())
    }

    fn start_these(&mut self, keys: &[ProcessName]) -> (Vec<OpenStart>, PerProcess<StartError>) {
        let (mut open, mut done) = (Vec::new(), Vec::new());
        for key in keys {
            let Some(slot) = self.slots.get_mut(key) else { continue };
            let name = slot.spec.name.clone();
            if !matches!(self.mode, Mode::Minding) {
                done.push((name, Err(StartError::ShuttingDown)));
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
                done.push((name, Err(StartError::AlreadyStarted)));
                continue;
            }
            // Known to fail: then nothing is tried, and the process stays where it is.
            if let Err(error) = self.host.check(&slot.spec) {
                done.push((name, Err(StartError::Spawn(error))));
                continue;
            }
            let (ups, failures) = (slot.ups, slot.failures);
            open.push(OpenStart { key: key.clone(), name, ups, failures });
            slot.wanted = true;
            slot.comes_back = false;
            self.is_dirty = true;
        }
        // After all of them are wanted, so that those that wait for each other know.
        for key in open.iter().map(|o| &o.key) {
            self.feed(key, Event::Start, "start requested");
        }
        (open, done)
    }

    fn restart(
        &mut self,
        to_stop: &[ProcessName],
        keys: Vec<ProcessName>,
        reply: oneshot::Sender<Result<Restarted, UnknownName>>,
    ) {
        let (open, done) = self.stop_these(to_stop, Until::StartedAgain);
        for key in &keys {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.comes_back = true;
            }
        }
        self.restarts.push(OpenRestart { open, done, keys, reply });
    }

    /// Starts again what a restart has stopped, and nobody else since.
    pub(super) fn go_on_restarting(&mut self) {
        for mut restart in std::mem::take(&mut self.restarts) {
            if !restart.is_down(&self.slots) {
                self.restarts.push(restart);
                continue;
            }
            let OpenRestart { done: stopped, keys, reply, .. } = restart;
            let comes =
                |key: &ProcessName| self.slots.get(key).is_some_and(|s| s.comes_back || s.wanted);
            let (keys, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(comes);
            let (open, mut done) = self.start_these(&keys);
            let others = others.into_iter().map(|key| self.outer(&key));
            done.extend(others.map(|name| (name, Err(StartError::AbnormalTermination))));
            self.waiters.push(Waiter::Again { open, done, stopped, reply });
        }
    }

    fn stop_these(
        &mut self,
        keys: &[ProcessName],
        until: Until,
    ) -> (Vec<OpenStop>, PerProcess<StopError>) {
        let (mut open, mut done) = (Vec::new(), Vec::new());
        for key in keys.iter().rev() {
            self.drop_incoming(key, "stop requested");
            let Some(slot) = self.slots.get_mut(key) else { continue };
            let was_up = slot.is_alive()
                || matches!(slot.state, State::Backoff { .. })
                || (slot.state == State::Stopped && slot.wanted);
            self.is_dirty |= slot.wanted || slot.comes_back;
            slot.comes_back = slot.wanted && until == Until::StartedAgain;
            slot.wanted = false;
            // The end of the agent is nobody's wish about the process.
            slot.errand.is_called_off |= was_up && matches!(self.mode, Mode::Minding);
            let (name, pid) = (slot.spec.name.clone(), slot.state.pid());
            if was_up {
                open.push(OpenStop { key: key.clone(), name: name.clone(), pid });
                self.feed(key, Event::Tick, "stop requested");
            } else {
                done.push((name.clone(), Err(StopError::NotRunning)));
            }
            // One that was replaced, or was to replace it, goes already; it is waited for too.
            let other = beside(key).and_then(|k| self.slots.get(&k)).filter(|s| s.is_alive());
            if let Some(other) = other.filter(|s| was_up && s.part == Part::Outgoing) {
                open.push(OpenStop { key: other.key.clone(), name, pid: other.state.pid() });
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
        let slot = self.current(name).and_then(|key| self.slots.get(&key));
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
        let level = |s: &Slot<H>| (s.spec.group_priority, s.spec.priority);
        let alive = self.slots.values().filter(|s| s.is_alive() || s.wanted);
        let Some(highest) = alive.map(level).max() else { return };
        let wanted = self.slots.values().filter(|s| level(s) == highest && s.wanted);
        let names: Vec<_> = wanted.map(|s| s.key.clone()).collect();
        let was_idle = names.is_empty();
        self.stop_these(&names, Until::Asked);
        if !was_idle && !self.slots.values().any(|s| level(s) == highest && s.is_alive()) {
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
                self.close_bus(false).await;
                self.resume();
                return Err(SuperviseError::HandOver("output did not come to a rest in time"));
            }
        }
        while let Ok(news) = self.heard.try_recv() {
            self.hear(news);
        }
        self.is_dirty = true;
        self.settle();
        self.close_bus(false).await;
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
