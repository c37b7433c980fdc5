//! Reading a followed file in order, into batches.

use std::{borrow::Cow, io, sync::Arc};

use sha2::{Digest as _, Sha256};

use crate::logs::{
    assemble::{Assembler, Line},
    batch::{Batch, MAX_MESSAGE},
    content::{Carry, Counts, Redactor},
    line,
    ports::TailFile,
    reading::Reading,
};

/// Bytes read at once.
const BLOCK: usize = 256 << 10;
/// Bytes before the position that are remembered, to notice that a file was emptied and refilled.
const TAIL: usize = 64;
/// Bytes before a position inside a line from which it is known again what the line is in.
const BEFORE: u64 = 8 << 10;
/// Bytes at the beginning of a file that tell it from others.
pub(super) const FINGERPRINT: u64 = 1024;

/// How far a file's first bytes are known, and their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Fingerprint {
    /// Bytes it covers, at most 1,024.
    pub len: u64,
    /// Hash of them.
    pub hash: u64,
}

/// A place in an open file: the beginning of a line, or of a further part of one that is longer than an
/// event.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: Arc<dyn TailFile>,
    position: u64,
    pieces_done: usize,
    /// The bytes just before the position.
    tail: Vec<u8>,
    /// What the line is in, if the position is inside of one.
    inside: Inside,
}

/// What is known of the line that the position is inside of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Inside {
    /// It is at the beginning of one.
    Nothing,
    /// To be found out.
    Unknown,
    Known(Carry),
}

/// Takes secrets out of lines, and counts them once they are in a batch.
struct Hiding {
    redactor: Redactor,
    counts: Counts,
}

/// A line, or a part of one that is longer than an event.
struct Part<'a> {
    bytes: &'a [u8],
    /// Bytes of the file, with the newline.
    taken: usize,
    /// The line ends here.
    is_last: bool,
    /// It is known to hold no secret, unless one began before.
    is_clean: bool,
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
    /// Bytes that wait: for their newline, or because their event may go on.
    pub partial: u64,
    /// Where the file ended, if an event is left for the next time that may go on there.
    pub held: Option<u64>,
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
        let inside = match tail.last() {
            None | Some(b'\n') => Inside::Nothing,
            Some(_) => Inside::Unknown,
        };
        Ok(Self { file, position, pieces_done: 0, tail, inside })
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
        how: &Reading<'_>,
        last_line: LastLine,
    ) -> io::Result<FileFilled> {
        let mut filled = FileFilled::default();
        if tail_before(self.file.as_ref(), self.position)? != self.tail {
            filled.changed = true;
            return Ok(filled);
        }
        let mut hiding = Hiding { redactor: how.redaction.redactor(), counts: Counts::new() };
        if self.inside == Inside::Unknown {
            self.inside = self.look_before(&hiding.redactor)?;
        }
        let mut assembler = Assembler::new(how.rules, how.oldest_ms, batch, self.position);
        let read = self.read(batch, &mut assembler, how, last_line, &mut hiding, &mut filled);
        how.redaction.count(&hiding.redactor, &hiding.counts);
        let end = self.position + filled.partial;
        let back = match read {
            Err(_) => assembler.cut(batch),
            Ok(()) if filled.full => assembler.cut(batch),
            Ok(()) => {
                let still = how.still_at == Some(end) || last_line == LastLine::Take;
                match assembler.end(batch, how.now, still) {
                    Ok(back) => {
                        filled.held = back.map(|_| end);
                        back
                    }
                    Err(_) => {
                        filled.full = true;
                        assembler.cut(batch)
                    }
                }
            }
        };
        if let Some(back) = back.filter(|back| *back != self.position) {
            // Always the beginning of a line: only a line by itself is cut into parts.
            self.position = back;
            self.tail = tail_before(self.file.as_ref(), back)?;
            (self.inside, filled.partial) = (Inside::Nothing, end - back);
        }
        read.map(|()| filled)
    }

    /// Hands over line after line.
    fn read(
        &mut self,
        batch: &mut Batch,
        assembler: &mut Assembler<'_>,
        how: &Reading<'_>,
        last_line: LastLine,
        hiding: &mut Hiding,
        filled: &mut FileFilled,
    ) -> io::Result<()> {
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
            let lines =
                memchr::memrchr(b'\n', &buf[searched..have]).map_or(0, |at| searched + at + 1);
            let is_clean = hiding.redactor.is_none() || hiding.redactor.is_clean(&buf[..lines]);
            let mut done = 0;
            for newline in memchr::memchr_iter(b'\n', &buf[searched..have]) {
                let end = searched + newline;
                let part = Part {
                    bytes: buf.get(done..end).unwrap_or_default(),
                    taken: end + 1 - done,
                    is_last: true,
                    is_clean,
                };
                if !self.take(batch, assembler, how, &part, hiding, filled) {
                    self.remember(&buf[..done]);
                    filled.full = true;
                    return Ok(());
                }
                done = end + 1;
            }
            while have - done > MAX_MESSAGE
                || (n == 0 && done < have && last_line == LastLine::Take)
            {
                let rest = buf.get(done..have).unwrap_or_default();
                let is_last = rest.len() <= MAX_MESSAGE;
                let cut = if is_last { rest.len() } else { line::raw_cut(rest) };
                let bytes = rest.get(..cut).unwrap_or_default();
                let part = Part { bytes, taken: cut, is_last, is_clean: false };
                if !self.take(batch, assembler, how, &part, hiding, filled) {
                    self.remember(&buf[..done]);
                    filled.full = true;
                    return Ok(());
                }
                done += cut;
            }
            self.remember(&buf[..done]);
            buf.copy_within(done..have, 0);
            have -= done;
            if n == 0 {
                filled.partial = have as u64;
                return Ok(());
            }
        }
    }

    /// Hands over one line and moves the position over it; false if it did not fit.
    fn take(
        &mut self,
        batch: &mut Batch,
        assembler: &mut Assembler<'_>,
        how: &Reading<'_>,
        part: &Part<'_>,
        hiding: &mut Hiding,
        filled: &mut FileFilled,
    ) -> bool {
        let mut counts = Counts::new();
        let (mut carry, begins) = match &self.inside {
            Inside::Known(carry) => (carry.clone(), false),
            Inside::Nothing | Inside::Unknown => (Carry::default(), true),
        };
        let bytes = if hiding.redactor.is_none() || (part.is_clean && begins) {
            Cow::Borrowed(part.bytes)
        } else {
            hiding.redactor.part(part.bytes, &mut carry, part.is_last, &mut counts)
        };
        let inside = if part.is_last { Inside::Nothing } else { Inside::Known(carry) };
        let (text, replaced) = line::decode(line::trim_end(&bytes));
        let end = self.position + part.taken as u64;
        let line = Line { stream: 0, text: text.as_ref(), at: how.now, start: self.position, end };
        let added = if part.is_last && begins {
            assembler.add(batch, line, &mut self.pieces_done)
        } else {
            assembler.add_alone(batch, line, &mut self.pieces_done)
        };
        if added.is_err() {
            return false;
        }
        filled.bad_utf8 += u64::from(replaced);
        for (number, n) in counts {
            *hiding.counts.entry(number).or_default() += n;
        }
        (self.position, self.inside) = (end, inside);
        true
    }

    /// What the line is in that the position is inside of.
    fn look_before(&self, redactor: &Redactor) -> io::Result<Inside> {
        let from = self.position.saturating_sub(BEFORE);
        let len = usize::try_from(self.position - from).unwrap_or(0);
        let before = read_exactly(self.file.as_ref(), from, len)?;
        let line = memchr::memrchr(b'\n', &before).map_or(0, |at| at + 1);
        Ok(Inside::Known(redactor.carry_after(before.get(line..).unwrap_or_default())))
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
