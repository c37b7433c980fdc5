//! A unit's entries on their way into batches: kept until they are acknowledged, since they may have to be
//! sent again.

use std::collections::VecDeque;

use crate::{
    clock::Timestamp,
    logs::{
        batch::Batch,
        content::{Carry, Counts},
        line,
        redaction::Redaction,
    },
};

/// One entry of a unit.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its number in the ledger.
    pub seq: u64,
    pub at: Timestamp,
    pub text: Vec<u8>,
    /// Hash of its cursor.
    pub hash: u64,
}

/// A place in a unit's entries.
#[derive(Debug)]
pub(crate) struct JournalReader {
    items: VecDeque<Item>,
    /// How many of them are read.
    read: usize,
    pieces_done: usize,
    position: u64,
    hash: Option<u64>,
}

/// What a reading gave besides the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalFilled {
    pub full: bool,
    pub bad_utf8: u64,
}

impl JournalReader {
    pub(crate) fn new(position: u64) -> Self {
        Self { items: VecDeque::new(), read: 0, pieces_done: 0, position, hash: None }
    }

    /// The number of the last entry read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Hash of the cursor of that entry.
    pub(crate) fn hash(&self) -> Option<u64> {
        self.hash
    }

    /// Takes more entries, and lets go of those up to `acked`.
    pub(crate) fn extend(&mut self, more: impl Iterator<Item = Item>, acked: u64) {
        while self.items.front().is_some_and(|i| i.seq <= acked) && self.read > 0 {
            self.items.pop_front();
            self.read -= 1;
        }
        self.items.extend(more);
    }

    /// Goes back to what comes after `acked`.
    pub(crate) fn rewind(&mut self, acked: u64) {
        self.read = self.items.partition_point(|i| i.seq <= acked);
        (self.pieces_done, self.position, self.hash) = (0, acked, None);
    }

    /// Adds entries, without their secrets, to the batch until it is full or there are no more.
    pub(crate) fn fill(&mut self, batch: &mut Batch, redaction: &Redaction) -> JournalFilled {
        let mut filled = JournalFilled::default();
        let (redactor, mut hidden) = (redaction.redactor(), Counts::new());
        while let Some(item) = self.items.get(self.read) {
            let whole = &mut Carry::default();
            let clean = redactor.part(&item.text, whole, true, &mut hidden);
            let (text, replaced) = line::decode(line::trim_end(&clean));
            if batch.push_line(item.at, &text, &mut self.pieces_done, item.seq).is_err() {
                filled.full = true;
                break;
            }
            filled.bad_utf8 += u64::from(replaced);
            (self.position, self.hash) = (item.seq, Some(item.hash));
            self.read += 1;
        }
        redaction.count(&redactor, &hidden);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::content::{Kind, Redactor};

    fn item(seq: u64, text: &str) -> Item {
        Item { seq, at: Timestamp::from_secs(1), text: text.into(), hash: seq * 10 }
    }

    fn texts(r: &mut JournalReader) -> Vec<String> {
        let mut batch = Batch::new(1, r.position());
        r.fill(&mut batch, &Redaction::new(Redactor::new(&[Kind::Pan], Vec::new(), "X")));
        assert_eq!(batch.upto(), r.position());
        batch.events().map(|(_, t)| serde_json::from_slice(t).unwrap()).collect()
    }

    #[test]
    fn secrets_of_the_journal_are_taken_out_too() {
        let mut r = JournalReader::new(0);
        r.extend([item(1, "paid with 4111 1111 1111 1111"), item(2, "plain")].into_iter(), 0);
        let told = texts(&mut r);
        assert!(told[0].starts_with("paid with **** ") && told[0].ends_with(" 1111"), "{told:?}");
        assert_eq!(told[1], "plain");
    }

    #[test]
    fn what_is_not_acknowledged_can_be_read_again() {
        let mut r = JournalReader::new(3);
        r.extend([item(4, "a"), item(7, ""), item(9, "b")].into_iter(), 3);
        assert_eq!(texts(&mut r), ["a", "b"]);
        assert_eq!((r.position(), r.hash()), (9, Some(90)));
        r.rewind(4);
        r.extend([item(10, "c")].into_iter(), 4);
        assert_eq!(texts(&mut r), ["b", "c"]);
        r.extend(std::iter::empty(), 10);
        assert!(r.items.is_empty() && texts(&mut r).is_empty());
    }
}
