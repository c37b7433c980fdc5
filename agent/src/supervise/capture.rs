//! Communications in the output of a process: what stands between Supervisor's marks is told as an event
//! and is no output.
//!
//! A communication stays in its pipe until its end is there, so that it survives the agent as a line
//! does. One that is longer than a pipe can hold well is kept here meanwhile; of that, the newest part.

use super::output::LONGEST_LINE;

const BEGIN: &[u8] = b"<!--XSUPERVISOR:BEGIN-->";
const END: &[u8] = b"<!--XSUPERVISOR:END-->";

/// What is done with the first bytes of what is in a pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// So many are output.
    pub(super) output: usize,
    /// Then this was said.
    pub(super) message: Option<Vec<u8>>,
    /// So many are done with, in all.
    pub(super) taken: usize,
    /// A communication whose end is not there yet.
    pub(super) open: Option<Vec<u8>>,
}

/// Looks at what is in a pipe. `open` is what the last look left, `is_ended` that its writer is gone,
/// `most` how much of a communication is kept, 0 if there are none.
pub(super) fn split(open: Option<Vec<u8>>, seen: &[u8], is_ended: bool, most: usize) -> Split {
    if most == 0 {
        let output = ripe(seen, is_ended);
        return Split { output, taken: output, ..Split::default() };
    }
    if let Some(said) = open {
        return go_on(said, seen, is_ended, most);
    }
    let Some(begin) = find(seen, BEGIN) else {
        let output = without_prefix(seen, ripe(seen, is_ended), BEGIN, is_ended);
        return Split { output, taken: output, ..Split::default() };
    };
    let rest = seen.get(begin + BEGIN.len()..).unwrap_or_default();
    let before = Split { output: begin, taken: begin, ..Split::default() };
    if find(rest, END).is_none() && rest.len() < LONGEST_LINE && !is_ended {
        return before;
    }
    let after = go_on(Vec::new(), rest, is_ended, most);
    Split { output: begin, taken: begin + BEGIN.len() + after.taken, ..after }
}

/// The rest of a communication, or more of it.
fn go_on(mut said: Vec<u8>, seen: &[u8], is_ended: bool, most: usize) -> Split {
    if let Some(end) = find(seen, END) {
        add(&mut said, seen.get(..end).unwrap_or_default(), most);
        return Split { message: Some(said), taken: end + END.len(), ..Split::default() };
    }
    if is_ended {
        // Its writer is gone: there will be no end, and half a message means nothing.
        return Split { taken: seen.len(), ..Split::default() };
    }
    let taken = without_prefix(seen, seen.len(), END, false);
    add(&mut said, seen.get(..taken).unwrap_or_default(), most);
    Split { taken, open: Some(said), ..Split::default() }
}

/// Keeps the newest `most` bytes.
fn add(said: &mut Vec<u8>, more: &[u8], most: usize) {
    said.extend_from_slice(more);
    let over = said.len().saturating_sub(most);
    said.drain(..over);
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, mark)
}

/// `upto`, but before what may be the beginning of a mark.
fn without_prefix(bytes: &[u8], upto: usize, mark: &[u8], is_ended: bool) -> usize {
    if is_ended || upto < bytes.len() {
        return upto;
    }
    let longest =
        (1..mark.len()).rev().find(|n| mark.get(..*n).is_some_and(|m| bytes.ends_with(m)));
    upto - longest.unwrap_or(0)
}

/// How much of what is in the pipe is to be given away.
fn ripe(seen: &[u8], is_ended: bool) -> usize {
    match memchr::memrchr(b'\n', seen) {
        Some(at) => at + 1,
        None if is_ended => seen.len(),
        None if seen.len() >= LONGEST_LINE => whole_characters(seen),
        None => 0,
    }
}

/// How long the text is without the beginning of a character at its end, whose rest is not there yet.
fn whole_characters(bytes: &[u8]) -> usize {
    let last =
        bytes.iter().rev().take(3).position(|b| *b >= 0xc0).map(|back| bytes.len() - 1 - back);
    let Some(at) = last else { return bytes.len() };
    let length = match bytes.get(at) {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        _ => 2,
    };
    if at + length > bytes.len() { at } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_line_is_not_cut_inside_a_character() {
        for c in ["x", "é", "漢", "😀"] {
            for pad in 0..4 {
                let text = "x".repeat(pad) + &c.repeat(LONGEST_LINE + 16);
                for len in LONGEST_LINE + 8..LONGEST_LINE + 16 {
                    let seen = &text.as_bytes()[..len];
                    let given = split(None, seen, false, 0).output;
                    assert!(given + 3 >= len && text.is_char_boundary(given), "{c} {pad} {len}");
                    assert_eq!(split(None, seen, true, 0).output, len);
                }
            }
        }
        // What is no text goes as it is.
        let bytes = vec![0x80; LONGEST_LINE];
        assert_eq!(split(None, &bytes, false, 0).output, LONGEST_LINE);
    }

    /// Puts `parts` into a pipe one by one. Returns the output and the messages.
    fn carry(parts: &[&[u8]], most: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut pipe, mut open, mut output, mut messages) =
            (Vec::new(), None, Vec::new(), Vec::new());
        for (i, part) in parts.iter().enumerate() {
            pipe.extend_from_slice(part);
            loop {
                let is_ended = i + 1 == parts.len();
                let split = split(open.take(), &pipe, is_ended, most);
                output.extend_from_slice(&pipe[..split.output]);
                messages.extend(split.message);
                open = split.open;
                pipe.drain(..split.taken);
                if split.taken == 0 {
                    break;
                }
            }
        }
        assert!(pipe.is_empty(), "left at the end: {pipe:?}");
        (output, messages)
    }

    #[test]
    fn what_stands_between_the_marks_is_a_message_and_no_output() {
        let text = b"one\n<!--XSUPERVISOR:BEGIN-->hello\nthere<!--XSUPERVISOR:END-->two\n";
        let (output, messages) = carry(&[text], 100);
        assert_eq!((&output[..], messages), (&b"one\ntwo\n"[..], vec![b"hello\nthere".to_vec()]));
        let (output, messages) = carry(&[text], 0);
        assert_eq!((&output[..], messages), (&text[..], vec![]));
    }

    #[test]
    fn a_message_without_any_newline_is_told_at_once() {
        let split = split(None, b"<!--XSUPERVISOR:BEGIN-->x<!--XSUPERVISOR:END-->", false, 9);
        assert_eq!((split.message, split.taken), (Some(b"x".to_vec()), 47));
    }

    #[test]
    fn a_message_stays_in_its_pipe_until_its_end_is_there() {
        let seen = b"a\n<!--XSUPERVISOR:BEGIN-->hel";
        let split = split(None, seen, false, 9);
        assert_eq!(split, Split { output: 2, taken: 2, ..Split::default() });
    }

    #[test]
    fn of_a_long_message_the_newest_part_is_kept_and_half_a_message_is_none() {
        let long = [BEGIN, &vec![b'x'; LONGEST_LINE * 3], b"end", END].concat();
        let (output, messages) = carry(&long.chunks(5000).collect::<Vec<_>>(), 10);
        assert_eq!((output.len(), &messages[0][..]), (0, &b"xxxxxxxend"[..]));
        let (output, messages) = carry(&[b"a\n<!--XSUPERVISOR:BEGIN-->half"], 10);
        assert_eq!((&output[..], messages.len()), (&b"a\n"[..], 0));
    }

    proptest! {
        /// However the output comes in parts, it is the same output and the same messages.
        #[test]
        fn parts_do_not_matter(
            words in proptest::collection::vec((0_u8..6, 0_usize..40), 0..20),
            cuts in proptest::collection::vec(1_usize..60, 1..60),
        ) {
            let mut text = Vec::new();
            for (kind, n) in words {
                match kind {
                    0 => text.extend_from_slice(BEGIN),
                    1 => text.extend_from_slice(END),
                    2 => text.extend_from_slice(&BEGIN[..n.min(BEGIN.len())]),
                    3 => text.push(b'\n'),
                    _ => text.extend(std::iter::repeat_n(b'y', n)),
                }
            }
            let mut parts: Vec<&[u8]> = Vec::new();
            let mut rest = &text[..];
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.push(part);
                rest = after;
            }
            parts.push(rest);
            prop_assert_eq!(carry(&parts, 1000), carry(&[&text], 1000));
        }
    }
}
