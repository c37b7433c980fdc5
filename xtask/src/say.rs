//! Words to the person at the terminal: results on stdout, progress on stderr. The only file here
//! that prints.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

/// Colours that a line may carry. None of them is the only carrier of a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Passed.
    Green,
    /// Failed.
    Red,
    /// A heading.
    Bold,
    /// Evidence.
    Dim,
}

/// Set once we are on the way out by a signal: what fails then is no finding.
static MUTED: AtomicBool = AtomicBool::new(false);

/// No more results.
pub(crate) fn mute() {
    MUTED.store(true, Ordering::Relaxed);
}

/// One line of results.
#[expect(clippy::print_stdout, reason = "this is the printer")]
pub(crate) fn line(text: &str) {
    if !MUTED.load(Ordering::Relaxed) {
        println!("{text}");
    }
}

/// Some lines of results.
pub(crate) fn lines(texts: impl IntoIterator<Item = String>) {
    texts.into_iter().for_each(|text| line(&text));
}

/// A line that the next [`line()`] will overwrite; nothing where stdout is no terminal.
pub(crate) fn passing(text: &str) {
    if std::io::stdout().is_terminal() {
        let mut out = std::io::stdout().lock();
        // A terminal that went away is noticed by the next real line.
        drop(write!(out, "{text}\r").and_then(|()| out.flush()));
    }
}

/// What is going on, for who waits.
#[expect(clippy::print_stderr, reason = "this is the printer")]
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

/// Whether stdout takes colours: a terminal, and `NO_COLOR` is not set.
pub(crate) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// `text` in `ink` where colours are wanted.
pub(crate) fn ink(text: &str, ink: Ink) -> String {
    if !colours() {
        return text.to_owned();
    }
    let code = match ink {
        Ink::Green => 32,
        Ink::Red => 31,
        Ink::Bold => 1,
        Ink::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
