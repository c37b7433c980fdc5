//! What one process does next. No clock, process or lock here: facts come in, an effect goes out.
//!
//! The states and the arithmetic of waiting are Supervisor's; `Spawning` is the moment inside its
//! STARTING in which the kernel has not answered yet.
//!
//! ```text
//!            Up            Spawned            up > startsecs, ready
//! Stopped ------> Spawning -------> Starting ----------------------> Running
//!  ^ ^ ^             ^  ^             |  | \ Down, Replace, too late    |  | Down, Replace
//!  | | |     due, Up |  |  too soon   |  |  +-----------> Stopping <----|--+
//!  | | +---- Down -- Backoff <--------+  |                 | | |  |     | Exited
//!  | |               |      <---------------- was too late +-|-|--+     |
//!  | |  retries used |               up  v                   | | Up     v
//!  | |               v                 Exited <--------------|-|------ autorestart? no
//!  | |             Fatal                 | Start             | +-> Spawning    yes -> Spawning
//!  | +-- (Start leaves Fatal and Exited) +-> Spawning        |
//!  +------------------------------ Down ---------------------+
//! ```
//!
//! A one-shot is STARTING until it ends, EXITED once it has ended well, and FATAL when given up.
//! Stopping takes one step after the other: `stopsignal`, those of `stop_then`, SIGKILL until it is
//! gone. It is shown as UNKNOWN while the kernel refuses to deliver.
//!
//! Invariants, each a property below: there is at most one child; with `Down` there is none in the
//! end; a program that never comes up is tried `startretries + 1` times.
#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use nix::sys::signal::Signal;
use palisade_types::ProcessState;
use tokio::time::Instant;

use super::{AutoRestart, Exit, ProcessSpec, Ready};

/// The least time between two SIGKILLs to a process that does not go away.
const REKILL_MIN: Duration = Duration::from_secs(1);

/// A timer of this host may ring this much early: "longer than `startsecs`" is asked this much late.
const STRICTLY: Duration = Duration::from_millis(1);

/// What is shown of a process between its spawn and its being up.
pub(super) const STARTING: ProcessState = ProcessState::Starting;

/// What is wanted of a process. A level, not an event: it cannot be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Keep it running, as `autorestart` says.
    Up,
    /// As `Up`, but its first start waits for others.
    Later,
    /// Keep it stopped.
    Down,
}

/// What a stopping process does once it has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Whatever is wanted then.
    AsWanted,
    /// It was stopped because it did not become ready: the start failed, after so many others.
    Failed(u32),
}

/// Where a process is. Each variant holds what is true there and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Never started, or stopped by request.
    Stopped,
    /// Asked of the kernel.
    Spawning {
        /// Starts in a row that failed.
        failures: u32,
    },
    /// Has a child that is not up yet.
    Starting {
        /// Child.
        pid: i32,
        /// When it was spawned.
        since: Instant,
        /// The program runs, and no longer the code that prepares it.
        execed: bool,
        /// It is ready, or need not say so.
        ready: bool,
        /// Starts in a row that failed.
        failures: u32,
    },
    /// Up.
    Running {
        /// Child.
        pid: i32,
    },
    /// No child until `due`.
    Backoff {
        /// When to start again.
        due: Instant,
        /// Starts in a row that failed.
        failures: u32,
    },
    /// Told to stop.
    Stopping {
        /// Child.
        pid: i32,
        /// When the next step is due.
        deadline: Instant,
        /// Steps of `stop_then` that were taken.
        step: usize,
        /// The kernel refused the last signal, for another reason than that nobody is there.
        refused: bool,
        /// What comes after.
        then: Then,
    },
    /// Ended on its own and is not to be started again.
    Exited,
    /// Given up.
    Fatal,
}

impl State {
    /// The child, if there is one.
    #[must_use]
    pub(super) fn pid(&self) -> Option<i32> {
        match *self {
            Self::Starting { pid, .. } | Self::Running { pid } | Self::Stopping { pid, .. } => {
                Some(pid)
            }
            Self::Stopped
            | Self::Spawning { .. }
            | Self::Backoff { .. }
            | Self::Exited
            | Self::Fatal => None,
        }
    }

    /// Supervisor's name of this state.
    #[must_use]
    pub(super) fn shown(&self) -> ProcessState {
        match self {
            Self::Stopped => ProcessState::Stopped,
            Self::Spawning { .. } | Self::Starting { .. } => ProcessState::Starting,
            Self::Running { .. } => ProcessState::Running,
            Self::Backoff { .. } => ProcessState::Backoff,
            Self::Stopping { refused: true, .. } => ProcessState::Unknown,
            Self::Stopping { .. } => ProcessState::Stopping,
            Self::Exited => ProcessState::Exited,
            Self::Fatal => ProcessState::Fatal,
        }
    }

    /// When to send [`Event::Tick`] although nothing happened.
    #[must_use]
    pub(super) fn wake_at(&self, spec: &ProcessSpec) -> Option<Instant> {
        match *self {
            Self::Starting { since, ready: false, .. } => {
                ready_within(&spec.ready).map(|t| since + t)
            }
            Self::Starting { .. } if spec.oneshot => None,
            Self::Starting { since, execed: true, .. } => Some(since + spec.startsecs + STRICTLY),
            Self::Backoff { due, .. } => Some(due),
            Self::Stopping { deadline, .. } => Some(deadline),
            Self::Starting { .. }
            | Self::Stopped
            | Self::Spawning { .. }
            | Self::Running { .. }
            | Self::Exited
            | Self::Fatal => None,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Time passed, or the want changed.
    Tick,
    /// Somebody asked for a start: leaves EXITED and FATAL.
    Start,
    /// It must start anew, from new settings or by request.
    Replace,
    /// The kernel gave us a child.
    Spawned(i32),
    /// There is no child: it could not be made, or it could not become the program.
    SpawnFailed,
    /// The child became the program.
    Execed,
    /// The program is ready.
    Ready,
    /// The kernel refused to signal the child.
    Refused,
    /// The kernel took a signal for the child, after one that it had refused.
    Taken,
    /// The child is gone.
    Exited {
        /// How it ended.
        exit: Exit,
        /// When.
        at: Instant,
        /// How long it waits if it was up and is started again: nothing, unless that is too often.
        pause: Duration,
    },
}

/// What the task must now do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Make a child.
    Spawn,
    /// Send this signal, so that it stops.
    Terminate(Signal),
    /// Kill it and all that it started.
    Kill,
}

/// The time a program has to become ready, if it must say so or be asked.
#[must_use]
pub(super) fn ready_within(ready: &Ready) -> Option<Duration> {
    match ready {
        Ready::Delay => None,
        Ready::Notify { timeout, .. } => Some(*timeout),
        Ready::Probe(probe) => Some(probe.timeout),
    }
}

/// Whether a process in this state was up at that moment.
#[must_use]
pub(super) fn was_up(state: State, at: Instant, spec: &ProcessSpec) -> bool {
    match state {
        State::Starting { since, execed, ready, .. } => {
            let has_stayed = at > since + spec.startsecs || spec.startsecs.is_zero();
            execed && ready && has_stayed && !spec.oneshot
        }
        State::Running { .. } => true,
        State::Stopped
        | State::Spawning { .. }
        | State::Backoff { .. }
        | State::Stopping { .. }
        | State::Exited
        | State::Fatal => false,
    }
}

/// Whether a process that was up and ended like this is started again.
#[must_use]
pub(super) fn restarts(spec: &ProcessSpec, exit: Exit) -> bool {
    match spec.autorestart {
        AutoRestart::Always => true,
        AutoRestart::Never => false,
        AutoRestart::Unexpected => !is_expected(spec, exit),
    }
}

/// Whether this is an end that the settings name as expected.
#[must_use]
pub(super) fn is_expected(spec: &ProcessSpec, exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => u8::try_from(code).is_ok_and(|c| spec.exitcodes.contains(&c)),
        Exit::Signal(_) | Exit::OutOfMemory | Exit::Unknown => false,
    }
}

/// The next state, and what to do about it.
#[must_use]
pub(super) fn step(
    state: State,
    want: Want,
    event: Event,
    now: Instant,
    spec: &ProcessSpec,
) -> (State, Option<Effect>) {
    use {Event as E, State as S};

    let wanted = want != Want::Down;
    let stay = (state, None);
    let spawn = |failures| (S::Spawning { failures }, Some(Effect::Spawn));
    let begin = || if want == Want::Up { spawn(0) } else { (S::Stopped, None) };
    let stop = |pid, then| {
        let deadline = now + spec.stopwaitsecs;
        let state = S::Stopping { pid, deadline, step: 0, refused: false, then };
        (state, Some(Effect::Terminate(spec.stopsignal)))
    };
    let failed = |failures: u32| {
        let failures = failures.saturating_add(1);
        if !wanted {
            (S::Stopped, None)
        } else if failures > spec.startretries {
            (S::Fatal, None)
        } else {
            (S::Backoff { due: now + Duration::from_secs(failures.into()), failures }, None)
        }
    };
    let ended = |exit, pause: Duration| {
        if !wanted {
            (S::Stopped, None)
        } else if restarts(spec, exit) && !pause.is_zero() {
            (S::Backoff { due: now + pause, failures: 0 }, None)
        } else if restarts(spec, exit) {
            spawn(0)
        } else {
            (S::Exited, None)
        }
    };

    match (state, event) {
        (S::Stopped, E::Tick | E::Start | E::Replace) => begin(),
        (S::Exited | S::Fatal, E::Start | E::Replace) if wanted => begin(),
        (S::Exited | S::Fatal, E::Tick | E::Start | E::Replace) => stay,

        (S::Backoff { .. }, E::Tick | E::Start | E::Replace) if !wanted => (S::Stopped, None),
        (S::Backoff { .. }, E::Replace) => begin(),
        (S::Backoff { due, failures }, E::Tick | E::Start) if due <= now => spawn(failures),
        (S::Backoff { .. }, E::Tick | E::Start) => stay,

        (S::Spawning { failures }, E::Spawned(pid)) if wanted => {
            let ready = ready_within(&spec.ready).is_none();
            (S::Starting { pid, since: now, execed: false, ready, failures }, None)
        }
        (S::Spawning { .. }, E::Spawned(pid)) => stop(pid, Then::AsWanted),
        (S::Spawning { failures } | S::Starting { failures, .. }, E::SpawnFailed) => {
            failed(failures)
        }
        (S::Spawning { .. }, E::Tick | E::Start | E::Replace) => stay,

        (S::Starting { pid, .. }, E::Replace) => stop(pid, Then::AsWanted),
        (S::Starting { pid, .. }, E::Tick | E::Start | E::Execed | E::Ready) if !wanted => {
            stop(pid, Then::AsWanted)
        }
        (
            S::Starting { pid, since, execed, ready, failures },
            E::Tick | E::Start | E::Execed | E::Ready,
        ) => {
            let execed = execed || event == E::Execed;
            let ready = ready || event == E::Ready;
            let is_late = ready_within(&spec.ready).is_some_and(|t| now >= since + t);
            let next = S::Starting { pid, since, execed, ready, failures };
            if was_up(next, now, spec) {
                (S::Running { pid }, None)
            } else if !ready && is_late {
                stop(pid, Then::Failed(failures))
            } else {
                (next, None)
            }
        }
        // Up means: done, and done well.
        (S::Starting { execed, failures, .. }, E::Exited { exit, .. }) if spec.oneshot => {
            match (execed && is_expected(spec, exit), spec.autorestart) {
                (true, _) if wanted => (S::Exited, None),
                (true, _) => (S::Stopped, None),
                (false, AutoRestart::Never) if wanted => (S::Fatal, None),
                (false, _) => failed(failures),
            }
        }
        (S::Starting { failures, .. }, E::Exited { exit, at, pause }) => {
            if was_up(state, at, spec) { ended(exit, pause) } else { failed(failures) }
        }

        (S::Running { pid }, E::Replace) => stop(pid, Then::AsWanted),
        (S::Running { pid }, E::Tick | E::Start | E::Execed | E::Ready) if !wanted => {
            stop(pid, Then::AsWanted)
        }
        (S::Running { .. }, E::Exited { exit, pause, .. }) => ended(exit, pause),
        (S::Running { .. }, E::SpawnFailed) => ended(Exit::Unknown, Duration::ZERO),

        (S::Stopping { pid, deadline, step, refused, .. }, E::Start | E::Replace) if wanted => {
            (S::Stopping { pid, deadline, step, refused, then: Then::AsWanted }, None)
        }
        (S::Stopping { pid, deadline, step, then, .. }, E::Refused) => {
            (S::Stopping { pid, deadline, step, refused: true, then }, None)
        }
        (S::Stopping { pid, deadline, step, then, .. }, E::Taken) => {
            (S::Stopping { pid, deadline, step, refused: false, then }, None)
        }
        // Whether the kernel refuses this signal too is told after it was sent; until then the state
        // is what it was.
        (S::Stopping { pid, deadline, step, refused, then }, E::Tick) if deadline <= now => {
            let (wait, effect) = match spec.stop_then.get(step) {
                Some(next) if next.signal != Signal::SIGKILL => {
                    (next.wait, Effect::Terminate(next.signal))
                }
                Some(_) | None => (spec.stopwaitsecs.max(REKILL_MIN), Effect::Kill),
            };
            let step = step.saturating_add(1).min(spec.stop_then.len());
            (S::Stopping { pid, deadline: now + wait, step, refused, then }, Some(effect))
        }
        (S::Stopping { then: Then::Failed(failures), .. }, E::Exited { .. } | E::SpawnFailed) => {
            failed(failures)
        }
        (S::Stopping { then: Then::AsWanted, .. }, E::Exited { .. } | E::SpawnFailed) => begin(),

        // Late or repeated news changes nothing.
        (
            S::Stopped | S::Exited | S::Fatal | S::Backoff { .. },
            E::Spawned(_)
            | E::SpawnFailed
            | E::Execed
            | E::Ready
            | E::Refused
            | E::Taken
            | E::Exited { .. },
        )
        | (S::Spawning { .. }, E::Execed | E::Ready | E::Refused | E::Taken | E::Exited { .. })
        | (S::Starting { .. }, E::Spawned(_) | E::Refused | E::Taken)
        | (
            S::Running { .. },
            E::Tick | E::Start | E::Execed | E::Ready | E::Refused | E::Taken | E::Spawned(_),
        )
        | (
            S::Stopping { .. },
            E::Tick | E::Start | E::Replace | E::Execed | E::Ready | E::Spawned(_),
        ) => stay,
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
