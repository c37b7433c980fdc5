//! What a step of a process is in Supervisor's events. Its machine goes through more states than ours:
//! a program that ends and is started again is EXITED in between, one that is given up was in BACKOFF.
#![warn(clippy::wildcard_enum_match_arm)]

use palisade_types::ProcessState;

use super::event::{About, BusEvent, EventName as N};

/// One step, as far as its events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise) struct Step {
    /// What it was shown as.
    pub(in crate::supervise) from: ProcessState,
    /// The child it had.
    pub(in crate::supervise) from_pid: i32,
    /// What it is shown as now.
    pub(in crate::supervise) to: ProcessState,
    /// The child it has.
    pub(in crate::supervise) to_pid: i32,
    /// Starts in a row that failed, this one too.
    pub(in crate::supervise) failures: u32,
    /// The step is the end of the child: whether that was expected.
    pub(in crate::supervise) ended: Option<bool>,
}

/// The events of a step, in order.
pub(in crate::supervise) fn events(step: &Step, about: &About) -> Vec<BusEvent> {
    use ProcessState as P;

    let mut told = Told { state: step.from, about: about.clone(), events: Vec::new() };
    told.about.pid = step.from_pid;
    // What Supervisor's machine goes through in between.
    match (step.ended, step.to) {
        (Some(expected), P::Exited | P::Starting | P::Backoff)
            if !matches!(step.from, P::Stopping | P::Unknown)
                // One that was up, and waits because it did this too often.
                && (step.to != P::Backoff || step.failures == 0) =>
        {
            if step.from == P::Starting {
                told.goes_to(P::Running, step);
            }
            told.exits(expected);
        }
        (Some(_), P::Starting) => told.goes_to(P::Stopped, step),
        (_, P::Fatal) => told.goes_to(P::Backoff, step),
        (
            _,
            P::Stopped
            | P::Starting
            | P::Running
            | P::Backoff
            | P::Stopping
            | P::Exited
            | P::Unknown,
        ) => {}
    }
    if step.to != told.state {
        if step.to_pid != 0 {
            told.about.pid = step.to_pid;
        }
        told.goes_to(step.to, step);
    }
    told.events
}

/// The events of a process that another took the place of without a moment between: a restart.
pub(in crate::supervise) fn replaced(about: &About, from_pid: i32, to_pid: i32) -> Vec<BusEvent> {
    use ProcessState as P;

    let step =
        Step { from: P::Running, from_pid, to: P::Running, to_pid, failures: 0, ended: None };
    let about = About { pid: from_pid, ..about.clone() };
    let mut told = Told { state: P::Running, about, events: Vec::new() };
    for to in [P::Stopping, P::Stopped, P::Starting] {
        told.goes_to(to, &step);
    }
    told.about.pid = to_pid;
    told.goes_to(P::Running, &step);
    told.events
}

struct Told {
    state: ProcessState,
    about: About,
    events: Vec<BusEvent>,
}

impl Told {
    fn exits(&mut self, expected: bool) {
        let extra = format!(" expected:{} pid:{}", u8::from(expected), self.about.pid);
        self.tell(N::ProcessStateExited, ProcessState::Exited, &extra);
    }

    fn goes_to(&mut self, to: ProcessState, step: &Step) {
        use ProcessState as P;

        let pid = format!(" pid:{}", self.about.pid);
        let (name, extra) = match to {
            P::Starting => (N::ProcessStateStarting, format!(" tries:{}", step.failures)),
            P::Running => (N::ProcessStateRunning, pid),
            P::Backoff => (N::ProcessStateBackoff, format!(" tries:{}", step.failures)),
            P::Stopping => (N::ProcessStateStopping, pid),
            P::Stopped => (N::ProcessStateStopped, pid),
            P::Exited => return self.exits(step.ended.unwrap_or(false)),
            P::Fatal => (N::ProcessStateFatal, String::new()),
            P::Unknown => (N::ProcessStateUnknown, String::new()),
        };
        self.tell(name, to, &extra);
    }

    fn tell(&mut self, name: N, to: ProcessState, extra: &str) {
        let from = self.state.to_string();
        self.events.push(BusEvent::state(name, &self.about, &from, extra));
        self.state = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProcessState as P;

    fn told(from: (P, i32), to: (P, i32), failures: u32, ended: Option<bool>) -> Vec<String> {
        let about = About { label: "w".to_owned(), group: "g".parse().unwrap(), pid: 0 };
        let ((from, from_pid), (to, to_pid)) = (from, to);
        let step = Step { from, from_pid, to, to_pid, failures, ended };
        events(&step, &about)
            .into_iter()
            .map(|e| {
                let name = e.name.as_str().strip_prefix("PROCESS_STATE_").unwrap().to_owned();
                format!("{name} {}", e.payload.replace("processname:w groupname:g from_state:", ""))
            })
            .collect()
    }

    #[test]
    fn a_start_that_works_is_two_events() {
        assert_eq!(told((P::Stopped, 0), (P::Starting, 0), 0, None), ["STARTING STOPPED tries:0"]);
        assert!(told((P::Starting, 0), (P::Starting, 7), 0, None).is_empty());
        assert_eq!(told((P::Starting, 7), (P::Running, 7), 0, None), ["RUNNING STARTING pid:7"]);
    }

    #[test]
    fn a_program_that_ends_and_is_started_again_is_exited_in_between() {
        assert_eq!(
            told((P::Running, 7), (P::Starting, 0), 0, Some(false)),
            ["EXITED RUNNING expected:0 pid:7", "STARTING EXITED tries:0"]
        );
        assert_eq!(
            told((P::Running, 7), (P::Exited, 0), 0, Some(true)),
            ["EXITED RUNNING expected:1 pid:7"]
        );
        assert_eq!(
            told((P::Running, 7), (P::Backoff, 0), 0, Some(false)),
            ["EXITED RUNNING expected:0 pid:7", "BACKOFF EXITED tries:0"]
        );
        // One that was up for less than a turn of the task.
        assert_eq!(
            told((P::Starting, 7), (P::Exited, 0), 0, Some(true)),
            ["RUNNING STARTING pid:7", "EXITED RUNNING expected:1 pid:7"]
        );
    }

    #[test]
    fn a_program_that_is_given_up_was_in_backoff() {
        assert_eq!(
            told((P::Starting, 7), (P::Backoff, 0), 1, Some(false)),
            ["BACKOFF STARTING tries:1"]
        );
        assert_eq!(told((P::Backoff, 0), (P::Starting, 0), 1, None), ["STARTING BACKOFF tries:1"]);
        assert_eq!(
            told((P::Starting, 7), (P::Fatal, 0), 4, Some(false)),
            ["BACKOFF STARTING tries:4", "FATAL BACKOFF"]
        );
    }

    #[test]
    fn one_that_is_replaced_was_restarted() {
        let about = About { label: "w".to_owned(), group: "g".parse().unwrap(), pid: 0 };
        let told: Vec<_> = replaced(&about, 7, 8)
            .into_iter()
            .map(|e| {
                let (_, state) = e.payload.split_once("from_state:").unwrap();
                format!("{} {state}", e.name)
            })
            .collect();
        assert_eq!(
            told,
            [
                "PROCESS_STATE_STOPPING RUNNING pid:7",
                "PROCESS_STATE_STOPPED STOPPING pid:7",
                "PROCESS_STATE_STARTING STOPPED tries:0",
                "PROCESS_STATE_RUNNING STARTING pid:8",
            ]
        );
    }

    #[test]
    fn a_stop_and_a_restart_are_told_in_full() {
        assert_eq!(told((P::Running, 7), (P::Stopping, 7), 0, None), ["STOPPING RUNNING pid:7"]);
        assert_eq!(
            told((P::Stopping, 7), (P::Stopped, 0), 0, Some(false)),
            ["STOPPED STOPPING pid:7"]
        );
        assert_eq!(
            told((P::Stopping, 7), (P::Starting, 0), 0, Some(false)),
            ["STOPPED STOPPING pid:7", "STARTING STOPPED tries:0"]
        );
        assert_eq!(told((P::Backoff, 0), (P::Stopped, 0), 1, None), ["STOPPED BACKOFF pid:0"]);
        assert_eq!(told((P::Stopping, 7), (P::Unknown, 7), 0, None), ["UNKNOWN STOPPING"]);
    }
}
