//! Which entries are read and not yet acknowledged, and so how far the journal is done with.

use std::collections::VecDeque;

use super::{JournalEntry, JournalPlace};

/// Most entries read and not acknowledged.
pub(crate) const WINDOW: usize = 10_000;
/// Most bytes of text of them.
const WINDOW_BYTES: usize = 4 << 20;

/// Numbers entries and keeps their places until everything before them is acknowledged.
#[derive(Debug)]
pub(crate) struct Ledger {
    open: VecDeque<Open>,
    bytes: usize,
    next_seq: u64,
    /// Everything up to here is acknowledged.
    done: JournalPlace,
    /// Everything up to here is read.
    read: JournalPlace,
}

#[derive(Debug)]
struct Open {
    seq: u64,
    /// None for what is not shipped.
    lane: Option<u64>,
    bytes: usize,
    place: JournalPlace,
}

impl Ledger {
    /// Begins at a place, with numbers above `last_seq`.
    pub(crate) fn new(from: JournalPlace, last_seq: u64) -> Self {
        Self {
            open: VecDeque::new(),
            bytes: 0,
            next_seq: last_seq + 1,
            done: from.clone(),
            read: from,
        }
    }

    /// Whether no more should be read for now.
    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= WINDOW || self.bytes >= WINDOW_BYTES
    }

    /// Takes an entry down for a lane, or for none; its number.
    pub(crate) fn read(&mut self, entry: &JournalEntry, lane: Option<u64>, bytes: usize) -> u64 {
        let place =
            JournalPlace { cursor: Some(entry.cursor.clone()), realtime_us: entry.realtime_us };
        self.read = place.clone();
        self.push(lane, bytes, place)
    }

    /// Takes down a line of our own, which is at no place of the journal.
    pub(crate) fn add(&mut self, lane: u64, bytes: usize) -> u64 {
        let place = self.read.clone();
        self.push(Some(lane), bytes, place)
    }

    fn push(&mut self, lane: Option<u64>, bytes: usize, place: JournalPlace) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        if lane.is_none() && self.open.is_empty() {
            self.done = place;
        } else if lane.is_none()
            && let Some(last) = self.open.back_mut().filter(|o| o.lane.is_none())
        {
            // Many entries that are not shipped take the room of one.
            (last.seq, last.place) = (seq, place);
        } else {
            self.bytes += bytes;
            self.open.push_back(Open { seq, lane, bytes, place });
        }
        seq
    }

    /// Moves over everything that is acknowledged without a gap; whether that was anything.
    pub(crate) fn advance(&mut self, acked: impl Fn(u64) -> u64) -> bool {
        let mut moved = false;
        while let Some(first) = self.open.front() {
            if first.lane.is_some_and(|lane| acked(lane) < first.seq) {
                break;
            }
            self.bytes -= first.bytes;
            if let Some(first) = self.open.pop_front() {
                self.done = first.place;
            }
            moved = true;
        }
        moved
    }

    /// Up to where all is acknowledged.
    pub(crate) fn done(&self) -> &JournalPlace {
        &self.done
    }

    /// Everything up to this number is acknowledged.
    pub(crate) fn done_seq(&self) -> u64 {
        self.open.front().map_or(self.next_seq, |first| first.seq) - 1
    }

    /// Up to where all is read.
    pub(crate) fn last_read(&self) -> &JournalPlace {
        &self.read
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(n: u64) -> JournalEntry {
        JournalEntry { cursor: format!("c{n}"), realtime_us: n, ..JournalEntry::default() }
    }

    #[test]
    fn it_moves_only_over_what_is_acknowledged_without_a_gap() {
        let mut ledger = Ledger::new(JournalPlace::default(), 10);
        for (n, lane) in [(1, Some(7)), (2, Some(8)), (3, None), (4, Some(7))] {
            assert_eq!(ledger.read(&entry(n), lane, 1), 10 + n);
        }
        // Lane 7 is done, lane 8 not.
        assert!(ledger.advance(|lane| if lane == 7 { 14 } else { 0 }));
        assert_eq!((ledger.done().cursor.as_deref(), ledger.done_seq()), (Some("c1"), 11));
        assert!(ledger.advance(|lane| if lane == 7 { 14 } else { 12 }));
        assert_eq!((ledger.done().cursor.as_deref(), ledger.done_seq()), (Some("c4"), 14));
        // What is not shipped holds nothing up.
        ledger.read(&entry(5), None, 0);
        assert_eq!(ledger.done().cursor.as_deref(), Some("c5"));
    }

    #[test]
    fn it_is_full_by_count_and_by_bytes_and_what_is_not_shipped_takes_no_room() {
        let mut ledger = Ledger::new(JournalPlace::default(), 0);
        ledger.read(&entry(1), Some(1), WINDOW_BYTES);
        assert!(ledger.is_full());
        ledger.advance(|_| 1);
        for n in 0..WINDOW as u64 - 1 {
            ledger.read(&entry(n), Some(1), 1);
        }
        assert!(!ledger.is_full());
        for n in 0..50_000 {
            ledger.read(&entry(n), None, 0);
        }
        assert!(ledger.is_full());
        ledger.advance(|_| u64::MAX);
        assert!(!ledger.is_full() && ledger.bytes == 0);
    }

    proptest! {
        #[test]
        fn nothing_unacknowledged_is_ever_behind_it(
            lanes in prop::collection::vec(prop::option::of(0_u64..3), 1..60),
            acked in prop::collection::vec(0_u64..60, 3),
        ) {
            let mut ledger = Ledger::new(JournalPlace::default(), 0);
            for (i, lane) in lanes.iter().enumerate() {
                ledger.read(&entry(i as u64 + 1), *lane, 1);
            }
            let of = |lane: u64| acked[usize::try_from(lane).unwrap()];
            ledger.advance(of);
            let done = ledger.done().realtime_us;
            for (i, lane) in lanes.iter().enumerate() {
                let seq = i as u64 + 1;
                let open = lane.is_some_and(|l| of(l) < seq);
                prop_assert!(!(open && seq <= done));
            }
            // And it moves as far as it may.
            let first_open =
                lanes.iter().enumerate().find(|(i, l)| l.is_some_and(|l| of(l) < *i as u64 + 1));
            let want = first_open.map_or(lanes.len(), |(i, _)| i) as u64;
            prop_assert_eq!(done, want);
        }
    }
}
