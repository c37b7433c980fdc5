//! Ending one login: a word to its user, then ever less politely.
//!
//! ```text
//! 0 ms    a line on its terminals; SIGHUP and SIGTERM to what the user runs
//! 300 ms  SIGTERM to its sshd's, which tells the client
//! 2 s     SIGKILL to all that were ever seen of it (1 s for a revocation)
//! 10 s    given up: something does not die
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use palisade_types::grant::GrantId;

use super::{
    model::{Boot, Ended, Grant, Process, Role, Signal},
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
    uid: u32,
    began: Boot,
    stage: Stage,
    /// All that were ever seen of it: a child whose parent died would not be found again.
    members: BTreeMap<Process, Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    New,
    Asked,
    Dropped,
    Killed,
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
        let members = BTreeMap::from([(sshd, Role::Sshd)]);
        let (grant, uid) = (grant.id.clone(), grant.uid);
        Self { grant, sshd, how, uid, began: now, stage: Stage::New, members }
    }

    /// Does what is due by now.
    pub(super) fn step(&mut self, host: &impl Processes, now: Boot) -> Progress {
        let passed = now.since(self.began);
        let stage = due(passed, self.how);
        if stage > self.stage || stage == Stage::Killed {
            let seen = host.members(self.sshd, self.uid);
            let ttys: BTreeSet<u32> = seen.iter().filter_map(|m| m.tty).collect();
            self.members.extend(seen.iter().map(|m| (m.process, m.role)));
            if self.stage == Stage::New {
                let text = format!("\r\npalisade: {}; this login ends now.\r\n", self.how.words());
                ttys.iter().for_each(|tty| host.tell(*tty, &text));
            }
            for (process, role) in &self.members {
                for signal in signals(stage, *role) {
                    host.signal(*process, *signal);
                }
            }
            self.stage = stage;
        }
        self.members.retain(|p, _| host.is_living(*p));
        match (self.members.is_empty(), passed >= GIVE_UP_AFTER) {
            (true, _) => Progress::Over,
            (false, true) => Progress::GivenUp,
            (false, false) => Progress::GoesOn,
        }
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
        (Stage::New, _) | (Stage::Asked, Role::Sshd) => &[],
        // A shell at a terminal ignores SIGTERM and obeys SIGHUP.
        (Stage::Asked, Role::User) => &[Signal::Hangup, Signal::Terminate],
        (Stage::Dropped, _) => &[Signal::Terminate],
        (Stage::Killed, _) => &[Signal::Kill],
    }
}
