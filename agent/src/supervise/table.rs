//! The table of processes as it is kept for the next agent, and what that agent makes of it.
//!
//! `run_dir/supervise.json`, `{"v":1,...}`. A record holds what is not in the settings: the child,
//! what was wanted by hand, and how the child is to be stopped should its settings be gone. A table
//! of another boot is worth nothing. Times are wall-clock; a clock that jumped can only shorten a
//! wait or lengthen it to its full length, never beyond.

use std::time::Duration;

use nix::sys::signal::Signal;
use palisade_types::{GroupName, ProcessName, ProgramName};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    AutoRestart, Chronicle, Exit, Identity, LogFile, LogPath, ProcessSpec, StopStep,
    machine::{State, Then, ready_within},
    past::SavedPast,
    reconcile::{fingerprint, socket_key},
    storm::SLOWEST,
    twin::{Part, outer},
};
use crate::clock::Timestamp;

const VERSION: u32 = 1;

/// The table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    v: u32,
    /// The boot that the pids belong to.
    boot_id: String,
    /// One for each process.
    pub(super) processes: Vec<Record>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its name inside.
    pub(super) name: ProcessName,
    #[serde(default)]
    pub(super) part: Part,
    pub(super) program: ProgramName,
    pub(super) group: GroupName,
    pub(super) wanted: bool,
    pub(super) state: Saved,
    pub(super) child: Option<Identity>,
    /// Fingerprint of the settings that the child was born with.
    pub(super) born_with: String,
    pub(super) restarts: u64,
    pub(super) since: Timestamp,
    pub(super) exit: Option<Exit>,
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) chronicle: Chronicle,
    pub(super) stop: StopRules,
    /// Addresses of the sockets that the child got, by their keys, in order.
    pub(super) sockets: Vec<String>,
    /// It is up, and its hooks after the start have not all run.
    #[serde(default)]
    pub(super) hooks_left: bool,
    /// Somebody asked for its end.
    #[serde(default)]
    pub(super) called_off: bool,
    /// What spaces its restarts.
    #[serde(default, skip_serializing_if = "SavedPast::is_empty")]
    pub(super) past: SavedPast,
    /// Why it is unwell, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ill: Option<String>,
}

impl Record {
    /// A process that carries our mark and is in no table. Without settings it is to be stopped, as
    /// Supervisor does by default. None if its name is no name of a program.
    pub(super) fn found(
        name: &ProcessName,
        spec: Option<&ProcessSpec>,
        child: Identity,
        now: Timestamp,
    ) -> Option<Self> {
        let stop = StopRules {
            signal: Signal::SIGTERM as i32,
            wait_ms: 10_000,
            stop_group: false,
            kill_group: false,
            redirect_stderr: false,
            then: Vec::new(),
        };
        Some(Self {
            name: name.clone(),
            part: Part::Current,
            program: outer(name).as_str().parse().ok()?,
            group: outer(name).as_str().parse().ok()?,
            wanted: spec.is_some(),
            state: Saved::Running,
            child: Some(child),
            born_with: spec.map(fingerprint).unwrap_or_default(),
            restarts: 0,
            since: now,
            exit: None,
            error: None,
            chronicle: Chronicle { started: Some(now), ..Chronicle::default() },
            stop: spec.map_or(stop, StopRules::of),
            sockets: spec.iter().flat_map(|s| &s.sockets).map(|s| socket_key(&s.listen)).collect(),
            hooks_left: false,
            called_off: false,
            past: SavedPast::default(),
            ill: None,
        })
    }

    /// Settings for a process whose own are gone: enough to carry its output and to stop it.
    pub(super) fn stand_in(&self) -> ProcessSpec {
        let log = LogFile { path: LogPath::None, ..LogFile::default() };
        let (name, program, group) = (outer(&self.name), self.program.clone(), self.group.clone());
        self.stop.put_into(&ProcessSpec {
            autostart: false,
            autorestart: AutoRestart::Never,
            startsecs: Duration::ZERO,
            startretries: 0,
            exitcodes: [].into(),
            stopwaitsecs: Duration::ZERO,
            stdout: log.clone(),
            stderr: log,
            ..ProcessSpec::new(name, program, group, Vec::new())
        })
    }
}

/// How a process is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StopRules {
    signal: i32,
    wait_ms: u64,
    stop_group: bool,
    kill_group: bool,
    redirect_stderr: bool,
    /// Signal and wait in milliseconds of each further step.
    #[serde(default)]
    then: Vec<(i32, u64)>,
}

impl StopRules {
    pub(super) fn of(spec: &ProcessSpec) -> Self {
        Self {
            signal: spec.stopsignal as i32,
            wait_ms: millis(spec.stopwaitsecs),
            stop_group: spec.stopasgroup,
            kill_group: spec.killasgroup,
            redirect_stderr: spec.redirect_stderr,
            then: spec.stop_then.iter().map(|s| (s.signal as i32, millis(s.wait))).collect(),
        }
    }

    /// `spec`, but stopped by these rules.
    pub(super) fn put_into(&self, spec: &ProcessSpec) -> ProcessSpec {
        ProcessSpec {
            stopsignal: Signal::try_from(self.signal).unwrap_or(Signal::SIGTERM),
            stopwaitsecs: Duration::from_millis(self.wait_ms),
            stopasgroup: self.stop_group,
            killasgroup: self.kill_group,
            redirect_stderr: self.redirect_stderr,
            stop_then: self.then.iter().filter_map(|step| stop_step(*step)).collect(),
            ..spec.clone()
        }
    }
}

/// A [`State`] without what only means something to a living agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Saved {
    Stopped,
    Starting {
        since: Timestamp,
        execed: bool,
        ready: bool,
        failures: u32,
    },
    Running,
    Backoff {
        due: Timestamp,
        failures: u32,
    },
    Stopping {
        deadline: Timestamp,
        failed: Option<u32>,
        #[serde(default)]
        step: usize,
    },
    Exited,
    Fatal,
}

/// The present, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    pub(super) mono: Instant,
}

impl Now {
    pub(super) fn wall_of(self, t: Instant) -> Timestamp {
        match t.checked_duration_since(self.mono) {
            Some(ahead) => self.wall.plus(ahead),
            None => Timestamp::from_millis(
                self.wall.as_millis().saturating_sub_unsigned(millis(self.mono - t)),
            ),
        }
    }

    /// A moment that has passed; the future counts as now.
    fn past(self, t: Timestamp) -> Instant {
        self.mono.checked_sub(self.wall.since(t)).unwrap_or(self.mono)
    }

    /// A moment to come; the past counts as now, and the far future as `cap` from now.
    pub(super) fn future(self, t: Timestamp, cap: Duration) -> Instant {
        self.mono + t.since(self.wall).min(cap)
    }
}

impl Saved {
    pub(super) fn of(state: State, now: Now) -> Self {
        match state {
            State::Stopped => Self::Stopped,
            State::Spawning { failures } => Self::Backoff { due: now.wall, failures },
            State::Starting { since, execed, ready, failures, .. } => {
                Self::Starting { since: now.wall_of(since), execed, ready, failures }
            }
            State::Running { .. } => Self::Running,
            State::Backoff { due, failures } => Self::Backoff { due: now.wall_of(due), failures },
            State::Stopping { deadline, step, then, .. } => {
                let failed = match then {
                    Then::AsWanted => None,
                    Then::Failed(failures) => Some(failures),
                };
                Self::Stopping { deadline: now.wall_of(deadline), failed, step }
            }
            State::Exited => Self::Exited,
            State::Fatal => Self::Fatal,
        }
    }

    /// The state of a process whose child `pid` still lives.
    pub(super) fn with_child(self, pid: i32, spec: &ProcessSpec, now: Now) -> State {
        match self {
            Self::Starting { since, execed: _, ready, failures } => {
                // The child became its program, or ends in this moment and says so by its code.
                let since = now.past(since);
                let ready = ready || ready_within(&spec.ready).is_none();
                State::Starting { pid, since, execed: true, ready, failures }
            }
            Self::Stopping { deadline, failed, step } => State::Stopping {
                pid,
                deadline: now.future(deadline, longest_wait(spec)),
                step,
                refused: false,
                then: failed.map_or(Then::AsWanted, Then::Failed),
            },
            Self::Running | Self::Stopped | Self::Backoff { .. } | Self::Exited | Self::Fatal => {
                State::Running { pid }
            }
        }
    }

    /// The state of a process without child. A child that ended unseen is left to the machine:
    /// the second value says that an end of unknown kind is still to be told.
    pub(super) fn without_child(self, spec: &ProcessSpec, now: Now) -> (State, bool) {
        match self {
            Self::Stopped => (State::Stopped, false),
            Self::Exited => (State::Exited, false),
            Self::Fatal => (State::Fatal, false),
            Self::Backoff { due, failures } => {
                // Without failures it is a restart in a storm.
                let storm = (failures == 0).then_some(SLOWEST);
                let cap = storm.unwrap_or(Duration::from_secs(failures.into()));
                (State::Backoff { due: now.future(due, cap), failures }, false)
            }
            Self::Starting { .. } | Self::Running | Self::Stopping { .. } => {
                (self.with_child(0, spec, now), true)
            }
        }
    }
}

/// Bytes of the table.
pub(super) fn encode(boot_id: &str, processes: Vec<Record>) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Table { v: VERSION, boot_id: boot_id.to_owned(), processes })
}

/// Reads a table. One of another boot is empty.
pub(super) fn decode(bytes: &[u8], boot_id: &str) -> Result<Vec<Record>, String> {
    let table: Table = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if table.v != VERSION {
        return Err(format!("version {} is not {VERSION}", table.v));
    }
    Ok(if table.boot_id == boot_id { table.processes } else { Vec::new() })
}

/// None for a signal that this kernel does not have.
fn stop_step((signal, wait_ms): (i32, u64)) -> Option<StopStep> {
    let signal = Signal::try_from(signal).ok()?;
    Some(StopStep { signal, wait: Duration::from_millis(wait_ms) })
}

/// The longest wait of any step of stopping.
fn longest_wait(spec: &ProcessSpec) -> Duration {
    spec.stop_then.iter().map(|s| s.wait).fold(spec.stopwaitsecs, Duration::max)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::supervise::testutil::spec;

    fn record(state: Saved) -> Record {
        let spec = spec("web");
        Record {
            name: spec.name.clone(),
            part: Part::Current,
            program: spec.program.clone(),
            group: spec.group.clone(),
            wanted: true,
            state,
            child: Some(Identity { pid: 7, start_ticks: 12 }),
            born_with: "x".to_owned(),
            restarts: 3,
            since: Timestamp::from_secs(1),
            exit: Some(Exit::Signal(9)),
            error: None,
            chronicle: Chronicle::default(),
            stop: StopRules::of(&spec),
            sockets: vec![],
            hooks_left: false,
            called_off: false,
            past: SavedPast::default(),
            ill: None,
        }
    }

    #[test]
    fn a_table_of_the_version_before_reads_as_one_instance_of_each() {
        let bytes = encode("boot", vec![record(Saved::Running)]).unwrap();
        let mut table: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let old = table["processes"][0].as_object_mut().unwrap();
        old.remove("part").unwrap();
        old["stop"].as_object_mut().unwrap().remove("then").unwrap();
        old["state"] = serde_json::json!({ "stopping": { "deadline": 1, "failed": null } });
        let read = decode(table.to_string().as_bytes(), "boot").unwrap();
        assert_eq!((read[0].part, read[0].stop.then.len()), (Part::Current, 0));
        assert!(matches!(read[0].state, Saved::Stopping { step: 0, .. }), "{read:?}");
    }

    #[test]
    fn a_table_reads_back_and_one_of_another_boot_is_empty() {
        let records = vec![record(Saved::Running)];
        let bytes = encode("boot", records.clone()).unwrap();
        assert_eq!(decode(&bytes, "boot"), Ok(records));
        assert_eq!(decode(&bytes, "later"), Ok(vec![]));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("{\"v\":1,"), "{text}");
        assert!(decode(text.replace("\"v\":1", "\"v\":9").as_bytes(), "boot").is_err());
        assert!(decode(b"{", "boot").is_err());
    }

    #[test]
    fn a_table_of_before_the_chronicle_was_kept_is_read() {
        let bytes = encode("boot", vec![record(Saved::Running)]).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let chronicle = serde_json::to_string(&Chronicle::default()).unwrap();
        let old = text.replace(&format!("\"chronicle\":{chronicle},"), "");
        assert_ne!(old, text);
        assert_eq!(decode(old.as_bytes(), "boot"), Ok(vec![record(Saved::Running)]));
    }

    proptest! {
        /// Whatever the wall clock did between two agents, no wait grows beyond its full length and
        /// no moment that has passed lies ahead.
        #[test]
        fn a_clock_that_jumped_does_little_harm(jump in -1_000_000_i64..1_000_000, left in 0_u64..10) {
            let mono = Instant::now() + Duration::from_secs(100_000);
            let before = Now { wall: Timestamp::from_secs(2_000_000), mono };
            let after = Now { wall: Timestamp::from_secs(2_000_000 + jump), mono };
            let spec = spec("web");
            let deadline = mono + Duration::from_secs(left);
            let saved = Saved::of(State::Stopping {
                pid: 1, deadline, step: 0, refused: false, then: Then::AsWanted
            }, before);
            match saved.with_child(1, &spec, after) {
                State::Stopping { deadline, .. } => {
                    prop_assert!(deadline >= mono && deadline <= mono + spec.stopwaitsecs);
                }
                other => prop_assert!(false, "{:?}", other),
            }
            let starting = State::Starting { pid: 1, since: mono, execed: true, ready: true, failures: 2 };
            match Saved::of(starting, before).with_child(1, &spec, after) {
                State::Starting { since, failures: 2, .. } => prop_assert!(since <= mono),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
