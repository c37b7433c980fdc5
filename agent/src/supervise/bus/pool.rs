//! One pool of listeners: events that wait, who waits for one, and who has one to answer.
//!
//! Invariants, each a property in `pool_tests.rs`: a listener has at most one event to answer; an event
//! is answered, waits, is being dealt with, or was dropped and counted, and is never two of these; an
//! event that was refused, or whose listener died, comes before all that wait.

use std::collections::{BTreeMap, VecDeque};

use palisade_types::{GroupName, ProcessName};
use serde::{Deserialize, Serialize};

use super::{
    event::{BusEvent, EventName},
    protocol::Phase,
};
use crate::supervise::Listener;

/// The most that the events of a pool may hold together, however many of them its settings allow. The
/// oldest go first.
const MAX_BYTES: usize = 8 << 20;

/// An event of a pool, with its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbered {
    /// Among all events.
    pub(super) serial: u64,
    /// Among those of this pool.
    pub(super) pool_serial: u64,
    #[serde(flatten)]
    pub(super) event: BusEvent,
}

/// That an event was sent: to which process, its numbers, and how many events had left the front of
/// their pool then, this one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) pid: i32,
    pub(super) serial: u64,
    pub(super) pool_serial: u64,
    pub(super) left: u64,
}

/// One listener that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) pid: i32,
    /// Whether it counts as up: before that it is sent nothing.
    pub(super) is_up: bool,
    phase: Phase,
    /// There while it is busy, with the pool's count of events that left its front.
    event: Option<(Numbered, u64)>,
}

/// A pool and its listeners.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    name: GroupName,
    settings: Listener,
    /// The number of its next event.
    pub(super) next: u64,
    /// How many events left the front: were sent, or dropped.
    left: u64,
    waiting: VecDeque<Numbered>,
    bytes: usize,
    members: BTreeMap<ProcessName, Member>,
}

impl Pool {
    /// A pool without listeners or events.
    pub(super) fn new(name: GroupName, settings: Listener) -> Self {
        let (waiting, members) = (VecDeque::new(), BTreeMap::new());
        Self { name, settings, next: 0, left: 0, waiting, bytes: 0, members }
    }

    /// Takes over what waited in it when an earlier agent wrote that down.
    pub(super) fn refill(&mut self, next: u64, left: u64, waiting: Vec<Numbered>) {
        self.next = self.next.max(next);
        self.left = self.left.max(left);
        for event in waiting {
            self.push(event, Edge::Back);
        }
    }

    /// An earlier agent sent this event, perhaps after it wrote down what waits.
    pub(super) fn was_sent(&mut self, sent: Sent, is_answered: bool) {
        self.next = self.next.max(sent.pool_serial + 1);
        // Whenever an event came back to the front, what waits was written down anew. So all that left
        // the front since then were the first of these.
        let gone = sent.left.saturating_sub(self.left);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.waiting.len());
        self.waiting.drain(..gone);
        self.left = self.left.max(sent.left);
        // It came back, and its agent ended before it noted that this was the answer.
        self.waiting.retain(|e| is_answered || e.pool_serial != sent.pool_serial);
        self.bytes = self.waiting.iter().map(|e| e.event.payload.len()).sum();
    }

    /// How many events left the front.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn adjust(&mut self, settings: Listener) {
        self.settings = settings;
    }

    /// Whether it is to hear of this.
    pub(super) fn wants(&self, name: EventName) -> bool {
        self.settings.events.iter().any(|asked| name.is_meant_by(asked))
    }

    /// Takes an event in. Returns what had to go for it.
    pub(super) fn accept(&mut self, serial: u64, event: BusEvent) -> Vec<Numbered> {
        let pool_serial = self.next;
        self.next += 1;
        self.push(Numbered { serial, pool_serial, event }, Edge::Back)
    }

    /// Has an event dealt with before all that wait. Returns what had to go for that.
    pub(super) fn put_back(&mut self, event: Numbered) -> Vec<Numbered> {
        self.push(event, Edge::Front)
    }

    fn push(&mut self, event: Numbered, end: Edge) -> Vec<Numbered> {
        let mut gone = Vec::new();
        let size = event.event.payload.len();
        let most = usize::try_from(self.settings.buffer_size).unwrap_or(usize::MAX).max(1);
        while self.waiting.len() >= most || self.bytes.saturating_add(size) > MAX_BYTES {
            let Some(oldest) = self.pop() else { break };
            gone.push(oldest);
        }
        self.bytes += size;
        match end {
            Edge::Front => self.waiting.push_front(event),
            Edge::Back => self.waiting.push_back(event),
        }
        gone
    }

    fn pop(&mut self) -> Option<Numbered> {
        let event = self.waiting.pop_front()?;
        self.left += 1;
        self.bytes = self.bytes.saturating_sub(event.event.payload.len());
        Some(event)
    }

    /// A listener is there. One of an earlier agent has `event` to answer, or none.
    pub(super) fn join(&mut self, name: ProcessName, pid: i32, event: Option<Numbered>) {
        let phase = if event.is_some() { Phase::Busy } else { Phase::Acknowledged };
        let event = event.map(|e| (e, self.left));
        self.members.insert(name, Member { pid, is_up: false, phase, event });
    }

    /// A listener is gone. What it had to answer is to be answered by another. Returns what had to go
    /// for that.
    pub(super) fn leave(&mut self, name: &ProcessName) -> Vec<Numbered> {
        let event = self.members.remove(name).and_then(|m| m.event).map(|(event, _)| event);
        event.map(|e| self.put_back(e)).unwrap_or_default()
    }

    pub(super) fn member(&self, name: &ProcessName) -> Option<&Member> {
        self.members.get(name)
    }

    pub(super) fn set_up(&mut self, name: &ProcessName, is_up: bool) {
        if let Some(member) = self.members.get_mut(name) {
            member.is_up = is_up;
        }
    }

    /// Which event goes to whom next.
    pub(super) fn next_send(&self) -> Option<(&ProcessName, &Numbered)> {
        let event = self.waiting.front()?;
        let ready = |m: &Member| m.is_up && m.phase == Phase::Ready;
        let (name, _) = self.members.iter().find(|(_, m)| ready(m))?;
        Some((name, event))
    }

    /// What [`Self::next_send`] named was sent.
    pub(super) fn sent(&mut self, name: &ProcessName) {
        if !self.members.contains_key(name) {
            return;
        }
        let event = self.pop();
        if let (Some(member), Some(event)) = (self.members.get_mut(name), event) {
            member.phase = Phase::Busy;
            member.event = Some((event, self.left));
        }
    }

    /// What [`Self::next_send`] named can be sent to nobody.
    pub(super) fn discard(&mut self) {
        self.pop();
    }

    pub(super) fn phase(&self, name: &ProcessName) -> Option<Phase> {
        self.members.get(name).map(|m| m.phase)
    }

    /// It waits for an event.
    pub(super) fn ready(&mut self, name: &ProcessName) {
        self.set_phase(name, Phase::Ready);
    }

    /// The sending of the event that it has to answer.
    pub(super) fn in_hand(&self, name: &ProcessName) -> Option<Sent> {
        let member = self.members.get(name)?;
        let (event, left) = member.event.as_ref()?;
        let Numbered { serial, pool_serial, .. } = *event;
        Some(Sent { pid: member.pid, serial, pool_serial, left: *left })
    }

    /// It has dealt with its event.
    pub(super) fn done(&mut self, name: &ProcessName) {
        self.set_phase(name, Phase::Acknowledged);
    }

    /// It wants its event dealt with by another, or again. Returns what had to go for that.
    pub(super) fn refused(&mut self, name: &ProcessName) -> Vec<Numbered> {
        let event = self.set_phase(name, Phase::Acknowledged);
        event.map(|e| self.put_back(e)).unwrap_or_default()
    }

    /// It said what it must not say, or does not read what it is sent.
    pub(super) fn give_up(&mut self, name: &ProcessName) -> Vec<Numbered> {
        let event = self.set_phase(name, Phase::Unknown);
        event.map(|e| self.put_back(e)).unwrap_or_default()
    }

    fn set_phase(&mut self, name: &ProcessName, phase: Phase) -> Option<Numbered> {
        let member = self.members.get_mut(name)?;
        member.phase = phase;
        member.event.take().map(|(event, _)| event)
    }

    pub(super) fn waiting(&self) -> impl ExactSizeIterator<Item = &Numbered> {
        self.waiting.iter()
    }

    /// What stands in the listener's standard input for this event.
    pub(super) fn envelope(&self, event: &Numbered) -> String {
        let Numbered { serial, pool_serial, event: BusEvent { name, payload } } = event;
        let (server, pool) = (&self.settings.server, &self.name);
        // Characters and not bytes, as Supervisor counts: its listeners read them so.
        let len = payload.chars().count();
        format!(
            "ver:3.0 server:{server} serial:{serial} pool:{pool} poolserial:{pool_serial} \
             eventname:{name} len:{len}\n{payload}"
        )
    }
}

/// Which end of what waits.
#[derive(Clone, Copy)]
enum Edge {
    Front,
    Back,
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
