//! A lane's segments on disk: appending, closing, removing.

use std::{io, iter, path::PathBuf};

use super::{Inner, Segment};
use crate::{
    clock::Timestamp,
    logs::{
        batch::MAX_MESSAGE,
        line,
        spool::segment::{self, HEADER, Record},
    },
};

/// An active segment that is wholly delivered is given back from this size on.
const WORTH_REMOVING: u64 = 1 << 20;

impl Inner {
    pub(super) fn append(&mut self, source: u8, now: Timestamp, chunk: &[u8]) -> io::Result<u64> {
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        let mut seq = self.next_seq;
        for text in messages(chunk) {
            let record = Record { source, time_ms: now.as_millis(), seq, text };
            segment::push_record(&mut encoded, record);
            seq += 1;
        }
        let written = self.write(&encoded);
        let added = encoded.len() as u64;
        // One large chunk must not hold its memory for ever.
        if encoded.capacity() <= 1 << 20 {
            self.encoded = encoded;
        }
        written?;
        self.next_seq = seq;
        Ok(added)
    }

    fn write(&mut self, encoded: &[u8]) -> io::Result<()> {
        if encoded.is_empty() {
            return Ok(());
        }
        let active =
            self.segments.back().filter(|s| s.len < self.segment_bytes && s.file.is_some());
        if active.is_none() {
            self.roll()?;
        }
        let Some((segment, file)) =
            self.segments.back_mut().and_then(|s| s.file.clone().map(|f| (s, f)))
        else {
            return Err(io::Error::other("no segment to append to"));
        };
        if let Err(e) = file.write_all_at(encoded, segment.len) {
            // What part of it is there is cut away; should that fail too, the next append
            // overwrites it, and a reader never looks beyond the noted length.
            file.set_len(segment.len).unwrap_or_default();
            return Err(e);
        }
        segment.len += encoded.len() as u64;
        Ok(())
    }

    /// Closes the active segment and begins the next.
    pub(super) fn roll(&mut self) -> io::Result<()> {
        if let Some(full) = self.segments.back_mut()
            && let Some(file) = &full.file
        {
            // Its end is committed with it; a commit looks at the active segment only.
            file.sync()?;
            full.file = None;
        }
        let first_seq = self.next_seq;
        let path = self.path(first_seq);
        let file = self.fs.open(&path)?;
        let mut header = Vec::new();
        segment::push_header(&mut header, first_seq);
        if let Err(e) = file.set_len(0).and_then(|()| file.write_all_at(&header, 0)) {
            self.fs.remove(&path).unwrap_or_default();
            return Err(e);
        }
        self.dir_changed = true;
        self.segments.push_back(Segment { first_seq, len: HEADER as u64, file: Some(file) });
        Ok(())
    }

    pub(super) fn give_back(&mut self, acked: u64) -> io::Result<()> {
        self.acked = self.acked.max(acked);
        while let Some(front) = self.segments.front() {
            let active = self.segments.len() == 1 && front.file.is_some();
            if self.last_seq_of_front() > acked || (active && front.len < WORTH_REMOVING) {
                break;
            }
            self.remove_front()?;
        }
        Ok(())
    }

    pub(super) fn drop_oldest(&mut self) -> bool {
        if self.segments.len() == 1 {
            if self.size() <= HEADER as u64 {
                return false;
            }
            // The name of an empty segment says how far the numbers had got: after a restart too, what
            // was dropped is told. A disk without room for it is told of as long as the agent lives.
            self.roll().unwrap_or_default();
        }
        let Some(front) = self.segments.front() else { return false };
        let lost = self.last_seq_of_front().saturating_sub(self.acked.max(front.first_seq - 1));
        let removed = self.remove_front();
        if removed.is_ok() {
            self.dropped += lost;
        }
        removed.is_ok()
    }

    pub(super) fn last_seq_of_front(&self) -> u64 {
        self.segments.get(1).map_or(self.next_seq, |next| next.first_seq) - 1
    }

    pub(super) fn remove_front(&mut self) -> io::Result<()> {
        if let Some(front) = self.segments.front() {
            let path = self.path(front.first_seq);
            // A reader may have it open, and a full disk needs the room now. Without a descriptor to do
            // it with, the room comes when the reader goes on.
            let file = front.file.clone().map_or_else(|| self.fs.open(&path), Ok);
            file.and_then(|f| f.set_len(0)).unwrap_or_default();
            self.fs.remove(&path)?;
            self.segments.pop_front();
            self.dir_changed = true;
        }
        Ok(())
    }

    pub(super) fn path(&self, first_seq: u64) -> PathBuf {
        self.dir.join(segment::file_name(first_seq))
    }
}

/// The lines of a chunk that are not empty, in parts of at most one event.
pub(super) fn messages(chunk: &[u8]) -> impl Iterator<Item = &[u8]> {
    chunk.split(|b| *b == b'\n').flat_map(|line| {
        let mut rest = line::trim_end(line);
        iter::from_fn(move || {
            let cut = if rest.len() > MAX_MESSAGE { line::raw_cut(rest) } else { rest.len() };
            let (text, after) = rest.split_at(cut);
            rest = after;
            (!text.is_empty()).then_some(text)
        })
    })
}
