//! Output for people and for programs: results to standard output, the rest to standard error, and
//! the filter for what AWS said.

use std::{
    fmt,
    io::{self, Write as _},
};

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
        note(format_args!("hint: {}", clean(hint)));
    }
}

/// Text of another machine: control characters but line ends, which could move the cursor or change
/// colours, and marks that reverse the direction of text become U+FFFD.
#[must_use]
pub(crate) fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let bad = |c: char| (c.is_control() && c != '\n') || turns(c);
    text.trim_end().chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect()
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
    fn escape_sequences_of_aws_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b]0;t\x07\u{202e}b\nc\n"), "a\u{fffd}]0;t\u{fffd}\u{fffd}b\nc");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(table(&rows), ["a    bb", "ccc  d"]);
    }
}
