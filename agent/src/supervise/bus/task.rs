//! The task that owns the pools: takes events in, sends them, and reads what listeners answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
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
    Counts, Join, Line, Message, Pending,
    event::{BusEvent, EventName},
    pool::{Numbered, Pool, Sent},
    protocol::{self, Phase, READY_LEN, Said},
    saved::{self, Last},
};
use crate::{
    clock::{Timestamp, WallClock},
    supervise::{Listener, Notes, WrittenTo},
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
    notes: N,
    clock: Arc<C>,
    counts: Arc<Counts>,
    /// The number of the next event.
    next: u64,
    pools: BTreeMap<GroupName, Pool>,
    lines: BTreeMap<ProcessName, (GroupName, Box<dyn Line>)>,
    /// Which periods of the clock were told of last.
    ticks: BTreeMap<EventName, i64>,
    /// What waits differs from what is written, since then.
    unsaved: Option<Instant>,
    /// Events that pools dropped and that were not told of.
    dropped: BTreeMap<GroupName, u64>,
    told_at: Option<Instant>,
    seen: Vec<u8>,
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

    fn pool_of(&mut self, name: &ProcessName) -> Option<&mut Pool> {
        let (group, _) = self.lines.get(name)?;
        self.pools.get_mut(group)
    }

    fn join(&mut self, join: Join) {
        let Join { name, group, pid, is_adopted, is_up, line } = join;
        let Some(pool) = self.pools.get_mut(&group) else { return };
        let mut event = None;
        if is_adopted {
            let last = take_over(&self.notes, &name, pid, line.as_ref());
            if let Some(last) = &last {
                self.next = self.next.max(last.sent.serial + 1);
                pool.was_sent(last.sent, last.event.is_none());
            }
            // Noted, and the agent ended before it was sent: then it still is the next of its pool.
            let is_sent = line.written() != WrittenTo::No;
            match last.and_then(|l| l.unanswered()) {
                Some(unsent) if !is_sent => {
                    count(&mut self.dropped, &group, pool.put_back(unsent).len());
                }
                unanswered => event = unanswered,
            }
        } else {
            saved::forget_last(&self.notes, &name);
        }
        if event.is_none() {
            // Before it is sent anything, so that this tells what comes.
            mark(&name, line.as_ref());
        }
        pool.join(name.clone(), pid, event);
        pool.set_up(&name, is_up);
        self.lines.insert(name.clone(), (group, line));
        self.look(&name, None);
    }

    fn leave(&mut self, name: &ProcessName, pid: i32) {
        if !self.is_member(name, pid) {
            return;
        }
        // Its last word may be an answer.
        self.look(name, None);
        let Some((group, _)) = self.lines.remove(name) else { return };
        let Some(pool) = self.pools.get_mut(&group) else { return };
        let gone = pool.leave(name);
        count(&mut self.dropped, &group, gone.len());
        self.save();
        saved::forget_last(&self.notes, name);
    }

    /// A listener of an earlier agent is gone, perhaps with its event unanswered.
    fn lost(&mut self, name: &ProcessName, group: &GroupName) {
        let Some(last) = saved::last(&self.notes, name) else { return };
        if let Some(pool) = self.pools.get_mut(group) {
            self.next = self.next.max(last.sent.serial + 1);
            pool.was_sent(last.sent, last.event.is_none());
            let gone = last.unanswered().map(|e| pool.put_back(e)).unwrap_or_default();
            count(&mut self.dropped, group, gone.len());
            self.save();
        }
        saved::forget_last(&self.notes, name);
    }

    fn is_member(&mut self, name: &ProcessName, pid: i32) -> bool {
        self.pool_of(name).and_then(|p| p.member(name)).is_some_and(|m| m.pid == pid)
    }

    /// Reads what a listener said.
    fn look(&mut self, name: &ProcessName, pid: Option<i32>) {
        if pid.is_some_and(|pid| !self.is_member(name, pid)) {
            return;
        }
        let mut seen = std::mem::take(&mut self.seen);
        // Each round takes something out, or ends; the phase alone changes once in between.
        while let Some((group, line)) = self.lines.get(name) {
            if let Err(e) = line.peek(&mut seen) {
                tracing::warn!(process = %name, error = %e, "listener not heard");
                break;
            }
            let group = group.clone();
            let Some(pool) = self.pools.get_mut(&group) else { break };
            let Some(phase) = pool.phase(name) else { break };
            let (said, bytes) = protocol::listen(phase, &seen);
            let is_over = said == Said::Nothing && bytes == 0;
            let in_hand = pool.in_hand(name);
            let is_done = said == Said::Done;
            let is_settled = is_done || matches!(said, Said::Refused | Said::Nonsense(_));
            let mut gone = Vec::new();
            match said {
                Said::Nothing => {}
                Said::Ready => pool.ready(name),
                Said::Done => pool.done(name),
                Said::Refused => {
                    tracing::warn!(process = %name, "event refused; it is sent again");
                    gone = pool.refused(name);
                }
                Said::Nonsense(text) => {
                    tracing::warn!(process = %name, text,
                        "listener does not keep to the protocol; it is sent no more events");
                    gone = pool.give_up(name);
                }
            }
            if let Some(sent) = in_hand.filter(|_| is_settled) {
                if !is_done {
                    // It waits again: written down before its note says that it is answered.
                    self.save();
                }
                self.answered(name, sent);
            }
            count(&mut self.dropped, &group, gone.len());
            let Some((_, line)) = self.lines.get(name) else { break };
            if let Err(e) = line.consume(bytes) {
                tracing::warn!(process = %name, error = %e, "listener not heard");
                break;
            }
            if is_over {
                break;
            }
        }
        self.seen = seen;
    }

    /// The event of a listener is dealt with. First the note and then the mark: an agent that finds
    /// the note of an event unanswered must find the mark of that event's sending.
    fn answered(&mut self, name: &ProcessName, sent: Sent) {
        saved::answered(&self.notes, name, sent);
        if let Some((_, line)) = self.lines.get(name) {
            mark(name, line.as_ref());
        }
    }

    /// Sends what waits to those that wait.
    pub(super) fn dispatch(&mut self) {
        for (group, pool) in &mut self.pools {
            while let Some((name, event)) = pool.next_send() {
                let name = name.clone();
                let Some((_, line)) = self.lines.get(&name) else { break };
                let Numbered { serial, pool_serial, .. } = *event;
                let pid = pool.member(&name).map_or(0, |m| m.pid);
                let sent = Sent { pid, serial, pool_serial, left: pool.left() + 1 };
                saved::about_to_send(&self.notes, &name, sent, &event.event);
                match line.offer(pool.envelope(event).as_bytes()) {
                    Ok(()) => {
                        if let Err(e) = line.consume(READY_LEN) {
                            tracing::warn!(process = %name, error = %e, "listener not heard");
                        }
                        pool.sent(&name);
                    }
                    Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                        tracing::error!(pool = %group, event = %event.event.name,
                            bytes = event.event.payload.len(), error = %e,
                            "event dropped: it fits into no pipe");
                        pool.discard();
                        saved::forget_last(&self.notes, &name);
                    }
                    Err(e) => {
                        tracing::warn!(process = %name, error = %e, "listener says that it is \
                            ready and does not read; it is sent no more events");
                        count(&mut self.dropped, group, pool.give_up(&name).len());
                        saved::forget_last(&self.notes, &name);
                    }
                }
                self.unsaved.get_or_insert_with(Instant::now);
            }
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

fn count(dropped: &mut BTreeMap<GroupName, u64>, pool: &GroupName, gone: usize) {
    if gone > 0 {
        *dropped.entry(pool.clone()).or_default() += u64::try_from(gone).unwrap_or(u64::MAX);
    }
}

fn period(name: EventName) -> Option<i64> {
    EventName::TICKS.iter().find(|(n, _)| *n == name).map(|(_, period)| *period)
}

fn mark(name: &ProcessName, line: &dyn Line) {
    if let Err(e) = line.mark() {
        tracing::debug!(process = %name, error = %e, "pipe not marked");
    }
}

/// The last event that a listener was sent by an earlier agent. Takes out of its pipe what that agent
/// had dealt with.
fn take_over(notes: &impl Notes, name: &ProcessName, pid: i32, line: &dyn Line) -> Option<Last> {
    let last = saved::last(notes, name).filter(|last| last.sent.pid == pid);
    let is_busy =
        last.as_ref().is_some_and(|l| l.event.is_some()) && line.written() != WrittenTo::No;
    let phase = if is_busy { Phase::Busy } else { Phase::Acknowledged };
    let mut seen = Vec::new();
    let taken = line.peek(&mut seen).and_then(|()| line.consume(protocol::left_over(phase, &seen)));
    if let Err(e) = taken {
        tracing::warn!(process = %name, error = %e, "listener not heard");
    }
    last
}
