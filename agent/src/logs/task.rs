//! The shipper: looks for work, builds batches, sends them, and writes down what arrived.
//!
//! One task owns all lanes. Whatever may block (reading, building, checkpoints, scans) runs on a
//! blocking thread as a job that gives back what it borrowed; sending is a job too. The task itself
//! only decides which job comes next.
//!
//! Bounds: at most [`MAX_ON_THEIR_WAY`] requests and [`MAX_HELD`] batches at a time, one request per
//! lane. A lane that waits for a failing service gives its batch back when others need the room; the
//! source is read again later. Lanes that can read nothing again have a bound of their own, in `lost.rs`.

mod files;
mod jobs;
mod journal;
mod lost;
mod outcome;
mod resting;
mod start;

pub use start::{Host, open};

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use self::jobs::Done;
use super::{
    batch::MAX_BYTES,
    checkpoint::{Checkpoint, Store},
    dead_letter::DeadLetters,
    handle::{Command, DebugClock},
    lane::{Lane, Source},
    pace::Pace,
    ports::{CloudLogs, Hints, TailFs},
    reading,
    redaction::Redaction,
    settings::Settings,
    source::Since,
    spool::Spool,
    status::Status,
};

/// Most requests at a time.
pub(super) const MAX_ON_THEIR_WAY: u32 = 4;
/// Most batches in memory, sent or ready; each is up to about 1.5 MiB.
pub(super) const MAX_HELD: usize = 6;
/// Directories are looked through this often, whatever the hints say.
const SCAN_EVERY: Duration = Duration::from_secs(1);
/// A hint is acted on after this, so that a burst of them costs one scan.
const HINT_DELAY: Duration = Duration::from_millis(200);
/// Lanes are asked for new lines at most this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The group commit of the spool comes at latest after this.
const COMMIT_AFTER: Duration = Duration::from_millis(200);
/// Checkpoints are written at most this often.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// The status is renewed this often while nothing else happens.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// At the end, requests on their way get this long, or half of the deadline if that is less.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Most incidents kept for the status.
const MAX_INCIDENTS: usize = 20;
/// A batch counts as waiting when so many bytes are unread: the next one is then built ahead.
const FULL: u64 = MAX_BYTES as u64;

/// The task, ready to run.
#[derive(Debug)]
pub struct Shipper {
    settings: Settings,
    store: Store,
    spool: Arc<Spool>,
    redaction: Arc<Redaction>,
    tail_fs: Arc<dyn TailFs>,
    journal: journal::Journal,
    clock: Arc<dyn DebugClock>,
    dead: Arc<DeadLetters>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    lanes: BTreeMap<u64, Lane>,
    /// Files that are read to their end and closed.
    resting: BTreeMap<u64, resting::Resting>,
    scanned_once: bool,
    /// Directories of known files that are not there, with what a look at them is to go by.
    absent: BTreeMap<PathBuf, Since>,
    next_lane: u64,
    /// Lanes below this are in a checkpoint on disk.
    saved_lanes: u64,
    /// When a scan or checkpoint last knew everything, in wall-clock milliseconds.
    known_at_ms: i64,
    totals: Status,
    /// Where the turn begins, so that every lane gets one.
    turn: u64,
    /// How fast the service lets us be.
    pace: Pace,
    timers: Timers,
    flushes: Vec<Flush>,
    /// Room was made for lanes that had none: look again at once.
    again: bool,
    stopping: Option<Stopping>,
    keeps_positions: bool,
    /// State of a small generator; jitter needs no more.
    dice: u64,
    /// Spools that have a lane.
    spool_lanes: usize,
    /// What the last agent left, until the task begins.
    restored: Option<Checkpoint>,
}

#[derive(Debug)]
struct Timers {
    scan: Instant,
    scan_began: Instant,
    look: Instant,
    commit: Option<Instant>,
    checkpoint: Instant,
    status: Instant,
    scanning: bool,
    committing: bool,
    saving: bool,
    /// Something changed that a checkpoint should say.
    dirty: bool,
    /// Lines of lost files are not put aside before this: it failed.
    put_aside: Instant,
}

#[derive(Debug)]
struct Flush {
    done: oneshot::Sender<()>,
    /// A scan ended since the request.
    scanning: bool,
    /// A scan that began after the request ended.
    scanned: bool,
    targets: bool,
}

#[derive(Debug)]
struct Stopping {
    /// No new request begins after this.
    quiet_at: Instant,
    deadline: Instant,
    done: Option<oneshot::Sender<()>>,
    flushed: bool,
}

impl Shipper {
    /// Ships until it is told to stop by [`Handle::stop`](super::Handle::stop) or by `stop`; the
    /// latter leaves what is not delivered on disk at once. A checkpoint is written either way.
    pub async fn run<C: CloudLogs>(
        mut self,
        cloud: C,
        mut hints: impl Hints,
        stop: CancellationToken,
    ) {
        let cloud = Arc::new(cloud);
        let mut jobs: JoinSet<Done> = JoinSet::new();
        self.begin(cloud.as_ref()).await;
        for dir in self.directories() {
            hints.watch(&dir);
        }
        loop {
            let now = Instant::now();
            self.look(now);
            self.look_at_journal(now);
            self.check_flushes(now);
            if self.is_over(now, &jobs) {
                break;
            }
            self.dispatch(now, &cloud, &mut jobs);
            let wake_at = self.next_wake(now);
            let can_look = self.timers.look <= Instant::now();
            // Every arm only waits: jobs stay in the set, commands in their channel, and the spool,
            // the hints and the timers are looked at again anyway.
            tokio::select! {
                Some(done) = jobs.join_next() => self.finish(done),
                () = self.journal.wait() => self.take_from_journal(),
                Some(command) = self.commands.recv() => {
                    if let Some(dirs) = self.obey(command) {
                        for dir in dirs {
                            hints.watch(&dir);
                        }
                    }
                }
                () = self.spool.wake(), if can_look => {}
                () = self.spool.commit() => self.timers.commit = Some(Instant::now()),
                () = hints.changed() => {
                    self.timers.scan = self.timers.scan.min(Instant::now() + HINT_DELAY);
                }
                () = time::sleep_until(wake_at) => {}
                () = stop.cancelled(), if self.stopping.is_none() => {
                    let now = Instant::now();
                    self.stopping = Some(Stopping {
                        quiet_at: now,
                        deadline: now + LAST_ANSWERS,
                        done: None,
                        flushed: false,
                    });
                }
            }
        }
        jobs.shutdown().await;
        self.end(cloud.as_ref()).await;
    }

    fn obey(&mut self, command: Command) -> Option<Vec<PathBuf>> {
        let now = Instant::now();
        match command {
            Command::Reload(settings) => {
                self.reload(*settings);
                self.timers.scan = now;
                return Some(self.directories());
            }
            Command::Flush(done) => self.begin_flush(done, now),
            Command::Stop { deadline, done } => {
                let patience = deadline.saturating_duration_since(now);
                let quiet_at = deadline - LAST_ANSWERS.min(patience / 2);
                self.stopping =
                    Some(Stopping { quiet_at, deadline, done: Some(done), flushed: false });
                let (flushed, _) = oneshot::channel();
                self.begin_flush(flushed, now);
            }
        }
        None
    }

    fn begin_flush(&mut self, done: oneshot::Sender<()>, now: Instant) {
        self.flushes.push(Flush {
            done,
            scanning: self.timers.scanning.eq(&false),
            scanned: false,
            targets: false,
        });
        self.timers.scan = now;
        self.timers.look = now;
        self.timers.commit.get_or_insert(now);
    }

    /// Sets what a flush waits for once the scan after it is in, and ends flushes that are done.
    fn check_flushes(&mut self, now: Instant) {
        if self.flushes.iter().any(|f| f.scanned && !f.targets) {
            for lane in self.lanes.values_mut() {
                let target = match &lane.source {
                    Source::File(f) if f.finished || f.lost => continue,
                    Source::File(f) if lane.unread == 0 && !lane.building => f.read,
                    Source::File(f) => f.size,
                    Source::Spool(_, spool) => spool.facts().last_seq,
                    Source::Journal(j) => j.last_seq,
                };
                lane.flush_to = lane.flush_to.max(Some(target));
            }
            for f in &mut self.flushes {
                f.targets = f.scanned;
            }
        }
        if self.flushes.is_empty() {
            return;
        }
        let mut open = false;
        for lane in self.lanes.values_mut() {
            if lane.flush_to.is_some_and(|to| to <= lane.acked) {
                lane.flush_to = None;
            }
            open |= lane.flush_to.is_some();
        }
        if open {
            return;
        }
        let done: Vec<Flush> = self.flushes.extract_if(.., |f| f.targets).collect();
        if !done.is_empty()
            && let Some(s) = &mut self.stopping
        {
            s.flushed = true;
            s.quiet_at = s.quiet_at.min(now);
        }
        if !done.is_empty() {
            // Who hears that it is done reads next that nothing is left.
            self.publish();
        }
        for f in done {
            // The one who asked may have given up waiting.
            f.done.send(()).unwrap_or_default();
        }
    }

    /// Whether to stop now: everything was sent, or time is up.
    fn is_over(&self, now: Instant, jobs: &JoinSet<Done>) -> bool {
        let Some(s) = &self.stopping else { return false };
        now >= s.deadline || (now >= s.quiet_at && jobs.is_empty())
    }

    /// Takes note of lines that came into the spool.
    fn look(&mut self, now: Instant) {
        if now < self.timers.look {
            return;
        }
        self.adopt_spool_lanes();
        // While nothing comes, the next line may call at once.
        self.timers.look = now;
        for lane in self.lanes.values_mut() {
            let Source::Spool(_, spool) = &lane.source else { continue };
            let facts = spool.look();
            if facts.new_bytes > 0 {
                lane.unread += facts.new_bytes;
                lane.since.get_or_insert(now);
                lane.oldest = lane.oldest.or(facts.since);
                self.timers.commit.get_or_insert(now + COMMIT_AFTER);
                self.timers.look = now + LOOK_EVERY;
            }
        }
    }

    /// Starts every job that may start now.
    fn dispatch<C: CloudLogs>(&mut self, now: Instant, cloud: &Arc<C>, jobs: &mut JoinSet<Done>) {
        self.dispatch_upkeep(now, cloud, jobs);
        if self.stopping.as_ref().is_some_and(|s| now >= s.quiet_at) {
            return;
        }
        let mut ids: Vec<u64> = self.lanes.keys().copied().collect();
        let first = ids.iter().position(|id| *id >= self.turn).unwrap_or(0);
        ids.rotate_left(first);
        let mut held = self.room_taken(now);
        let mut on_their_way = self.lanes.values().filter(|l| l.is_on_its_way()).count();
        let mut starved = false;
        let flushing = !self.flushes.is_empty();
        let waiting = self.waiting_for_older();
        let wall = self.clock.now();
        for id in ids {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.take_up_next(now, wall);
            let may_send = self.pace.may_send(on_their_way, now) && id < self.saved_lanes;
            if may_send && lane.work.as_ref().is_some_and(|w| w.is_due(now)) {
                on_their_way += 1;
                self.pace.sent(now);
                jobs::send(lane, cloud, &self.settings.new_groups, jobs);
                self.turn = id + 1;
            }
            // What may not be sent yet would keep its room until it may.
            if id >= self.saved_lanes
                || waiting.contains(&id)
                || !lane.wants_to_build(now, flushing, self.settings.flush_every)
            {
                continue;
            }
            if held >= MAX_HELD {
                starved = true;
                continue;
            }
            held += 1;
            let manner = jobs::Manner {
                wall,
                rules: match &lane.source {
                    Source::File(f) => self.settings.rules_of_file(&f.path),
                    Source::Spool(..) | Source::Journal(_) => self.settings.program_lines.clone(),
                },
                oldest_ms: reading::oldest_ms(self.settings.new_groups.retention_days),
                redaction: self.redaction.clone(),
            };
            jobs::build(lane, now, manner, jobs);
        }
        self.again = starved && self.make_waiting_lanes_give_back(now);
    }

    /// Files that were one name's take turns, oldest first, so that rotated ones come in order:
    /// those that must wait.
    fn waiting_for_older(&self) -> HashSet<u64> {
        let mut busy: HashSet<&Path> = HashSet::new();
        let mut waiting = HashSet::new();
        for (id, lane) in &self.lanes {
            let Source::File(f) = &lane.source else { continue };
            if busy.contains(f.path.as_path()) {
                waiting.insert(*id);
            } else if !lane.is_quiet() {
                busy.insert(&f.path);
            }
        }
        waiting
    }

    /// Batches that wait out a failure make room for lanes that have none; their lines are read
    /// again later.
    fn make_waiting_lanes_give_back(&mut self, now: Instant) -> bool {
        const LONG: Duration = Duration::from_millis(500);
        let given = self.lanes.values_mut().map(|l| l.give_back_batch(now + LONG));
        given.fold(false, |any, one| any | one)
    }

    /// Scans, commits and checkpoints.
    fn dispatch_upkeep<C: CloudLogs>(
        &mut self,
        now: Instant,
        cloud: &Arc<C>,
        jobs: &mut JoinSet<Done>,
    ) {
        let t = &mut self.timers;
        if !t.scanning && t.scan <= now {
            (t.scanning, t.scan) = (true, now + SCAN_EVERY);
            self.start_scan(jobs);
        }
        let t = &mut self.timers;
        if !t.committing && t.commit.is_some_and(|at| at <= now) {
            (t.committing, t.commit) = (true, None);
            jobs::commit(self.spool.clone(), jobs);
        }
        let t = &mut self.timers;
        if t.dirty && !t.saving && t.checkpoint <= now {
            (t.saving, t.dirty) = (true, false);
            self.timers.checkpoint = now + self.checkpoint_every();
            let checkpoint = self.checkpoint();
            jobs::save(cloud.clone(), self.store.place(), checkpoint, jobs);
        }
        if self.timers.status <= now {
            self.timers.status = now + STATUS_EVERY;
            self.publish();
        }
    }

    /// A large checkpoint is written less often; `acks` has what came since.
    fn checkpoint_every(&self) -> Duration {
        const SMALL: usize = 1000;
        let large = (self.lanes.len() + self.resting.len()) / SMALL;
        CHECKPOINT_EVERY.saturating_mul(u32::try_from(large).unwrap_or(u32::MAX).clamp(1, 30))
    }

    /// When to look again though nothing happens.
    fn next_wake(&self, now: Instant) -> Instant {
        let t = &self.timers;
        let mut at = t.status;
        let mut sooner = |candidate: Instant| at = at.min(candidate);
        if !t.scanning {
            sooner(t.scan);
        }
        if let (false, Some(commit)) = (t.committing, t.commit) {
            sooner(commit);
        }
        if t.dirty && !t.saving {
            sooner(t.checkpoint);
        }
        if let Some(s) = &self.stopping {
            sooner(if now < s.quiet_at { s.quiet_at } else { s.deadline });
        }
        if t.look > now {
            sooner(t.look);
        }
        if let Some(again) = self.journal.again_at() {
            sooner(again);
        }
        for lane in self.lanes.values() {
            // What was due and could not start waits for a job to end, which wakes us anyway.
            if let Some(due) = lane.next_due(self.settings.flush_every).filter(|due| *due > now) {
                sooner(due);
            }
        }
        if let Some(next) = self.pace.next().filter(|at| *at > now) {
            sooner(next);
        }
        if self.again {
            sooner(now);
        }
        at.max(now + Duration::from_millis(1))
    }
}
