//! Output for people and for programs: the only place that writes to the terminal, and the filter
//! for what other machines said.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

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

/// One line of text of another machine: control characters, which could move the cursor or change
/// colours, and marks that reverse the direction of text become U+FFFD.
#[must_use]
pub(crate) fn clean(text: &str) -> String {
    text.trim_end().chars().map(|c| if harmless(c) { c } else { '\u{fffd}' }).collect()
}

/// The same for a text of many lines, which keeps its line ends and tabs.
#[must_use]
pub(crate) fn clean_lines(text: &str) -> String {
    text.chars()
        .filter(|c| *c != '\r')
        .map(|c| if c == '\n' || harmless(c) { c } else { '\u{fffd}' })
        .collect()
}

fn harmless(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c == '\t' || !c.is_control()) && !turns
}

/// Columns of equal width, the last one as long as it likes.
#[must_use]
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |i: usize| {
        rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_turned_text_of_other_machines_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b]0;title\x07b\u{9b}31m\n"), "a\u{fffd}]0;title\u{fffd}b\u{fffd}31m");
        assert_eq!(clean("exe\u{202e}gpj"), "exe\u{fffd}gpj");
        assert_eq!(clean_lines("one\r\ntwo\tx\x1b[A\n"), "one\ntwo\tx\u{fffd}[A\n");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(table(&rows), ["a    bb", "ccc  d"]);
    }
}
