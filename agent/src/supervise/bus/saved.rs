//! What the bus leaves for the next agent: `events/bus.json` with the events that wait, and one file
//! for each listener with the last event that it was sent.
//!
//! `{"v":1,...}`. The note of a listener is written before its event is sent, and again once that was
//! answered. What waits is written when
//! the agent hands over or an event came back, and else a second after it changed: a killed agent loses
//! the newest of it at most.

use std::collections::BTreeMap;

use palisade_types::{GroupName, ProcessName};
use serde::{Deserialize, Serialize};

use super::{
    event::BusEvent,
    pool::{Numbered, Sent},
};
use crate::supervise::Notes;

const VERSION: u32 = 1;

/// The name of the note of what waits. No process is called so, as theirs end in `.event`.
const BUS: &str = "bus.json";

/// The note of what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bus {
    v: u32,
    /// The number of the next event.
    pub(super) next: u64,
    pub(super) pools: BTreeMap<GroupName, Waiting>,
}

/// The events of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) next: u64,
    /// How many had left the front of the pool when this was written.
    pub(super) left: u64,
    pub(super) events: Vec<Numbered>,
}

/// The note of a listener: the last event that it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    v: u32,
    /// To which process, as another may bear its name by now.
    #[serde(flatten)]
    pub(super) sent: Sent,
    /// What it was, as long as it is not answered.
    pub(super) event: Option<BusEvent>,
}

impl Last {
    /// The event, if it is not answered.
    pub(super) fn unanswered(&self) -> Option<Numbered> {
        let Sent { serial, pool_serial, .. } = self.sent;
        self.event.clone().map(|event| Numbered { serial, pool_serial, event })
    }
}

fn key(name: &ProcessName) -> String {
    format!("{name}.event")
}

/// Writes what waits.
pub(super) fn save(notes: &impl Notes, next: u64, pools: BTreeMap<GroupName, Waiting>) {
    write(notes, BUS, &Bus { v: VERSION, next, pools });
}

/// What waited when an earlier agent wrote it.
pub(super) fn load(notes: &impl Notes) -> Bus {
    read::<Bus>(notes, BUS).filter(|bus| bus.v == VERSION).unwrap_or_default()
}

/// Notes that a listener is about to get an event.
pub(super) fn about_to_send(notes: &impl Notes, name: &ProcessName, sent: Sent, event: &BusEvent) {
    write(notes, &key(name), &Last { v: VERSION, sent, event: Some(event.clone()) });
}

/// Notes that a listener has answered its last event.
pub(super) fn answered(notes: &impl Notes, name: &ProcessName, sent: Sent) {
    write(notes, &key(name), &Last { v: VERSION, sent, event: None });
}

/// The last event of a listener.
pub(super) fn last(notes: &impl Notes, name: &ProcessName) -> Option<Last> {
    read::<Last>(notes, &key(name)).filter(|note| note.v == VERSION)
}

/// Removes the note of a listener.
pub(super) fn forget_last(notes: &impl Notes, name: &ProcessName) {
    notes.forget(&key(name));
}

/// Removes what waits: no agent is to take it over.
pub(super) fn forget(notes: &impl Notes) {
    notes.forget(BUS);
}

fn write(notes: &impl Notes, key: &str, value: &impl Serialize) {
    let written = serde_json::to_vec(value).map_err(Into::into).and_then(|b| notes.note(key, &b));
    if let Err(e) = written {
        // The listener gets its event all the same: only the next agent would have needed this.
        tracing::warn!(key, error = %e, "events not noted for the next agent");
    }
}

fn read<T: for<'a> Deserialize<'a>>(notes: &impl Notes, key: &str) -> Option<T> {
    let bytes = match notes.noted(key) {
        Ok(bytes) => bytes?,
        Err(e) => {
            tracing::warn!(key, error = %e, "events of the last agent not read");
            return None;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(e) => {
            tracing::warn!(key, error = %e, "events of the last agent not understood");
            None
        }
    }
}
