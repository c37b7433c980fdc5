//! One process's segments: what is asked of them, under one lock.

mod recovery;
mod segments;

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use segments::messages;

use super::{COMMIT_BYTES, Shared, WAKE_BYTES, segment};
use crate::{
    clock::Timestamp,
    logs::ports::{SpoolFile, SpoolFs},
};

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
    /// The last line that was dropped instead of written.
    passed_over: u64,
    /// Everything up to here was delivered, as far as a checkpoint says.
    acked: u64,
    /// Bytes that recovery cut away.
    cut: u64,
    /// Segments that are not ours to read: of another version.
    foreign: Vec<PathBuf>,
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
            passed_over: 0,
            acked: 0,
            cut: 0,
            foreign: Vec::new(),
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

    /// Drops lines that the disk refuses: their numbers are used, so that they are told of.
    pub(super) fn pass_over(&self, now: Timestamp, chunk: &[u8]) {
        let mut inner = self.lock();
        // A look is worth it, though there is nothing but that to read.
        inner.unseen += 1;
        inner.unseen_since.get_or_insert(now);
        let lines = messages(chunk).count() as u64;
        inner.next_seq += lines;
        inner.dropped += lines;
        inner.passed_over = inner.next_seq - 1;
        drop(inner);
        self.shared.wake.notify_one();
    }

    /// Up to which line some are known to be gone, though no later one says so.
    pub(super) fn passed_over(&self) -> u64 {
        self.lock().passed_over
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

    /// Segments of another version, which were left as they are.
    pub(crate) fn foreign(&self) -> Vec<PathBuf> {
        self.lock().foreign.clone()
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
}
