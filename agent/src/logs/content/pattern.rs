//! Regular expressions of the operator's: matched in linear time, bounded in size.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

/// Most bytes that a compiled pattern may take; "a{1000}{1000}" is an error and not the host's memory.
const SIZE_LIMIT: usize = 1 << 20;

/// A pattern, compiled.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(String);

impl Pattern {
    /// Compiles it. It must not match the empty text.
    ///
    /// # Errors
    /// What is wrong and where in the pattern.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        let regex = RegexBuilder::new(pattern)
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .build()
            .map_err(|e| BadPattern(one_line(&e)))?;
        if regex.is_match(b"") {
            return Err(BadPattern("it matches the empty text, and so everywhere".to_owned()));
        }
        Ok(Self(regex))
    }

    /// The first match at `from` or later.
    pub(super) fn find(&self, line: &[u8], from: usize) -> Option<Range<usize>> {
        if from > line.len() {
            return None;
        }
        self.0.find_at(line, from).map(|m| m.range())
    }

    /// Whether it is in the line.
    pub(super) fn is_in(&self, line: &[u8]) -> bool {
        self.0.is_match(line)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// The parser draws a picture over several lines; this makes one of it, with the column it points at.
fn one_line(e: &regex::Error) -> String {
    let text = e.to_string();
    let column = text.lines().find_map(|l| l.trim_end().ends_with('^').then(|| l.find('^'))?);
    // The picture is indented by four.
    let at = column.map(|c| format!(" at character {}", c.saturating_sub(3))).unwrap_or_default();
    let what = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("is no pattern");
    format!("{}{at}", what.trim().trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_pattern_says_what_and_where() {
        let says = |p: &str| Pattern::new(p).unwrap_err().to_string();
        assert_eq!(says("ab(c"), "unclosed group at character 3");
        assert!(says("x*").contains("matches the empty text"));
        assert!(
            says("(a{1000}){1000}").contains("exceeds size limit"),
            "{}",
            says("(a{1000}){1000}")
        );
        assert!(says("(?<=a)b").contains("look-around"), "{}", says("(?<=a)b"));
    }

    #[test]
    fn the_longest_text_takes_linear_time() {
        // In a matcher that backtracks this takes the age of the universe.
        let pattern = Pattern::new("(a+)+b").unwrap();
        assert_eq!(pattern.find("a".repeat(50_000).as_bytes(), 0), None);
    }
}
