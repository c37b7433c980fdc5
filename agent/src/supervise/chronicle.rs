//! What Supervisor's tools are told of the last run of a process: when it began and ended, how, and what
//! went wrong, in Supervisor's words. Nothing is decided by it. Kept in the saved table.

use palisade_types::ProcessState;
use serde::{Deserialize, Serialize};

use super::Exit;
use crate::clock::Timestamp;

/// The last run of a process, as Supervisor tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chronicle {
    /// When it was last tried to be started.
    pub started: Option<Timestamp>,
    /// When a child of it last ended.
    pub stopped: Option<Timestamp>,
    /// Exit code of the last run, or -1 of one that a signal ended. None while it runs, and if it ended
    /// before it was up.
    pub exitstatus: Option<i32>,
    /// Why the last start failed, or that the last end was unexpected.
    pub spawnerr: Option<String>,
}

impl Chronicle {
    /// A start is tried.
    pub(super) fn started(&mut self, now: Timestamp) {
        self.started = Some(now);
        self.exitstatus = None;
        self.spawnerr = None;
    }

    /// There is no child, for this reason.
    pub(super) fn not_spawned(&mut self, why: String) {
        self.spawnerr = Some(why);
    }

    /// A child ended, after which the process is in state `to`.
    pub(super) fn ended(&mut self, now: Timestamp, exit: Exit, to: ProcessState, expected: bool) {
        let code = match exit {
            Exit::Code(code) => code,
            Exit::Signal(_) | Exit::OutOfMemory | Exit::Unknown => -1,
        };
        self.stopped = Some(now);
        self.exitstatus = Some(code);
        match to {
            ProcessState::Backoff | ProcessState::Fatal => {
                self.exitstatus = None;
                self.spawnerr =
                    Some("Exited too quickly (process log may have details)".to_owned());
            }
            ProcessState::Exited | ProcessState::Starting if !expected => {
                self.spawnerr = Some(format!("Bad exit code {code}"));
            }
            ProcessState::Stopped
            | ProcessState::Stopping
            | ProcessState::Running
            | ProcessState::Exited
            | ProcessState::Starting
            | ProcessState::Unknown => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_leaves_what_supervisor_tells_of_it() {
        let (begin, end) = (Timestamp::from_secs(5), Timestamp::from_secs(9));
        let after = |exit, to, expected| {
            let mut told = Chronicle::default();
            told.started(begin);
            told.ended(end, exit, to, expected);
            assert_eq!((told.started, told.stopped), (Some(begin), Some(end)));
            (told.exitstatus, told.spawnerr.unwrap_or_default())
        };
        let none = String::new();
        assert_eq!(after(Exit::Code(0), ProcessState::Exited, true), (Some(0), none.clone()));
        assert_eq!(
            after(Exit::Code(3), ProcessState::Exited, false),
            (Some(3), "Bad exit code 3".to_owned())
        );
        assert_eq!(after(Exit::Signal(9), ProcessState::Stopped, false), (Some(-1), none));
        let (code, why) = after(Exit::Code(0), ProcessState::Backoff, false);
        assert_eq!(
            (code, why.as_str()),
            (None, "Exited too quickly (process log may have details)")
        );
    }

    #[test]
    fn a_new_start_forgets_what_went_wrong_and_keeps_when_it_last_ended() {
        let mut told = Chronicle::default();
        told.not_spawned("can't find command 'x'".to_owned());
        told.ended(Timestamp::from_secs(1), Exit::Code(1), ProcessState::Exited, false);
        told.started(Timestamp::from_secs(2));
        assert_eq!((told.spawnerr, told.exitstatus), (None, None));
        assert_eq!(told.stopped, Some(Timestamp::from_secs(1)));
    }
}
