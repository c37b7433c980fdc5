//! The task that owns the table of processes: hears news, asks the machine, does what it says.
//!
//! A turn handles all news that is there and then settles: the table is written once, the children
//! made in this turn are let go, the status is published, and those who wait are answered. Nothing
//! wakes the task while nothing happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use palisade_types::{ByteSize, ProcessName, ProcessState, ProcessStatus};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    Exit, FdStore, Handle, Host, Inherited, ListenAddr, Notice, OutputSink, Scheduled, Settings,
    SpawnError, Stdin, SuperviseError,
    handle::{COMMANDS, Command, EVENTS, Event as Happening},
    held,
    hooks::Undone,
    listeners::BusSide,
    machine::{self, Event, State},
    ports::Child as _,
    slot::Slot,
    table::{self, Now},
    twin::Part,
    usage,
    waiters::{OpenRestart, Waiter},
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
    /// The commands around a start ended, by the number of their run.
    Hooks(ProcessName, u64, Result<(), Undone>),
    /// It gives good answers.
    Well(ProcessName, i32),
    /// It failed to give a good answer as often as counts, and how.
    Ill(ProcessName, i32, String),
    /// It uses so many bytes, and may use as many before it is replaced.
    Grown(ProcessName, i32, u64, ByteSize),
    /// A log file is not written, or is again: its stream knows.
    Log,
}

/// What the supervisor as a whole is doing.
#[derive(Debug)]
pub(super) enum Mode {
    /// Minding processes.
    Minding,
    /// Stopping them all.
    Stopping {
        deadline: Instant,
        killed: usize,
        /// What was wanted before: what stops because the agent does was not stopped by hand.
        wanted: BTreeSet<ProcessName>,
        reply: oneshot::Sender<usize>,
    },
    /// Touching nothing: another agent is about to take over.
    HandedOver,
}

/// The owner of the table.
#[derive(Debug)]
pub(super) struct Owner<H: Host, S, F, C> {
    pub(super) host: H,
    pub(super) sink: Arc<S>,
    pub(super) store: F,
    pub(super) clock: Arc<C>,
    pub(super) settings: Settings,
    pub(super) boot_id: String,
    pub(super) slots: BTreeMap<ProcessName, Slot<H>>,
    pub(super) sockets: BTreeMap<String, (ListenAddr, OwnedFd)>,
    pub(super) bus: BusSide,
    /// Held sockets that nobody serves, and since when.
    pub(super) vacant: BTreeMap<String, Instant>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) restarts: Vec<OpenRestart>,
    pub(super) mode: Mode,
    /// Children that wait to be let go.
    pub(super) newborn: Vec<Arc<H::Child>>,
    /// Something changed in this turn.
    pub(super) is_dirty: bool,
    /// The table differs from what is on disk, last written then.
    pub(super) is_unsaved: bool,
    pub(super) saved_at: Instant,
    pub(super) scope: Scope,
    pub(super) news: mpsc::Sender<News>,
    pub(super) heard: mpsc::Receiver<News>,
    /// Brings all watchers and pumps to a rest.
    pub(super) rest: CancellationToken,
    /// Ends those pumps too whose sink does not answer.
    pub(super) abandon: CancellationToken,
    /// Held by every watcher and pump; none while they are being brought to a rest.
    pub(super) alive: Option<mpsc::Sender<()>>,
    pub(super) all_ended: mpsc::Receiver<()>,
    pub(super) status: watch::Sender<Vec<ProcessStatus>>,
    pub(super) events: broadcast::Sender<Happening>,
    pub(super) schedules: watch::Sender<BTreeMap<ProcessName, Scheduled>>,
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
    let (schedules, schedules_rx) = watch::channel(BTreeMap::new());
    let Wiring { host, sink, store, clock, mut inherited } = wiring;
    let boot_id = host.boot_id();
    let stop = scope.stop();
    let mut owner = Owner {
        host,
        sink: Arc::new(sink),
        store,
        clock: Arc::new(clock),
        settings: Settings { processes: Vec::new(), ..settings.clone() },
        boot_id,
        slots: BTreeMap::new(),
        sockets: BTreeMap::new(),
        bus: BusSide::default(),
        vacant: BTreeMap::new(),
        waiters: Vec::new(),
        restarts: Vec::new(),
        mode: Mode::Minding,
        newborn: Vec::new(),
        is_dirty: true,
        is_unsaved: true,
        saved_at: Instant::now(),
        scope: Scope::new(&stop),
        news,
        heard,
        rest: CancellationToken::new(),
        abandon: CancellationToken::new(),
        alive: Some(alive),
        all_ended,
        status,
        events: events.clone(),
        schedules,
    };
    let (meter, metering) = usage::meter(owner.host.clone(), status_rx.clone());
    let end = owner.scope.stop();
    owner.scope.spawn("usage", async move {
        // Holds nothing but figures.
        end.run_until_cancelled(metering).await;
    });
    owner.take_over(settings, &mut inherited)?;
    scope.spawn("supervise", owner.run(commands, stop));
    Ok(Handle { commands: commands_tx, status: status_rx, events, schedules: schedules_rx, meter })
}

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    pub(super) fn now(&self) -> Now {
        Now { wall: self.clock.now(), mono: Instant::now() }
    }

    /// The loop.
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        let host = self.host.clone();
        let end = self.scope.stop();
        self.scope.spawn("orphans", async move {
            // Holds nothing: what is not reaped now is reaped by the next round, or by init.
            end.run_until_cancelled(host.reap_orphans()).await;
        });
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
        if matches!(self.mode, Mode::Minding)
            && let Err(e) = self.save()
        {
            tracing::error!(error = %Chain(&e), "table of processes not written");
        }
        self.finish().await;
        self.rest.cancel();
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
        self.close_bus(true).await;
        if let Err(e) = self.host.remove() {
            tracing::warn!(error = %Chain(&e), "table of processes not removed");
        }
        if let Ok((name, _)) = self.host.notice_socket() {
            self.forget_stored(&name);
        }
        for (key, (addr, _)) in &self.sockets {
            self.forget_stored(key);
            self.host.clean_up(addr);
        }
        // Whoever asked may be gone; then nobody wants to know.
        reply.send(killed).unwrap_or_default();
    }

    fn next_due(&self) -> Option<Instant> {
        let timers =
            self.slots.values().filter(|s| !s.is_dying || s.state.shown() != machine::STARTING);
        let timers = timers.filter_map(|s| s.state.wake_at(&s.rules()));
        let first = timers
            .chain(self.is_unsaved.then(|| self.saved_at + SAVE_EVERY))
            .chain(self.slots.values().filter_map(|s| s.past.storm.due()))
            .chain(self.waiters.iter().filter_map(Waiter::due))
            .chain(self.slots.values().filter_map(|s| Some(s.roll.as_ref()?.waits?.until)))
            .chain(self.next_vacancy())
            .min();
        match self.mode {
            Mode::Minding => first,
            Mode::Stopping { deadline, .. } => Some(first.map_or(deadline, |f| f.min(deadline))),
            Mode::HandedOver => None,
        }
    }

    /// Ends a turn.
    pub(super) fn settle(&mut self) {
        if !matches!(self.mode, Mode::HandedOver) {
            self.let_held_start();
            self.go_on_with_hooks();
            self.go_on_restarting();
            self.end_storms();
            // What has gone makes room for what is to come.
            self.drop_removed();
            self.go_on_rolling();
            self.go_on_stopping();
            self.drop_removed();
            self.let_go_of_vacant();
        }
        let has_changed = std::mem::take(&mut self.is_dirty);
        self.is_unsaved |= has_changed;
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
        // After the children were let go, which somebody may be waiting for.
        if has_changed {
            if self.slots.values().any(|s| matches!(s.spec.input(), Stdin::Socket(_))) {
                self.sort_out_sockets(&mut Inherited::new());
            }
            let mut rows: Vec<_> =
                self.slots.values().filter(|s| s.is_shown()).map(Slot::status).collect();
            let in_vain = held::in_vain(&self.slots);
            for row in rows.iter_mut().filter(|r| r.state == ProcessState::Starting && r.pid == 0) {
                row.error = in_vain.get(&row.program).cloned().or(row.error.take());
            }
            rows.sort_by(|a, b| a.name.cmp(&b.name));
            // Before the rows: whoever sees that a run has stopped is to know whether it was called off.
            self.publish_schedules();
            self.status.send_replace(rows);
        }
        self.waiters = std::mem::take(&mut self.waiters)
            .into_iter()
            .filter_map(|w| w.look(&self.slots))
            .collect();
    }

    pub(super) fn save(&self) -> std::io::Result<()> {
        let now = self.now();
        let mut records: Vec<_> = self.slots.values().map(|s| s.record(now)).collect();
        if let Mode::Stopping { wanted, .. } = &self.mode {
            records.iter_mut().for_each(|r| r.wanted = wanted.contains(&r.name));
        }
        self.host.save(&table::encode(&self.boot_id, records)?)
    }

    fn publish_schedules(&self) {
        let with_schedule = self.slots.values().filter(|s| s.is_shown());
        let schedules: BTreeMap<_, _> = with_schedule
            .filter_map(|s| {
                let is_called_off = s.errand.is_called_off;
                let schedule = s.spec.schedule.clone()?;
                Some((s.spec.name.clone(), Scheduled { schedule, is_called_off }))
            })
            .collect();
        self.schedules.send_if_modified(|old| {
            let has_changed = *old != schedules;
            *old = schedules;
            has_changed
        });
    }

    fn let_held_start(&mut self) {
        // Each round starts at least one, or ends.
        while !matches!(self.mode, Mode::Stopping { .. }) {
            let free = self.may_start();
            let held = |s: &Slot<H>| {
                s.wanted
                    && s.state == State::Stopped
                    && s.part == Part::Current
                    && free.contains(&s.spec.name)
            };
            let ready =
                self.in_order().into_iter().find(|key| self.slots.get(key).is_some_and(held));
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
            self.tell_groups();
            self.sort_out_sockets(&mut Inherited::new());
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
pub(super) mod tests;
