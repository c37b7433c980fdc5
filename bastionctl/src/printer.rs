//! Output for people and for programs: the only place that writes to the terminal.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

use palisade_cloud::terminal::clean;
use serde::Serialize;

use crate::failed::Failed;

/// Writes results to standard output and everything else to standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    json: bool,
    verbose: bool,
    lively: bool,
}

impl Printer {
    /// With JSON as results, if `json`; with timings on standard error, if `verbose`.
    #[must_use]
    pub(crate) fn new(json: bool, verbose: bool) -> Self {
        Self { json, verbose, lively: io::stderr().is_terminal() }
    }

    /// Whether results are JSON.
    #[must_use]
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// One line of a result. A reader that went away ends the output, not the verb.
    pub(crate) fn line(self, text: impl fmt::Display) {
        writeln!(io::stdout().lock(), "{text}").unwrap_or_default();
    }

    /// A document, indented.
    pub(crate) fn json(self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(text),
            Err(e) => self.note(format_args!("error: print as JSON: {e}")),
        }
    }

    /// News that is no result.
    pub(crate) fn note(self, text: impl fmt::Display) {
        writeln!(io::stderr().lock(), "{text}").unwrap_or_default();
    }

    /// What took how long, for who asked.
    pub(crate) fn detail(self, text: impl fmt::Display) {
        if self.verbose {
            self.note(text);
        }
    }

    /// A line that the next one replaces, on a terminal only.
    pub(crate) fn progress(self, text: impl fmt::Display) {
        if self.lively {
            write!(io::stderr().lock(), "\r\x1b[K{text}").unwrap_or_default();
        }
    }

    /// Takes away the last progress line.
    pub(crate) fn progress_done(self) {
        if self.lively {
            write!(io::stderr().lock(), "\r\x1b[K").unwrap_or_default();
        }
    }

    /// What failed, and what to do about it.
    pub(crate) fn failure(self, failed: &Failed) {
        self.note(format_args!("error: {failed}"));
        if let Some(hint) = failed.what_to_do() {
            self.note(format_args!("hint: {}", clean(hint)));
        }
    }
}
