//! Requests that wait for an outcome, and when they have it.

use std::collections::BTreeMap;

use palisade_types::ProcessName;
use tokio::sync::oneshot;

use super::{
    Host, PerProcess, StartError, StopError, UnknownName, held, machine::State, slot::Slot,
};

/// Starts or stops somebody waits for.
#[derive(Debug)]
pub(super) enum Waiter {
    /// Until each is up or failed.
    Start {
        /// Those still open, with how often each had come up and failed when asked.
        open: BTreeMap<ProcessName, (u64, u64)>,
        done: PerProcess<StartError>,
        reply: oneshot::Sender<Result<PerProcess<StartError>, UnknownName>>,
    },
    /// Until each is gone.
    Stop {
        /// Those still open, with the child that was asked to stop.
        open: BTreeMap<ProcessName, Option<i32>>,
        done: PerProcess<StopError>,
        reply: oneshot::Sender<Result<PerProcess<StopError>, UnknownName>>,
    },
}

impl Waiter {
    /// Looks at the table; answers and returns none if nothing is open any more.
    pub(super) fn look<H: Host>(self, slots: &BTreeMap<ProcessName, Slot<H>>) -> Option<Self> {
        match self {
            Self::Start { mut open, mut done, reply } => {
                open.retain(|name, (ups, failures)| {
                    let verdict = start_verdict(slots.get(name), *ups, *failures);
                    let in_vain = || held::why(slots, name).map(|why| Err(StartError::InVain(why)));
                    match verdict.or_else(in_vain) {
                        Some(verdict) => {
                            done.push((name.clone(), verdict));
                            false
                        }
                        None => true,
                    }
                });
                if open.is_empty() {
                    answer(done, reply);
                    return None;
                }
                Some(Self::Start { open, done, reply })
            }
            Self::Stop { mut open, mut done, reply } => {
                open.retain(|name, pid| match stop_verdict(slots.get(name), *pid) {
                    Some(verdict) => {
                        done.push((name.clone(), verdict));
                        false
                    }
                    None => true,
                });
                if open.is_empty() {
                    answer(done, reply);
                    return None;
                }
                Some(Self::Stop { open, done, reply })
            }
        }
    }
}

/// Whoever asked may have gone away meanwhile; then nobody wants the answer.
fn answer<E>(mut done: PerProcess<E>, reply: oneshot::Sender<Result<PerProcess<E>, UnknownName>>) {
    done.sort_by(|a, b| a.0.cmp(&b.0));
    drop(reply.send(Ok(done)));
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
