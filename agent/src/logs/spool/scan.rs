//! Walking through a segment that may be damaged.
//!
//! Behind a damaged record the next good one is looked for byte by byte, so a flipped bit costs one
//! record and not the rest of the segment.

use std::io;

use super::segment::{HEADER, Parsed, Record, parse_record};
use crate::logs::ports::SpoolFile;

/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// A place in one segment, moving forward over its good records.
#[derive(Debug, Default)]
pub(super) struct Walk {
    buf: Vec<u8>,
    /// Where `buf` begins in the file.
    base: u64,
    /// The next byte to look at, in `buf`.
    at: usize,
    /// Bytes passed over because they are no record.
    pub(super) damaged: u64,
    /// Where the last good record ends.
    pub(super) good_end: u64,
}

impl Walk {
    /// At the first record.
    pub(super) fn new() -> Self {
        Self { base: HEADER as u64, good_end: HEADER as u64, ..Self::default() }
    }

    /// The next record's offset in the file.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Gives back the memory; the place stays.
    pub(super) fn rest(&mut self) {
        *self = Self {
            base: self.offset(),
            damaged: self.damaged,
            good_end: self.good_end,
            ..Self::default()
        };
    }

    /// At the record that begins here.
    pub(super) fn at(offset: u64) -> Self {
        Self { base: offset, good_end: offset, ..Self::default() }
    }

    /// Shows the good records before `end`, and where they begin, to `take` until it says no; that one
    /// stays the next.
    /// At the end, whatever is left is not a whole record and counts as damaged.
    pub(super) fn visit(
        &mut self,
        file: &dyn SpoolFile,
        end: u64,
        mut take: impl FnMut(Record<'_>, u64) -> bool,
    ) -> io::Result<()> {
        while self.offset() < end {
            let want = match parse_record(self.buf.get(self.at..).unwrap_or_default()) {
                Parsed::Record(record, len) => {
                    if !take(record, self.base + self.at as u64) {
                        return Ok(());
                    }
                    self.at += len;
                    self.good_end = self.offset();
                    continue;
                }
                Parsed::Short(want) if self.offset() + want as u64 <= end => want,
                // A good length never reaches beyond the end.
                Parsed::Short(_) | Parsed::Damaged => {
                    self.at += 1;
                    self.damaged += 1;
                    continue;
                }
            };
            if !self.refill(file, end, want)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads on until `want` bytes from the present place are in the buffer.
    fn refill(&mut self, file: &dyn SpoolFile, end: u64, want: usize) -> io::Result<bool> {
        self.buf.drain(..self.at.min(self.buf.len()));
        self.base += self.at as u64;
        self.at = 0;
        let left = usize::try_from(end.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let goal = want.max(BLOCK).min(left);
        let mut have = self.buf.len();
        self.buf.resize(goal.max(have), 0);
        while have < goal {
            let n = file.read_at(&mut self.buf[have..goal], self.base + have as u64)?;
            if n == 0 {
                break;
            }
            have += n;
        }
        self.buf.truncate(have);
        Ok(have >= want)
    }
}
