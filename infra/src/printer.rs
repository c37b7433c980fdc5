//! Output for people and for programs: results to standard output, the rest to standard error.

use std::{
    fmt,
    io::{self, Write as _},
};

use palisade_cloud::terminal::clean_lines;
use serde::Serialize;

use crate::failed::Failed;

/// One line of a result. A reader that went away ends the output, not the verb.
pub(crate) fn line(text: impl fmt::Display) {
    writeln!(io::stdout().lock(), "{text}").unwrap_or_default();
}

/// A document, indented.
pub(crate) fn json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(e) => note(format_args!("error: print as JSON: {e}")),
    }
}

/// News that is no result.
pub(crate) fn note(text: impl fmt::Display) {
    writeln!(io::stderr().lock(), "{text}").unwrap_or_default();
}

/// What failed, and what to do about it.
pub(crate) fn failure(failed: &Failed) {
    failed.told_before().iter().for_each(note);
    note(format_args!("error: {failed}"));
    if let Some(hint) = failed.what_to_do() {
        note(format_args!("hint: {}", clean_lines(hint.trim_end())));
    }
}
