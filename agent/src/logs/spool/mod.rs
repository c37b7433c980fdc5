//! The spool: output of programs, which cannot be read again, on its way to the service.
//!
//! Each process has a directory of segments (format in `segment.rs`), so one stream that cannot be
//! delivered holds up no other. A line is safe from the death of the agent once [`Lane::append`]
//! returned, and from a power cut after the next group commit ([`Spool::sync`]).
//!
//! Invariants: a segment is removed only after a checkpoint that covers all of it is on disk (or
//! because the spool is full and may drop its oldest); sequence numbers of a lane never repeat.

mod lane;
mod reader;
mod refusal;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

pub(super) use lane::Lane;
pub(super) use reader::Reader;

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use palisade_types::{ByteSize, ProcessName, ProgramName};
use refusal::LastRefusal;
use tokio::sync::Notify;

use super::{
    ports::SpoolFs,
    settings::{self, OnFull},
};
use crate::clock::Timestamp;

/// A segment is closed when it has this many bytes.
pub(super) const SEGMENT_BYTES: u64 = 8 << 20;
/// The most that is left of a disk to others: of a large one, a share is more than anybody needs.
const MAX_RESERVE: u64 = 1 << 30;
/// What the spool may hold on a disk without the reserve: enough for lines to go on through it while the
/// service takes them, and too little to fill the disk.
const MAX_WHEN_LOW: u64 = 2 * SEGMENT_BYTES;
/// Bytes that may be written before the group commit is asked for early.
const COMMIT_BYTES: u64 = 64 << 10;
/// Bytes in a lane at which the shipper is woken early: about one full request.
const WAKE_BYTES: u64 = 1 << 20;

/// Whose output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneKey {
    /// The program.
    pub program: ProgramName,
    /// The process of it.
    pub process: ProcessName,
}

/// All lanes and the room they share.
#[derive(Debug)]
pub(super) struct Spool {
    root: PathBuf,
    fs: Arc<dyn SpoolFs>,
    shared: Arc<Shared>,
    lanes: Mutex<BTreeMap<LaneKey, Arc<Lane>>>,
    refusal: LastRefusal,
}

/// What lanes have in common.
#[derive(Debug)]
struct Shared {
    segment_bytes: u64,
    used: AtomicU64,
    max: AtomicU64,
    drop_oldest: AtomicBool,
    /// Share of the disk, in thousandths, that is left to others.
    reserve_permille: AtomicU32,
    /// Less than that was free when somebody last looked.
    disk_is_low: AtomicBool,
    /// Room was made.
    room: Notify,
    /// The shipper should look.
    wake: Notify,
    /// Somebody should commit.
    commit: Notify,
}

/// The spool is full and its policy is to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom {
    max: u64,
    disk_is_low: bool,
}

impl Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = ByteSize::new(self.max);
        let why =
            if self.disk_is_low { " while the disk has less free than its reserve" } else { "" };
        write!(f, "the spool holds the {max} that it may{why}")
    }
}

impl Spool {
    /// Opens the lanes that were there, cutting what a crash left torn.
    ///
    /// # Errors
    /// When a directory or segment cannot be read.
    pub(super) fn open(fs: Arc<dyn SpoolFs>, root: PathBuf) -> io::Result<Self> {
        Self::open_with(fs, root, SEGMENT_BYTES)
    }

    fn open_with(fs: Arc<dyn SpoolFs>, root: PathBuf, segment_bytes: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            segment_bytes,
            used: AtomicU64::new(0),
            max: AtomicU64::new(u64::MAX),
            drop_oldest: AtomicBool::new(false),
            reserve_permille: AtomicU32::new(0),
            disk_is_low: AtomicBool::new(false),
            room: Notify::new(),
            wake: Notify::new(),
            commit: Notify::new(),
        });
        let mut lanes = BTreeMap::new();
        for program in fs.list(&root)? {
            let dir = root.join(&program);
            let Ok(program) = ProgramName::try_from(program) else { continue };
            for process in fs.list(&dir)? {
                let dir = dir.join(&process);
                let Ok(process) = ProcessName::try_from(process) else { continue };
                let key = LaneKey { program: program.clone(), process };
                let lane = Lane::open(fs.clone(), dir, shared.clone())?;
                lanes.insert(key, Arc::new(lane));
            }
        }
        Ok(Self { root, fs, shared, lanes: Mutex::new(lanes), refusal: LastRefusal::default() })
    }

    /// Sets the size of all segments together, what happens when it is reached, and what is left of the
    /// disk to others.
    pub(super) fn limit(&self, limits: settings::Spool) {
        self.shared.max.store(limits.max.bytes(), Ordering::Relaxed);
        self.shared.drop_oldest.store(limits.on_full == OnFull::DropOldest, Ordering::Relaxed);
        self.shared.reserve_permille.store(limits.reserve_permille, Ordering::Relaxed);
        self.look_at_disk();
        self.shared.room.notify_waiters();
    }

    /// Looks whether the disk has the reserve, and says whether it is below. Done with each group commit, and
    /// by whoever waits for room; a disk that does not tell counts as having it.
    pub(super) fn look_at_disk(&self) -> bool {
        let permille = u64::from(self.shared.reserve_permille.load(Ordering::Relaxed));
        let reserve = |all: u64| (all / 1000 * permille).min(MAX_RESERVE);
        let is_low = self.fs.room(&self.root).is_ok_and(|r| r.free < reserve(r.all));
        self.shared.disk_is_low.store(is_low, Ordering::Relaxed);
        is_low
    }

    /// All lanes.
    pub(super) fn lanes(&self) -> Vec<(LaneKey, Arc<Lane>)> {
        self.lock().iter().map(|(k, l)| (k.clone(), l.clone())).collect()
    }

    /// The lane of a process, new if there is none.
    ///
    /// # Errors
    /// When its directory cannot be read.
    pub(super) fn lane(&self, key: &LaneKey) -> io::Result<Arc<Lane>> {
        let mut lanes = self.lock();
        if let Some(lane) = lanes.get(key) {
            return Ok(lane.clone());
        }
        let dir = self.root.join(key.program.as_str()).join(key.process.as_str());
        let lane = Arc::new(Lane::open(self.fs.clone(), dir, self.shared.clone())?);
        lanes.insert(key.clone(), lane.clone());
        drop(lanes);
        self.shared.wake.notify_one();
        Ok(lane)
    }

    /// Makes room for a chunk by the policy of the settings.
    ///
    /// # Errors
    /// [`NoRoom`] where the policy is to wait. A single append may always go over the limit when
    /// nothing else is in the spool, so that a limit below one line does not stop everything.
    pub(super) fn reserve(&self, chunk: &[u8]) -> Result<(), NoRoom> {
        let lines = memchr::memchr_iter(b'\n', chunk).count() + 1;
        // With the head of a new segment.
        let bytes = (chunk.len() + lines * segment::OVERHEAD + segment::HEADER) as u64;
        let over = || {
            let used = self.shared.used.load(Ordering::Relaxed);
            let max = self.shared.max.load(Ordering::Relaxed);
            let is_low = self.shared.disk_is_low.load(Ordering::Relaxed) && self.look_at_disk();
            let disk_is_low = is_low && MAX_WHEN_LOW < max;
            let max = if disk_is_low { MAX_WHEN_LOW } else { max };
            let is_over = used > 0 && used.saturating_add(bytes) > max;
            is_over.then_some(NoRoom { max, disk_is_low })
        };
        while let Some(no_room) = over() {
            let lanes: Vec<_> = self.lock().values().cloned().collect();
            // What is delivered goes before anything is waited for or dropped.
            if lanes.iter().any(|lane| lane.give_back_idle()) {
                continue;
            }
            if !self.may_drop() {
                return Err(no_room);
            }
            let Some(largest) = lanes.into_iter().max_by_key(|l| l.bytes()) else { break };
            if !largest.drop_oldest() {
                break;
            }
        }
        Ok(())
    }

    /// Makes room on a disk that is full before the spool is, where the oldest may be dropped. False if
    /// it may not or there is nothing to drop.
    fn drop_for_disk(&self) -> bool {
        if !self.may_drop() {
            return false;
        }
        let lanes: Vec<_> = self.lock().values().cloned().collect();
        let largest = lanes.into_iter().max_by_key(|l| l.bytes());
        largest.is_some_and(|l| l.bytes() > 0 && l.drop_oldest())
    }

    /// Adds lines to a lane. On a disk that refuses them, the oldest make room, where they may be dropped; if
    /// that does not help for a while, so are these, since programs are not to wait then.
    ///
    /// # Errors
    /// When the disk refuses and the lines are to be tried again: nothing of them is in.
    pub(super) fn append(
        &self,
        key: &LaneKey,
        source: u8,
        now: Timestamp,
        chunk: &[u8],
    ) -> io::Result<()> {
        let lane = self.lane(key)?;
        loop {
            match lane.append(source, now, chunk) {
                Ok(()) => {
                    self.refusal.disk_took();
                    return Ok(());
                }
                // Each round drops a segment, so there is an end.
                Err(e) if e.kind() == io::ErrorKind::StorageFull && self.drop_for_disk() => {}
                Err(e) if self.may_drop() && self.refusal.disk_refused(&e) => {
                    lane.pass_over(now, chunk);
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn may_drop(&self) -> bool {
        self.shared.drop_oldest.load(Ordering::Relaxed)
    }

    /// Takes note of why lines were not taken, for [`trouble`](Self::trouble).
    pub(super) fn refused(&self, why: &dyn Display) {
        self.refusal.note(why);
    }

    /// Why lines are not taken now, if it is so, and what becomes of them.
    pub(super) fn trouble(&self) -> Option<String> {
        self.refusal.now()
    }

    /// Waits until somebody made room.
    pub(super) async fn room(&self) {
        self.shared.room.notified().await;
    }

    /// Waits until there is something worth looking at.
    pub(super) async fn wake(&self) {
        self.shared.wake.notified().await;
    }

    /// Waits until 64 KiB await the group commit.
    pub(super) async fn commit(&self) {
        self.shared.commit.notified().await;
    }

    /// The group commit: makes everything appended so far survive a power cut.
    ///
    /// # Errors
    /// The first failure; all lanes are tried.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut first = Ok(());
        for (_, lane) in self.lanes() {
            let done = lane.sync();
            if first.is_ok() {
                first = done;
            }
        }
        first
    }

    /// Whether anything awaits the group commit.
    pub(super) fn is_dirty(&self) -> bool {
        self.lanes().iter().any(|(_, l)| l.is_dirty())
    }

    /// Bytes in all segments together.
    pub(super) fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LaneKey, Arc<Lane>>> {
        // The map is never left half-changed, so a panic elsewhere does not spoil it.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
