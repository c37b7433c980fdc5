//! The log of one process while it is followed: its last lines, made harmless for a terminal.

use std::collections::VecDeque;

/// Lines kept; the oldest goes beyond.
const MAX_LINES: usize = 5_000;

/// A longer line is broken here.
pub(crate) const MAX_LINE_BYTES: usize = 8 << 10;

/// The last lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    whole: VecDeque<String>,
    /// Bytes behind the last line's end.
    rest: Vec<u8>,
}

impl Lines {
    /// Takes what was written. Returns how many lines went at the front, so that whoever looks at a
    /// place in the middle stays there.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let mut gone = 0;
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            for part in piece.chunks(MAX_LINE_BYTES) {
                self.rest.extend_from_slice(part);
                if self.rest.ends_with(b"\n") || self.rest.len() >= MAX_LINE_BYTES {
                    let line = std::mem::take(&mut self.rest);
                    self.whole.push_back(plain(&line));
                }
                while self.whole.len() > MAX_LINES {
                    self.whole.pop_front();
                    gone += 1;
                }
            }
        }
        gone
    }

    /// All lines, also the one that is not finished.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = String> + '_ {
        let rest = (!self.rest.is_empty()).then(|| plain(&self.rest));
        self.whole.iter().cloned().chain(rest)
    }

    pub(crate) fn len(&self) -> usize {
        self.whole.len() + usize::from(!self.rest.is_empty())
    }
}

/// Text without what a terminal would obey: escape sequences go whole, other control characters too,
/// and tabs become spaces.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => {
                let column = out.chars().count();
                out.extend(std::iter::repeat_n(' ', 8 - column % 8));
            }
            '\x1b' => match chars.next() {
                // A control sequence ends with a letter or one of @[\]^_`{|}~.
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // A string for the terminal ends with BEL or ESC \.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(c) = chars.next() {
                        if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                // Two characters, or one with something between.
                Some(' '..='/') => {
                    chars.next();
                }
                _ => {}
            },
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(of: &Lines) -> Vec<String> {
        of.iter().collect()
    }

    #[test]
    fn a_line_comes_in_pieces_and_is_seen_before_its_end() {
        let mut log = Lines::default();
        log.push(b"one\ntw");
        assert_eq!(lines(&log), ["one", "tw"]);
        log.push(b"o\n");
        assert_eq!((lines(&log), log.len()), (vec!["one".to_owned(), "two".to_owned()], 2));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let evil =
            "\x1b[31mred\x1b[0m \x1b]0;title\x07a\x1b]52;c;eA==\x1b\\b\x1b(Bc\r\x08d\te\u{9b}f";
        assert_eq!(plain(evil.as_bytes()), "red abcd        ef");
        assert_eq!(plain(b"cut off \x1b["), "cut off ");
        assert_eq!(plain(b"not utf-8 \xff!"), "not utf-8 \u{fffd}!");
    }

    #[test]
    fn lines_and_their_number_are_bounded() {
        let mut log = Lines::default();
        log.push(&vec![b'x'; MAX_LINE_BYTES * 3 + 1]);
        assert_eq!(log.len(), 4);
        let gone = log.push(&b"y\n".repeat(MAX_LINES + 5));
        assert_eq!(log.whole.len(), MAX_LINES);
        // Three were whole already; the fourth got its end from the first of these.
        assert_eq!(gone, 3 + 5);
    }
}
