//! What happens to processes, in the words of Supervisor's own log: people and their tools look for these.
//!
//! Which lines an event is worth is pure; the task only adds the time and appends. What the disk does not
//! take is dropped, as from any program's log: nothing waits for this one.

use jiff::{Timestamp as Instant, tz::TimeZone};
use nix::sys::signal::Signal;
use palisade_types::ProcessState;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Timestamp, WallClock},
    supervise::{Event, Exit, ProcessSpec, ProgramLog},
};

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Info,
    Warn,
}

/// The log, and where lines for it come from.
#[derive(Debug)]
pub struct MainLog<L, C> {
    /// The file.
    pub file: L,
    /// The time of day.
    pub clock: C,
    /// What happens.
    pub events: broadcast::Receiver<Event>,
}

/// Writes the log until told to stop; then what has happened already is still written.
pub async fn keep<L: ProgramLog, C: WallClock>(log: MainLog<L, C>, stop: CancellationToken) {
    let MainLog { mut file, clock, mut events } = log;
    let zone = TimeZone::system();
    let started = format!("supervisord started with pid {}", std::process::id());
    drop(file.append(line(clock.now(), &zone, Level::Info, &started).as_bytes()));
    loop {
        // `recv` loses nothing when the other arm wins.
        let next = tokio::select! {
            biased;
            next = events.recv() => next,
            () = stop.cancelled() => return,
        };
        let (at, lines) = match next {
            Ok(event) => (event.at, lines(&event)),
            Err(RecvError::Lagged(n)) => {
                let text = format!("{n} changes of state at once are not in this log");
                (clock.now(), vec![(Level::Warn, text)])
            }
            Err(RecvError::Closed) => return,
        };
        let text: String =
            lines.iter().map(|(level, text)| line(at, &zone, *level, text)).collect();
        if !text.is_empty() {
            // Whether it was taken is told once by the writer of program logs, and is not our affair.
            drop(file.append(text.as_bytes()));
        }
    }
}

fn line(at: Timestamp, zone: &TimeZone, level: Level, text: &str) -> String {
    let level = match level {
        Level::Info => "INFO",
        Level::Warn => "WARN",
    };
    let millis = at.as_millis().rem_euclid(1000);
    let local = Instant::from_second(at.as_secs()).unwrap_or_default().to_zoned(zone.clone());
    format!("{},{millis:03} {level} {text}\n", local.strftime("%Y-%m-%d %H:%M:%S"))
}

/// What Supervisor would write about an event.
fn lines(event: &Event) -> Vec<(Level, String)> {
    let name = event.spec.label.as_str();
    if let Some(note) = event.note {
        // Supervisor knows nothing of the kind, and has no words for it.
        return vec![(Level::Info, format!("{name}: {}: {}", note.words(), event.why))];
    }
    let mut out = Vec::new();
    // A process that was up, ended, and is started again is one event here and two there.
    let ended_before = event.exit.filter(|_| event.from == ProcessState::Running);
    match event.to {
        ProcessState::Starting => {
            out.extend(ended_before.map(|exit| exited(&event.spec, exit)));
            out.push((Level::Info, format!("spawned: '{name}' with pid {}", event.pid)));
        }
        ProcessState::Running => {
            let seconds = event.spec.startsecs.as_secs();
            let stayed = format!("process has stayed up for > than {seconds} seconds (startsecs)");
            out.push((Level::Info, format!("success: {name} entered RUNNING state, {stayed}")));
        }
        ProcessState::Backoff | ProcessState::Fatal => {
            out.extend(ended_before.map(|exit| exited(&event.spec, exit)));
            out.push(match event.exit.filter(|_| ended_before.is_none()) {
                Some(exit) => {
                    (Level::Warn, format!("exited: {name} ({}; not expected)", how(exit)))
                }
                None => (Level::Info, format!("spawnerr: {}", event.why)),
            });
            if event.to == ProcessState::Fatal {
                let why = "too many start retries too quickly";
                out.push((Level::Info, format!("gave up: {name} entered FATAL state, {why}")));
            }
        }
        ProcessState::Exited => out.extend(event.exit.map(|exit| exited(&event.spec, exit))),
        ProcessState::Stopping => {
            out.push((Level::Info, format!("waiting for {name} to stop")));
        }
        ProcessState::Stopped => out.extend(event.exit.map(|exit| {
            let level = if is_expected(&event.spec, exit) { Level::Info } else { Level::Warn };
            (level, format!("stopped: {name} ({})", how(exit)))
        })),
        ProcessState::Unknown => {
            out.push((Level::Warn, format!("{name} entered UNKNOWN state: {}", event.why)));
        }
    }
    out
}

fn exited(spec: &ProcessSpec, exit: Exit) -> (Level, String) {
    let (level, expected) = match is_expected(spec, exit) {
        true => (Level::Info, "expected"),
        false => (Level::Warn, "not expected"),
    };
    (level, format!("exited: {} ({}; {expected})", spec.label, how(exit)))
}

fn is_expected(spec: &ProcessSpec, exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => u8::try_from(code).is_ok_and(|c| spec.exitcodes.contains(&c)),
        Exit::Signal(_) | Exit::OutOfMemory | Exit::Unknown => false,
    }
}

fn how(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(number) => match Signal::try_from(number) {
            Ok(signal) => format!("terminated by {}", signal.as_str()),
            Err(_) => format!("terminated by signal {number}"),
        },
        Exit::OutOfMemory => "terminated by SIGKILL".to_owned(),
        Exit::Unknown => "exit status unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ProcessState as S;

    use super::*;
    use crate::supervise::testutil::spec;

    fn event(from: S, to: S, exit: Option<Exit>) -> Event {
        let spec = Arc::new(ProcessSpec { label: "web".to_owned(), ..spec("app.web") });
        Event {
            at: Timestamp::from_millis(1_795_677_875_803),
            process: spec.name.clone(),
            group: spec.group.clone(),
            from,
            to,
            pid: 7,
            exit,
            why: "can't find command 'x'".to_owned(),
            note: None,
            spec,
        }
    }

    fn told(from: S, to: S, exit: Option<Exit>) -> String {
        let lines = lines(&event(from, to, exit));
        let text = lines.into_iter().map(|(level, text)| format!("{level:?} {text}"));
        text.collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn every_change_is_told_in_supervisors_words() {
        let code = |c| Some(Exit::Code(c));
        assert_eq!(told(S::Stopped, S::Starting, None), "Info spawned: 'web' with pid 7");
        assert_eq!(
            told(S::Starting, S::Running, None),
            "Info success: web entered RUNNING state, process has stayed up for > than 1 seconds \
             (startsecs)"
        );
        assert_eq!(
            told(S::Running, S::Starting, code(3)),
            "Warn exited: web (exit status 3; not expected) | Info spawned: 'web' with pid 7"
        );
        assert_eq!(
            told(S::Running, S::Exited, code(0)),
            "Info exited: web (exit status 0; expected)"
        );
        assert_eq!(
            told(S::Starting, S::Backoff, code(0)),
            "Warn exited: web (exit status 0; not expected)"
        );
        assert_eq!(told(S::Starting, S::Backoff, None), "Info spawnerr: can't find command 'x'");
        assert_eq!(
            told(S::Starting, S::Fatal, Some(Exit::Signal(11))),
            "Warn exited: web (terminated by SIGSEGV; not expected) | Info gave up: web entered FATAL \
             state, too many start retries too quickly"
        );
        assert_eq!(
            told(S::Running, S::Backoff, code(1)),
            "Warn exited: web (exit status 1; not expected) | Info spawnerr: can't find command 'x'"
        );
        assert_eq!(
            told(S::Stopping, S::Stopped, Some(Exit::Signal(15))),
            "Warn stopped: web (terminated by SIGTERM)"
        );
        assert_eq!(told(S::Stopping, S::Stopped, code(0)), "Info stopped: web (exit status 0)");
        assert_eq!(told(S::Backoff, S::Stopped, None), "");
    }

    #[test]
    fn a_line_begins_as_supervisors() {
        let at = Timestamp::from_millis(1_795_677_875_803);
        let line = line(at, &TimeZone::UTC, Level::Info, "spawned: 'x' with pid 1");
        assert_eq!(line, "2026-11-26 07:24:35,803 INFO spawned: 'x' with pid 1\n");
    }
}
