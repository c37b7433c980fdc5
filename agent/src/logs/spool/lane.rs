//! One process's segments: appending, committing, giving back.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    COMMIT_BYTES, Shared, WAKE_BYTES,
    scan::Walk,
    segment::{self, HEADER, Record},
};
use crate::{
    clock::Timestamp,
    logs::{
        batch::MAX_MESSAGE,
        line,
        ports::{SpoolFile, SpoolFs},
    },
};

/// An active segment that is wholly delivered is given back from this size on.
const WORTH_REMOVING: u64 = 1 << 20;

/// One process's segments.
#[derive(Debug)]
pub(crate) struct Lane {
    inner: Mutex<Inner>,
    shared: Arc<Shared>,
    /// Bytes in the segments.
    bytes: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    fs: Arc<dyn SpoolFs>,
    segment_bytes: u64,
    /// Oldest first; the last one is appended to.
    segments: VecDeque<Segment>,
    next_seq: u64,
    /// Bytes appended since the last commit.
    uncommitted: u64,
    /// Segments were made or removed since the last commit.
    dir_changed: bool,
    /// Bytes appended since the shipper last looked.
    unseen: u64,
    /// Time of the first line that the shipper has not seen.
    unseen_since: Option<Timestamp>,
    dropped: u64,
    /// Everything up to here was delivered, as far as a checkpoint says.
    acked: u64,
    /// Bytes that recovery cut away.
    cut: u64,
    encoded: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) first_seq: u64,
    pub(super) len: u64,
    /// Open only for the segment that is appended to.
    file: Option<Arc<dyn SpoolFile>>,
}

/// What the shipper asks a lane each time it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LaneFacts {
    /// Sequence number of the last line.
    pub last_seq: u64,
    /// Sequence number of the oldest line that is still here, or the next one.
    pub first_seq: u64,
    /// Bytes appended since the last look.
    pub new_bytes: u64,
    /// Time of the first line since the last look.
    pub since: Option<Timestamp>,
    /// Lines dropped because the spool was full, since start.
    pub dropped: u64,
    /// Bytes cut away by recovery at start.
    pub cut: u64,
}

impl Lane {
    pub(super) fn open(
        fs: Arc<dyn SpoolFs>,
        dir: PathBuf,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let mut inner = Inner {
            dir,
            fs,
            segment_bytes: shared.segment_bytes,
            segments: VecDeque::new(),
            next_seq: 1,
            uncommitted: 0,
            dir_changed: false,
            unseen: 0,
            unseen_since: None,
            dropped: 0,
            acked: 0,
            cut: 0,
            encoded: Vec::new(),
        };
        inner.recover()?;
        let bytes = inner.segments.iter().map(|s| s.len).sum();
        shared.used.fetch_add(bytes, Ordering::Relaxed);
        Ok(Self { inner: Mutex::new(inner), shared, bytes: AtomicU64::new(bytes) })
    }

    /// Writes the lines of `chunk`; a last one without its newline counts as a line. When this
    /// returns, they survive the death of this process.
    ///
    /// # Errors
    /// When the file system refuses, a full disk above all: then nothing of the chunk is in, and the
    /// caller may try again.
    pub(crate) fn append(&self, source: u8, now: Timestamp, chunk: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        let before = inner.size();
        let written = inner.append(source, now, chunk);
        self.account(before, inner.size());
        let added = written?;
        // The shipper looks anyway from time to time; it is called for the first line of a lull, and
        // for a full request.
        let wake = inner.unseen == 0 || crosses(inner.unseen, added, WAKE_BYTES);
        inner.unseen += added;
        inner.unseen_since.get_or_insert(now);
        let commit = crosses(inner.uncommitted, added, COMMIT_BYTES);
        inner.uncommitted += added;
        drop(inner);
        if wake {
            self.shared.wake.notify_one();
        }
        if commit {
            self.shared.commit.notify_one();
        }
        Ok(())
    }

    /// What came since the last look.
    pub(crate) fn look(&self) -> LaneFacts {
        let mut inner = self.lock();
        let new_bytes = std::mem::take(&mut inner.unseen);
        let since = inner.unseen_since.take();
        LaneFacts { new_bytes, since, ..inner.facts() }
    }

    /// As [`look`](Self::look) without taking note.
    pub(crate) fn facts(&self) -> LaneFacts {
        self.lock().facts()
    }

    /// Bytes in the segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Says that sequence numbers up to this one were used before, though their records are gone:
    /// what a checkpoint knows and an empty directory does not.
    pub(crate) fn skip_to(&self, acked: u64) {
        let mut inner = self.lock();
        if inner.next_seq <= acked {
            inner.next_seq = acked + 1;
            // The open segment's numbers would jump, which readers take for a loss.
            if let Some(s) = inner.segments.back_mut() {
                s.file = None;
            }
        }
    }

    /// Removes whole segments that a durable checkpoint covers.
    ///
    /// # Errors
    /// When a file cannot be removed; the rest is tried again at the next call.
    pub(crate) fn give_back(&self, acked: u64) -> io::Result<()> {
        let mut inner = self.lock();
        let before = inner.size();
        let done = inner.give_back(acked);
        self.account(before, inner.size());
        done
    }

    /// Gives back what is delivered to the last line, also the segment that is written to: for want of
    /// room. False if that made none.
    pub(super) fn give_back_idle(&self) -> bool {
        let mut inner = self.lock();
        let before = inner.size();
        while !inner.segments.is_empty()
            && inner.last_seq_of_front() <= inner.acked
            && inner.remove_front().is_ok()
        {}
        let after = inner.size();
        self.account(before, after);
        after < before
    }

    /// Drops the oldest segment for want of room; false if there is none.
    pub(super) fn drop_oldest(&self) -> bool {
        let mut inner = self.lock();
        let before = inner.size();
        let had = inner.drop_oldest();
        self.account(before, inner.size());
        had
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let (file, dir, uncommitted) = {
            let mut inner = self.lock();
            if inner.uncommitted == 0 && !inner.dir_changed {
                return Ok(());
            }
            let dir = std::mem::take(&mut inner.dir_changed)
                .then(|| (inner.fs.clone(), inner.dir.clone()));
            let file = inner.segments.back().and_then(|s| s.file.clone());
            (file, dir, std::mem::take(&mut inner.uncommitted))
        };
        // The lock is not held while the disk works: appends go on.
        let synced = (|| {
            if let Some(f) = file {
                f.sync()?;
            }
            match &dir {
                Some((fs, path)) => fs.sync_dir(path),
                None => Ok(()),
            }
        })();
        if synced.is_err() {
            let mut inner = self.lock();
            inner.uncommitted += uncommitted.max(1);
            inner.dir_changed |= dir.is_some();
        }
        synced
    }

    pub(super) fn is_dirty(&self) -> bool {
        let inner = self.lock();
        inner.uncommitted > 0 || inner.dir_changed
    }

    /// The segment with this record or, if that was dropped, the next one: its first number, its
    /// length now, and the file.
    pub(super) fn segment_with(
        &self,
        seq: u64,
    ) -> io::Result<Option<(Segment, Arc<dyn SpoolFile>)>> {
        let inner = self.lock();
        let after = inner.segments.partition_point(|s| s.first_seq <= seq);
        let Some(s) = inner.segments.get(after.saturating_sub(1)) else { return Ok(None) };
        let file = match &s.file {
            Some(f) => f.clone(),
            None => inner.fs.open(&inner.dir.join(segment::file_name(s.first_seq)))?,
        };
        Ok(Some((s.clone(), file)))
    }

    /// The present length of a segment and whether a later one exists; none if it is gone.
    pub(super) fn segment_state(&self, first_seq: u64) -> Option<(u64, Option<u64>)> {
        let inner = self.lock();
        let i = inner.segments.binary_search_by_key(&first_seq, |s| s.first_seq).ok()?;
        Some((inner.segments[i].len, inner.segments.get(i + 1).map(|s| s.first_seq)))
    }

    fn account(&self, before: u64, after: u64) {
        self.bytes.store(after, Ordering::Relaxed);
        if after >= before {
            self.shared.used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.shared.used.fetch_sub(before - after, Ordering::Relaxed);
            self.shared.room.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside leaves at worst bytes beyond a segment's noted length, which the next
        // append overwrites.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn crosses(have: u64, added: u64, mark: u64) -> bool {
    have < mark && have + added >= mark
}

impl Inner {
    fn size(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum()
    }

    fn facts(&self) -> LaneFacts {
        LaneFacts {
            last_seq: self.next_seq - 1,
            first_seq: self.segments.front().map_or(self.next_seq, |s| s.first_seq),
            new_bytes: self.unseen,
            since: self.unseen_since,
            dropped: self.dropped,
            cut: self.cut,
        }
    }

    /// Finds the segments and cuts the last one after its last good record. Appending goes on in a
    /// new segment.
    fn recover(&mut self) -> io::Result<()> {
        let mut firsts: Vec<u64> =
            self.fs.list(&self.dir)?.iter().filter_map(|n| segment::parse_file_name(n)).collect();
        firsts.sort_unstable();
        for first_seq in firsts {
            let path = self.path(first_seq);
            let file = self.fs.open(&path)?;
            let mut head = [0; HEADER];
            let n = file.read_at(&mut head, 0)?;
            if segment::is_of_other_version(&head[..n]) {
                let what = format!("{} has a format that this version cannot read", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            let len = file.len()?;
            self.segments.push_back(Segment { first_seq, len, file: None });
        }
        let Some(mut last) = self.segments.pop_back() else { return Ok(()) };
        let path = self.path(last.first_seq);
        let file = self.fs.open(&path)?;
        let mut walk = Walk::new();
        self.next_seq = last.first_seq.max(1);
        walk.visit(file.as_ref(), last.len, |r| {
            self.next_seq = self.next_seq.max(r.seq.saturating_add(1));
            true
        })?;
        let end = if walk.good_end > HEADER as u64 { walk.good_end } else { 0 };
        self.cut = last.len.saturating_sub(end.max(HEADER as u64));
        if end == 0 {
            self.fs.remove(&path)?;
            self.dir_changed = true;
        } else {
            if end < last.len {
                file.set_len(end)?;
                last.len = end;
            }
            // The process that wrote it may have died before its commit.
            file.sync()?;
            self.dir_changed = true;
            self.segments.push_back(last);
        }
        Ok(())
    }

    fn append(&mut self, source: u8, now: Timestamp, chunk: &[u8]) -> io::Result<u64> {
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        let mut seq = self.next_seq;
        for line in chunk.split(|b| *b == b'\n') {
            let mut rest = line::trim_end(line);
            while !rest.is_empty() {
                let cut = if rest.len() > MAX_MESSAGE { line::raw_cut(rest) } else { rest.len() };
                let (text, after) = rest.split_at(cut);
                let record = Record { source, time_ms: now.as_millis(), seq, text };
                segment::push_record(&mut encoded, record);
                seq += 1;
                rest = after;
            }
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
    fn roll(&mut self) -> io::Result<()> {
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

    fn give_back(&mut self, acked: u64) -> io::Result<()> {
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

    fn drop_oldest(&mut self) -> bool {
        let Some(front) = self.segments.front() else { return false };
        let lost = self.last_seq_of_front().saturating_sub(self.acked.max(front.first_seq - 1));
        let removed = self.remove_front();
        if removed.is_ok() {
            self.dropped += lost;
        }
        removed.is_ok()
    }

    fn last_seq_of_front(&self) -> u64 {
        self.segments.get(1).map_or(self.next_seq, |next| next.first_seq) - 1
    }

    fn remove_front(&mut self) -> io::Result<()> {
        if let Some(front) = self.segments.front() {
            self.fs.remove(&self.path(front.first_seq))?;
            self.segments.pop_front();
            self.dir_changed = true;
        }
        Ok(())
    }

    fn path(&self, first_seq: u64) -> PathBuf {
        self.dir.join(segment::file_name(first_seq))
    }
}
