//! What keys and news make of the model, and what is to be done then.

use palisade_types::{ProcessName, control::Outcome};

use crate::{
    logs::Lines,
    model::{Act, Link, LogPane, Mode, Model, SIGNALS},
    ports::{Output, Snapshot, Tone},
    rows::Order,
};

/// The longest filter.
const MAX_FILTER: usize = 64;

/// Requests without an answer, beyond which no more are made.
const MAX_PENDING: usize = 16;

/// Columns by which a log is moved sideways.
const SIDEWAYS: usize = 20;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Tab,
    Backspace,
    Char(char),
    /// Control and C.
    Interrupt,
}

/// What comes in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    Key(Key),
    Snapshot(Result<Snapshot, String>),
    /// What came of an act.
    Done {
        act: Act,
        on: ProcessName,
        result: Result<Vec<Outcome>, String>,
    },
    /// Bytes of the log with this id.
    Log(u64, Vec<u8>),
    /// That log has ended.
    LogEnded(u64, Result<(), String>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Quit,
    Do(Act, ProcessName),
    /// Follow this log in place of any other.
    Follow {
        id: u64,
        process: ProcessName,
        output: Output,
    },
    Unfollow,
}

impl Model {
    /// Takes in what came.
    pub(crate) fn step(&mut self, input: Input, now: i64) -> Option<Effect> {
        match input {
            Input::Key(Key::Interrupt) => Some(Effect::Quit),
            Input::Key(key) => self.key(key),
            Input::Snapshot(Ok(snapshot)) => {
                (self.snapshot, self.link) = (snapshot, Link::Up);
                self.settle();
                None
            }
            Input::Snapshot(Err(why)) => {
                let since = match &self.link {
                    Link::Away { since, .. } => *since,
                    Link::Connecting | Link::Up => now,
                };
                self.link = Link::Away { why, since };
                None
            }
            Input::Done { act, on, result } => {
                self.pending = self.pending.saturating_sub(1);
                match result {
                    Ok(outcomes) => self.say_outcomes(&outcomes),
                    Err(why) => {
                        let what = act.progress(&on);
                        self.say(Tone::Bad, format!("{}: {why}", what.trim_end_matches(" ...")));
                    }
                }
                None
            }
            Input::Log(id, bytes) => {
                if let Some(pane) = self.pane(id) {
                    pane.push(&bytes);
                }
                None
            }
            Input::LogEnded(id, result) => {
                if let Some(pane) = self.pane(id) {
                    let why = result.err().unwrap_or_else(|| "the agent ended it".to_owned());
                    pane.ended = Some(why);
                }
                None
            }
        }
    }

    fn pane(&mut self, id: u64) -> Option<&mut LogPane> {
        match &mut self.mode {
            Mode::Log(pane) if pane.id == id => Some(pane),
            Mode::Log(_)
            | Mode::List
            | Mode::Filter { .. }
            | Mode::Confirm { .. }
            | Mode::Signals { .. }
            | Mode::Help => None,
        }
    }

    fn key(&mut self, key: Key) -> Option<Effect> {
        self.note = None;
        // Taken out, so that the rest of the model can be changed; each arm says what follows it.
        match std::mem::replace(&mut self.mode, Mode::List) {
            Mode::List => self.key_in_list(key),
            Mode::Filter { before } => self.key_in_filter(key, before),
            Mode::Confirm { act, on } => match key {
                Key::Char('y' | 'Y') | Key::Enter => self.ask_for(act, on),
                _ => None,
            },
            Mode::Signals { on, at } => self.key_in_signals(key, on, at),
            Mode::Help => None,
            Mode::Log(pane) => self.key_in_log(key, pane),
        }
    }

    fn key_in_list(&mut self, key: Key) -> Option<Effect> {
        let at = self.current().map_or(0, |(at, _)| at);
        let page = self.seen.page.max(1);
        match key {
            Key::Up | Key::Char('k') => self.select(at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(at + 1),
            Key::PageUp => self.select(at.saturating_sub(page)),
            Key::PageDown => self.select(at + page),
            Key::Home | Key::Char('g') => self.select(0),
            Key::End | Key::Char('G') => self.select(usize::MAX),
            Key::Char('q') => return Some(Effect::Quit),
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Char('/') => self.mode = Mode::Filter { before: self.filter.clone() },
            Key::Escape => {
                self.filter.clear();
                self.settle();
            }
            Key::Char('c') => self.sort(Order::Cpu),
            Key::Char('m') => self.sort(Order::Memory),
            Key::Char('o') => self.sort(Order::Restarts),
            Key::Char('n') => self.sort(Order::Agent),
            Key::Char(c @ ('r' | 'R' | 's' | 'x' | 't')) => return self.key_on_process(c),
            Key::Enter => return self.key_on_process('t'),
            Key::Left | Key::Right | Key::Tab | Key::Backspace | Key::Char(_) => {}
            Key::Interrupt => return Some(Effect::Quit),
        }
        None
    }

    /// A key that acts on the process under the cursor.
    fn key_on_process(&mut self, key: char) -> Option<Effect> {
        let (_, row) = self.current()?;
        let (on, is_up) = (row.status.name.clone(), row.status.state.counts_as_up());
        match key {
            'r' => self.mode = Mode::Confirm { act: Act::Restart, on },
            'R' => self.mode = Mode::Confirm { act: Act::Roll, on },
            's' if is_up => self.mode = Mode::Confirm { act: Act::Stop, on },
            's' => return self.ask_for(Act::Start, on),
            'x' => self.mode = Mode::Signals { on, at: 0 },
            _ => return Some(self.follow(on, Output::Stdout)),
        }
        None
    }

    fn sort(&mut self, order: Order) {
        self.order = order;
        self.settle();
    }

    fn ask_for(&mut self, act: Act, on: ProcessName) -> Option<Effect> {
        if self.pending >= MAX_PENDING {
            self.say(Tone::Bad, format!("{MAX_PENDING} requests wait for the agent already"));
            return None;
        }
        self.pending += 1;
        self.say(Tone::Busy, act.progress(&on));
        Some(Effect::Do(act, on))
    }

    fn key_in_filter(&mut self, key: Key, before: String) -> Option<Effect> {
        match key {
            Key::Enter => return None,
            Key::Escape => {
                self.filter = before;
                self.settle();
                return None;
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(c) if self.filter.len() < MAX_FILTER => self.filter.push(c),
            Key::Up => self.select(self.at.saturating_sub(1)),
            Key::Down => self.select(self.at + 1),
            _ => {}
        }
        self.mode = Mode::Filter { before };
        self.settle();
        None
    }

    fn key_in_signals(&mut self, key: Key, on: ProcessName, at: usize) -> Option<Effect> {
        let last = SIGNALS.len() - 1;
        let at = match key {
            Key::Up | Key::Char('k') => at.saturating_sub(1),
            Key::Down | Key::Char('j') => (at + 1).min(last),
            Key::Home => 0,
            Key::End => last,
            Key::Enter => {
                let (name, _) = SIGNALS.get(at)?;
                return self.ask_for(Act::Signal(name), on);
            }
            Key::Escape | Key::Char('q') => return None,
            _ => at,
        };
        self.mode = Mode::Signals { on, at };
        None
    }

    fn follow(&mut self, process: ProcessName, output: Output) -> Effect {
        self.last_log += 1;
        let id = self.last_log;
        self.mode = Mode::Log(Box::new(LogPane {
            id,
            process: process.clone(),
            output,
            lines: Lines::default(),
            below: 0,
            column: 0,
            ended: None,
        }));
        Effect::Follow { id, process, output }
    }

    fn key_in_log(&mut self, key: Key, mut pane: Box<LogPane>) -> Option<Effect> {
        let page = self.seen.page.max(1);
        let most = pane.lines.len().saturating_sub(page);
        match key {
            Key::Escape | Key::Char('q' | 't') => return Some(Effect::Unfollow),
            Key::Tab => return Some(self.follow(pane.process, pane.output.other())),
            Key::Up | Key::Char('k') => pane.below = (pane.below + 1).min(most),
            Key::Down | Key::Char('j') => pane.below = pane.below.saturating_sub(1),
            Key::PageUp => pane.below = (pane.below + page).min(most),
            Key::PageDown => pane.below = pane.below.saturating_sub(page),
            Key::Home | Key::Char('g') => pane.below = most,
            Key::End | Key::Char('G') => pane.below = 0,
            Key::Left => pane.column = pane.column.saturating_sub(SIDEWAYS),
            Key::Right => pane.column = (pane.column + SIDEWAYS).min(crate::logs::MAX_LINE_BYTES),
            Key::Enter | Key::Backspace | Key::Char(_) | Key::Interrupt => {}
        }
        self.mode = Mode::Log(pane);
        None
    }
}

impl LogPane {
    /// Takes more of the log. Whoever reads further up keeps seeing the same lines.
    fn push(&mut self, bytes: &[u8]) {
        let before = self.lines.len();
        let gone = self.lines.push(bytes);
        if self.below > 0 {
            let added = (self.lines.len() + gone).saturating_sub(before);
            self.below = (self.below + added).min(self.lines.len().saturating_sub(1));
        }
    }
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
