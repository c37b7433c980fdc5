//! Puts lines into a batch: those that belong together as one event, with the time they bear.
//!
//! Nothing is remembered between batches. An event that may go on is left out of the batch, and the
//! reading goes on at its first line the next time; so a restart in its middle reads all of it again,
//! and what is acknowledged never stands inside an event. Streams of one process have an event open
//! each, and share their positions; the batch then ends where no event of either is open.

use super::{
    batch::{Batch, Full, Mark},
    content::{Joiner, LineRules, MOST_BYTES, Multiline, TimeReader},
};
use crate::clock::Timestamp;

/// An event that got no line for so long is whole.
pub(super) const GAP_MS: i64 = 1000;
/// A clock that was set back must not hold an event for as long.
const SET_BACK_MS: i64 = 5 * GAP_MS;

/// A line as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Which of the streams that share the positions.
    pub(super) stream: u8,
    pub(super) text: &'a str,
    /// When it came.
    pub(super) at: Timestamp,
    /// The position before it.
    pub(super) start: u64,
    /// The position after it.
    pub(super) end: u64,
}

/// Between lines and one batch.
#[derive(Debug)]
pub(super) struct Assembler<'a> {
    rules: &'a LineRules,
    times: Option<TimeReader>,
    streams: Vec<Stream>,
    /// The last place at which no event was open, and its position.
    clean: (Mark, u64),
    /// The position after the last line of all events in the batch.
    last_end: u64,
    /// The position after the last line.
    position: u64,
}

#[derive(Debug)]
struct Stream {
    number: u8,
    joiner: Joiner,
    /// The event that may go on.
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// The time of its first line.
    at: Timestamp,
    /// The position before its first line.
    start: u64,
    /// The position after its last line.
    end: u64,
    /// When its last line came.
    last_ms: i64,
}

impl<'a> Assembler<'a> {
    /// For a batch that holds what is before `position`. Times older than `oldest_ms` are not taken
    /// from lines.
    pub(super) fn new(rules: &'a LineRules, oldest_ms: i64, batch: &Batch, position: u64) -> Self {
        let times = rules.timestamps.as_ref().map(|zone| TimeReader::new(zone, oldest_ms));
        let clean = (batch.mark(), position);
        Self { rules, times, streams: Vec::new(), clean, last_end: position, position }
    }

    /// Adds a line. `pieces_done` is what [`Batch::push_line`] says.
    ///
    /// # Errors
    /// When there is no room; then [`cut`](Self::cut) says where to go on.
    pub(super) fn add(
        &mut self,
        batch: &mut Batch,
        line: Line<'_>,
        pieces_done: &mut usize,
    ) -> Result<(), Full> {
        if !self.joins() {
            let at = self.time_of(&line);
            return batch.push_line(at, line.text, pieces_done, line.end);
        }
        self.close(batch, |_, open| line.at.as_millis() - open.last_ms > GAP_MS)?;
        self.close(batch, |s, _| s.number == line.stream && s.joiner.ends_before(line.text))?;
        if line.text.len() > MOST_BYTES {
            return self.add_alone(batch, line, pieces_done);
        }
        self.position = line.end;
        self.join(&line);
        self.close(batch, |s, _| s.joiner.is_whole())?;
        self.look_for_cut(batch);
        Ok(())
    }

    /// Adds a line that no event goes over, and that may be of any length.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(super) fn add_alone(
        &mut self,
        batch: &mut Batch,
        line: Line<'_>,
        pieces_done: &mut usize,
    ) -> Result<(), Full> {
        self.close(batch, |_, _| true)?;
        self.look_for_cut(batch);
        let at = self.time_of(&line);
        let pushed = batch.push_line(at, line.text, pieces_done, line.end);
        if pushed.is_ok() {
            (self.position, self.last_end) = (line.end, line.end);
        }
        // The pieces that had room stay.
        self.clean = (batch.mark(), self.position);
        pushed
    }

    /// Ends the reading because the batch is full: takes back what reaches over the last place at
    /// which no event was open. The position to go on from; none if it is where the last line ended.
    pub(super) fn cut(&self, batch: &mut Batch) -> Option<u64> {
        if !self.joins() {
            return None;
        }
        batch.back_to(self.clean.0);
        batch.settle(self.clean.1);
        Some(self.clean.1)
    }

    /// Ends the reading because there are no more lines. Events that got none for long enough are
    /// whole, and all are if the source is `still`; the rest is left for the next time. The position to
    /// go on from, if that is before the last line's end.
    ///
    /// # Errors
    /// When there is no room; as with [`add`](Self::add).
    pub(super) fn end(
        &mut self,
        batch: &mut Batch,
        now: Timestamp,
        still: bool,
    ) -> Result<Option<u64>, Full> {
        if !self.joins() {
            return Ok(None);
        }
        self.close(batch, |_, open| {
            let age = now.as_millis() - open.last_ms;
            still || !(-SET_BACK_MS..=GAP_MS).contains(&age)
        })?;
        self.look_for_cut(batch);
        let is_open = self.streams.iter().any(|s| s.open.is_some());
        Ok(if is_open { self.cut(batch) } else { None })
    }

    fn joins(&self) -> bool {
        self.rules.multiline != Multiline::None
    }

    /// Adds a line to the open event of its stream, or opens one with it.
    fn join(&mut self, line: &Line<'_>) {
        let known = self.streams.iter().position(|s| s.number == line.stream);
        let i = known.unwrap_or_else(|| {
            let joiner = Joiner::new(&self.rules.multiline);
            self.streams.push(Stream { number: line.stream, joiner, open: None });
            self.streams.len() - 1
        });
        let opens = self.streams.get(i).is_some_and(|s| s.open.is_none());
        let at = if opens { self.time_of(line) } else { line.at };
        let Some(stream) = self.streams.get_mut(i) else { return };
        let last_ms = line.at.as_millis();
        match &mut stream.open {
            Some(open) => (open.end, open.last_ms) = (line.end, last_ms),
            // It belongs to nothing and says nothing.
            None if line.text.is_empty() => return,
            None => {
                stream.open = Some(Open { at, start: line.start, end: line.end, last_ms });
            }
        }
        stream.joiner.add(line.text);
    }

    /// Puts events into the batch that are over, those that began first first.
    fn close(
        &mut self,
        batch: &mut Batch,
        is_over: impl Fn(&Stream, &Open) -> bool,
    ) -> Result<(), Full> {
        loop {
            let over = self.streams.iter_mut().filter_map(|s| {
                let open = s.open?;
                is_over(s, &open).then_some((s, open))
            });
            let Some((stream, open)) = over.min_by_key(|(_, open)| open.start) else {
                return Ok(());
            };
            batch.push(open.at, stream.joiner.text(), self.clean.1)?;
            stream.joiner.clear();
            stream.open = None;
            self.last_end = self.last_end.max(open.end);
        }
    }

    /// Whether everything before the first open event, and nothing behind it, is in the batch.
    fn look_for_cut(&mut self, batch: &mut Batch) {
        let starts = self.streams.iter().filter_map(|s| s.open.map(|open| open.start));
        let first = starts.min().unwrap_or(self.position);
        if self.last_end <= first && first > self.clean.1 {
            batch.settle(first);
            self.clean = (batch.mark(), first);
        }
    }

    fn time_of(&mut self, line: &Line<'_>) -> Timestamp {
        let now = line.at.as_millis();
        let own = self.times.as_mut().and_then(|times| times.time_of(line.text.as_bytes(), now));
        own.map_or(line.at, Timestamp::from_millis)
    }
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
