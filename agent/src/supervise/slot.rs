//! One row of the table of processes: what is wanted, where it is, and what it holds.

use std::{path::PathBuf, sync::Arc};

use palisade_types::{ProcessName, ProcessStatus};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Chronicle, Exit, Host, LogFile, LogPath, NOT_LET_GO, ProcessSpec, Processes, SpawnError,
    StartError, Stream,
    errand::Errand,
    handle::Event as Happening,
    machine::{State, Want, ready_within},
    output::Lane,
    past::Past,
    ports::{Child as _, Inputs, Outputs},
    reconcile::{Progress, fingerprint, socket_key},
    rolling::Roll,
    table::{Now, Record, Saved, StopRules},
    twin::Part,
};
use crate::{clock::Timestamp, errors::one_line};

/// One process, living or not.
#[derive(Debug)]
pub(super) struct Slot<H: Host> {
    /// Its name inside: in the table, its cgroup, its pipes and its mark. `spec.name` is the one that
    /// people know.
    pub(super) key: ProcessName,
    pub(super) part: Part,
    /// It is to be replaced.
    pub(super) roll: Option<Roll>,
    /// What it is to be at its next start.
    pub(super) spec: Arc<ProcessSpec>,
    /// The fingerprint of `spec`, which is too dear to compute at every write of the table.
    pub(super) fingerprint: String,
    /// What its child was started with; the same as `spec` in all that matters, or it is on its way
    /// out. None without child.
    pub(super) born: Option<Arc<ProcessSpec>>,
    /// The fingerprint of what its child was started with.
    pub(super) born_with: String,
    pub(super) state: State,
    /// What it was shown as, why it is being spawned, and how its child ended if that is why; until the
    /// spawning has an outcome.
    pub(super) spawning: Option<(palisade_types::ProcessState, String, Option<Exit>)>,
    pub(super) wanted: bool,
    /// It is stopped to be started again: if the agent dies before that, it is wanted.
    pub(super) comes_back: bool,
    /// Its settings are gone: the slot goes with its child.
    pub(super) is_removed: bool,
    pub(super) child: Option<Arc<<H as Processes>::Child>>,
    /// The child is dead, and its end is on its way to us.
    pub(super) is_dying: bool,
    /// The last agent left it before it became its program, or so soon after that nobody knows.
    pub(super) is_unborn: bool,
    /// It may have said that it is ready while no agent was there to hear it.
    pub(super) is_word_lost: bool,
    /// Ends the asking whether it is ready.
    pub(super) probe: Option<DropGuard>,
    /// Ends what is asked of it while it runs.
    pub(super) minders: Option<DropGuard>,
    /// Why it is unwell, while it is.
    pub(super) ill: Option<String>,
    /// It stops because the agent thinks it should start anew, and nobody asked for it.
    pub(super) is_own_doing: bool,
    pub(super) past: Past,
    pub(super) stdout: Arc<<H as Outputs>::Pipe>,
    pub(super) stderr: Option<Arc<<H as Outputs>::Pipe>>,
    /// Where its child reads, if it has a pipe.
    pub(super) stdin: Option<Arc<<H as Inputs>::Input>>,
    /// Ends the watching of what a listener says.
    pub(super) ear: Option<DropGuard>,
    /// One for each stream.
    pub(super) lanes: [Arc<Lane>; 2],
    /// Ends the pumps, leaving in the pipes what they have not carried.
    pub(super) pumps: CancellationToken,
    /// Ends the pumps once all is carried.
    pub(super) finish: CancellationToken,
    pub(super) restarts: u64,
    pub(super) since: Timestamp,
    pub(super) exit: Option<Exit>,
    pub(super) error: Option<String>,
    /// What Supervisor's tools are told of its last run.
    pub(super) chronicle: Chronicle,
    /// How often it came up, and how often it did not: what waits for a start looks at these.
    pub(super) ups: u64,
    pub(super) failures: u64,
    /// How often it was told or found to be ready.
    pub(super) readies: u64,
    /// Why the last start failed.
    pub(super) last_failure: StartError,
    /// Its hooks and its schedule.
    pub(super) errand: Errand,
}

impl<H: Host> Slot<H> {
    /// Gives it what it is to be from its next start on.
    pub(super) fn set_spec(&mut self, spec: ProcessSpec) {
        self.fingerprint = fingerprint(&spec);
        self.spec = Arc::new(spec);
    }

    /// The settings that govern the present child, or the next one.
    pub(super) fn rules(&self) -> Arc<ProcessSpec> {
        Arc::clone(self.born.as_ref().unwrap_or(&self.spec))
    }

    /// What the machine is told is wanted, given whether others are to be waited for.
    pub(super) fn want(&self, is_held: bool) -> Want {
        match (self.wanted, is_held) {
            (false, _) => Want::Down,
            (true, true) => Want::Later,
            (true, false) => Want::Up,
        }
    }

    /// Whether it is what people see under its name.
    pub(super) fn is_shown(&self) -> bool {
        self.part == Part::Current && !self.is_removed
    }

    /// Whether its child was started with its present settings.
    pub(super) fn is_as_set(&self) -> bool {
        self.born.is_some() && self.born_with == self.fingerprint
    }

    /// What is told of it now: that its state did not change.
    pub(super) fn happening(&self, at: Timestamp, why: String) -> Happening {
        Happening {
            at,
            process: self.spec.name.clone(),
            group: self.spec.group.clone(),
            from: self.state.shown(),
            to: self.state.shown(),
            pid: self.state.pid().unwrap_or(0),
            exit: None,
            why,
            note: None,
            spec: self.rules(),
        }
    }

    /// Whether its time to say that it is ready is over.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let within = ready_within(&self.rules().ready);
        match (self.state, within) {
            (State::Starting { since, ready: false, .. }, Some(within)) => since + within <= now,
            _ => false,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        match self.state {
            _ if !self.wanted => Progress::Settled,
            State::Fatal if self.spec.oneshot => Progress::Failed,
            State::Stopped => Progress::Held,
            State::Spawning { .. }
            | State::Starting { .. }
            | State::Backoff { .. }
            | State::Stopping { .. } => Progress::Coming,
            State::Running { .. } | State::Exited | State::Fatal => Progress::Settled,
        }
    }

    /// Whether a child is there or being made.
    pub(super) fn is_alive(&self) -> bool {
        self.state.pid().is_some() || matches!(self.state, State::Spawning { .. })
    }

    pub(super) fn status(&self) -> ProcessStatus {
        let waits = self.wanted && self.state == State::Stopped;
        // Of what lives only: how the last run ended is told by `error` alone.
        let warning = self.child.as_ref().and_then(|child| {
            child.warning().or_else(|| self.lanes.iter().find_map(|lane| lane.trouble()))
        });
        ProcessStatus {
            name: self.spec.name.clone(),
            program: self.spec.program.clone(),
            group: self.spec.group.clone(),
            state: if waits { palisade_types::ProcessState::Starting } else { self.state.shown() },
            pid: self.state.pid().unwrap_or(0),
            ready: match self.state {
                State::Running { .. } => true,
                State::Exited => self.spec.oneshot,
                _ => false,
            },
            restarts: self.restarts,
            since: self.since.as_millis(),
            exit: self.exit.map(|e| e.to_string()),
            error: if waits {
                let names: Vec<_> = self.spec.after.iter().map(ToString::to_string).collect();
                Some(format!("waits for {}", names.join(", ")))
            } else {
                let waits = self.roll.as_ref().and_then(|r| r.waits);
                let waits = waits.map(|w| format!("to be replaced once pid {} is gone", w.pid));
                let news = self.errand.news().or(waits).or_else(|| self.ill.clone());
                news.or_else(|| self.error.clone()).or(warning)
            },
            schedule: self.errand.scheduled.clone(),
        }
    }

    pub(super) fn record(&self, now: Now) -> Record {
        let spec = self.rules();
        Record {
            name: self.key.clone(),
            part: self.part,
            program: spec.program.clone(),
            group: spec.group.clone(),
            wanted: self.wanted || self.comes_back,
            state: Saved::of(self.state, now),
            child: self.child.as_ref().map(|c| c.identity()),
            born_with: match self.born {
                Some(_) => self.born_with.clone(),
                None => self.fingerprint.clone(),
            },
            restarts: self.restarts,
            since: self.since,
            exit: self.exit,
            error: self.error.clone(),
            chronicle: self.chronicle.clone(),
            stop: StopRules::of(&spec),
            sockets: spec.sockets.iter().map(|s| socket_key(&s.listen)).collect(),
            hooks_left: self.errand.is_post_left,
            called_off: self.errand.is_called_off,
            past: self.past.saved(now),
            ill: self.ill.clone(),
        }
    }

    pub(super) fn log_file(&self, stream: Stream) -> &LogFile {
        match stream {
            Stream::Stdout => &self.spec.stdout,
            Stream::Stderr => &self.spec.stderr,
        }
    }

    /// Its child is gone.
    pub(super) fn forget_child(&mut self) {
        self.child = None;
        self.born = None;
        self.probe = None;
        self.minders = None;
        self.ill = None;
        self.is_dying = false;
        self.is_unborn = false;
        self.is_word_lost = false;
    }

    /// Whether this end tells that the child went with its agent and never was its program.
    pub(super) fn went_with_its_agent(&self, exit: Exit) -> bool {
        self.is_unborn && matches!(exit, Exit::Code(NOT_LET_GO) | Exit::Unknown)
    }

    pub(super) fn failed(&mut self, error: &SpawnError) {
        let said = one_line(&error.to_string());
        self.error = Some(said.clone());
        self.chronicle.not_spawned(said);
        self.last_failure = StartError::Spawn(error.clone());
    }
}

/// Where a stream is logged, if anywhere of its own.
pub(super) fn log_path(
    log_dir: &std::path::Path,
    spec: &ProcessSpec,
    stream: Stream,
) -> Option<PathBuf> {
    if stream == Stream::Stderr && spec.redirect_stderr {
        return None;
    }
    let file = match stream {
        Stream::Stdout => &spec.stdout,
        Stream::Stderr => &spec.stderr,
    };
    match &file.path {
        LogPath::None => None,
        LogPath::At(path) => Some(path.clone()),
        LogPath::Auto => Some(log_dir.join(format!("{}.{stream}.log", spec.name))),
    }
}
