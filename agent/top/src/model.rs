//! What is on the screen: a value, and how it is read.

use palisade_types::{ProcessName, ProcessState, ProcessWithUsage, control::Outcome};

use crate::{
    logs::Lines,
    ports::{Output, Snapshot, Tone},
    rows::{Order, visible},
};

/// What can be done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Replace it: where its settings allow, the new one is ready before the old one stops.
    Roll,
    /// Send it a signal, by its name without `SIG`.
    Signal(&'static str),
}

impl Act {
    /// What is asked before it is done.
    pub(crate) fn question(self, on: &ProcessName) -> String {
        match self {
            Self::Start => format!("Start {on}?"),
            Self::Stop => format!("Stop {on}?"),
            Self::Restart => format!("Restart {on}?"),
            Self::Roll => format!("Replace {on}, rolling?"),
            Self::Signal(name) => format!("Send {name} to {on}?"),
        }
    }

    /// What is said while it is being done.
    pub(crate) fn progress(self, on: &ProcessName) -> String {
        match self {
            Self::Start => format!("starting {on} ..."),
            Self::Stop => format!("stopping {on} ..."),
            Self::Restart => format!("restarting {on} ..."),
            Self::Roll => format!("replacing {on} ..."),
            Self::Signal(name) => format!("sending {name} to {on} ..."),
        }
    }
}

/// The signals to choose from, and what programs use them for.
pub(crate) const SIGNALS: &[(&str, &str)] = &[
    ("HUP", "reload"),
    ("TERM", "end"),
    ("INT", "end at once, or warmly"),
    ("QUIT", "end at once, or coldly"),
    ("USR1", "reopen logs"),
    ("USR2", "upgrade"),
    ("TTIN", "one worker more"),
    ("TTOU", "one worker less"),
    ("WINCH", "workers away"),
    ("STOP", "freeze"),
    ("CONT", "go on"),
    ("KILL", "kill: no time to clean up"),
];

/// Whether the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Nothing came yet.
    Connecting,
    /// The last answer is what is shown.
    Up,
    /// It does not answer; what is shown is as it was.
    Away {
        why: String,
        /// Unix time in milliseconds.
        since: i64,
    },
}

/// What keys are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Moving in the list.
    List,
    /// Writing the filter; `before` is what it was.
    Filter { before: String },
    /// Saying yes or no.
    Confirm { act: Act, on: ProcessName },
    /// Choosing a signal.
    Signals { on: ProcessName, at: usize },
    /// Reading about keys.
    Help,
    /// Reading a log.
    Log(Box<LogPane>),
}

/// A log that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogPane {
    /// Tells its bytes from those of a log that was followed before.
    pub(crate) id: u64,
    pub(crate) process: ProcessName,
    pub(crate) output: Output,
    pub(crate) lines: Lines,
    /// Lines below the lowest one that is shown; 0 follows the end.
    pub(crate) below: usize,
    /// Columns left of the first one that is shown.
    pub(crate) column: usize,
    /// Why nothing more comes, where that is so.
    pub(crate) ended: Option<String>,
}

/// What is said in the last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

/// What the last drawing found out about the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Rows of the list, or of the log, that fit.
    pub(crate) page: usize,
    /// The first row of the list that is shown.
    pub(crate) top: usize,
}

/// Everything on the screen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) link: Link,
    pub(crate) snapshot: Snapshot,
    pub(crate) order: Order,
    pub(crate) filter: String,
    pub(crate) mode: Mode,
    pub(crate) note: Option<Note>,
    pub(crate) seen: Seen,
    /// The process that keys act on, and where it was last in the list.
    pub(crate) selected: Option<ProcessName>,
    pub(crate) at: usize,
    /// Requests that have no answer yet.
    pub(crate) pending: usize,
    /// The id of the log that was followed last.
    pub(crate) last_log: u64,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            link: Link::Connecting,
            snapshot: Snapshot::default(),
            order: Order::Agent,
            filter: String::new(),
            mode: Mode::List,
            note: None,
            seen: Seen::default(),
            selected: None,
            at: 0,
            pending: 0,
            last_log: 0,
        }
    }

    /// The rows that are in the list, in its order.
    pub(crate) fn rows(&self) -> Vec<&ProcessWithUsage> {
        visible(&self.snapshot.programs, self.order, &self.filter)
    }

    /// The row that keys act on, and its place.
    pub(crate) fn current(&self) -> Option<(usize, &ProcessWithUsage)> {
        let rows = self.rows();
        let named = |r: &&ProcessWithUsage| Some(&r.status.name) == self.selected.as_ref();
        // Where it was, if it is gone: the cursor stays, the rows move up.
        let at = rows.iter().position(named).unwrap_or(self.at.min(rows.len().saturating_sub(1)));
        rows.get(at).map(|row| (at, *row))
    }

    /// Puts the cursor on this row, or on the last one.
    pub(crate) fn select(&mut self, at: usize) {
        let rows = self.rows();
        let at = at.min(rows.len().saturating_sub(1));
        let name = rows.get(at).map(|r| r.status.name.clone());
        (self.selected, self.at) = (name, at);
    }

    /// Keeps the cursor where [`Self::current`] says after rows came, went or moved.
    pub(crate) fn settle(&mut self) {
        let at = self.current().map_or(0, |(at, _)| at);
        self.select(at);
    }

    pub(crate) fn say(&mut self, tone: Tone, text: String) {
        self.note = Some(Note { text, tone });
    }

    /// What came of a request, in one line.
    pub(crate) fn say_outcomes(&mut self, outcomes: &[Outcome]) {
        let all: Vec<_> = outcomes.iter().map(|o| format!("{}: {}", o.name, o.what)).collect();
        let tone = if outcomes.iter().all(|o| o.ok) { Tone::Good } else { Tone::Bad };
        self.say(tone, all.join(", "));
    }
}

/// How well a process in this state is.
pub(crate) fn tone(state: ProcessState) -> Tone {
    match state {
        ProcessState::Running => Tone::Good,
        ProcessState::Starting | ProcessState::Stopping | ProcessState::Backoff => Tone::Busy,
        ProcessState::Fatal | ProcessState::Unknown => Tone::Bad,
        ProcessState::Stopped | ProcessState::Exited => Tone::Plain,
    }
}
