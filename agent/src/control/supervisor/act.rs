//! Starts, stops and signals: one process, or several with an outcome for each.
//!
//! Of several, those that are already as asked for are left out of the answer, as by Supervisor; so
//! `supervisorctl stop all` says nothing of what was stopped before.

use std::time::Duration;

use nix::sys::signal::Signal;
use palisade_types::{ProcessName, ProcessState};
use tokio::{sync::oneshot, time};

use super::{
    Backend,
    fault::{Code, Fault},
    names::{by_priority, full},
    value::Value,
};
use crate::{
    control::signal::parse_signal,
    errors::Chain,
    supervise::{
        Info, Outcome, SpawnError, StartError, StdinError, StopError, SuperviseError, Target,
        UnknownName,
    },
};

/// How long somebody who will not wait for the outcome waits for what fails at once.
const AT_ONCE: Duration = Duration::from_millis(50);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Start.
    Start {
        /// Until it is up.
        wait: bool,
    },
    /// Stop.
    Stop {
        /// Until it is gone.
        wait: bool,
    },
    /// Send a signal.
    Signal(Signal),
}

impl Act {
    /// A signal by name or number.
    pub(super) fn signal(word: &str) -> Result<Self, Fault> {
        parse_signal(word.trim())
            .map(Self::Signal)
            .ok_or_else(|| Fault::about(Code::BadSignal, word))
    }

    /// Whether there is something to do.
    fn concerns(self, state: ProcessState) -> bool {
        match self {
            Self::Start { .. } => !runs(state),
            Self::Stop { .. } => runs(state),
            Self::Signal(_) => has_child(state),
        }
    }
}

/// Supervisor's idea of running, which a wait before the next try is part of.
fn runs(state: ProcessState) -> bool {
    matches!(state, ProcessState::Running | ProcessState::Starting | ProcessState::Backoff)
}

fn has_child(state: ProcessState) -> bool {
    matches!(state, ProcessState::Running | ProcessState::Starting | ProcessState::Stopping)
}

/// Acts on one process, which the client calls `name`.
pub(super) async fn one(b: &Backend, act: Act, info: &Info, name: &str) -> Result<(), Fault> {
    if !act.concerns(info.state) {
        let code = match act {
            Act::Start { .. } => Code::AlreadyStarted,
            Act::Stop { .. } | Act::Signal(_) => Code::NotRunning,
        };
        return Err(Fault::about(code, name));
    }
    let done = several(b, act, &[(info, name)]).await?;
    done.into_iter().next().map_or_else(|| Err(Fault::about(Code::BadName, name)), |(_, r)| r)
}

/// Whom a start or stop of all means: what the calendar starts is started and stopped by its own name.
/// Supervisor's `restart all` is the one and then the other, and must not end the nightly run.
pub(super) fn meant_by_all(all: &[Info]) -> Vec<&Info> {
    by_priority(all).into_iter().filter(|i| i.spec.schedule.is_none()).collect()
}

/// Acts on all of these that there is something to do for. The outcomes, in the order in which Supervisor
/// would have them.
pub(super) async fn all(b: &Backend, act: Act, infos: &[&Info]) -> Result<Value, Fault> {
    let names: Vec<_> = infos.iter().map(|i| full(i)).collect();
    let meant: Vec<_> = infos.iter().copied().zip(names.iter().map(String::as_str)).collect();
    // What the calendar starts is not started with the others, and is by its own name.
    let is_meant = |i: &Info| match act {
        Act::Start { .. } => i.spec.schedule.is_none(),
        Act::Stop { .. } | Act::Signal(_) => true,
    };
    let is_meant = |i: &Info| is_meant(i) && act.concerns(i.state);
    let meant: Vec<_> = meant.into_iter().filter(|(i, _)| is_meant(i)).collect();
    if meant.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    let mut done = several(b, act, &meant).await?;
    done.sort_by_key(|(info, result)| known_after(act, info, result));
    Ok(Value::Array(done.into_iter().map(|(info, result)| outcome(info, &result)).collect()))
}

/// Signals several. One that is none is refused by each that could have had it.
pub(super) async fn signal_all(b: &Backend, word: &str, infos: &[&Info]) -> Result<Value, Fault> {
    match Act::signal(word) {
        Ok(act) => all(b, act, infos).await,
        Err(fault) => {
            let reached = infos.iter().filter(|i| has_child(i.state));
            Ok(Value::Array(reached.map(|i| outcome(i, &Err(fault.clone()))).collect()))
        }
    }
}

/// When Supervisor's client hears of this, as it lists outcomes in that order: of failures and of what need
/// not stay up at once.
fn known_after(act: Act, info: &Info, result: &Result<(), Fault>) -> Duration {
    match (act, result) {
        (Act::Start { wait: true }, Ok(())) => info.spec.startsecs,
        (Act::Start { .. } | Act::Stop { .. } | Act::Signal(_), Ok(()) | Err(_)) => Duration::ZERO,
    }
}

/// What became of one process among several.
pub(super) fn outcome(info: &Info, result: &Result<(), Fault>) -> Value {
    let (code, text) = match result {
        Ok(()) => (Code::Success, "OK"),
        Err(fault) => (fault.code, fault.text.as_str()),
    };
    Value::members([
        ("name", Value::text(info.spec.label.as_str())),
        ("group", Value::text(info.spec.group.as_str())),
        ("status", code.value()),
        ("description", Value::text(text)),
    ])
}

type Done<'a> = Vec<(&'a Info, Result<(), Fault>)>;

async fn several<'a>(b: &Backend, act: Act, meant: &[(&'a Info, &str)]) -> Result<Done<'a>, Fault> {
    let (known, unknown): (Vec<_>, Vec<_>) = meant.iter().partition(|(info, _)| {
        !(matches!(act, Act::Start { .. }) && info.state == ProcessState::Unknown)
    });
    let mut done: Done<'a> = Vec::new();
    for (info, name) in unknown {
        let what = format!("{name} is in an unknown process state");
        done.push((info, Err(Fault::about(Code::Failed, &what))));
    }
    let targets: Vec<_> = known.iter().map(|(i, _)| Target::Process(i.spec.name.clone())).collect();
    match act {
        Act::Start { wait } => {
            let outcome = b.supervise.begin_start(targets).await.map_err(ended)?;
            let results = settled(outcome, wait).await?;
            let now = b.supervise.infos().await.map_err(ended)?;
            let spawnerr = |of: &ProcessName| {
                now.iter().any(|i| i.spec.name == *of && i.last.spawnerr.is_some())
            };
            done.extend(each(&known, &results, |e, info, name| {
                start_fault(e, name, spawnerr(&info.spec.name))
            }));
        }
        Act::Stop { wait } => {
            let outcome = b.supervise.begin_stop(targets).await.map_err(ended)?;
            let results = settled(outcome, wait).await?;
            done.extend(each(&known, &results, |e, _, name| stop_fault(e, name)));
        }
        Act::Signal(signal) => {
            let results = b.supervise.signal(signal, targets).await.map_err(ended)?;
            done.extend(each(&known, &results, |e, _, name| stop_fault(e, name)));
        }
    }
    Ok(done)
}

/// Waits for the outcome, or for what fails at once; what is not told by then is well under way.
async fn settled<E>(
    outcome: Outcome<E>,
    wait: bool,
) -> Result<Vec<(ProcessName, Result<(), E>)>, Fault> {
    let told: Result<_, oneshot::error::RecvError> = if wait {
        outcome.await
    } else {
        match time::timeout(AT_ONCE, outcome).await {
            Ok(told) => told,
            Err(_) => return Ok(Vec::new()),
        }
    };
    match told {
        Ok(Ok(results)) => Ok(results),
        Ok(Err(e)) => Err(gone(&e)),
        Err(_) => Err(Fault::new(Code::ShutdownState)),
    }
}

fn each<'a, E>(
    meant: &[(&'a Info, &str)],
    results: &[(ProcessName, Result<(), E>)],
    fault: impl Fn(&E, &Info, &str) -> Fault,
) -> Done<'a> {
    let of = |info: &Info| results.iter().find(|(n, _)| *n == info.spec.name).map(|(_, r)| r);
    let one = |(info, name): &(&'a Info, &str)| match of(info) {
        Some(Err(e)) => (*info, Err(fault(e, info, name))),
        Some(Ok(())) | None => (*info, Ok(())),
    };
    meant.iter().map(one).collect()
}

fn start_fault(error: &StartError, name: &str, has_spawnerr: bool) -> Fault {
    match error {
        StartError::AlreadyStarted => Fault::about(Code::AlreadyStarted, name),
        StartError::Spawn(e @ SpawnError::NoFile(_)) => Fault::about(Code::NoFile, &e.to_string()),
        StartError::Spawn(e @ SpawnError::NotExecutable(_)) => {
            Fault::about(Code::NotExecutable, &e.to_string())
        }
        StartError::Spawn(SpawnError::Step { .. }) => Fault::about(Code::SpawnError, name),
        // It ended too soon; without an error it was stopped meanwhile.
        StartError::AbnormalTermination if has_spawnerr => Fault::about(Code::SpawnError, name),
        StartError::AbnormalTermination => Fault::about(Code::AbnormalTermination, name),
        StartError::InVain(why) => Fault::about(Code::Failed, &format!("{name}: {why}")),
        StartError::ShuttingDown => Fault::new(Code::ShutdownState),
    }
}

fn stop_fault(error: &StopError, name: &str) -> Fault {
    match error {
        StopError::NotRunning => Fault::about(Code::NotRunning, name),
        StopError::Refused(why) => Fault::about(Code::Failed, why),
    }
}

fn gone(unknown: &UnknownName) -> Fault {
    match unknown {
        UnknownName::Process(name) => Fault::about(Code::BadName, name.as_str()),
        UnknownName::Group(name) => Fault::about(Code::BadName, name.as_str()),
    }
}

fn stdin_fault(why: &StdinError) -> Fault {
    match why {
        StdinError::Unknown(name) => Fault::about(Code::BadName, name.as_str()),
        StdinError::NotRunning => Fault::new(Code::NotRunning),
        StdinError::NoPipe => Fault::about(Code::NoFile, &why.to_string()),
        StdinError::Listener
        | StdinError::TooMuch { .. }
        | StdinError::Full
        | StdinError::Refused(_) => Fault::about(Code::Failed, &why.to_string()),
    }
}

/// Why the supervisor did nothing at all.
pub(super) fn ended(error: SuperviseError) -> Fault {
    match &error {
        SuperviseError::Ended | SuperviseError::HandOver(_) => Fault::new(Code::ShutdownState),
        SuperviseError::Unknown(unknown) => gone(unknown),
        SuperviseError::NoLogFile => Fault::new(Code::NoFile),
        SuperviseError::Stdin(why) => stdin_fault(why),
        SuperviseError::LogFile { .. } | SuperviseError::Pipe { .. } => {
            Fault::about(Code::Failed, &Chain(&error).to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::{super::testutil::info, *};
    use crate::supervise::{Calendar, Missed, Notation, Overlap, Schedule};

    #[test]
    fn what_went_wrong_at_a_start_has_supervisors_number() {
        let spawn = |e| StartError::Spawn(e);
        let code = |e, spawnerr| start_fault(&e, "web", spawnerr).text;
        assert_eq!(code(StartError::AlreadyStarted, false), "ALREADY_STARTED: web");
        assert_eq!(
            code(spawn(SpawnError::NoFile("/x".to_owned())), true),
            "NO_FILE: can't find command '/x'"
        );
        assert_eq!(
            code(spawn(SpawnError::NotExecutable("/x".to_owned())), true),
            "NOT_EXECUTABLE: command at '/x' is not executable"
        );
        assert_eq!(code(StartError::AbnormalTermination, true), "SPAWN_ERROR: web");
        assert_eq!(code(StartError::AbnormalTermination, false), "ABNORMAL_TERMINATION: web");
        assert_eq!(code(StartError::ShuttingDown, false), "SHUTDOWN_STATE");
    }

    #[test]
    fn a_start_or_stop_of_all_means_no_scheduled_one() {
        let (web, mut nightly) = (info("web", "web"), info("nightly", "nightly"));
        let mut spec = (*nightly.spec).clone();
        spec.schedule = Some(Schedule {
            when: Calendar::new("@daily", Notation::Either, TimeZone::UTC).unwrap(),
            overlap: Overlap::Skip,
            missed: Missed::Skip,
            retries: 0,
            retry_after: Duration::ZERO,
        });
        nightly.spec = spec.into();
        let all = [web, nightly];
        let meant: Vec<_> = meant_by_all(&all).iter().map(|i| i.spec.label.as_str()).collect();
        assert_eq!(meant, ["web"]);
    }

    #[test]
    fn a_signal_has_a_name_or_a_number() {
        for word in ["HUP", "sighup", "SIGHUP", "1"] {
            assert!(matches!(Act::signal(word), Ok(Act::Signal(Signal::SIGHUP))), "{word}");
        }
        assert_eq!(Act::signal("FOO").unwrap_err().text, "BAD_SIGNAL: FOO");
        assert!(Act::signal("0").is_err() && Act::signal("99").is_err());
    }

    #[test]
    fn a_process_that_waits_for_its_next_try_counts_as_running_and_has_no_child() {
        let stop = Act::Stop { wait: true };
        assert!(stop.concerns(ProcessState::Backoff) && !stop.concerns(ProcessState::Stopping));
        let signal = Act::Signal(Signal::SIGHUP);
        assert!(!signal.concerns(ProcessState::Backoff) && signal.concerns(ProcessState::Stopping));
        assert!(Act::Start { wait: true }.concerns(ProcessState::Stopping));
    }
}
