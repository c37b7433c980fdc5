//! Reading a lane in order, into batches.

use std::{io, sync::Arc};

use super::{Lane, scan::Walk};
use crate::{
    clock::Timestamp,
    logs::{
        batch::{Batch, Full},
        line,
        ports::SpoolFile,
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
}

impl Reader {
    /// After the record `acked`.
    #[must_use]
    pub(crate) fn new(lane: Arc<Lane>, acked: u64) -> Self {
        Self { lane, next: acked + 1, pieces_done: 0, segment: None }
    }

    /// Goes back to after the record `acked`.
    pub(crate) fn rewind(&mut self, acked: u64) {
        *self = Self::new(self.lane.clone(), acked);
    }

    /// Adds records to the batch until it is full or the lane has no more.
    ///
    /// # Errors
    /// When a segment cannot be read. What was added until then stays added.
    pub(crate) fn fill(&mut self, batch: &mut Batch) -> io::Result<Filled> {
        let mut filled = Filled::default();
        loop {
            if self.segment.is_none() {
                let Some((s, file)) = self.lane.segment_with(self.next)? else { return Ok(filled) };
                self.segment = Some(Open { first_seq: s.first_seq, file, walk: Walk::new() });
            }
            let Some(open) = &mut self.segment else { return Ok(filled) };
            let state = self.lane.segment_state(open.first_seq);
            let Some((len, following)) = state else {
                // It was given back or dropped; what follows says which.
                self.segment = None;
                if self.lane.facts().last_seq < self.next {
                    return Ok(filled);
                }
                continue;
            };
            let (next, pieces_done) = (&mut self.next, &mut self.pieces_done);
            open.walk.visit(open.file.as_ref(), len, |r| {
                if r.seq < *next {
                    return true;
                }
                let at = Timestamp::from_millis(r.time_ms);
                if r.seq > *next {
                    let lines = r.seq - *next;
                    if batch.push(at, &notice(lines), r.seq - 1).is_err() {
                        filled.full = true;
                        return false;
                    }
                    filled.missing += lines;
                    *next = r.seq;
                }
                let (text, replaced) = line::decode(r.text);
                if let Err(Full) = batch.push_line(at, &text, pieces_done, r.seq) {
                    filled.full = true;
                    return false;
                }
                filled.bad_utf8 += u64::from(replaced);
                *next = r.seq + 1;
                true
            })?;
            if filled.full {
                return Ok(filled);
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
                    return Ok(filled);
                }
            }
        }
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
