//! Sequence numbers, acknowledgements and resending as the real agent has them.
//!
//! Pure: takes frames and the time. Only the oldest unacknowledged frame is resent, once its timeout
//! has passed; what comes ahead of its turn is held; what comes again is acknowledged again.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::frame::{FIN, Frame, SYN, kind};

/// Most frames held ahead of their turn, as in the agent; more are dropped without acknowledgement.
pub(crate) const HOLD: usize = 100_000;
/// How many acknowledged frames are remembered, to tell a late acknowledgement from a false one.
const MEMORY: usize = 65_536;
const MAX_RTO: Duration = Duration::from_secs(1);

/// The sending half.
#[derive(Debug)]
pub(crate) struct Sender {
    next: i64,
    unacked: BTreeMap<i64, Sent>,
    acked: VecDeque<(i64, Uuid)>,
    srtt: Duration,
    var: Duration,
    rto: Duration,
    pub(crate) resends: u64,
}

#[derive(Debug)]
struct Sent {
    id: Uuid,
    bytes: Bytes,
    at: Instant,
}

impl Sender {
    pub(crate) fn new() -> Self {
        let ms = Duration::from_millis;
        Self {
            next: 0,
            unacked: BTreeMap::new(),
            acked: VecDeque::new(),
            srtt: ms(100),
            var: Duration::ZERO,
            rto: ms(200),
            resends: 0,
        }
    }

    /// The next frame with data.
    pub(crate) fn frame(
        &mut self,
        now: Instant,
        created: u64,
        payload_type: u32,
        payload: Bytes,
    ) -> Bytes {
        let frame = Frame {
            kind: kind::OUTPUT.to_owned(),
            created,
            seq: self.next,
            flags: if self.next == 0 { SYN } else { 0 },
            id: Uuid::new_v4(),
            payload_type,
            payload,
        };
        let bytes = frame.encode();
        self.unacked.insert(self.next, Sent { id: frame.id, bytes: bytes.clone(), at: now });
        self.next += 1;
        bytes
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.unacked.len()
    }

    /// One frame has arrived.
    ///
    /// # Errors
    /// When no such frame was sent.
    pub(crate) fn acked(&mut self, now: Instant, seq: i64, id: Uuid) -> Result<(), String> {
        match self.unacked.get(&seq) {
            Some(sent) if sent.id == id => {
                self.measure(now.saturating_duration_since(sent.at));
                self.unacked.remove(&seq);
                if self.acked.len() == MEMORY {
                    self.acked.pop_front();
                }
                self.acked.push_back((seq, id));
                Ok(())
            }
            Some(sent) => Err(format!("acknowledges message {id} as {seq}, which is {}", sent.id)),
            None if seq < 0 || seq >= self.next => {
                Err(format!("acknowledges {seq}, but {} were sent", self.next))
            }
            None => match self.acked.iter().rev().find(|(s, _)| *s == seq) {
                Some((_, known)) if *known != id => {
                    Err(format!("acknowledges message {id} as {seq}, which was {known}"))
                }
                _ => Ok(()),
            },
        }
    }

    fn measure(&mut self, took: Duration) {
        self.var = self.var * 3 / 4 + self.srtt.abs_diff(took) / 4;
        self.srtt = self.srtt * 7 / 8 + took / 8;
        self.rto = (self.srtt + Duration::from_millis(10).max(self.var * 4)).min(MAX_RTO);
    }

    /// Those of the oldest `most` frames that are due again.
    pub(crate) fn all_overdue(&mut self, now: Instant, most: usize) -> Vec<Bytes> {
        let mut due = Vec::new();
        for sent in self.unacked.values_mut().take(most) {
            if now.saturating_duration_since(sent.at) > self.rto {
                sent.at = now;
                self.resends += 1;
                due.push(sent.bytes.clone());
            }
        }
        due
    }
}

/// What to do with a frame that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Its turn: process these, in order. The flag says whether each was acknowledged before.
    Now(Vec<(Frame, bool)>),
    /// Ahead of its turn and held: acknowledge.
    Held,
    /// Known already: acknowledge again if it has been processed.
    Again,
    /// No room: no acknowledgement.
    Full,
}

/// The receiving half.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    expected: i64,
    held: BTreeMap<i64, Frame>,
    seen: BTreeMap<i64, (Uuid, u32, usize, u64)>,
}

impl Receiver {
    /// Takes one frame with data. The second value names what is wrong with it, if anything; it is
    /// processed all the same, as the agent would.
    pub(crate) fn take(&mut self, frame: Frame, gaps_are_wrong: bool) -> (Taken, Option<String>) {
        let seq = frame.seq;
        if seq < 0 {
            return (Taken::Full, Some(format!("sequence number {seq}")));
        }
        let mut wrong = None;
        let look = (frame.id, frame.payload_type, frame.payload.len(), sum(&frame.payload));
        match self.seen.get(&seq) {
            Some(known) if *known != look => {
                wrong = Some(format!("sequence number {seq} used again with another message"));
            }
            Some(_) => {}
            None if gaps_are_wrong && seq > self.expected => {
                let next = self.seen.last_key_value().map_or(0, |(last, _)| last + 1);
                if seq != next {
                    wrong = Some(format!("sequence number {seq} where {next} is next"));
                }
            }
            None => {}
        }
        self.seen.entry(seq).or_insert(look);
        if self.seen.len() > MEMORY {
            self.seen.pop_first();
        }
        if seq < self.expected || self.held.contains_key(&seq) {
            return (Taken::Again, wrong);
        }
        if seq > self.expected {
            if self.held.len() >= HOLD {
                return (Taken::Full, wrong);
            }
            self.held.insert(seq, frame);
            return (Taken::Held, wrong);
        }
        let mut now = vec![(frame, false)];
        self.expected += 1;
        while let Some(next) = self.held.remove(&self.expected) {
            now.push((next, true));
            self.expected += 1;
        }
        (Taken::Now(now), wrong)
    }

    /// Whether `seq` waits ahead of its turn, so that it counts as received.
    pub(crate) fn holds(&self, seq: i64) -> bool {
        self.held.contains_key(&seq)
    }
}

/// FNV-1a: enough to notice that a payload changed.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// The payload of an acknowledgement. Unknown fields are refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct AckPayload {
    pub(crate) acknowledged_message_type: String,
    pub(crate) acknowledged_message_id: String,
    pub(crate) acknowledged_message_sequence_number: i64,
    pub(crate) is_sequential_message: bool,
}

/// An acknowledgement of a message of the client.
pub(crate) fn ack(created: u64, seq: i64, id: Uuid) -> Bytes {
    let payload = format!(
        "{{\"AcknowledgedMessageType\":\"{}\",\"AcknowledgedMessageId\":\"{id}\",\
         \"AcknowledgedMessageSequenceNumber\":{seq},\"IsSequentialMessage\":true}}",
        kind::INPUT
    );
    Frame {
        kind: kind::ACK.to_owned(),
        created,
        seq: 0,
        flags: SYN | FIN,
        id: Uuid::new_v4(),
        payload_type: 0,
        payload: payload.into(),
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seq: i64, text: &'static str) -> Frame {
        Frame {
            kind: kind::INPUT.to_owned(),
            created: 1,
            seq,
            flags: 0,
            id: Uuid::from_u128(7),
            payload_type: 1,
            payload: Bytes::from_static(text.as_bytes()),
        }
    }

    #[test]
    fn what_comes_ahead_is_held_and_follows_its_turn() {
        let mut receiver = Receiver::default();
        assert_eq!(receiver.take(frame(1, "b"), false), (Taken::Held, None));
        let taken = receiver.take(frame(0, "a"), false).0;
        assert_eq!(taken, Taken::Now(vec![(frame(0, "a"), false), (frame(1, "b"), true)]));
        assert_eq!(receiver.take(frame(0, "a"), true), (Taken::Again, None));
    }

    #[test]
    fn a_gap_and_a_number_used_twice_are_named() {
        let mut receiver = Receiver::default();
        receiver.take(frame(0, "a"), true);
        let wrong = receiver.take(frame(2, "c"), true).1;
        assert_eq!(wrong.as_deref(), Some("sequence number 2 where 1 is next"));
        let wrong = receiver.take(frame(0, "x"), true).1;
        assert!(wrong.is_some_and(|w| w.contains("used again")));
    }

    #[test]
    fn only_the_oldest_frame_is_resent_and_only_after_its_timeout() {
        let (mut sender, start) = (Sender::new(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        let first = sender.frame(start, 1, 1, Bytes::from_static(b"a"));
        sender.frame(start, 1, 1, Bytes::from_static(b"b"));
        assert_eq!(sender.all_overdue(after(200), 1), [] as [Bytes; 0]);
        assert_eq!(sender.all_overdue(after(201), 1), std::slice::from_ref(&first));
        assert_eq!(sender.all_overdue(after(201), 1), [] as [Bytes; 0]);
        let id = Frame::parse(&first).unwrap().id;
        assert_eq!(sender.acked(after(202), 0, id), Ok(()));
        assert_eq!(sender.acked(after(203), 0, id), Ok(()), "a second time does no harm");
        assert!(sender.acked(after(203), 1, id).is_err());
        assert!(sender.acked(after(203), 2, id).is_err());
        assert_eq!(sender.outstanding(), 1);
    }
}
