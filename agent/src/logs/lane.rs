//! One lane as the shipper sees it: a source read in order, at most one request on its way, and one
//! more made ready while that is under way.
//!
//! One request at a time per lane keeps a stream's lines in order and what a crash repeats small;
//! lanes run side by side.

use std::{collections::VecDeque, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    assemble::GAP_MS,
    batch::Batch,
    checkpoint::{FileMark, JournalLaneMark, SpoolMark},
    journal::{Item, JournalReader},
    ports::TailFile,
    source::{FileReader, Fingerprint, Known},
    spool::{self, LaneKey},
    status::SourceStatus,
};
use crate::clock::Timestamp;

/// A rotated file is taken for finished when it did not grow for so long.
pub(super) const ROTATE_WAIT: Duration = Duration::from_secs(5);
/// As long is waited for more in a file that was removed or moved away: a program may still have it open.
const GONE_WAIT: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: u64,
    pub(super) source: Source,
    pub(super) group: String,
    pub(super) stream: String,
    /// Delivered up to here.
    pub(super) acked: u64,
    /// Hash of the bytes before `acked`, for a file, or of its cursor, for the journal; if known.
    pub(super) acked_tail: Option<u64>,
    /// Away while a batch is built; absent too when there is nothing to read from.
    pub(super) reader: Option<Reader>,
    pub(super) building: bool,
    pub(super) staged: Option<Made>,
    pub(super) work: Option<Work>,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Lines that are missing are counted up to here.
    pub(super) counted: u64,
    /// Events put aside in a row, each for itself, none delivered between.
    pub(super) buried: u32,
    /// The last of them will not go away by waiting.
    pub(super) needs_a_person: bool,
    /// Bytes known to wait.
    pub(super) unread: u64,
    /// When the first of them was noticed.
    pub(super) since: Option<Instant>,
    /// An event that may go on is left at the source's end.
    pub(super) held: Option<Held>,
    /// Time of the first line that waits, for the lag.
    pub(super) oldest: Option<Timestamp>,
    /// Not built from again before this: the source could not be read.
    pub(super) read_again: Option<Instant>,
    /// The next batch is sent only after its stream was made: the one given back found it missing.
    pub(super) ensure_next: bool,
    /// A flush waits until this position is delivered.
    pub(super) flush_to: Option<u64>,
    /// What its stream is to be told last: that something is missing. Not while it is on its way.
    pub(super) last_words: Option<String>,
    pub(super) counts: SourceStatus,
}

/// An event that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Where the source ended.
    pub(super) end: u64,
    /// It is whole if the source still ends there then.
    pub(super) until: Instant,
}

#[derive(Debug)]
pub(super) enum Reader {
    File(FileReader),
    Spool(spool::Reader),
    Journal(JournalReader),
}

#[derive(Debug)]
pub(super) enum Source {
    File(FileSource),
    Spool(LaneKey, Arc<spool::Lane>),
    Journal(JournalSource),
}

/// A unit of the journal, or what else is a stream there.
#[derive(Debug)]
pub(super) struct JournalSource {
    /// What `{process}` is.
    pub(super) process: String,
    /// Entries that the reader does not have yet.
    pub(super) incoming: Vec<Item>,
    /// Number of the last one.
    pub(super) last_seq: u64,
    /// Entries up to the one with this hash were acknowledged in the agent's last life.
    pub(super) skip_to: Option<u64>,
    /// Number of the last entry seen of it, also of one that was skipped.
    pub(super) seen: u64,
    /// Number and length of each entry that is not acknowledged.
    pub(super) waiting: VecDeque<(u64, usize)>,
}

#[derive(Debug)]
pub(super) struct FileSource {
    pub(super) path: PathBuf,
    pub(super) id: (u64, u64),
    pub(super) head: Fingerprint,
    /// The open file; none before the first scan found it and after it is finished.
    pub(super) file: Option<Arc<dyn TailFile>>,
    /// The file to go on with once the batch that is being built is done.
    pub(super) swap: Option<Arc<dyn TailFile>>,
    /// Where the reader was last, and the hash of the bytes before.
    pub(super) read: u64,
    pub(super) read_tail: Option<u64>,
    pub(super) size: u64,
    /// Bytes after the last newline.
    pub(super) partial: u64,
    pub(super) rotated: bool,
    /// It has no name in its directory any more: removed, or moved elsewhere.
    pub(super) gone: bool,
    pub(super) finished: bool,
    /// It can be read no more; the lane ends with what was read.
    pub(super) lost: bool,
    /// Its copy, which lacks the last of what was read; takes its place when that is delivered.
    pub(super) copied: Option<FileMark>,
    /// When it last grew.
    pub(super) grew: Instant,
}

/// A batch and where the lane stands once it is delivered.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) batch: Arc<Batch>,
    pub(super) tail: Option<u64>,
}

/// The batch that is being delivered.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) made: Made,
    /// Parts still to be sent, the next one last.
    pub(super) parts: Vec<Range<usize>>,
    pub(super) state: WorkState,
    /// It is nothing but these last words of the lane.
    pub(super) last_words: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkState {
    Ready,
    OnItsWay,
    /// Waits, then goes on; with the stream to be made first or not.
    Waiting {
        until: Instant,
        ensure: bool,
    },
}

impl Work {
    pub(super) fn new(made: Made) -> Self {
        let whole = 0..made.batch.len();
        Self { made, parts: vec![whole], state: WorkState::Ready, last_words: None }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        match self.state {
            WorkState::Ready => true,
            WorkState::OnItsWay => false,
            WorkState::Waiting { until, .. } => until <= now,
        }
    }
}

impl Lane {
    pub(super) fn new(id: u64, source: Source, group: String, stream: String, acked: u64) -> Self {
        let name = match &source {
            Source::File(f) => f.path.display().to_string(),
            Source::Spool(key, _) => key.process.to_string(),
            Source::Journal(j) => format!("journal: {}", j.process),
        };
        let counts = SourceStatus {
            name,
            group: group.clone(),
            stream: stream.clone(),
            ..SourceStatus::default()
        };
        Self {
            id,
            source,
            group,
            stream,
            acked,
            acked_tail: None,
            reader: None,
            building: false,
            staged: None,
            work: None,
            failures: 0,
            counted: acked,
            buried: 0,
            needs_a_person: false,
            unread: 0,
            since: None,
            held: None,
            oldest: None,
            read_again: None,
            ensure_next: false,
            flush_to: None,
            last_words: None,
            counts,
        }
    }

    /// Nothing is read ahead, on its way or known to wait.
    pub(super) fn is_quiet(&self) -> bool {
        !self.holds_batch()
            && self.last_words.is_none()
            && self.held.is_none()
            && (self.unread == 0 || self.reader.is_none() && !self.building)
    }

    /// Holds, or is about to hold, a batch in memory.
    pub(super) fn holds_batch(&self) -> bool {
        self.building || self.staged.is_some() || self.work.is_some()
    }

    /// How many batches it holds or is about to. Last words are a line and count for nothing.
    pub(super) fn batches(&self) -> usize {
        let lines = self.work.as_ref().is_some_and(|w| w.last_words.is_none());
        usize::from(self.building || self.staged.is_some()) + usize::from(lines)
    }

    /// The last line of a rotated file has no newline and nobody is going to write one.
    pub(super) fn takes_last_line(&self, now: Instant) -> bool {
        match &self.source {
            Source::File(f) => f.partial > 0 && f.is_still(now),
            Source::Spool(..) | Source::Journal(_) => false,
        }
    }

    pub(super) fn is_finished_file(&self) -> bool {
        matches!(&self.source, Source::File(f) if f.finished)
    }

    pub(super) fn backlog_bytes(&self) -> u64 {
        match &self.source {
            Source::File(f) if f.finished || f.lost => 0,
            Source::File(f) => f.size.max(f.read).saturating_sub(self.acked),
            Source::Spool(_, lane) if lane.facts().last_seq <= self.acked => 0,
            Source::Spool(_, lane) => lane.bytes(),
            Source::Journal(j) => {
                let open = j.waiting.iter().filter(|(seq, _)| *seq > self.acked);
                open.map(|(_, len)| *len as u64).sum()
            }
        }
    }

    pub(super) fn status(&self, now: Timestamp) -> SourceStatus {
        let oldest = match (&self.work, &self.staged) {
            (Some(w), _) => w.made.batch.first_time(),
            (None, Some(made)) => made.batch.first_time(),
            (None, None) => self.oldest,
        };
        let lag = oldest.map_or(Duration::ZERO, |t| now.since(t));
        SourceStatus {
            backlog_bytes: self.backlog_bytes(),
            lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            ..self.counts.clone()
        }
    }

    pub(super) fn file_mark(&self) -> Option<FileMark> {
        let Source::File(f) = &self.source else { return None };
        if let Some(copy) = f.copied.clone() {
            let rest = self.acked < copy.acked;
            let (acked, tail) = (self.acked, self.acked_tail);
            return Some(if rest {
                FileMark { acked, tail, finished: false, ..copy }
            } else {
                copy
            });
        }
        // What took the place of a file that is lost has its inode, and is another lane's.
        let (dev, ino) = if f.lost { (0, 0) } else { f.id };
        Some(FileMark {
            lane: self.id,
            path: f.path.clone(),
            dev,
            ino,
            head: f.head,
            acked: self.acked,
            tail: self.acked_tail,
            finished: f.finished,
        })
    }

    pub(super) fn spool_mark(&self) -> Option<SpoolMark> {
        let Source::Spool(key, _) = &self.source else { return None };
        Some(SpoolMark {
            lane: self.id,
            program: key.program.to_string(),
            process: key.process.to_string(),
            acked: self.acked,
        })
    }

    pub(super) fn journal_mark(&self) -> Option<JournalLaneMark> {
        let Source::Journal(j) = &self.source else { return None };
        let (lane, unit) = (self.id, j.process.clone());
        Some(JournalLaneMark { lane, unit, acked: self.acked, tail: self.acked_tail })
    }

    pub(super) fn known(&self) -> Option<Known> {
        let Source::File(f) = &self.source else { return None };
        if f.lost {
            return f.copied.as_ref().map(FileMark::known);
        }
        let (position, tail) = match &f.file {
            Some(_) => (f.read, f.read_tail),
            None => (self.acked, self.acked_tail),
        };
        Some(Known {
            lane: self.id,
            path: f.path.clone(),
            id: f.id,
            head: f.head,
            position,
            tail,
            size: if f.file.is_some() { f.size.max(f.read) } else { self.acked },
            // What it goes on with is what counts, also while a batch of the file before is built.
            file: f.swap.clone().or_else(|| f.file.clone()),
            finished: f.finished,
            resting: false,
        })
    }
}

impl FileSource {
    pub(super) fn from_mark(m: &FileMark, now: Instant) -> Self {
        Self {
            path: m.path.clone(),
            id: (m.dev, m.ino),
            head: m.head,
            file: None,
            swap: None,
            read: m.acked,
            read_tail: m.tail,
            size: m.acked,
            partial: 0,
            rotated: m.finished,
            gone: false,
            finished: m.finished,
            lost: false,
            copied: None,
            grew: now,
        }
    }

    /// Rotated away, and not written to for a while.
    pub(super) fn is_still(&self, now: Instant) -> bool {
        self.rotated && now.duration_since(self.grew) >= ROTATE_WAIT
    }

    /// Still for so long that nobody writes to it any more. Growth of a closed file is noticed by its name;
    /// one without a name is waited for longer.
    pub(super) fn is_done(&self, now: Instant) -> bool {
        self.is_still(now) && (!self.gone || now.duration_since(self.grew) >= GONE_WAIT)
    }
}

impl Lane {
    /// Takes note of whether a build left an event at the source's end.
    pub(super) fn hold(&mut self, end: Option<u64>, now: Instant) {
        let until = now + Duration::from_millis(GAP_MS.unsigned_abs());
        self.held = match (end, self.held) {
            (Some(end), Some(held)) if held.end == end => Some(held),
            (end, _) => end.map(|end| Held { end, until }),
        };
    }

    pub(super) fn is_on_its_way(&self) -> bool {
        self.work.as_ref().is_some_and(|w| w.state == WorkState::OnItsWay)
    }

    /// Whether a batch should be built now.
    pub(super) fn wants_to_build(
        &self,
        now: Instant,
        flushing: bool,
        flush_every: Duration,
    ) -> bool {
        if self.reader.is_none() || self.building || self.staged.is_some() {
            return false;
        }
        if self.read_again.is_some_and(|at| now < at) {
            return false;
        }
        if self.work.is_some() {
            // Only a full one is made ahead, so that requests stay few.
            return self.unread >= super::batch::MAX_BYTES as u64;
        }
        if self.takes_last_line(now) || self.held.is_some_and(|held| held.until <= now) {
            return true;
        }
        let waited = self.since.is_some_and(|since| now >= since + flush_every);
        self.unread > 0 && (flushing || waited || self.unread >= super::batch::MAX_BYTES as u64)
    }

    /// When this lane next needs attention though nothing comes.
    pub(super) fn next_due(&self, flush_every: Duration) -> Option<Instant> {
        if let Some(Work { state: WorkState::Waiting { until, .. }, .. }) = &self.work {
            return Some(*until);
        }
        if self.work.is_some() || self.building {
            return None;
        }
        if self.reader.is_none() {
            return self.read_again.filter(|_| self.last_words.is_some());
        }
        let due = (self.unread > 0).then(|| self.since.map(|s| s + flush_every)).flatten();
        let due = due.into_iter().chain(self.held.map(|held| held.until)).min();
        match (due, self.read_again) {
            (Some(due), Some(again)) => Some(due.max(again)),
            (due, None) => due,
            (None, again) => again,
        }
    }

    /// Lets go of batches, and says so, if the one being delivered waits until after `later`, and the source can
    /// be read again.
    pub(super) fn give_back_batch(&mut self, later: Instant) -> bool {
        let Some(Work { state: WorkState::Waiting { until, ensure }, .. }) = &self.work else {
            return false;
        };
        let ensure = *ensure;
        if *until < later {
            return false;
        }
        let (until, acked) = (*until, self.acked);
        let rewound = match &mut self.reader {
            None => false,
            Some(Reader::Spool(r)) => {
                r.rewind(acked);
                true
            }
            Some(Reader::Journal(r)) => {
                r.rewind(acked);
                true
            }
            // On an error the file cannot be trusted to give the lines again.
            Some(Reader::File(r)) => r.rewind(acked).unwrap_or(false),
        };
        if !rewound {
            return false;
        }
        if let (Source::File(f), Some(Reader::File(r))) = (&mut self.source, &self.reader) {
            (f.read, f.read_tail) = (r.position(), Some(r.tail_hash()));
        }
        let oldest = self.work.as_ref().and_then(|w| w.made.batch.first_time());
        (self.work, self.staged) = (None, None);
        self.ensure_next = ensure;
        self.unread = self.unread.max(super::batch::MAX_BYTES as u64);
        self.oldest = oldest;
        self.since.get_or_insert(until);
        self.read_again = Some(until);
        true
    }
}
