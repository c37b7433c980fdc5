//! The task that owns the pools: takes events in, minds the clock, and writes down what waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use palisade_types::{GroupName, ProcessName};
use tokio::{
    sync::oneshot,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    Counts, Line, Message, Pending,
    event::{BusEvent, EventName},
    pool::Pool,
    saved,
};
use crate::{
    clock::{Timestamp, WallClock},
    supervise::{Listener, Notes},
};

/// Messages that are handled before events are sent.
const BATCH: usize = 256;

/// How long a change of what waits may go without being written.
const SAVE_AFTER: Duration = Duration::from_secs(1);

/// How often a pool that drops events says so.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The longest wait for a period of the clock to begin: the clock may be set meanwhile.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(60);

/// How the task ends.
#[derive(Clone, Debug)]
pub(in crate::supervise) struct End {
    /// Ends it, with everything kept for the next agent.
    pub(in crate::supervise) stop: CancellationToken,
    /// Set before `stop` if there is to be no next agent.
    pub(in crate::supervise) forget: CancellationToken,
}

/// Runs until stopped, and says when it has ended.
pub(in crate::supervise) async fn run<N: Notes, C: WallClock>(
    pending: Pending,
    notes: N,
    clock: Arc<C>,
    end: End,
    ended: oneshot::Sender<()>,
) {
    let Pending { mut queue, counts } = pending;
    let mut bus = Bus::new(notes, clock, counts);
    let mut batch = Vec::new();
    loop {
        let due = bus.next_due();
        // Every arm only waits; `recv_many` loses nothing when another arm wins.
        tokio::select! {
            biased;
            count = queue.recv_many(&mut batch, BATCH) => if count == 0 { break },
            () = end.stop.cancelled() => break,
            () = wait_until(due) => {}
        }
        for message in batch.drain(..) {
            bus.hear(message);
        }
        bus.turn();
    }
    while let Ok(message) = queue.try_recv() {
        bus.hear(message);
    }
    bus.dispatch();
    if end.forget.is_cancelled() {
        saved::forget(&bus.notes);
    } else {
        bus.save();
    }
    // Whoever waited for it may have gone on.
    ended.send(()).unwrap_or_default();
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

pub(super) struct Bus<N, C> {
    pub(super) notes: N,
    clock: Arc<C>,
    counts: Arc<Counts>,
    /// The number of the next event.
    pub(super) next: u64,
    pub(super) pools: BTreeMap<GroupName, Pool>,
    pub(super) lines: BTreeMap<ProcessName, (GroupName, Box<dyn Line>)>,
    /// Which periods of the clock were told of last.
    ticks: BTreeMap<EventName, i64>,
    /// What waits differs from what is written, since then.
    pub(super) unsaved: Option<Instant>,
    /// Events that pools dropped and that were not told of.
    pub(super) dropped: BTreeMap<GroupName, u64>,
    told_at: Option<Instant>,
    pub(super) seen: Vec<u8>,
}

impl<N: Notes, C: WallClock> Bus<N, C> {
    pub(super) fn new(notes: N, clock: Arc<C>, counts: Arc<Counts>) -> Self {
        Self {
            notes,
            clock,
            counts,
            next: 0,
            pools: BTreeMap::new(),
            lines: BTreeMap::new(),
            ticks: BTreeMap::new(),
            unsaved: None,
            dropped: BTreeMap::new(),
            told_at: None,
            seen: Vec::new(),
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let save = self.unsaved.map(|since| since + SAVE_AFTER);
        let tell = self.told_at.filter(|_| !self.dropped.is_empty()).map(|t| t + TELL_EVERY);
        let now = self.clock.now();
        let tick = self.ticks.iter().filter_map(|(name, last)| {
            let period = period(*name)?;
            let next = Timestamp::from_secs(last + period);
            Some(Instant::now() + next.since(now).min(LOOK_AT_CLOCK))
        });
        save.into_iter().chain(tell).chain(tick).min()
    }

    /// What is done after news, or when its time has come.
    fn turn(&mut self) {
        self.tick();
        self.dispatch();
        if self.unsaved.is_some_and(|since| since + SAVE_AFTER <= Instant::now()) {
            self.save();
        }
        self.tell_of_losses();
    }

    pub(super) fn hear(&mut self, message: Message) {
        match message {
            Message::Happened(event) => {
                self.counts.bytes.fetch_sub(event.payload.len(), Ordering::Relaxed);
                self.take_in(event);
            }
            Message::Pools(pools) => self.set_pools(pools),
            Message::Join(join) => self.join(join),
            Message::Up(name, is_up) => {
                if let Some(pool) = self.pool_of(&name) {
                    pool.set_up(&name, is_up);
                }
            }
            Message::Look(name, pid, read) => {
                self.look(&name, Some(pid));
                // Whoever told may have been stopped.
                read.send(()).unwrap_or_default();
            }
            Message::Leave(name, pid) => self.leave(&name, pid),
            Message::Lost(name, group) => self.lost(&name, &group),
        }
    }

    fn set_pools(&mut self, wanted: BTreeMap<GroupName, Listener>) {
        let is_first = self.pools.is_empty() && !wanted.is_empty();
        self.pools.retain(|name, _| wanted.contains_key(name));
        for (name, settings) in wanted {
            match self.pools.get_mut(&name) {
                Some(pool) => pool.adjust(settings),
                None => {
                    self.pools.insert(name.clone(), Pool::new(name, settings));
                }
            }
        }
        if is_first {
            let before = saved::load(&self.notes);
            self.next = before.next;
            for (name, waiting) in before.pools {
                if let Some(pool) = self.pools.get_mut(&name) {
                    pool.refill(waiting.next, waiting.left, waiting.events);
                }
            }
        }
        if self.pools.is_empty() {
            saved::forget(&self.notes);
            self.unsaved = None;
        }
        let now = self.clock.now().as_secs();
        let wants = |name: EventName| self.pools.values().any(|p| p.wants(name));
        let wanted: BTreeSet<_> =
            EventName::TICKS.into_iter().filter(|(name, _)| wants(*name)).collect();
        self.ticks.retain(|name, _| wanted.iter().any(|(n, _)| n == name));
        for (name, period) in wanted {
            self.ticks.entry(name).or_insert(now - now.rem_euclid(period));
        }
    }

    fn take_in(&mut self, event: BusEvent) {
        let serial = self.next;
        let mut is_wanted = false;
        for (name, pool) in self.pools.iter_mut().filter(|(_, p)| p.wants(event.name)) {
            is_wanted = true;
            let gone = pool.accept(serial, event.clone());
            count(&mut self.dropped, name, gone.len());
        }
        if is_wanted {
            self.next += 1;
            self.unsaved.get_or_insert_with(Instant::now);
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now().as_secs();
        let mut events = Vec::new();
        for (name, last) in &mut self.ticks {
            let Some(period) = period(*name) else { continue };
            let this = now - now.rem_euclid(period);
            if this != *last {
                *last = this;
                events.push(BusEvent::tick(*name, this));
            }
        }
        for event in events {
            self.take_in(event);
        }
    }

    pub(super) fn save(&mut self) {
        self.unsaved = None;
        if self.pools.is_empty() {
            return;
        }
        let waiting = |pool: &Pool| saved::Waiting {
            next: pool.next,
            left: pool.left(),
            events: pool.waiting().cloned().collect(),
        };
        let pools = self.pools.iter().map(|(name, pool)| (name.clone(), waiting(pool))).collect();
        saved::save(&self.notes, self.next, pools);
    }

    /// The number of the newest event in the first pool.
    #[cfg(test)]
    pub(super) fn last_accepted(&self) -> u64 {
        self.pools.values().next().map_or(0, |p| p.next - 1)
    }

    fn tell_of_losses(&mut self) {
        let unheard = self.counts.dropped.swap(0, Ordering::Relaxed);
        if unheard > 0 {
            tracing::error!(count = unheard, "events dropped: too many at once");
        }
        let is_due = self.told_at.is_none_or(|t| t + TELL_EVERY <= Instant::now());
        if self.dropped.is_empty() || !is_due {
            return;
        }
        for (pool, count) in std::mem::take(&mut self.dropped) {
            tracing::error!(%pool, count, "events dropped: the buffer of the pool is full, and no \
                listener took them");
        }
        self.told_at = Some(Instant::now());
    }
}

pub(super) fn count(dropped: &mut BTreeMap<GroupName, u64>, pool: &GroupName, gone: usize) {
    if gone > 0 {
        *dropped.entry(pool.clone()).or_default() += u64::try_from(gone).unwrap_or(u64::MAX);
    }
}

fn period(name: EventName) -> Option<i64> {
    EventName::TICKS.iter().find(|(n, _)| *n == name).map(|(_, period)| *period)
}
