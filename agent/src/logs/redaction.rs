//! The one place that knows what is taken out of lines at present, and how often it was.
//!
//! Output of programs passes here before it enters the spool, and lines of followed files before they
//! enter a batch. So neither spool, dead letters, local files nor the wire see what is to be hidden.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
};

use super::{
    content::{Carry, Counts, Redactor},
    handle::{LineSource, OWN_PROGRAM, OutputStream},
    spool::LaneKey,
};

/// Output that ends without a line break is a part of a longer line from this length on; below it, it
/// is what a process left that ended.
const PART: usize = 32 << 10;

/// What is hidden now, how often it was since start, and which streams are inside a line.
#[derive(Debug)]
pub(super) struct Redaction {
    redactor: RwLock<Redactor>,
    totals: Mutex<BTreeMap<String, u64>>,
    /// At most one entry for each stream, of a hundred bytes; it goes with the end of the line.
    inside: Mutex<HashMap<(LaneKey, OutputStream), Carry>>,
}

/// A chunk of output to be stored.
#[derive(Debug)]
pub(super) struct Clean<'a> {
    pub(super) text: Cow<'a, [u8]>,
    counts: Counts,
    carry: Carry,
    redactor: Redactor,
}

impl Redaction {
    pub(super) fn new(redactor: Redactor) -> Self {
        let (totals, inside) = (Mutex::default(), Mutex::default());
        Self { redactor: RwLock::new(redactor), totals, inside }
    }

    /// From now on, this is hidden.
    pub(super) fn set(&self, redactor: Redactor) {
        *self.redactor.write().unwrap_or_else(PoisonError::into_inner) = redactor;
    }

    /// What is hidden.
    pub(super) fn redactor(&self) -> Redactor {
        self.redactor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often each kind was hidden since start.
    pub(super) fn totals(&self) -> BTreeMap<String, u64> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what was hidden.
    pub(super) fn count(&self, redactor: &Redactor, counts: &Counts) {
        if counts.is_empty() {
            return;
        }
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, n) in counts {
            *totals.entry(redactor.name(*number).to_owned()).or_default() += n;
        }
    }

    /// A chunk of a program's output without its secrets.
    pub(super) fn clean<'a>(&self, from: &LineSource, chunk: &'a [u8]) -> Clean<'a> {
        let redactor = self.redactor();
        let (mut counts, mut carry) = (Counts::new(), Carry::default());
        if redactor.is_none() || from.program.as_str() == OWN_PROGRAM {
            return Clean { text: Cow::Borrowed(chunk), counts, carry, redactor };
        }
        let line = memchr::memrchr(b'\n', chunk).map_or(0, |at| at + 1);
        let is_last = chunk.len() - line < PART;
        let inside = self.inside();
        if !inside.is_empty()
            && let Some(known) = inside.get(&key(from))
        {
            carry = known.clone();
        }
        drop(inside);
        let text = redactor.part(chunk, &mut carry, is_last, &mut counts);
        Clean { text, counts, carry, redactor }
    }

    /// Notes that a chunk is stored: what follows in its stream goes on after it.
    pub(super) fn stored(&self, from: &LineSource, clean: Clean<'_>) {
        self.count(&clean.redactor, &clean.counts);
        let mut inside = self.inside();
        if clean.carry != Carry::default() {
            inside.insert(key(from), clean.carry);
        } else if !inside.is_empty() {
            inside.remove(&key(from));
        }
    }

    fn inside(&self) -> MutexGuard<'_, HashMap<(LaneKey, OutputStream), Carry>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(from: &LineSource) -> (LaneKey, OutputStream) {
    (LaneKey { program: from.program.clone(), process: from.process.clone() }, from.stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::content::Kind;

    fn from(program: &str, stream: OutputStream) -> LineSource {
        let (program, process) = (program.parse().unwrap(), program.parse().unwrap());
        LineSource { program, process, stream }
    }

    fn redaction() -> Redaction {
        Redaction::new(Redactor::new(&[Kind::Pan, Kind::Authorization], Vec::new(), "X"))
    }

    fn pass(redaction: &Redaction, from: &LineSource, chunk: &str) -> String {
        let clean = redaction.clean(from, chunk.as_bytes());
        let text = String::from_utf8(clean.text.to_vec()).unwrap();
        redaction.stored(from, clean);
        text
    }

    #[test]
    fn a_card_that_stands_over_two_parts_of_a_long_line_is_hidden_in_both() {
        let redaction = redaction();
        let web = from("web", OutputStream::Stdout);
        let other = from("web", OutputStream::Stderr);
        let first = format!("{}4111 1111 ", "x".repeat(PART));
        let first = pass(&redaction, &web, &first);
        assert!(first.ends_with("**** **** "), "{}", first.len());
        // Another stream of the same process is not inside that line.
        assert_eq!(pass(&redaction, &other, "1111 1111\n"), "1111 1111\n");
        assert_eq!(pass(&redaction, &web, "1111 1111 y\n"), "**** 1111 y\n");
        assert_eq!(pass(&redaction, &web, "1111 1111 y\n"), "1111 1111 y\n");
        assert!(redaction.inside().is_empty());
    }

    #[test]
    fn what_a_process_left_unfinished_is_a_line() {
        let redaction = redaction();
        let web = from("web", OutputStream::Stdout);
        assert_eq!(pass(&redaction, &web, "took 4095"), "took 4095");
        assert_eq!(pass(&redaction, &web, "Authorization: a b"), "Authorization: [redacted]");
        assert_eq!(pass(&redaction, &web, "next\n"), "next\n");
    }

    #[test]
    fn a_chunk_that_is_not_stored_leaves_no_trace_and_the_agents_own_lines_are_not_looked_at() {
        let redaction = redaction();
        let web = from("web", OutputStream::Stdout);
        drop(redaction.clean(&web, b"card 4111111111111111\n"));
        assert!(redaction.totals().is_empty());
        pass(&redaction, &web, "card 4111111111111111\n");
        assert_eq!(redaction.totals(), BTreeMap::from([("pan".to_owned(), 1)]));
        let own = from(OWN_PROGRAM, OutputStream::Stdout);
        let line = "{\"bytes\":4111111111111111}\n";
        assert_eq!(pass(&redaction, &own, line), line);
        redaction.set(Redactor::none());
        assert_eq!(pass(&redaction, &web, "4111111111111111\n"), "4111111111111111\n");
    }
}
