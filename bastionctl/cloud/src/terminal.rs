//! What both tools show of other machines: text that cannot paint the terminal, and columns.

/// One line of text of another machine: control characters, which could move the cursor or change
/// colours, and marks that reverse the direction of text become U+FFFD.
#[must_use]
pub fn clean(text: &str) -> String {
    text.trim_end().chars().map(|c| if harmless(c) { c } else { '\u{fffd}' }).collect()
}

/// The same for a text of many lines, which keeps its line ends and tabs.
#[must_use]
pub fn clean_lines(text: &str) -> String {
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
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
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
        let lines = clean_lines("a\x1b]0;t\x07\u{202e}b\nc\n");
        assert_eq!(lines.trim_end(), "a\u{fffd}]0;t\u{fffd}\u{fffd}b\nc");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(table(&rows), ["a    bb", "ccc  d"]);
    }
}
