//! Reading a followed file in order, into batches.

use std::{io, sync::Arc};

use sha2::{Digest as _, Sha256};

use crate::{
    clock::Timestamp,
    logs::{
        batch::{Batch, MAX_MESSAGE},
        line,
        ports::TailFile,
    },
};

/// Bytes read at once.
const BLOCK: usize = 256 << 10;
/// Bytes before the position that are remembered, to notice that a file was emptied and refilled.
const TAIL: usize = 64;
/// Bytes at the beginning of a file that tell it from others.
const FINGERPRINT: u64 = 1024;

/// How far a file's first bytes are known, and their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Fingerprint {
    /// Bytes it covers, at most 1,024.
    pub len: u64,
    /// Hash of them.
    pub hash: u64,
}

/// A place in an open file: always the beginning of a line.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: Arc<dyn TailFile>,
    position: u64,
    pieces_done: usize,
    /// The bytes just before the position.
    tail: Vec<u8>,
}

/// What a reading gave besides the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileFilled {
    /// The batch is full; there may be more.
    pub full: bool,
    /// The file is not the one that was read until now: emptied, and perhaps refilled.
    pub changed: bool,
    /// Lines in which bad UTF-8 was replaced.
    pub bad_utf8: u64,
    /// Bytes after the last newline, which wait for their own.
    pub partial: u64,
}

/// What to do with a last line that has no newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastLine {
    /// It will be continued.
    Wait,
    /// Nobody writes to this file any more: take it.
    Take,
}

impl FileReader {
    /// At a position whose preceding bytes are trusted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn new(file: Arc<dyn TailFile>, position: u64) -> io::Result<Self> {
        let tail = tail_before(file.as_ref(), position)?;
        Ok(Self { file, position, pieces_done: 0, tail })
    }

    /// The position after the last line read.
    #[must_use]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Hash of the bytes before the position.
    #[must_use]
    pub(crate) fn tail_hash(&self) -> u64 {
        hash(&self.tail)
    }

    /// Goes back to `position`; false if the file is no longer the one that was read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn rewind(&mut self, position: u64) -> io::Result<bool> {
        if tail_before(self.file.as_ref(), self.position)? != self.tail {
            return Ok(false);
        }
        *self = Self::new(self.file.clone(), position)?;
        Ok(true)
    }

    /// Adds lines to the batch until it is full or the file has no more.
    ///
    /// # Errors
    /// When the file cannot be read. What was added until then stays added.
    pub(crate) fn fill(
        &mut self,
        batch: &mut Batch,
        now: Timestamp,
        last_line: LastLine,
    ) -> io::Result<FileFilled> {
        let mut filled = FileFilled::default();
        if tail_before(self.file.as_ref(), self.position)? != self.tail {
            filled.changed = true;
            return Ok(filled);
        }
        let mut buf = vec![0; BLOCK];
        // `buf[..have]` is the file from the position on.
        let mut have = 0;
        loop {
            if have == buf.len() {
                // A line longer than the buffer. Beyond one event's worth it is cut below, so this
                // stays under two of the largest messages.
                buf.resize(buf.len() * 2, 0);
            }
            let n = self.file.read_at(&mut buf[have..], self.position + have as u64)?;
            let searched = have;
            have += n;
            let mut done = 0;
            for newline in memchr::memchr_iter(b'\n', &buf[searched..have]) {
                let end = searched + newline;
                let line = buf.get(done..end).unwrap_or_default();
                if !self.take(batch, now, line, end + 1 - done, &mut filled) {
                    self.remember(&buf[..done]);
                    filled.full = true;
                    return Ok(filled);
                }
                done = end + 1;
            }
            while have - done > MAX_MESSAGE
                || (n == 0 && done < have && last_line == LastLine::Take)
            {
                let rest = buf.get(done..have).unwrap_or_default();
                let cut = if rest.len() > MAX_MESSAGE { line::raw_cut(rest) } else { rest.len() };
                let line = rest.get(..cut).unwrap_or_default();
                if !self.take(batch, now, line, cut, &mut filled) {
                    self.remember(&buf[..done]);
                    filled.full = true;
                    return Ok(filled);
                }
                done += cut;
            }
            self.remember(&buf[..done]);
            buf.copy_within(done..have, 0);
            have -= done;
            if n == 0 {
                filled.partial = have as u64;
                return Ok(filled);
            }
        }
    }

    /// Pushes one line and moves the position over its `taken` bytes; false if it did not fit.
    fn take(
        &mut self,
        batch: &mut Batch,
        now: Timestamp,
        line: &[u8],
        taken: usize,
        filled: &mut FileFilled,
    ) -> bool {
        let (text, replaced) = line::decode(line::trim_end(line));
        let end = self.position + taken as u64;
        if batch.push_line(now, &text, &mut self.pieces_done, end).is_err() {
            return false;
        }
        filled.bad_utf8 += u64::from(replaced);
        self.position = end;
        true
    }

    fn remember(&mut self, passed: &[u8]) {
        let fresh = passed.get(passed.len().saturating_sub(TAIL)..).unwrap_or_default();
        self.tail.extend_from_slice(fresh);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }
}

/// The up to 64 bytes before a position; fewer if the file is shorter than that.
fn tail_before(file: &dyn TailFile, position: u64) -> io::Result<Vec<u8>> {
    let from = position.saturating_sub(TAIL as u64);
    let len = usize::try_from(position - from).unwrap_or(TAIL);
    read_exactly(file, from, len)
}

fn read_exactly(file: &dyn TailFile, from: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let mut have = 0;
    while have < len {
        let n = file.read_at(&mut buf[have..], from + have as u64)?;
        if n == 0 {
            break;
        }
        have += n;
    }
    buf.truncate(have);
    Ok(buf)
}

/// Hash of the bytes before a position, as [`FileReader::tail_hash`] gave it.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn tail_hash(file: &dyn TailFile, position: u64) -> io::Result<u64> {
    Ok(hash(&tail_before(file, position)?))
}

/// The fingerprint of the first `len` bytes, or of as many as may count if `len` is not given.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn fingerprint(file: &dyn TailFile, len: Option<u64>) -> io::Result<Fingerprint> {
    let want = usize::try_from(len.unwrap_or(FINGERPRINT).min(FINGERPRINT)).unwrap_or(0);
    let head = read_exactly(file, 0, want)?;
    Ok(Fingerprint { len: head.len() as u64, hash: hash(&head) })
}

fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b))
}
