//! Reading a lane in order, into batches.

use std::{collections::VecDeque, io, sync::Arc};

use super::{Lane, scan::Walk};
use crate::{
    clock::Timestamp,
    logs::{
        assemble::{Assembler, Line},
        batch::Batch,
        content::{LineRules, Multiline},
        line,
        ports::SpoolFile,
        reading::Reading,
    },
};

/// A place in a lane. It may be put back to any earlier sequence number that is not delivered yet.
#[derive(Debug)]
pub(crate) struct Reader {
    lane: Arc<Lane>,
    /// The next record wanted.
    next: u64,
    pieces_done: usize,
    segment: Option<Open>,
    /// Where records begin that the next batch may begin with.
    places: VecDeque<Place>,
}

/// Where a record begins.
#[derive(Clone, Copy, Debug)]
struct Place {
    seq: u64,
    segment: u64,
    offset: u64,
}

#[derive(Debug)]
struct Open {
    first_seq: u64,
    file: Arc<dyn SpoolFile>,
    walk: Walk,
}

/// What a reading gave besides the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    /// The batch is full; there is more.
    pub full: bool,
    /// Lines that are missing, for which the batch holds a notice.
    pub missing: u64,
    /// Lines in which bad UTF-8 was replaced.
    pub bad_utf8: u64,
    /// The last record that was read and is left for the next time, because its event may go on.
    pub held: Option<u64>,
}

impl Reader {
    /// After the record `acked`.
    #[must_use]
    pub(crate) fn new(lane: Arc<Lane>, acked: u64) -> Self {
        let (segment, places) = (None, VecDeque::new());
        Self { lane, next: acked + 1, pieces_done: 0, segment, places }
    }

    /// Goes back to after the record `acked`.
    pub(crate) fn rewind(&mut self, acked: u64) {
        *self = Self::new(self.lane.clone(), acked);
    }

    /// Adds records to the batch until it is full or the lane has no more.
    ///
    /// # Errors
    /// When a segment cannot be read. What was added until then stays added.
    pub(crate) fn fill(&mut self, batch: &mut Batch, how: &Reading<'_>) -> io::Result<Filled> {
        let from = self.position();
        let filled = self.fill_by(batch, how, how.rules)?;
        if filled.full && batch.is_empty() && self.position() == from {
            // One stream fills a batch while an event of the other is open. Lines by themselves get on.
            return self.fill_by(
                batch,
                how,
                &LineRules { multiline: Multiline::None, ..how.rules.clone() },
            );
        }
        Ok(filled)
    }

    fn fill_by(
        &mut self,
        batch: &mut Batch,
        how: &Reading<'_>,
        rules: &LineRules,
    ) -> io::Result<Filled> {
        self.places.clear();
        let mut assembler = Assembler::new(rules, how.oldest_ms, batch, self.position());
        let joins = rules.multiline != Multiline::None;
        let mut filled = Filled::default();
        let read = self.read(batch, &mut assembler, how.now, joins, &mut filled);
        let last = self.position();
        let back = match read {
            // What was read is good; the rest is tried again.
            Err(_) => assembler.cut(batch),
            Ok(()) if filled.full => assembler.cut(batch),
            Ok(()) => match assembler.end(batch, how.now, how.still_at == Some(last)) {
                Ok(back) => {
                    filled.held = back.map(|_| last);
                    back
                }
                Err(_) => {
                    filled.full = true;
                    assembler.cut(batch)
                }
            },
        };
        if let Some(back) = back {
            self.go_back(back + 1)?;
        }
        read.map(|()| filled)
    }

    /// Hands over record after record.
    fn read(
        &mut self,
        batch: &mut Batch,
        assembler: &mut Assembler<'_>,
        now: Timestamp,
        joins: bool,
        filled: &mut Filled,
    ) -> io::Result<()> {
        loop {
            if self.segment.is_none() {
                // Asked for first: what is appended in between is there to be read.
                let last = self.lane.facts().last_seq;
                let Some((s, file)) = self.lane.segment_with(self.next)? else {
                    self.tell_gone(last, batch, assembler, now, filled);
                    return Ok(());
                };
                self.segment = Some(Open { first_seq: s.first_seq, file, walk: Walk::new() });
            }
            let Some(open) = &mut self.segment else { return Ok(()) };
            // Asked for before its length: what is written later has a later number.
            let passed_over = self.lane.passed_over();
            let state = self.lane.segment_state(open.first_seq);
            let Some((len, following)) = state else {
                // It was given back or dropped; what follows says which.
                self.segment = None;
                if self.lane.facts().last_seq < self.next {
                    return Ok(());
                }
                continue;
            };
            let (next, pieces_done, places) =
                (&mut self.next, &mut self.pieces_done, &mut self.places);
            let segment = open.first_seq;
            open.walk.visit(open.file.as_ref(), len, |r, offset| {
                if r.seq < *next {
                    return true;
                }
                // A clock that was ahead when it was written is no reason to lose it.
                let at = Timestamp::from_millis(r.time_ms.min(now.as_millis()));
                if r.seq > *next {
                    let lines = r.seq - *next;
                    let text = notice(lines);
                    let (stream, text) = (r.source, text.as_str());
                    let told = Line { stream, text, at, start: *next - 1, end: r.seq - 1 };
                    if assembler.add_alone(batch, told, &mut 0).is_err() {
                        filled.full = true;
                        return false;
                    }
                    filled.missing += lines;
                    *next = r.seq;
                }
                let (text, replaced) = line::decode(r.text);
                let (start, end) = (r.seq - 1, r.seq);
                let line = Line { stream: r.source, text: text.as_ref(), at, start, end };
                if assembler.add(batch, line, pieces_done).is_err() {
                    filled.full = true;
                    return false;
                }
                filled.bad_utf8 += u64::from(replaced);
                if joins {
                    places.push_back(Place { seq: r.seq, segment, offset });
                }
                *next = r.seq + 1;
                true
            })?;
            if filled.full {
                return Ok(());
            }
            match following {
                Some(first_seq) => {
                    let following = self.lane.segment_with(first_seq)?;
                    self.segment = following.map(|(s, file)| Open {
                        first_seq: s.first_seq,
                        file,
                        walk: Walk::new(),
                    });
                }
                None => {
                    open.walk.rest();
                    let gone = passed_over.max(open.first_seq - 1);
                    self.tell_gone(gone, batch, assembler, now, filled);
                    return Ok(());
                }
            }
        }
    }

    /// Tells of records up to `last` that are gone, where no later one does: a program that is quiet, or
    /// has ended, may never write another.
    fn tell_gone(
        &mut self,
        last: u64,
        batch: &mut Batch,
        assembler: &mut Assembler<'_>,
        now: Timestamp,
        filled: &mut Filled,
    ) {
        if last < self.next {
            return;
        }
        let lines = last + 1 - self.next;
        let text = notice(lines);
        let told = Line { stream: 1, text: &text, at: now, start: self.next - 1, end: last };
        if assembler.add_alone(batch, told, &mut 0).is_err() {
            filled.full = true;
            return;
        }
        filled.missing += lines;
        self.next = last + 1;
    }

    /// Makes `seq`, which was read, the next record again, without a walk through its segment.
    fn go_back(&mut self, seq: u64) -> io::Result<()> {
        let place = self.places.iter().find(|p| p.seq == seq).copied();
        self.places.clear();
        if seq == self.next {
            return Ok(());
        }
        self.next = seq;
        self.segment = None;
        if let Some(place) = place
            && let Some((s, file)) = self.lane.segment_with(seq)?
            && s.first_seq == place.segment
        {
            let walk = Walk::at(place.offset);
            self.segment = Some(Open { first_seq: s.first_seq, file, walk });
        }
        Ok(())
    }

    /// The last sequence number that was read.
    #[must_use]
    pub(crate) fn position(&self) -> u64 {
        self.next - 1
    }
}

fn notice(lines: u64) -> String {
    format!("[palisade] {lines} lines are missing here: the spool was full or its disk is damaged")
}
