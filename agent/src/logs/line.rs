//! From bytes to events: ends of lines, bad UTF-8, lines that are too long.
//!
//! Invariant: joining the pieces of a line gives the line again, and no piece is cut inside a
//! character.

use std::borrow::Cow;

use super::batch::MAX_MESSAGE;

/// The line without its carriage returns at the end.
pub(super) fn trim_end(mut line: &[u8]) -> &[u8] {
    while let [head @ .., b'\r'] = line {
        line = head;
    }
    line
}

/// The text of a line, and whether bytes had to be replaced by U+FFFD.
pub(super) fn decode(line: &[u8]) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(line) {
        Ok(text) => (Cow::Borrowed(text), false),
        Err(_) => (String::from_utf8_lossy(line), true),
    }
}

/// Cuts a text into pieces that fit in one event each. An empty text has none.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(floor_boundary(rest, MAX_MESSAGE));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The largest place not above `at` where the text may be cut.
fn floor_boundary(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// How many bytes of an unfinished line to take as a line of its own, given that it is longer than
/// one event: as [`pieces`] would cut it, were it valid text.
pub(super) fn raw_cut(line: &[u8]) -> usize {
    let limit = line.len().min(MAX_MESSAGE);
    // A character has at most three bytes after its first.
    let boundary = (limit.saturating_sub(3)..=limit)
        .rev()
        .find(|i| line.get(*i).is_none_or(|b| b & 0xc0 != 0x80));
    boundary.filter(|b| *b > 0).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn carriage_returns_go_and_other_space_stays() {
        assert_eq!(trim_end(b"a \r\r"), b"a ");
        assert_eq!(trim_end(b"\r"), b"");
        assert_eq!(trim_end(b"\ra"), b"\ra");
    }

    #[test]
    fn bad_bytes_are_replaced_and_told() {
        assert_eq!(decode(b"a\xffb"), (Cow::Borrowed("a\u{fffd}b"), true));
        assert_eq!(decode("é".as_bytes()), (Cow::Borrowed("é"), false));
    }

    #[test]
    fn the_largest_event_is_whole_and_one_byte_more_is_two() {
        let largest = "x".repeat(MAX_MESSAGE);
        assert_eq!(pieces(&largest).count(), 1);
        assert_eq!(pieces(&(largest + "y")).map(str::len).collect::<Vec<_>>(), [MAX_MESSAGE, 1]);
        assert_eq!(pieces("").count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn pieces_join_to_the_line_and_cut_no_character(pad in 0_usize..8, c in any::<char>()) {
            let text = "x".repeat(pad) + &c.to_string().repeat(MAX_MESSAGE * 2 / c.len_utf8() + 3);
            let parts: Vec<&str> = pieces(&text).collect();
            prop_assert!(parts.iter().all(|p| p.len() <= MAX_MESSAGE && !p.is_empty()));
            prop_assert_eq!(parts.concat(), text.clone());
            let cut = raw_cut(text.as_bytes());
            prop_assert_eq!(cut, parts[0].len());
        }
    }
}
