//! Ending one login: a word to its user, then ever less politely.
//!
//! ```text
//! 0 ms    a line on its terminals; SIGHUP and SIGTERM to what the user runs
//! 300 ms  SIGTERM to its sshd's, which tells the client
//! 2 s     SIGKILL to all that is found of it (1 s for a revocation), again and again
//! 10 s    given up: something does not die
//! ```
//! Invariant: it is over only when a look found nothing that lives. What dies may have left a child
//! that nobody saw, so that the death of all that were seen proves nothing.

use std::{collections::BTreeSet, time::Duration};

use palisade_types::grant::GrantId;

use super::{
    model::{Boot, Ended, Grant, Process, Role, Signal, Trail},
    ports::Processes,
};

const DROP_AFTER: Duration = Duration::from_millis(300);
const KILL_AFTER: Duration = Duration::from_secs(2);
const KILL_REVOKED_AFTER: Duration = Duration::from_secs(1);
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// Between two steps.
pub(super) const STEP: Duration = Duration::from_millis(100);

/// A login that is being ended.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) grant: GrantId,
    pub(super) sshd: Process,
    pub(super) how: Ended,
    began: Boot,
    stage: Stage,
    trail: Trail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    New,
    Asked,
    Dropped,
    Killed,
    /// Over, or given up.
    Ended,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not over.
    GoesOn,
    /// All of it is gone.
    Over,
    /// Something did not die.
    GivenUp,
}

impl Closing {
    pub(super) fn new(grant: &Grant, sshd: Process, how: Ended, now: Boot) -> Self {
        let (grant, trail) = (grant.id.clone(), Trail::new(sshd, grant.uid));
        Self { grant, sshd, how, began: now, stage: Stage::New, trail }
    }

    /// Does what is due by now.
    pub(super) fn step(&mut self, host: &impl Processes, now: Boot) -> Progress {
        let passed = now.since(self.began);
        self.trail.members.retain(|p, _| host.is_living(*p));
        // With nobody left to be polite to, what is still found comes last.
        let left = self.trail.members.is_empty() && self.stage != Stage::New;
        let stage = if left { Stage::Killed } else { due(passed, self.how) };
        if stage == self.stage && stage != Stage::Killed {
            return Progress::GoesOn;
        }
        let seen = host.follow(&mut self.trail);
        if seen.is_empty() {
            self.stage = Stage::Ended;
            return Progress::Over;
        }
        if self.stage == Stage::New {
            let ttys: BTreeSet<u32> = seen.iter().filter_map(|m| m.tty).collect();
            let text = format!("\r\npalisade: {}; this login ends now.\r\n", self.how.words());
            ttys.iter().for_each(|tty| host.tell(*tty, &text));
        }
        for member in &seen {
            for signal in signals(stage, member.role) {
                host.signal(member.process, *signal);
            }
        }
        if passed >= GIVE_UP_AFTER {
            self.stage = Stage::Ended;
            return Progress::GivenUp;
        }
        self.stage = stage;
        Progress::GoesOn
    }

    /// Whether no step is left.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Ended
    }
}

fn due(passed: Duration, how: Ended) -> Stage {
    let kill = match how {
        Ended::Revoked => KILL_REVOKED_AFTER,
        Ended::Expired | Ended::ClockAhead => KILL_AFTER,
    };
    match passed {
        p if p >= kill => Stage::Killed,
        p if p >= DROP_AFTER => Stage::Dropped,
        _ => Stage::Asked,
    }
}

fn signals(stage: Stage, role: Role) -> &'static [Signal] {
    match (stage, role) {
        (Stage::New | Stage::Ended, _) | (Stage::Asked, Role::Sshd) => &[],
        // A shell at a terminal ignores SIGTERM and obeys SIGHUP.
        (Stage::Asked, Role::User) => &[Signal::Hangup, Signal::Terminate],
        (Stage::Dropped, _) => &[Signal::Terminate],
        (Stage::Killed, _) => &[Signal::Kill],
    }
}

#[cfg(test)]
#[path = "closing_tests.rs"]
mod tests;
