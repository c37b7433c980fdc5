//! One direction of a socket with its faults: frames go in, and come out lost, twice, late.
//!
//! Pure: takes the time and a source of chance. Bounded by [`Lane::is_full`], which stops its feeder.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{faults::Chances, frame::Frame};

/// Most frames under way. The feeder waits then.
const MOST: usize = 65_536;
/// How much later a reordered frame comes.
const LATE: Duration = Duration::from_millis(15);

/// A direction.
#[derive(Debug)]
pub(crate) struct Lane {
    under_way: BTreeMap<(Instant, u64), Bytes>,
    count: u64,
    taken: [u64; 2],
    chance: u64,
}

impl Lane {
    /// `seed` decides what chance brings.
    pub(crate) fn new(seed: u64) -> Self {
        Self { under_way: BTreeMap::new(), count: 0, taken: [0; 2], chance: seed | 1 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.under_way.len() >= MOST
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether a thing of probability `p` happens now.
    fn happens(&mut self, p: f64) -> bool {
        if p <= 0.0 {
            return false;
        }
        // xorshift64
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let part = u32::try_from(self.chance >> 32).unwrap_or(u32::MAX);
        f64::from(part) / f64::from(u32::MAX) < p
    }

    /// Takes a frame in.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        bytes: Bytes,
        faults: &super::faults::Lane,
        half_rtt: Duration,
    ) {
        let is_ack = Frame::is_ack(&bytes);
        let chances: &Chances = if is_ack { &faults.ack } else { &faults.data };
        let taken = &mut self.taken[usize::from(is_ack)];
        *taken += 1;
        if *taken <= chances.lose_first || self.happens(chances.lose) {
            return;
        }
        let bytes = if self.happens(chances.corrupt) { corrupted(&bytes) } else { bytes };
        let mut due = now + half_rtt + Duration::from_millis(chances.delay_ms);
        if self.happens(chances.duplicate) {
            self.insert(due + LATE, bytes.clone());
        }
        if self.happens(chances.reorder) {
            due += LATE;
        }
        self.insert(due, bytes);
    }

    fn insert(&mut self, due: Instant, bytes: Bytes) {
        self.under_way.insert((due, self.count), bytes);
        self.count += 1;
    }

    /// The next frame that has arrived.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Bytes> {
        let first = self.under_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next one arrives.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((due, _), _)| *due)
    }
}

fn corrupted(bytes: &Bytes) -> Bytes {
    let mut copy = bytes.to_vec();
    if let Some(last) = copy.last_mut() {
        *last ^= 0x55;
    }
    copy.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::faults;

    fn through(chances: Chances, frames: u8) -> Vec<u8> {
        let faults = faults::Lane { data: chances, ack: Chances::default() };
        let mut lane = Lane::new(42);
        let now = Instant::now();
        for n in 0..frames {
            lane.push(now, Bytes::copy_from_slice(&[n]), &faults, Duration::ZERO);
        }
        let mut out = Vec::new();
        while let Some(bytes) = lane.pop(now + LATE) {
            out.push(bytes[0]);
        }
        out
    }

    #[test]
    fn a_lane_without_faults_keeps_order_and_number() {
        assert_eq!(through(Chances::default(), 100), (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn each_fault_does_what_it_says() {
        let lost = through(Chances { lose: 0.25, ..Chances::default() }, 200);
        assert!((120..180).contains(&lost.len()), "{} of 200 came", lost.len());
        let twice = through(Chances { duplicate: 0.5, ..Chances::default() }, 200);
        assert!((260..340).contains(&twice.len()), "{} of 200 came", twice.len());
        let mixed = through(Chances { reorder: 0.3, ..Chances::default() }, 200);
        assert_eq!(mixed.len(), 200);
        assert!(!mixed.is_sorted());
        let first = through(Chances { lose_first: 3, ..Chances::default() }, 5);
        assert_eq!(first, [3, 4]);
        let corrupt = through(Chances { corrupt: 1.0, ..Chances::default() }, 1);
        assert_eq!(corrupt, [0x55]);
    }
}
