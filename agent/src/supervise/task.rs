//! The task that owns the table of processes: hears news, asks the machine, does what it says.
//!
//! A turn handles all news that is there and then settles: the table is written once, the children
//! made in this turn are let go, the status is published, and those who wait are answered. Nothing
//! wakes the task while nothing happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use palisade_types::{ProcessName, ProcessStatus};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    Exit, FdStore, Handle, Host, Inherited, Launch, ListenAddr, Notice, OutputSink,
    OutputSource, ProcessSpec, Ready, Settings, SpawnError, StartError, Stream, SuperviseError,
    handle::{COMMANDS, Command, EVENTS, Event as Happening},
    machine::{self, Effect, Event, State, step},
    output::Pump,
    ports::{Child as _, OutputPipe as _},
    reconcile::{self, fingerprint, socket_key},
    slot::{Slot, log_path},
    table::{self, Now, Record},
    waiters::Waiter,
};
use crate::{clock::WallClock, errors::Chain, task::Scope};

/// News that may wait to be heard; whoever brings it waits when it is full.
const NEWS: usize = 1024;

/// How long the tasks around a process may take to end with the supervisor.
const PATIENCE: Duration = Duration::from_secs(2);

/// The least time between two writes of the table in which no child waits to be let go.
const SAVE_EVERY: Duration = Duration::from_millis(50);

/// What the supervisor is connected to.
#[derive(Debug)]
pub struct Wiring<H, S, F, C> {
    /// The host.
    pub host: H,
    /// Where output goes beside the log files.
    pub sink: S,
    /// Who keeps listening sockets over the agent's death.
    pub store: F,
    /// The time of day.
    pub clock: C,
    /// Open files from an earlier agent.
    pub inherited: Inherited,
}

/// Something that happened to a process.
#[derive(Debug)]
pub(super) enum News {
    Execed(ProcessName, i32, Result<(), SpawnError>),
    Ended(ProcessName, i32, Exit, Instant),
    Ready(ProcessName, i32),
    Notice(Notice),
}

/// What the supervisor as a whole is doing.
#[derive(Debug)]
pub(super) enum Mode {
    /// Minding processes.
    Minding,
    /// Stopping them all.
    Stopping { deadline: Instant, killed: usize, reply: oneshot::Sender<usize> },
    /// Touching nothing: another agent is about to take over.
    HandedOver,
}

/// The owner of the table.
#[derive(Debug)]
pub(super) struct Owner<H: Host, S, F, C> {
    pub(super) host: H,
    pub(super) sink: Arc<S>,
    pub(super) store: F,
    pub(super) clock: C,
    pub(super) settings: Settings,
    pub(super) boot_id: String,
    pub(super) slots: BTreeMap<ProcessName, Slot<H>>,
    pub(super) sockets: BTreeMap<String, (ListenAddr, OwnedFd)>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) mode: Mode,
    /// Children that wait to be let go.
    newborn: Vec<Arc<H::Child>>,
    /// Something changed in this turn.
    pub(super) is_dirty: bool,
    /// The table differs from what is on disk, last written then.
    is_unsaved: bool,
    saved_at: Instant,
    scope: Scope,
    news: mpsc::Sender<News>,
    pub(super) heard: mpsc::Receiver<News>,
    /// Brings all watchers and pumps to a rest.
    pub(super) rest: CancellationToken,
    /// Held by every watcher and pump; none while they are being brought to a rest.
    pub(super) alive: Option<mpsc::Sender<()>>,
    pub(super) all_ended: mpsc::Receiver<()>,
    status: watch::Sender<Vec<ProcessStatus>>,
    events: broadcast::Sender<Happening>,
}

/// Adopts what lives, starts what is to be started, and minds it from a task in `scope`.
///
/// # Errors
/// When an output pipe cannot be opened. Nothing was started then.
pub fn start<H: Host, S: OutputSink, F: FdStore, C: WallClock>(
    scope: &mut Scope,
    settings: Settings,
    wiring: Wiring<H, S, F, C>,
) -> Result<Handle, SuperviseError> {
    let (commands_tx, commands) = mpsc::channel(COMMANDS);
    let (news, heard) = mpsc::channel(NEWS);
    let (alive, all_ended) = mpsc::channel(1);
    let (status, status_rx) = watch::channel(Vec::new());
    let (events, _) = broadcast::channel(EVENTS);
    let Wiring { host, sink, store, clock, mut inherited } = wiring;
    let boot_id = host.boot_id();
    let stop = scope.stop();
    let mut owner = Owner {
        host,
        sink: Arc::new(sink),
        store,
        clock,
        settings: Settings { processes: Vec::new(), ..settings.clone() },
        boot_id,
        slots: BTreeMap::new(),
        sockets: BTreeMap::new(),
        waiters: Vec::new(),
        mode: Mode::Minding,
        newborn: Vec::new(),
        is_dirty: true,
        is_unsaved: true,
        saved_at: Instant::now(),
        scope: Scope::new(&stop),
        news,
        heard,
        rest: CancellationToken::new(),
        alive: Some(alive),
        all_ended,
        status,
        events: events.clone(),
    };
    owner.take_over(settings, &mut inherited)?;
    scope.spawn("supervise", owner.run(commands, stop));
    Ok(Handle { commands: commands_tx, status: status_rx, events })
}

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// Makes the table from settings, what the last agent left and what still lives.
    fn take_over(
        &mut self,
        settings: Settings,
        inherited: &mut Inherited,
    ) -> Result<(), SuperviseError> {
        let mut records = self.load();
        for (name, identity) in self.host.marked() {
            match records.iter_mut().find(|r| r.name == name) {
                Some(r) if r.child.is_none() => r.child = Some(identity),
                Some(_) => {}
                None => records.extend(settings.processes.iter().find(|s| s.name == name).map(
                    |spec| Record::found(spec, identity, self.clock.now()),
                )),
            }
        }
        for spec in &settings.processes {
            self.add_slot(spec.clone(), inherited)?;
        }
        let now = self.now();
        for record in records {
            self.adopt(&record, now, inherited)?;
        }
        self.settings = settings;
        self.sort_out_sockets(inherited);
        self.watch_all();
        Ok(())
    }

    fn load(&self) -> Vec<Record> {
        let loaded = match self.host.load() {
            Ok(None) => return Vec::new(),
            Ok(Some(bytes)) => table::decode(&bytes, &self.boot_id),
            Err(e) => Err(Chain(&e).to_string()),
        };
        loaded.unwrap_or_else(|why| {
            tracing::error!(why, "table of processes not read; looking for marked processes");
            Vec::new()
        })
    }

    pub(super) fn add_slot(
        &mut self,
        spec: ProcessSpec,
        inherited: &mut Inherited,
    ) -> Result<(), SuperviseError> {
        let mut open = |stream| {
            let fd = inherited.remove(&pipe_key(&spec.name, stream));
            self.host
                .pipe(&spec, stream, fd)
                .map(Arc::new)
                .map_err(|source| SuperviseError::Pipe { process: spec.name.clone(), source })
        };
        let stdout = open(Stream::Stdout)?;
        let stderr = if spec.redirect_stderr { None } else { Some(open(Stream::Stderr)?) };
        let slot = Slot {
            born: None,
            state: State::Stopped,
            wanted: spec.autostart,
            is_removed: false,
            child: None,
            is_dying: false,
            probe: None,
            stdout,
            stderr,
            lanes: Default::default(),
            pumps: self.rest.child_token(),
            finish: CancellationToken::new(),
            restarts: 0,
            since: self.clock.now(),
            exit: None,
            error: None,
            ups: 0,
            failures: 0,
            last_failure: StartError::AbnormalTermination,
            spec: Arc::new(spec),
        };
        self.slots.insert(slot.spec.name.clone(), slot);
        Ok(())
    }

    /// Takes over one process of the last agent.
    fn adopt(
        &mut self,
        record: &Record,
        now: Now,
        inherited: &mut Inherited,
    ) -> Result<(), SuperviseError> {
        let child = record.child.and_then(|id| self.host.adopt(&record.name, id));
        if !self.slots.contains_key(&record.name) {
            if child.is_none() {
                return Ok(());
            }
            self.add_slot(record.stand_in(), inherited)?;
            if let Some(slot) = self.slots.get_mut(&record.name) {
                slot.is_removed = true;
            }
        }
        let Some(slot) = self.slots.get_mut(&record.name) else { return Ok(()) };
        slot.restarts = record.restarts;
        slot.since = record.since;
        slot.exit = record.exit;
        slot.error.clone_from(&record.error);
        slot.wanted = record.wanted && !slot.is_removed;
        match child {
            Some(child) => {
                let pid = child.identity().pid;
                let is_same = record.born_with == fingerprint(&slot.spec);
                let born = if is_same {
                    Arc::clone(&slot.spec)
                } else {
                    Arc::new(record.stop.put_into(&slot.spec))
                };
                slot.state = record.state.with_child(pid, &born, now);
                for (index, listen) in born.sockets.iter().enumerate() {
                    let key = socket_key(&listen.listen);
                    if record.sockets.get(index) != Some(&key) || inherited.contains_key(&key) {
                        continue;
                    }
                    if let Some(fd) = child.take_socket(index, &listen.listen) {
                        inherited.insert(key, fd);
                    }
                }
                slot.child = Some(Arc::new(child));
                slot.born = Some(born);
                tracing::info!(process = %record.name, pid, "adopted");
                if !is_same {
                    self.feed(&record.name, Event::Replace, "its settings changed");
                }
            }
            None => {
                let (state, ended_unseen) = record.state.without_child(&slot.spec, now);
                slot.state = state;
                if ended_unseen {
                    slot.exit = Some(Exit::Unknown);
                    let end = Event::Exited { exit: Exit::Unknown, at: now.mono };
                    self.feed(&record.name, end, "it ended while no agent was there");
                }
            }
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Now {
        Now { wall: self.clock.now(), mono: Instant::now() }
    }

    /// The loop.
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        let host = self.host.clone();
        self.scope.spawn("orphans", async move { host.reap_orphans().await });
        self.tick_all("started with the agent");
        let mut batch = Vec::new();
        loop {
            self.settle();
            if self.is_over() {
                break;
            }
            let due = self.next_due();
            // Every arm only waits; `recv_many` and `recv` lose nothing when another arm wins.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = self.heard.recv_many(&mut batch, NEWS) => {
                    for news in batch.drain(..) {
                        self.hear(news);
                    }
                }
                Some(ended) = self.scope.next_end() => if let Err(e) = ended {
                    tracing::error!(error = %Chain(&e), "a task of the supervisor panicked");
                },
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
                () = wait_until(due) => self.tick_due(),
            }
        }
        self.finish().await;
        self.scope.shut_down(PATIENCE).await;
    }

    /// Whether all was to be stopped and is.
    fn is_over(&self) -> bool {
        matches!(self.mode, Mode::Stopping { .. }) && !self.slots.values().any(Slot::is_alive)
    }

    /// Carries the last output, tidies up, and answers whoever asked for the end.
    async fn finish(&mut self) {
        let Mode::Stopping { killed, reply, .. } =
            std::mem::replace(&mut self.mode, Mode::HandedOver)
        else {
            return;
        };
        for slot in self.slots.values() {
            slot.finish.cancel();
        }
        let all_carried = async {
            for lane in self.slots.values().flat_map(|s| &s.lanes) {
                lane.at_rest().await;
            }
        };
        if time::timeout(PATIENCE, all_carried).await.is_err() {
            tracing::warn!("the last output of some programs was not taken in time");
        }
        if let Err(e) = self.host.remove() {
            tracing::warn!(error = %Chain(&e), "table of processes not removed");
        }
        for (key, (addr, _)) in &self.sockets {
            self.forget_stored(key);
            self.host.clean_up(addr);
        }
        // Whoever asked may be gone; then nobody wants to know.
        drop(reply.send(killed));
    }

    fn next_due(&self) -> Option<Instant> {
        let timers = self.slots.values().filter(|s| !s.is_dying || s.state.shown() != machine::STARTING);
        let timers = timers.filter_map(|s| s.state.wake_at(&s.rules()));
        let first = timers.chain(self.is_unsaved.then(|| self.saved_at + SAVE_EVERY)).min();
        match self.mode {
            Mode::Minding => first,
            Mode::Stopping { deadline, .. } => Some(first.map_or(deadline, |f| f.min(deadline))),
            Mode::HandedOver => None,
        }
    }

    /// Hears what happened. News of a child that is no longer the present one is old.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Execed(name, pid, Ok(())) if self.is_present(&name, pid) => {
                self.feed(&name, Event::Execed, "it runs");
            }
            News::Execed(name, pid, Err(error)) if self.is_present(&name, pid) => {
                let why = error.to_string();
                if let Some(slot) = self.slots.get_mut(&name) {
                    slot.failed(&error);
                    slot.forget_child();
                }
                self.feed(&name, Event::SpawnFailed, &why);
            }
            News::Ended(name, pid, exit, at) if self.is_present(&name, pid) => {
                if let Some(slot) = self.slots.get_mut(&name) {
                    slot.exit = Some(exit);
                    slot.last_failure = StartError::AbnormalTermination;
                }
                self.feed(&name, Event::Exited { exit, at }, &format!("it ended: {exit}"));
            }
            News::Ready(name, pid) if self.is_present(&name, pid) => {
                self.feed(&name, Event::Ready, "it is ready");
            }
            News::Execed(..) | News::Ended(..) | News::Ready(..) => {}
            News::Notice(notice) => self.hear_notice(&notice),
        }
    }

    fn is_present(&self, name: &ProcessName, pid: i32) -> bool {
        self.slots.get(name).is_some_and(|s| s.state.pid() == Some(pid))
    }

    fn hear_notice(&mut self, notice: &Notice) {
        let sender = self.slots.iter().find(|(name, slot)| {
            slot.state.pid().is_some_and(|p| p == notice.pid || Some(p) == notice.group)
                || notice.process.as_ref() == Some(*name)
        });
        let Some((name, slot)) = sender else {
            tracing::debug!(pid = notice.pid, "notification from a process that is not ours");
            return;
        };
        let name = name.clone();
        let listens = matches!(slot.rules().ready, Ready::Notify { .. });
        for line in notice.text.lines() {
            match line.split_once('=') {
                Some(("READY", "1")) if listens => {
                    self.feed(&name, Event::Ready, "it said READY=1");
                }
                Some(("STATUS", text)) => tracing::info!(process = %name, text, "status"),
                _ => tracing::debug!(process = %name, line, "notification ignored"),
            }
        }
    }

    fn tick_due(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, s)| s.state.wake_at(&s.rules()).is_some_and(|t| t <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            if let (State::Starting { .. }, Some(child)) = (slot.state, &slot.child) {
                // Its end is on its way here and will be judged by its time.
                slot.is_dying = !child.is_alive();
                if slot.is_dying {
                    continue;
                }
            }
            self.feed(&name, Event::Tick, "time passed");
        }
    }

    /// Asks every process in order of priority.
    pub(super) fn tick_all(&mut self, why: &str) {
        for name in self.in_order() {
            self.feed(&name, Event::Tick, why);
        }
    }

    pub(super) fn in_order(&self) -> Vec<ProcessName> {
        let mut order: Vec<_> = self.slots.values().map(|s| (s.spec.priority, &s.spec.name)).collect();
        order.sort();
        order.into_iter().map(|(_, name)| name.clone()).collect()
    }

    /// Gives an event to the machine of one process and does what it says, to the end.
    pub(super) fn feed(&mut self, name: &ProcessName, event: Event, why: &str) {
        let is_held = self.is_held(name);
        let mut next = Some((event, why.to_owned()));
        while let Some((event, why)) = next.take() {
            let now = Instant::now();
            let Some(slot) = self.slots.get_mut(name) else { return };
            let before = slot.state;
            let (state, effect) = step(before, slot.want(is_held), event, now, &slot.rules());
            slot.state = state;
            if matches!(event, Event::Exited { .. }) && before.pid().is_some() {
                slot.forget_child();
            }
            self.note_change(name, before, event, &why);
            match effect {
                Some(Effect::Spawn) => next = Some(self.spawn(name)),
                Some(Effect::Terminate) => self.terminate(name),
                Some(Effect::Kill) => self.kill(name),
                None => {}
            }
        }
    }

    fn is_held(&self, name: &ProcessName) -> bool {
        let waits = self.slots.get(name).is_some_and(|s| !s.spec.after.is_empty());
        waits && !self.may_start().contains(name)
    }

    /// Those that need not wait for others. Only processes with `after` ever wait.
    fn may_start(&self) -> BTreeSet<ProcessName> {
        if self.slots.values().all(|s| s.spec.after.is_empty()) {
            return self.slots.keys().cloned().collect();
        }
        reconcile::may_start(self.slots.values().map(|s| (s.spec.as_ref(), s.progress())))
    }

    /// Counts, tells and marks for saving what a step changed.
    fn note_change(&mut self, name: &ProcessName, before: State, event: Event, why: &str) {
        let wall = self.clock.now();
        let Some(slot) = self.slots.get_mut(name) else { return };
        let after = slot.state;
        if before == after {
            return;
        }
        self.is_dirty = true;
        match after {
            State::Running { .. } => {
                slot.ups += 1;
                slot.error = None;
                slot.probe = None;
            }
            State::Backoff { .. } | State::Fatal => {
                slot.failures += 1;
                if slot.last_failure == StartError::AbnormalTermination {
                    slot.error = Some(match event {
                        Event::Exited { exit, .. } => format!("exited too quickly: {exit}"),
                        _ => why.to_owned(),
                    });
                }
            }
            State::Spawning { .. } => match (before, event) {
                (State::Running { .. }, Event::Exited { .. }) | (State::Backoff { .. }, Event::Tick) => {
                    slot.restarts += 1;
                }
                (State::Starting { .. }, Event::Exited { .. }) => {
                    // It was up, for less than a turn of this task.
                    slot.ups += 1;
                    slot.restarts += 1;
                }
                _ => slot.restarts = 0,
            },
            State::Exited => {
                if matches!(before, State::Starting { .. }) {
                    slot.ups += 1;
                }
                if let Some(exit) = slot.exit.filter(|e| !machine::is_expected(&slot.spec, *e)) {
                    slot.error = Some(format!("ended unexpectedly: {exit}"));
                }
            }
            State::Stopped | State::Starting { .. } | State::Stopping { .. } => {}
        }
        if before.shown() == after.shown() && before.pid() == after.pid() {
            return;
        }
        slot.since = wall;
        let happening = Happening {
            at: wall,
            process: name.clone(),
            group: slot.spec.group.clone(),
            from: before.shown(),
            to: after.shown(),
            pid: after.pid().unwrap_or(0),
            why: slot.error.clone().filter(|_| after == State::Fatal).unwrap_or_else(|| why.to_owned()),
        };
        tracing::info!(process = %name, from = %happening.from, to = %happening.to,
            pid = happening.pid, why = happening.why, "process state");
        // Without listeners nobody wants to know.
        drop(self.events.send(happening));
    }

    fn spawn(&mut self, name: &ProcessName) -> (Event, String) {
        match self.try_spawn(name) {
            Ok(pid) => (Event::Spawned(pid), "spawned".to_owned()),
            Err(error) => {
                if let Some(slot) = self.slots.get_mut(name) {
                    slot.failed(&error);
                }
                (Event::SpawnFailed, error.to_string())
            }
        }
    }

    fn try_spawn(&mut self, name: &ProcessName) -> Result<i32, SpawnError> {
        let gone = || SpawnError::Step { step: "look up".to_owned(), why: "gone".to_owned() };
        let spec = Arc::clone(&self.slots.get(name).ok_or_else(gone)?.spec);
        for socket in &spec.sockets {
            self.ensure_socket(&socket.listen)?;
        }
        let slot = self.slots.get_mut(name).ok_or_else(gone)?;
        let pipe_error = |e: std::io::Error| SpawnError::step("open output pipe", &e);
        let launch = Launch {
            spec: &spec,
            stdout: slot.stdout.writer().map_err(pipe_error)?,
            stderr: slot.stderr.as_ref().map(|p| p.writer()).transpose().map_err(pipe_error)?,
            sockets: spec
                .sockets
                .iter()
                .filter_map(|s| self.sockets.get(&socket_key(&s.listen)))
                .map(|(_, fd)| fd.as_fd())
                .collect(),
        };
        let child = Arc::new(self.host.spawn(launch)?);
        let pid = child.identity().pid;
        slot.child = Some(Arc::clone(&child));
        slot.born = Some(spec);
        slot.is_dying = false;
        slot.last_failure = StartError::AbnormalTermination;
        self.newborn.push(child);
        self.watch(name);
        Ok(pid)
    }

    /// The socket of an address, made if there is none yet.
    fn ensure_socket(&mut self, addr: &ListenAddr) -> Result<(), SpawnError> {
        let key = socket_key(addr);
        if self.sockets.contains_key(&key) {
            return Ok(());
        }
        let step = || format!("listen on {}", reconcile::address(addr));
        let fd = self.host.listen(addr).map_err(|e| SpawnError::step(step(), &e))?;
        self.keep_socket(key, addr.clone(), fd);
        Ok(())
    }

    fn keep_socket(&mut self, key: String, addr: ListenAddr, fd: OwnedFd) {
        if let Err(e) = self.store.store(&key, fd.as_fd()) {
            tracing::warn!(error = %Chain(&e), "socket not kept by the service manager");
        }
        self.sockets.insert(key, (addr, fd));
    }

    /// Keeps the inherited sockets that are wanted, and lets go of those that are not.
    pub(super) fn sort_out_sockets(&mut self, inherited: &mut Inherited) {
        let wanted: BTreeMap<_, _> = self
            .slots
            .values()
            .flat_map(|s| s.spec.sockets.iter().chain(s.rules().sockets.iter()).cloned().collect::<Vec<_>>())
            .map(|s| (socket_key(&s.listen), s.listen))
            .collect();
        for (key, addr) in &wanted {
            if self.sockets.contains_key(key) {
                continue;
            }
            if let Some(fd) = inherited.remove(key) {
                if self.host.is_listening(fd.as_fd(), addr) {
                    self.keep_socket(key.clone(), addr.clone(), fd);
                }
            }
        }
        let unwanted: Vec<_> =
            self.sockets.keys().filter(|k| !wanted.contains_key(*k)).cloned().collect();
        for key in unwanted {
            if let Some((addr, _)) = self.sockets.remove(&key) {
                self.host.clean_up(&addr);
            }
            self.forget_stored(&key);
        }
        for (key, _) in std::mem::take(inherited) {
            self.forget_stored(&key);
        }
    }

    fn forget_stored(&self, key: &str) {
        if let Err(e) = self.store.remove(key) {
            tracing::warn!(error = %Chain(&e), "the service manager was not told to let a file go");
        }
    }

    fn terminate(&mut self, name: &ProcessName) {
        let Some(slot) = self.slots.get(name) else { return };
        let rules = slot.rules();
        let whom = if rules.stopasgroup { super::Whom::Group } else { super::Whom::Process };
        if let Some(Err(e)) = slot.child.as_ref().map(|c| c.signal(rules.stopsignal, whom)) {
            tracing::warn!(process = %name, error = %Chain(&e), "stop signal not sent");
        }
    }

    fn kill(&mut self, name: &ProcessName) {
        let Some(slot) = self.slots.get(name) else { return };
        let group = slot.rules().killasgroup;
        let whom = if group { super::Whom::Group } else { super::Whom::Process };
        tracing::warn!(process = %name, "did not stop in time; killing it");
        if let Some(Err(e)) = slot.child.as_ref().map(|c| c.kill(whom)) {
            tracing::error!(process = %name, error = %Chain(&e), "not killed");
        }
    }

    /// Ends a turn.
    pub(super) fn settle(&mut self) {
        if !matches!(self.mode, Mode::HandedOver) {
            self.let_held_start();
            self.go_on_stopping();
            self.drop_removed();
        }
        if self.is_dirty {
            self.is_dirty = false;
            self.is_unsaved = true;
            let rows = self.slots.values().filter(|s| !s.is_removed).map(Slot::status).collect();
            self.status.send_replace(rows);
        }
        let is_due = self.saved_at + SAVE_EVERY <= Instant::now();
        if self.is_unsaved && (is_due || !self.newborn.is_empty()) {
            self.is_unsaved = false;
            self.saved_at = Instant::now();
            // A child is let go even so: a program that runs matters more, and its mark finds it.
            if let Err(e) = self.save() {
                tracing::error!(error = %Chain(&e), "table of processes not written");
            }
        }
        for child in self.newborn.drain(..) {
            child.release();
        }
        self.waiters = std::mem::take(&mut self.waiters)
            .into_iter()
            .filter_map(|w| w.look(&self.slots))
            .collect();
    }

    pub(super) fn save(&self) -> std::io::Result<()> {
        let now = self.now();
        let records = self.slots.values().map(|s| s.record(now)).collect();
        self.host.save(&table::encode(&self.boot_id, records)?)
    }

    fn let_held_start(&mut self) {
        // Each round starts at least one, or ends.
        while !matches!(self.mode, Mode::Stopping { .. }) {
            let free = self.may_start();
            let held = |s: &Slot<H>| s.wanted && s.state == State::Stopped;
            let ready = self.in_order().into_iter().find(|n| {
                free.contains(n) && self.slots.get(n).is_some_and(held)
            });
            let Some(name) = ready else { return };
            self.feed(&name, Event::Tick, "those it waits for are up");
        }
    }

    fn drop_removed(&mut self) {
        let gone: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, s)| s.is_removed && !s.is_alive())
            .map(|(name, _)| name.clone())
            .collect();
        for name in &gone {
            if let Some(slot) = self.slots.remove(name) {
                slot.finish.cancel();
                self.host.remove_pipes(name);
            }
        }
        if !gone.is_empty() {
            self.is_dirty = true;
            self.sort_out_sockets(&mut Inherited::new());
        }
    }

    /// Watchers and pumps of everything.
    pub(super) fn watch_all(&mut self) {
        for name in self.slots.keys().cloned().collect::<Vec<_>>() {
            self.pump(&name);
            self.watch(&name);
        }
        let (host, news, rest) = (self.host.clone(), self.news.clone(), self.rest.clone());
        let Some(alive) = self.alive.clone() else { return };
        self.scope.spawn("notify-socket", async move {
            // What was received is passed on before the next look at `rest`; what was not is still
            // in the socket.
            while let Some(notice) = rest.run_until_cancelled(host.notice()).await {
                if news.send(News::Notice(notice)).await.is_err() {
                    break;
                }
            }
            drop(alive);
        });
    }

    /// Starts to watch the child of a process.
    fn watch(&mut self, name: &ProcessName) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let (Some(child), Some(alive)) = (slot.child.clone(), self.alive.clone()) else { return };
        let (news, rest, name) = (self.news.clone(), self.rest.clone(), name.clone());
        let lanes = slot.lanes.clone();
        let pid = child.identity().pid;
        if let (Ready::Probe(probe), false) = (&slot.rules().ready, matches!(slot.state, State::Running { .. })) {
            let token = rest.child_token();
            slot.probe = Some(token.clone().drop_guard());
            let ask = ask_until_ready(self.host.clone(), probe.clone(), name.clone(), pid, news.clone());
            self.scope.spawn("probe", async move {
                // Stopped at any moment: a probe holds nothing.
                token.run_until_cancelled(ask).await;
            });
        }
        self.scope.spawn("child", async move {
            // Both waits leave the child as it was when they are cancelled.
            let story = async {
                let execed = child.execed().await;
                let failure = execed.clone().err();
                if failure.is_none()
                    && news.send(News::Execed(name.clone(), pid, Ok(()))).await.is_err()
                {
                    return None;
                }
                let (exit, at) = child.ended().await;
                Some(match failure {
                    Some(error) => News::Execed(name, pid, Err(error)),
                    None => News::Ended(name, pid, exit, at),
                })
            };
            if let Some(Some(end)) = rest.run_until_cancelled(story).await {
                for lane in &lanes {
                    lane.ended.notify_one();
                }
                // If the owner is gone, so is whoever wanted to know.
                news.send(end).await.unwrap_or_default();
            }
            drop(alive);
        });
    }

    /// Starts to carry the output of a process.
    pub(super) fn pump(&mut self, name: &ProcessName) {
        let (Some(slot), Some(alive)) = (self.slots.get_mut(name), self.alive.clone()) else { return };
        slot.pumps = self.rest.child_token();
        slot.finish = CancellationToken::new();
        let streams = [(Stream::Stdout, Some(&slot.stdout)), (Stream::Stderr, slot.stderr.as_ref())];
        for ((stream, pipe), lane) in streams.into_iter().zip(&slot.lanes) {
            let Some(pipe) = pipe else { continue };
            let log = log_path(&self.settings.log_dir, &slot.spec, stream)
                .map(|path| self.host.log(&path, slot.log_file(stream)));
            let pump = Pump {
                pipe: Arc::clone(pipe),
                log,
                sink: Arc::clone(&self.sink),
                source: OutputSource {
                    program: slot.spec.program.clone(),
                    process: name.clone(),
                    stream,
                },
                lane: Arc::clone(lane),
                stop: slot.pumps.clone(),
                finish: slot.finish.clone(),
                alive: alive.clone(),
            };
            self.scope.spawn("output", pump.run());
        }
    }
}

/// The name under which the pipe of a stream is handed over.
pub(super) fn pipe_key(name: &ProcessName, stream: Stream) -> String {
    format!("output-{name}.{stream}")
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn ask_until_ready<H: Host>(
    host: H,
    probe: super::Probe,
    name: ProcessName,
    pid: i32,
    news: mpsc::Sender<News>,
) {
    // Ends with its token: when the process is up, is gone, or took too long.
    while !host.ask(&probe.target, probe.every.max(MIN_ASK)).await {
        time::sleep(probe.every).await;
    }
    // If the owner is gone, so is whoever wanted to know.
    news.send(News::Ready(name, pid)).await.unwrap_or_default();
}

/// A probe may take as long as the time between two, and at least this.
const MIN_ASK: Duration = Duration::from_secs(1);
