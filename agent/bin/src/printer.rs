//! Output for people and for programs: the only place that writes to the terminal.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

use palisade_types::ProcessState;
use serde::Serialize;

use crate::exit::Failed;

/// Writes to standard output and standard error; colours only a terminal, and not with `NO_COLOR`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    colour: bool,
}

/// A colour that says how well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Busy,
    Bad,
    Plain,
}

impl Printer {
    pub(crate) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { colour: wanted && io::stdout().is_terminal() }
    }

    /// One that never uses a colour.
    pub(crate) fn plain() -> Self {
        Self { colour: false }
    }

    /// Whether colours are wanted.
    pub(crate) fn has_colour(self) -> bool {
        self.colour
    }

    /// One line on standard output. A reader that went away ends the output, not the command.
    pub(crate) fn line(self, text: impl fmt::Display) {
        writeln!(io::stdout().lock(), "{text}").unwrap_or_default();
    }

    /// Bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// A document, indented.
    pub(crate) fn json(self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(text),
            Err(e) => self.note(format_args!("error: print as JSON: {e}")),
        }
    }

    /// One line on standard error: progress and news that is not the result.
    pub(crate) fn note(self, text: impl fmt::Display) {
        writeln!(io::stderr().lock(), "{text}").unwrap_or_default();
    }

    /// What failed, and what to do about it.
    pub(crate) fn failure(self, failed: &Failed) {
        self.note(format_args!("error: {failed}"));
        if let Some(hint) = failed.hint() {
            self.note(format_args!("hint: {hint}"));
        }
    }

    /// Text in a colour, where colours are wanted.
    pub(crate) fn paint(self, tone: Tone, text: impl fmt::Display) -> String {
        let code = match tone {
            _ if !self.colour => return text.to_string(),
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "31",
            Tone::Plain => return text.to_string(),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_on_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Puts these lines on the terminal in place of what is there, as many as fit.
    pub(crate) fn view(self, lines: &[String]) -> io::Result<()> {
        let room = palisade_top::rows().unwrap_or(usize::MAX).saturating_sub(1).max(1);
        // From the top, each line to its end and not beyond, and nothing below: so nothing flickers.
        let mut text = "\x1b[H\x1b[?7l".to_owned();
        let lines: Vec<_> = lines.iter().flat_map(|l| l.split('\n')).collect();
        let shown = if lines.len() > room { room - 1 } else { lines.len() };
        for line in lines.iter().take(shown) {
            text += line;
            text += "\x1b[K\r\n";
        }
        if shown < lines.len() {
            text += &format!("... and {} lines more\x1b[K\r\n", lines.len() - shown);
        }
        text += "\x1b[J\x1b[?7h";
        self.bytes(text.as_bytes())
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
