//! The owner's side of events: tells the bus what happens, introduces listeners to it, and has to do with
//! what processes read.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use palisade_types::{GroupName, ProcessName};
use tokio::{sync::oneshot, time};
use tokio_util::sync::CancellationToken;

use super::{
    EventName, FdStore, Host, InputPipe as _, Listener, OutputPipe, OutputSink, ProcessSpec,
    SharedSocket, SpawnError, Stdin, StdinError, Stream,
    bus::{self, About, BusEvent, Message, Pending, Publisher, Step},
    machine::{self, Event, State, Then},
    output::Telling,
    ports::Child as _,
    reconcile::{address, socket_key},
    slot::Slot,
    task::Owner,
    twin::Part,
};
use crate::clock::WallClock;

/// The most that may be sent to a process at once.
const MOST_INPUT: usize = 64 << 10;

/// How long the bus may take to write down what it has.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

/// What the owner knows of the bus.
#[derive(Debug)]
pub(super) struct BusSide {
    pub(super) publisher: Publisher,
    /// There while its task runs.
    task: Option<(bus::End, oneshot::Receiver<()>)>,
    /// The pools as they were told.
    pools: BTreeMap<GroupName, Listener>,
    /// The groups as they were told.
    groups: BTreeSet<GroupName>,
}

impl Default for BusSide {
    /// One that nobody hears.
    fn default() -> Self {
        let (publisher, _) = bus::channel();
        Self { publisher, task: None, pools: BTreeMap::new(), groups: BTreeSet::new() }
    }
}

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// A new bus, which hears of nothing before [`Self::run_bus`]: by then it is to know all listeners.
    pub(super) fn open_bus(&mut self) -> Pending {
        let (publisher, pending) = bus::channel();
        self.bus.publisher = publisher;
        self.bus.pools = self.pools();
        self.bus.publisher.tell(Message::Pools(self.bus.pools.clone()));
        for (key, slot) in self.slots.iter().filter(|(_, s)| s.spec.listener().is_some()) {
            if slot.child.is_none() {
                let (name, group) = (key.clone(), slot.spec.group.clone());
                self.bus.publisher.tell(Message::Lost(name, group));
            }
        }
        pending
    }

    pub(super) fn run_bus(&mut self, pending: Pending) {
        let stop = self.scope.stop().child_token();
        let end = bus::End { stop, forget: CancellationToken::new() };
        let (tx, ended) = oneshot::channel();
        let run = bus::run(pending, self.host.clone(), Arc::clone(&self.clock), end.clone(), tx);
        self.scope.spawn("events", run);
        self.bus.task = Some((end, ended));
    }

    /// Ends the bus, which keeps what it has for the next agent unless there is to be none.
    pub(super) async fn close_bus(&mut self, is_last: bool) {
        let Some((end, ended)) = self.bus.task.take() else { return };
        if is_last {
            end.forget.cancel();
        }
        end.stop.cancel();
        if time::timeout(CLOSED_WITHIN, ended).await.is_err() {
            tracing::warn!("events that wait were not written down in time");
        }
    }

    fn pools(&self) -> BTreeMap<GroupName, Listener> {
        let specs = self.slots.values().filter(|s| s.is_shown()).map(|s| &s.spec);
        specs.filter_map(|s| Some((s.group.clone(), s.listener()?.clone()))).collect()
    }

    /// Tells which groups and pools there are now, if that changed. At the first start too, where no
    /// earlier agent did.
    pub(super) fn tell_groups(&mut self) {
        let pools = self.pools();
        if pools != self.bus.pools {
            self.bus.pools = pools;
            self.bus.publisher.tell(Message::Pools(self.bus.pools.clone()));
        }
        let now: BTreeSet<_> = self.slots.values().map(|s| s.spec.group.clone()).collect();
        let before = std::mem::replace(&mut self.bus.groups, now);
        for group in before.difference(&self.bus.groups) {
            self.publish(BusEvent::group(EventName::ProcessGroupRemoved, group));
        }
        let mut added: Vec<_> = self
            .slots
            .values()
            .filter(|s| !before.contains(&s.spec.group))
            .map(|s| (s.spec.group_priority, &s.spec.group))
            .collect();
        added.sort();
        added.dedup();
        for (_, group) in added {
            self.publish(BusEvent::group(EventName::ProcessGroupAdded, group));
        }
    }

    /// The groups were told by an earlier agent.
    pub(super) fn groups_are_known(&mut self) {
        self.bus.groups = self.slots.values().map(|s| s.spec.group.clone()).collect();
    }

    pub(super) fn publish(&self, event: BusEvent) {
        self.bus.publisher.publish(event);
    }

    /// Tells what a step of a process is to Supervisor's listeners.
    pub(super) fn tell_step(&self, name: &ProcessName, before: State, event: Event) {
        let Some(slot) = self.slots.get(name) else { return };
        let after = slot.state;
        if slot.spec.listener().is_some() && before.shown() != after.shown() {
            let is_up = matches!(after, State::Running { .. });
            self.bus.publisher.tell(Message::Up(name.clone(), is_up));
        }
        // What comes and goes beside the current one is told when it takes its place.
        if slot.part != Part::Current || !self.bus.publisher.is_heard() {
            return;
        }
        let step = Step {
            from: before.shown(),
            from_pid: before.pid().unwrap_or(0),
            to: after.shown(),
            to_pid: after.pid().unwrap_or(0),
            failures: if after == State::Fatal { failures(before) + 1 } else { failures(after) },
            ended: match event {
                Event::Exited { exit, .. } => Some(machine::is_expected(&slot.spec, exit)),
                _ => None,
            },
        };
        let about =
            About { label: slot.spec.label.clone(), group: slot.spec.group.clone(), pid: 0 };
        for event in bus::events_of(&step, &about) {
            self.publish(event);
        }
    }

    /// Tells that another instance took the place of a process.
    pub(super) fn tell_replaced(&self, key: &ProcessName, from_pid: i32, to_pid: i32) {
        let Some(slot) = self.slots.get(key) else { return };
        let about =
            About { label: slot.spec.label.clone(), group: slot.spec.group.clone(), pid: 0 };
        for event in bus::replaced(&about, from_pid, to_pid) {
            self.publish(event);
        }
    }

    /// What is told of a stream.
    pub(super) fn telling(&self, spec: &ProcessSpec, stream: Stream) -> Telling {
        let file = match stream {
            Stream::Stdout => &spec.stdout,
            Stream::Stderr => &spec.stderr,
        };
        Telling {
            bus: self.bus.publisher.clone(),
            label: spec.label.clone(),
            group: spec.group.clone(),
            is_log_told: file.events_enabled,
            capture: usize::try_from(file.capture_maxbytes.bytes()).unwrap_or(usize::MAX),
        }
    }

    /// Makes what the next child reads, and for a listener what it says into: nothing of what the last
    /// one was sent or said is in it.
    pub(super) fn prepare_input(
        &mut self,
        name: &ProcessName,
        spec: &ProcessSpec,
    ) -> Result<Option<OwnedFd>, SpawnError> {
        if let Stdin::Socket(shared) = spec.input() {
            return self.share_socket(shared, spec.user.as_deref()).map(Some);
        }
        let Some(slot) = self.slots.get_mut(name) else { return Ok(None) };
        if *spec.input() == Stdin::Null {
            slot.stdin = None;
            return Ok(None);
        }
        let no_pipe = |e: io::Error| SpawnError::step("make input pipe", &e);
        let input = self.host.new_input(name, spec).map_err(no_pipe)?;
        let reader = input.reader().map_err(no_pipe)?;
        slot.stdin = Some(Arc::new(input));
        if spec.listener().is_some() {
            let fresh = self.host.renew(name, Stream::Stdout);
            let fresh = fresh.and_then(|()| self.host.pipe(name, spec, Stream::Stdout, None));
            slot.stdout = Arc::new(fresh.map_err(|e| SpawnError::step("make output pipe", &e))?);
        }
        Ok(Some(reader))
    }

    fn share_socket(
        &mut self,
        shared: &SharedSocket,
        user: Option<&str>,
    ) -> Result<OwnedFd, SpawnError> {
        let key = socket_key(&shared.listen);
        let at =
            |e: io::Error| SpawnError::step(format!("listen on {}", address(&shared.listen)), &e);
        let there = self.sockets.get(&key).map(|(_, fd)| fd.as_fd());
        match self.host.share(shared, user, there) {
            Ok(Some(made)) => {
                if self.sockets.contains_key(&key) {
                    self.forget_stored(&key);
                }
                self.keep_socket(key.clone(), shared.listen.clone(), made);
            }
            Ok(None) => {}
            Err(e) => {
                // It may be the service manager that still holds it, as for other sockets.
                if there.is_none() {
                    self.forget_stored(&key);
                }
                return Err(at(e));
            }
        }
        let gone = || at(io::ErrorKind::NotFound.into());
        self.sockets.get(&key).ok_or_else(gone)?.1.try_clone().map_err(at)
    }

    /// Introduces the child of a listener to the bus, and watches what it says.
    pub(super) fn listen_to(&mut self, name: &ProcessName, is_adopted: bool) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let (Some(child), Some(alive)) = (slot.child.as_ref(), self.alive.clone()) else { return };
        let pid = child.identity().pid;
        for lane in &slot.lanes {
            lane.pid.store(pid, Ordering::Relaxed);
        }
        let (Some(_), Some(stdin)) = (slot.rules().listener(), slot.stdin.clone()) else { return };
        let stdout = Arc::clone(&slot.stdout);
        let join = bus::Join {
            name: name.clone(),
            group: slot.spec.group.clone(),
            pid,
            is_adopted,
            is_up: matches!(slot.state, State::Running { .. }),
            line: Box::new(bus::Wire { stdout: Arc::clone(&stdout), stdin }),
        };
        let publisher = self.bus.publisher.clone();
        publisher.tell(Message::Join(join));
        let token = self.rest.child_token();
        slot.ear = Some(token.clone().drop_guard());
        let name = name.clone();
        self.scope.spawn("listener", async move {
            // Stopped at any moment: what was not read is in the pipe.
            token.run_until_cancelled(watch(stdout, publisher, name, pid)).await;
            drop(alive);
        });
    }

    /// Tells the bus that the child of a listener is gone.
    pub(super) fn listener_left(&mut self, name: &ProcessName, pid: i32) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        if slot.ear.take().is_some() {
            self.bus.publisher.tell(Message::Leave(name.clone(), pid));
        }
    }

    /// Sends something to a process.
    pub(super) fn send_stdin(&self, name: &ProcessName, bytes: &[u8]) -> Result<(), StdinError> {
        let slot = self.current(name).and_then(|key| self.slots.get(&key));
        let slot = slot.ok_or_else(|| StdinError::Unknown(name.clone()))?;
        let child = slot.child.as_ref().filter(|c| c.is_alive());
        child.ok_or(StdinError::NotRunning)?;
        if slot.rules().listener().is_some() {
            return Err(StdinError::Listener);
        }
        let stdin = slot.stdin.as_ref().ok_or(StdinError::NoPipe)?;
        if bytes.len() > MOST_INPUT {
            return Err(StdinError::TooMuch { most: MOST_INPUT });
        }
        stdin.offer(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::FileTooLarge => StdinError::Full,
            _ => StdinError::Refused(e.to_string()),
        })
    }
}

impl<H: Host> Slot<H> {
    /// The socket that its group shares, while it runs or is about to.
    pub(super) fn shared_socket(&self) -> Option<SharedSocket> {
        let is_active = self.is_alive() || matches!(self.state, State::Backoff { .. });
        match self.rules().input() {
            Stdin::Socket(shared) if is_active => Some(shared.clone()),
            Stdin::Socket(_) | Stdin::Null | Stdin::Pipe => None,
        }
    }
}

async fn watch<P: OutputPipe>(pipe: Arc<P>, bus: Publisher, name: ProcessName, pid: i32) {
    loop {
        if let Err(e) = pipe.grown().await {
            tracing::warn!(process = %name, error = %e, "listener not heard");
            time::sleep(CLOSED_WITHIN).await;
        }
        if !bus.look(&name, pid).await {
            return;
        }
    }
}

/// Starts in a row that failed.
fn failures(state: State) -> u32 {
    match state {
        State::Spawning { failures }
        | State::Starting { failures, .. }
        | State::Backoff { failures, .. }
        | State::Stopping { then: Then::Failed(failures), .. } => failures,
        State::Stopping { then: Then::AsWanted, .. }
        | State::Stopped
        | State::Running { .. }
        | State::Exited
        | State::Fatal => 0,
    }
}
