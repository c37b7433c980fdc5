//! The receiving half: puts frames in order, and owes an acknowledgement for every one that it keeps
//! or has had before. A frame that finds no room is not acknowledged, so it comes again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{
    ack::Ack,
    frame::{Message, PayloadType},
};

/// Frames that wait for one before them. What comes beyond is dropped and sent again by the agent.
const MOST_HELD: usize = 10_000;
/// Bytes of them.
const MOST_HELD_BYTES: usize = 8 << 20;

/// The receiving half.
#[derive(Debug, Default)]
pub struct Inbound {
    next: i64,
    held: BTreeMap<i64, (PayloadType, Bytes)>,
    held_bytes: usize,
    acks: VecDeque<Ack>,
    /// Payload bytes taken in order.
    bytes: u64,
    frames: u64,
    duplicates: u64,
}

/// Figures of the receiving half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InStats {
    /// Frames taken in order.
    pub frames: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Frames that came again.
    pub duplicates: u64,
}

impl Inbound {
    /// A sequenced frame came. Calls `take` for each that is now in order.
    pub fn received(&mut self, message: Message, mut take: impl FnMut(PayloadType, Bytes)) {
        let Message { sequence, id, payload_type, payload, .. } = message;
        let ack = Ack { sequence, id };
        if sequence < self.next || self.held.contains_key(&sequence) {
            // The acknowledgement was lost or is late. Without another, the agent sends this frame
            // for ever, and nothing else.
            self.duplicates += 1;
            self.acks.push_back(ack);
            return;
        }
        if sequence > self.next {
            let cost = payload.len() + crate::frame::HEAD;
            if self.held.len() < MOST_HELD && self.held_bytes + cost <= MOST_HELD_BYTES {
                self.held_bytes += cost;
                // A copy, as the slice would keep alive the whole buffer that the socket was read into.
                self.held.insert(sequence, (payload_type, Bytes::copy_from_slice(&payload)));
                self.acks.push_back(ack);
            }
            return;
        }
        self.acks.push_back(ack);
        self.in_order(payload_type, payload, &mut take);
        while let Some((payload_type, payload)) = self.held.remove(&self.next) {
            self.held_bytes = self.held_bytes.saturating_sub(payload.len() + crate::frame::HEAD);
            self.in_order(payload_type, payload, &mut take);
        }
    }

    /// The next acknowledgement that is owed.
    pub fn next_ack(&mut self) -> Option<Ack> {
        self.acks.pop_front()
    }

    /// How many are owed. Whoever reads the socket stops reading while they are too many.
    #[must_use]
    pub fn acks_owed(&self) -> usize {
        self.acks.len()
    }

    /// The socket is another one: what the old one was owed means nothing to it.
    pub fn reconnected(&mut self) {
        self.acks.clear();
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> InStats {
        InStats { frames: self.frames, bytes: self.bytes, duplicates: self.duplicates }
    }

    /// Bytes that wait for a frame before them.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn in_order(
        &mut self,
        kind: PayloadType,
        payload: Bytes,
        take: &mut impl FnMut(PayloadType, Bytes),
    ) {
        self.next = self.next.saturating_add(1);
        self.frames += 1;
        self.bytes += u64::try_from(payload.len()).unwrap_or(0);
        take(kind, payload);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::frame::Kind;

    fn frame(sequence: i64, length: usize) -> Message {
        Message {
            kind: Kind::Output,
            sequence,
            id: Uuid::from_u128(sequence.cast_unsigned().into()),
            payload_type: PayloadType::OUTPUT,
            payload: Bytes::from(vec![u8::try_from(sequence & 0xff).unwrap(); length]),
        }
    }

    fn give(inbound: &mut Inbound, sequence: i64) -> Vec<u8> {
        let mut out = Vec::new();
        inbound.received(frame(sequence, 1), |_, payload| out.extend_from_slice(&payload));
        out
    }

    fn acked(inbound: &mut Inbound) -> Vec<i64> {
        std::iter::from_fn(|| inbound.next_ack()).map(|ack| ack.sequence).collect()
    }

    #[test]
    fn frames_come_out_in_order_once_and_each_is_acknowledged() {
        let mut inbound = Inbound::default();
        assert_eq!(give(&mut inbound, 2), b"");
        assert_eq!(give(&mut inbound, 1), b"");
        assert_eq!(give(&mut inbound, 0), [0, 1, 2]);
        assert_eq!(acked(&mut inbound), [2, 1, 0]);
        assert_eq!(inbound.held_bytes(), 0);
    }

    #[test]
    fn a_frame_that_comes_again_is_acknowledged_again_and_not_given_again() {
        let mut inbound = Inbound::default();
        assert_eq!(give(&mut inbound, 0), [0]);
        assert_eq!(give(&mut inbound, 0), b"");
        assert_eq!(give(&mut inbound, 5), b"");
        assert_eq!(give(&mut inbound, 5), b"");
        assert_eq!(acked(&mut inbound), [0, 0, 5, 5]);
    }

    #[test]
    fn a_million_frames_out_of_order_hold_a_bounded_amount_and_are_not_acknowledged() {
        let mut inbound = Inbound::default();
        for sequence in 1..=1_000_000 {
            inbound.received(frame(sequence, 16), |_, _| panic!("none is in order"));
            assert!(inbound.held.len() <= MOST_HELD);
        }
        assert_eq!(inbound.acks_owed(), MOST_HELD);
        for sequence in 2_000_000..2_000_100 {
            inbound.received(frame(sequence, 1 << 20), |_, _| {});
            assert!(inbound.held_bytes() <= MOST_HELD_BYTES);
        }
    }

    #[test]
    fn the_highest_number_does_not_overflow() {
        let mut inbound = Inbound::default();
        assert_eq!(give(&mut inbound, i64::MAX), b"");
        assert_eq!(give(&mut inbound, 0), [0]);
    }
}
