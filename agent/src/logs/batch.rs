//! One request's worth of events, built as JSON at once so that each byte is escaped once and
//! copied seldom.
//!
//! Invariant: whatever is pushed, a batch keeps the rules of [PutLogEvents]: at most 10,000 events
//! and 1,048,576 bytes (26 more per event than its message), none empty, in order of time, within
//! 24 hours.
//!
//! [PutLogEvents]: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html

use std::{io::Write as _, ops::Range};

use super::{escape::push_escaped, line::pieces};
use crate::clock::Timestamp;

/// Most events in a request.
pub const MAX_EVENTS: usize = 10_000;
/// Most bytes in a request: messages and [`EVENT_OVERHEAD`] each.
pub const MAX_BYTES: usize = 1_048_576;
/// What the service adds to each message when it counts bytes.
pub const EVENT_OVERHEAD: usize = 26;
/// Longest message.
pub const MAX_MESSAGE: usize = MAX_BYTES - EVENT_OVERHEAD;
/// Longest time between the first and the last event: 24 hours, less a minute of caution.
pub const MAX_SPAN_MS: i64 = (24 * 60 - 1) * 60 * 1000;
/// A time that steps back by more begins another batch, where it need not be raised.
const MAX_STEP_BACK_MS: i64 = 5 * 60 * 1000;
/// Unless the batch has fewer events: two that write to one file by different clocks must not make a
/// request of every line.
const WORTH_SENDING: usize = 100;

const BEFORE_TIME: &[u8] = b"{\"timestamp\":";
const BEFORE_TEXT: &[u8] = b",\"message\":";

/// Events of one lane for one stream.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    lane: u64,
    json: Vec<u8>,
    events: Vec<Event>,
    bytes: usize,
    upto: u64,
    /// `{"timestamp":N,"message":` of the last event, which the next one often shares.
    prefix: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    /// Where its JSON object begins.
    start: usize,
    /// Where its message, a JSON string with quotes, begins.
    text: usize,
    time: i64,
    /// Position in the lane after it.
    end: u64,
}

/// A place that a batch can be cut back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    events: usize,
    json: usize,
    bytes: usize,
    upto: u64,
}

/// The batch has no room for this event; send it and begin another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Batch {
    /// An empty batch of a lane whose events up to `from` are delivered already.
    #[must_use]
    pub fn new(lane: u64, from: u64) -> Self {
        Self { lane, upto: from, ..Self::default() }
    }

    /// Adds an event; `end` is the lane's position after it. A time before the last event's is
    /// raised to it, so that lines stay in the order they were written; if it lies minutes before, a
    /// batch that is worth sending counts as full instead.
    ///
    /// # Errors
    /// When there is no room. An empty batch has room for whatever `line::pieces` gives.
    pub fn push(&mut self, at: Timestamp, text: &str, end: u64) -> Result<(), Full> {
        if text.is_empty() {
            self.advance(end);
            return Ok(());
        }
        let cost = text.len() + EVENT_OVERHEAD;
        let last = self.events.last().map_or(0, |e| e.time);
        let time = at.as_millis().max(last);
        let first = self.events.first().map_or(time, |e| e.time);
        if self.events.len() >= MAX_EVENTS
            || self.bytes + cost > MAX_BYTES
            || time - first > MAX_SPAN_MS
            || self.events.len() >= WORTH_SENDING && last - at.as_millis() > MAX_STEP_BACK_MS
        {
            return Err(Full);
        }
        if self.prefix.is_empty() || time != last {
            self.prefix.clear();
            self.prefix.extend_from_slice(BEFORE_TIME);
            // Writing to a Vec cannot fail.
            write!(self.prefix, "{time}").unwrap_or_default();
            self.prefix.extend_from_slice(BEFORE_TEXT);
        }
        if !self.events.is_empty() {
            self.json.push(b',');
        }
        let start = self.json.len();
        self.json.extend_from_slice(&self.prefix);
        let text_at = self.json.len();
        self.json.push(b'"');
        push_escaped(&mut self.json, text);
        self.json.extend_from_slice(b"\"}");
        self.events.push(Event { start, text: text_at, time, end });
        self.bytes += cost;
        self.upto = end;
        Ok(())
    }

    /// Adds a line of any length. `pieces_done` counts those of its pieces that an earlier batch took
    /// and goes back to 0 with the last; until then the position stays before the line.
    ///
    /// # Errors
    /// When there is no room for the next piece.
    pub fn push_line(
        &mut self,
        at: Timestamp,
        text: &str,
        pieces_done: &mut usize,
        end: u64,
    ) -> Result<(), Full> {
        if text.len() <= MAX_MESSAGE && *pieces_done == 0 {
            return self.push(at, text, end);
        }
        let before = self.upto;
        for piece in pieces(text).skip(*pieces_done) {
            self.push(at, piece, before)?;
            *pieces_done += 1;
        }
        *pieces_done = 0;
        self.advance(end);
        if let Some(last) = self.events.last_mut() {
            last.end = end;
        }
        Ok(())
    }

    /// The present place.
    pub(super) fn mark(&self) -> Mark {
        let (events, json) = (self.events.len(), self.json.len());
        Mark { events, json, bytes: self.bytes, upto: self.upto }
    }

    /// Takes out what was added since.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.events.truncate(mark.events);
        self.json.truncate(mark.json);
        (self.bytes, self.upto) = (mark.bytes, mark.upto);
        // It may be of an event that is gone.
        self.prefix.clear();
    }

    /// Says that everything up to `end` is in here.
    pub(super) fn settle(&mut self, end: u64) {
        self.upto = end;
        if let Some(last) = self.events.last_mut() {
            last.end = end;
        }
    }

    /// Notes that the lane goes on to `end` without an event: an empty line.
    pub fn advance(&mut self, end: u64) {
        self.upto = end;
    }

    /// The lane.
    #[must_use]
    pub fn lane(&self) -> u64 {
        self.lane
    }

    /// The lane's position once all of this is delivered.
    #[must_use]
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes as the service counts them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The time of the first event.
    #[must_use]
    pub fn first_time(&self) -> Option<Timestamp> {
        self.events.first().map(|e| Timestamp::from_millis(e.time))
    }

    /// The inside of the `logEvents` array.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// Time and message, the latter as a JSON string with its quotes, of each event.
    pub fn events(&self) -> impl Iterator<Item = (Timestamp, &[u8])> {
        (0..self.events.len()).map(|i| {
            let object = self.object(i);
            let e = &self.events[i];
            let text = object.get(e.text - e.start..object.len() - 1).unwrap_or_default();
            (Timestamp::from_millis(e.time), text)
        })
    }

    /// The lane's position once the first `events` events are delivered.
    #[must_use]
    pub fn end_of(&self, events: usize) -> u64 {
        if events >= self.events.len() {
            return self.upto;
        }
        events.checked_sub(1).and_then(|i| self.events.get(i)).map_or(0, |e| e.end)
    }

    /// A batch of some of the events. Its position is that after its last event.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let whole_end = range.end >= self.events.len();
        let mut part = Self { lane: self.lane, upto: self.upto, ..Self::default() };
        for i in range {
            let Some(e) = self.events.get(i) else { break };
            if !part.events.is_empty() {
                part.json.push(b',');
            }
            let (start, object) = (part.json.len(), self.object(i));
            part.json.extend_from_slice(object);
            part.events.push(Event { start, text: start + (e.text - e.start), ..*e });
            // A JSON object is longer than its message was, so this only errs on the safe side; no
            // event is ever added to a part.
            part.bytes += object.len();
            if !whole_end {
                part.upto = e.end;
            }
        }
        part
    }

    fn object(&self, i: usize) -> &[u8] {
        let start = self.events[i].start;
        // The comma before the next object is not part of this one.
        let end = self.events.get(i + 1).map_or(self.json.len(), |next| next.start - 1);
        &self.json[start..end]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(b: &Batch) -> Vec<(i64, String)> {
        let text = format!("[{}]", std::str::from_utf8(b.json()).unwrap());
        let all: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        all.iter()
            .map(|v| (v["timestamp"].as_i64().unwrap(), v["message"].as_str().unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn exactly_a_mebibyte_fits_and_the_next_byte_spills() {
        let t = Timestamp::from_secs(1);
        let mut b = Batch::new(1, 0);
        let line = "x".repeat(1024 - EVENT_OVERHEAD);
        for i in 1..=1024 {
            b.push(t, &line, i).unwrap();
        }
        assert_eq!(b.bytes(), MAX_BYTES);
        assert_eq!(b.push(t, "y", 1025), Err(Full));
        assert_eq!(b.upto(), 1024);
        let mut one = Batch::new(1, 0);
        one.push(t, &"x".repeat(MAX_MESSAGE), 1).unwrap();
    }

    #[test]
    fn ten_thousand_events_and_no_more() {
        let mut b = Batch::new(1, 0);
        for i in 0..10_000 {
            b.push(Timestamp::from_secs(1), "x", i).unwrap();
        }
        assert_eq!(b.push(Timestamp::from_secs(1), "x", 10_000), Err(Full));
    }

    #[test]
    fn a_day_is_too_long() {
        let mut b = Batch::new(1, 0);
        b.push(Timestamp::from_secs(1), "x", 1).unwrap();
        assert_eq!(b.push(Timestamp::from_secs(86_401), "x", 2), Err(Full));
        b.push(Timestamp::from_secs(80_000), "x", 2).unwrap();
    }

    #[test]
    fn a_large_step_back_begins_another_batch_and_a_small_one_is_raised() {
        let mut b = Batch::new(1, 0);
        for i in 0..100 {
            b.push(Timestamp::from_secs(1_000), "x", i).unwrap();
        }
        b.push(Timestamp::from_secs(700), "small", 100).unwrap();
        assert_eq!(parsed(&b).last().unwrap(), &(1_000_000, "small".to_owned()));
        assert_eq!(b.push(Timestamp::from_secs(699), "large", 101), Err(Full));
        // One that is small itself goes on.
        let mut small = Batch::new(1, 0);
        small.push(Timestamp::from_secs(1_000), "x", 1).unwrap();
        small.push(Timestamp::from_secs(1), "x", 2).unwrap();
    }

    #[test]
    fn a_batch_that_was_cut_back_is_as_if_nothing_had_come_after() {
        let t = Timestamp::from_secs;
        let mut b = Batch::new(1, 0);
        b.push(t(1), "one", 1).unwrap();
        let (mark, bytes) = (b.mark(), b.bytes());
        b.push(t(2), "two", 2).unwrap();
        b.push(t(3), "three", 3).unwrap();
        b.back_to(mark);
        assert_eq!((b.upto(), b.bytes(), b.len()), (1, bytes, 1));
        b.push(t(1), "four", 4).unwrap();
        assert_eq!(parsed(&b), [(1_000, "one".to_owned()), (1_000, "four".to_owned())]);
        b.settle(9);
        assert_eq!((b.upto(), b.end_of(1), b.end_of(2)), (9, 1, 9));
    }

    #[test]
    fn an_empty_line_moves_the_position_and_sends_nothing() {
        let mut b = Batch::new(1, 5);
        b.push(Timestamp::from_secs(1), "", 6).unwrap();
        assert!(b.is_empty());
        assert_eq!(b.upto(), 6);
    }

    proptest! {
        #[test]
        fn lines_come_back_in_order_and_times_never_fall(
            lines in prop::collection::vec((0_i64..90_000_000, any::<String>()), 0..60)
        ) {
            let mut b = Batch::new(7, 0);
            let mut kept = Vec::new();
            for (i, (ms, text)) in lines.iter().enumerate() {
                if b.push(Timestamp::from_millis(*ms), text, i as u64 + 1).is_err() {
                    break;
                }
                if !text.is_empty() {
                    kept.push(text.clone());
                }
            }
            let back = parsed(&b);
            prop_assert_eq!(back.iter().map(|(_, t)| t.clone()).collect::<Vec<_>>(), kept.clone());
            prop_assert!(back.is_sorted_by_key(|(ms, _)| *ms));
            if let (Some(first), Some(last)) = (back.first(), back.last()) {
                prop_assert!(last.0 - first.0 < 86_400_000);
            }
            let texts: Vec<String> =
                b.events().map(|(_, t)| serde_json::from_slice(t).unwrap()).collect();
            prop_assert_eq!(texts, kept);
        }

        #[test]
        fn parts_are_the_whole(n in 1_usize..40, at in 0_usize..40) {
            let mut b = Batch::new(7, 0);
            for i in 0..n {
                b.push(Timestamp::from_secs(1), &format!("line \"{i}\""), i as u64 + 1).unwrap();
            }
            b.advance(1000);
            let at = at.min(n);
            let (left, right) = (b.slice(0..at), b.slice(at..n));
            let joined: Vec<_> = parsed(&left).into_iter().chain(parsed(&right)).collect();
            prop_assert_eq!(joined, parsed(&b));
            if at < n {
                prop_assert_eq!(right.upto(), 1000);
                if at > 0 {
                    prop_assert_eq!(left.upto(), at as u64);
                }
            }
            prop_assert_eq!(right.events().count(), n - at);
        }
    }
}
