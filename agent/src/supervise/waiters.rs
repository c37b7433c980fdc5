//! Requests that wait for an outcome, and when they have it.

use std::collections::BTreeMap;

use palisade_types::ProcessName;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Host, PerProcess, Restarted, RollError, Rolled, StartError, StopError, UnknownName, held,
    machine::State,
    rolling::{RollAnswer, RollReply},
    slot::Slot,
};

/// A start that somebody waits for.
#[derive(Debug)]
pub(super) struct OpenStart {
    /// Inner name.
    pub(super) key: ProcessName,
    pub(super) name: ProcessName,
    /// How often it had come up and failed when asked.
    pub(super) ups: u64,
    pub(super) failures: u64,
}

/// A stop that somebody waits for.
#[derive(Debug)]
pub(super) struct OpenStop {
    /// Inner name.
    pub(super) key: ProcessName,
    pub(super) name: ProcessName,
    /// The child that was asked to stop.
    pub(super) pid: Option<i32>,
}

/// A reload that somebody waits for.
#[derive(Debug)]
pub(super) struct OpenReload {
    /// Inner name.
    pub(super) key: ProcessName,
    /// The child that was asked, which must stay.
    pub(super) pid: i32,
    /// It must stay up till then.
    pub(super) stays_till: Instant,
    /// It must be found ready once more than so often, before then; if there is a way to ask.
    pub(super) ready_after: Option<(u64, Instant)>,
    pub(super) reply: RollReply,
}

/// Starts, stops or reloads somebody waits for.
#[derive(Debug)]
pub(super) enum Waiter {
    /// Until each is up or failed.
    Start {
        open: Vec<OpenStart>,
        done: PerProcess<StartError>,
        reply: oneshot::Sender<Result<PerProcess<StartError>, UnknownName>>,
    },
    /// Until each is gone.
    Stop {
        open: Vec<OpenStop>,
        done: PerProcess<StopError>,
        reply: oneshot::Sender<Result<PerProcess<StopError>, UnknownName>>,
    },
    /// Until each is up again or failed: those that were stopped before.
    Again {
        open: Vec<OpenStart>,
        done: PerProcess<StartError>,
        stopped: PerProcess<StopError>,
        reply: oneshot::Sender<Result<Restarted, UnknownName>>,
    },
    /// Until it is ready again.
    Reload(OpenReload),
    /// Until none of these is being replaced.
    Replaced { names: Vec<ProcessName>, reply: oneshot::Sender<PerProcess<String>> },
}

/// A restart whose processes are being stopped.
#[derive(Debug)]
pub(super) struct OpenRestart {
    pub(super) open: Vec<OpenStop>,
    pub(super) done: PerProcess<StopError>,
    /// Inner names of what is started then.
    pub(super) keys: Vec<ProcessName>,
    pub(super) reply: oneshot::Sender<Result<Restarted, UnknownName>>,
}

impl OpenRestart {
    /// Looks at the table. Whether all are gone.
    pub(super) fn is_down<H: Host>(&mut self, slots: &BTreeMap<ProcessName, Slot<H>>) -> bool {
        settle_stops(&mut self.open, &mut self.done, slots)
    }
}

impl Waiter {
    /// Looks at the table; answers and returns none if nothing is open any more.
    pub(super) fn look<H: Host>(self, slots: &BTreeMap<ProcessName, Slot<H>>) -> Option<Self> {
        match self {
            Self::Start { mut open, mut done, reply } => {
                if settle_starts(&mut open, &mut done, slots) {
                    // Whoever asked may have gone away meanwhile; then nobody wants the answer.
                    drop(reply.send(Ok(done)));
                    return None;
                }
                Some(Self::Start { open, done, reply })
            }
            Self::Stop { mut open, mut done, reply } => {
                if settle_stops(&mut open, &mut done, slots) {
                    drop(reply.send(Ok(done)));
                    return None;
                }
                Some(Self::Stop { open, done, reply })
            }
            Self::Again { mut open, mut done, stopped, reply } => {
                if settle_starts(&mut open, &mut done, slots) {
                    drop(reply.send(Ok((stopped, done))));
                    return None;
                }
                Some(Self::Again { open, done, stopped, reply })
            }
            Self::Replaced { names, reply } => {
                let of = |name: &ProcessName| {
                    slots.values().find(|s| s.is_shown() && s.spec.name == *name)
                };
                let found: Vec<_> = names.iter().filter_map(of).collect();
                if found.iter().any(|s| s.roll.is_some()) {
                    return Some(Self::Replaced { names, reply });
                }
                let all = found.iter().map(|s| (s.spec.name.clone(), replaced_verdict(s)));
                // Whoever asked may be gone; then nobody wants the answer.
                drop(reply.send(all.collect()));
                None
            }
            Self::Reload(open) => {
                let Some(outcome) = reload_verdict(slots.get(&open.key), &open) else {
                    return Some(Self::Reload(open));
                };
                // Whoever asked may be gone; then nobody wants the answer.
                drop(open.reply.send(Ok(RollAnswer::Over(outcome))));
                None
            }
        }
    }

    /// When to look although nothing happened.
    pub(super) fn due(&self) -> Option<Instant> {
        let Self::Reload(open) = self else { return None };
        let now = Instant::now();
        let late = open.ready_after.map(|(_, deadline)| deadline);
        Some(open.stays_till).filter(|t| *t > now).or(late)
    }
}

/// Moves what has an outcome from `open` to `done`. Whether nothing is open; `done` is in order then.
fn settle_starts<H: Host>(
    open: &mut Vec<OpenStart>,
    done: &mut PerProcess<StartError>,
    slots: &BTreeMap<ProcessName, Slot<H>>,
) -> bool {
    open.retain(|o| {
        let verdict = start_verdict(slots.get(&o.key), o.ups, o.failures);
        let in_vain = || held::why(slots, &o.key).map(|why| Err(StartError::InVain(why)));
        let Some(verdict) = verdict.or_else(in_vain) else { return true };
        done.push((o.name.clone(), verdict));
        false
    });
    done.sort_by(|a, b| a.0.cmp(&b.0));
    open.is_empty()
}

/// The same of stops.
fn settle_stops<H: Host>(
    open: &mut Vec<OpenStop>,
    done: &mut PerProcess<StopError>,
    slots: &BTreeMap<ProcessName, Slot<H>>,
) -> bool {
    open.retain(|o| match stop_verdict(slots.get(&o.key), o.pid) {
        Some(verdict) => {
            done.push((o.name.clone(), verdict));
            false
        }
        None => true,
    });
    done.sort_by(|a, b| (&a.0, a.1.is_ok()).cmp(&(&b.0, b.1.is_ok())));
    if open.is_empty() {
        // Two instances of one process are one stop, which failed if either did.
        done.dedup_by(|a, b| a.0 == b.0);
    }
    open.is_empty()
}

fn start_verdict<H: Host>(
    slot: Option<&Slot<H>>,
    ups: u64,
    failures: u64,
) -> Option<Result<(), StartError>> {
    let Some(slot) = slot else { return Some(Err(StartError::AbnormalTermination)) };
    if slot.ups > ups {
        Some(Ok(()))
    } else if slot.failures > failures {
        Some(Err(slot.last_failure.clone()))
    } else if matches!(slot.state, State::Stopping { refused: true, .. })
        || (!slot.wanted && matches!(slot.state, State::Stopped | State::Stopping { .. }))
    {
        Some(Err(StartError::AbnormalTermination))
    } else {
        None
    }
}

fn stop_verdict<H: Host>(
    slot: Option<&Slot<H>>,
    pid: Option<i32>,
) -> Option<Result<(), StopError>> {
    let Some(slot) = slot else { return Some(Ok(())) };
    if !slot.is_alive() || (slot.state.pid().is_some() && slot.state.pid() != pid) {
        Some(Ok(()))
    } else if matches!(slot.state, State::Stopping { refused: true, .. }) {
        Some(Err(StopError::Refused(slot.error.clone().unwrap_or_default())))
    } else {
        None
    }
}

/// Whether a process has the settings that it is to have, or is on its way to them.
fn replaced_verdict<H: Host>(slot: &Slot<H>) -> Result<(), String> {
    let is_old = matches!(slot.state, State::Running { .. })
        && !slot.is_as_set()
        && slot.spec.schedule.is_none();
    let why = || slot.error.clone().unwrap_or_else(|| "it runs on as it was".to_owned());
    if is_old { Err(why()) } else { Ok(()) }
}

fn reload_verdict<H: Host>(
    slot: Option<&Slot<H>>,
    open: &OpenReload,
) -> Option<Result<Rolled, RollError>> {
    let now = Instant::now();
    let slot = slot.filter(|s| s.state == State::Running { pid: open.pid });
    let Some(slot) = slot else { return Some(Err(RollError::Ended)) };
    if now < open.stays_till {
        return None;
    }
    match open.ready_after {
        None => Some(Ok(Rolled::Reloaded)),
        Some((readies, _)) if slot.readies > readies => Some(Ok(Rolled::Reloaded)),
        Some((_, deadline)) if now >= deadline => {
            Some(Err(RollError::NotReloaded("no good answer in time".to_owned())))
        }
        Some(_) => None,
    }
}
