//! What a listener says on its standard output, word by word. No pipe here: bytes that are there come
//! in, and what they mean goes out with how many of them it is.
//!
//! ```text
//!             READY           an event is sent           RESULT n, n bytes
//! Acknowledged ------> Ready ------------------> Busy ---------------------> Acknowledged
//!      |                 | anything                | no number
//!      +-----------------+-----------> Unknown <---+      (for ever: it is sent nothing any more)
//! ```
//! `READY` stays in the pipe until an event was sent: so a new agent reads from the pipe itself that
//! the listener waits.
#![warn(clippy::wildcard_enum_match_arm)]

/// What a listener says when it waits for an event.
const READY: &[u8] = b"READY\n";

/// What the answer to an event begins with. Supervisor looks only at what follows; so do we.
const RESULT: usize = b"RESULT ".len();

/// The longest answer. One that announces more than this would fill its pipe before it is whole.
const MAX_RESULT: usize = 32 << 10;

/// The longest first line of an answer.
const MAX_LINE: usize = 256;

/// Where the talk with a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is to say that it is ready.
    Acknowledged,
    /// It waits for an event.
    Ready,
    /// It has one to answer.
    Busy,
    /// It said what it must not say.
    Unknown,
}

/// What a listener said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing that is whole.
    Nothing,
    /// It waits for an event.
    Ready,
    /// It has dealt with its event.
    Done,
    /// It wants its event dealt with by another, or again.
    Refused,
    /// What makes no sense here, in short.
    Nonsense(String),
}

/// What the first bytes mean, and how many of them are to be taken out of the pipe.
pub(super) fn listen(phase: Phase, bytes: &[u8]) -> (Said, usize) {
    match phase {
        _ if bytes.is_empty() => (Said::Nothing, 0),
        Phase::Unknown => (Said::Nothing, bytes.len()),
        Phase::Acknowledged if READY.starts_with(bytes) && bytes.len() < READY.len() => {
            (Said::Nothing, 0)
        }
        // Supervisor too waits for six bytes before it judges.
        Phase::Acknowledged if bytes.len() < READY.len() => (Said::Nothing, 0),
        Phase::Acknowledged if bytes.starts_with(READY) => (Said::Ready, 0),
        Phase::Acknowledged => nonsense(bytes),
        Phase::Ready if bytes == READY => (Said::Nothing, 0),
        Phase::Ready => nonsense(bytes.strip_prefix(READY).unwrap_or(bytes)),
        Phase::Busy => answer(bytes),
    }
}

/// How many bytes of `bytes` are what was left of an earlier agent's talk: the `READY` that it had
/// answered by an event, or the answer that it had noted already.
pub(super) fn left_over(phase: Phase, bytes: &[u8]) -> usize {
    match phase {
        Phase::Busy if bytes.starts_with(READY) => READY.len(),
        Phase::Acknowledged if bytes.starts_with(b"RESULT ") => answer(bytes).1,
        Phase::Busy | Phase::Acknowledged | Phase::Ready | Phase::Unknown => 0,
    }
}

/// Bytes of the `READY` that an event answers.
pub(super) const READY_LEN: usize = READY.len();

fn answer(bytes: &[u8]) -> (Said, usize) {
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        return if bytes.len() > MAX_LINE { nonsense(bytes) } else { (Said::Nothing, 0) };
    };
    let number = bytes.get(RESULT..end).and_then(|n| std::str::from_utf8(n).ok());
    let Some(len) =
        number.and_then(|n| n.trim().parse::<usize>().ok()).filter(|n| *n <= MAX_RESULT)
    else {
        return nonsense(bytes);
    };
    match bytes.get(end + 1..end + 1 + len) {
        None => (Said::Nothing, 0),
        Some(b"OK") => (Said::Done, end + 1 + len),
        Some(_) => (Said::Refused, end + 1 + len),
    }
}

fn nonsense(bytes: &[u8]) -> (Said, usize) {
    let shown = bytes.get(..bytes.len().min(60)).unwrap_or_default();
    (Said::Nonsense(shown.escape_ascii().to_string()), bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_whole_talk_is_understood_in_whatever_parts_it_comes() {
        let talk = b"READY\nRESULT 2\nOKREADY\nRESULT 4\nFAILREADY\n";
        for part in 1..talk.len() {
            let (mut phase, mut pipe, mut heard) = (Phase::Acknowledged, Vec::new(), Vec::new());
            for bytes in talk.chunks(part) {
                pipe.extend_from_slice(bytes);
                loop {
                    // As an agent that always has an event, and sends it at once.
                    if phase == Phase::Ready {
                        pipe.drain(..READY_LEN);
                        phase = Phase::Busy;
                    }
                    let (said, taken) = listen(phase, &pipe);
                    pipe.drain(..taken);
                    phase = match said {
                        Said::Ready => Phase::Ready,
                        Said::Done | Said::Refused => Phase::Acknowledged,
                        Said::Nonsense(_) => Phase::Unknown,
                        Said::Nothing => break,
                    };
                    heard.push(said);
                }
            }
            let want = [Said::Ready, Said::Done, Said::Ready, Said::Refused, Said::Ready];
            assert_eq!(heard, want, "in parts of {part}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_in_short_and_thrown_away() {
        let said = |phase, bytes: &[u8]| matches!(listen(phase, bytes), (Said::Nonsense(_), n) if n == bytes.len());
        assert!(said(Phase::Acknowledged, b"hello world"));
        assert!(said(Phase::Busy, b"RESULT two\nOK"));
        assert!(said(Phase::Busy, b"RESULT -1\n"));
        assert!(said(Phase::Busy, b"RESULT 99999999999\n"));
        assert!(said(Phase::Busy, b"\n"));
        assert_eq!(listen(Phase::Ready, b"READY\nx"), (Said::Nonsense("x".to_owned()), 1));
        assert_eq!(listen(Phase::Unknown, b"whatever"), (Said::Nothing, 8));
        assert!(said(Phase::Busy, &[b'x'; 300]));
    }

    #[test]
    fn a_listener_that_only_began_to_speak_is_waited_for() {
        for (phase, bytes) in [
            (Phase::Acknowledged, &b"READ"[..]),
            (Phase::Acknowledged, b"hel"),
            (Phase::Ready, b"READY\n"),
            (Phase::Busy, b"RESULT 2"),
            (Phase::Busy, b"RESULT 2\nO"),
        ] {
            assert_eq!(listen(phase, bytes), (Said::Nothing, 0), "{phase:?} {bytes:?}");
        }
    }

    #[test]
    fn what_an_earlier_agent_had_dealt_with_is_recognised() {
        assert_eq!(left_over(Phase::Busy, b"READY\nRESULT 2\nOK"), 6);
        assert_eq!(left_over(Phase::Busy, b"RESULT 2\nOK"), 0);
        assert_eq!(left_over(Phase::Acknowledged, b"RESULT 2\nOKREADY\n"), 11);
        assert_eq!(left_over(Phase::Acknowledged, b"READY\n"), 0);
    }

    proptest! {
        /// Whatever a listener writes, no more is taken than is there, and nothing panics.
        #[test]
        fn any_bytes_are_taken_in(bytes in proptest::collection::vec(any::<u8>(), 0..400), which in 0_u8..4) {
            let phase = [Phase::Acknowledged, Phase::Ready, Phase::Busy, Phase::Unknown][usize::from(which)];
            prop_assert!(listen(phase, &bytes).1 <= bytes.len());
            prop_assert!(left_over(phase, &bytes) <= bytes.len());
        }
    }
}
