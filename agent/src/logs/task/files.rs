//! Acting on what a scan found.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use super::{Shipper, jobs::Done, resting::Resting};
use crate::{
    errors::Chain,
    logs::{
        checkpoint::Checkpoint,
        lane::{FileSource, Lane, Reader, Source},
        names,
        ports::{TailFile, TailStat},
        source::{self, FileReader, Finding, Fingerprint, Known, Loss, Name, Since},
        spool,
    },
};

/// What `{program}` is for files.
pub(super) const FILES: &str = "files";
/// Longest time between two looks, however long one takes.
const MOST_REST: Duration = Duration::from_secs(30);

impl Shipper {
    /// The directories of all files that are followed.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        let settings = self.settings.files.iter().filter_map(|f| f.path.parent());
        settings.map(Path::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn start_scan(&mut self, jobs: &mut JoinSet<Done>) {
        let lanes = self.lanes.values().filter_map(Lane::known);
        let known: Vec<Known> = lanes.chain(self.resting.values().map(Resting::known)).collect();
        self.timers.scan_began = Instant::now();
        let first = !std::mem::replace(&mut self.scanned_once, true);
        let (fs, sources) = (self.tail_fs.clone(), self.settings.files.clone());
        let (since, began_ms) =
            (Since { ms: self.known_at_ms, first }, self.clock.now().as_millis());
        let absent = self.absent.clone();
        jobs.spawn_blocking(move || {
            let found = source::scan(fs.as_ref(), &sources, &known, since, &absent);
            Done::Scanned { found, began_ms }
        });
    }

    pub(super) fn scanned(&mut self, found: Vec<Finding>, began_ms: i64, now: Instant) {
        self.timers.scanning = false;
        // Very many files take their time; looking at them is to take a twentieth of it at most.
        let took = now.duration_since(self.timers.scan_began);
        let rest = took.saturating_mul(20).min(MOST_REST);
        self.timers.scan = self.timers.scan.max(self.timers.scan_began + rest);
        let incomplete = found.iter().any(|f| {
            matches!(f, Finding::Trouble { .. } | Finding::Crowded(_) | Finding::Undecided)
        });
        let mut absent = BTreeMap::new();
        for finding in found {
            match finding {
                Finding::Seen { lane, file, stat, head, name } => {
                    let wall = self.clock.now();
                    self.wake(lane, now);
                    if let Some(lane) = self.lanes.get_mut(&lane) {
                        self.timers.dirty |= lane.seen(file, stat, head, name, now);
                        if lane.unread > 0 {
                            lane.oldest.get_or_insert(wall);
                        }
                    }
                }
                Finding::Still { lane } => self.rest(lane, now),
                Finding::Crowded(files) => {
                    tracing::debug!(files, "as many files are open as may be");
                    self.rest_all(now);
                }
                Finding::Lost { lane, why } => self.lost(lane, why),
                Finding::Read { lane, stat, head, tail } => {
                    self.all_is_read(lane, stat, head, tail);
                }
                Finding::New { path, file, stat, head, rotated } => {
                    self.new_file(path, file, stat, head, rotated, now);
                }
                Finding::Undecided => {}
                Finding::Absent { dir, since, why } => {
                    if let Some(why) = why {
                        self.incident(format!("follow {}: {why}", dir.display()));
                    }
                    absent.insert(dir, since);
                }
                Finding::Trouble { path, why } => {
                    self.incident(format!("follow {}: {why}", path.display()));
                }
            }
        }
        if incomplete {
            // What counts for one that is there again counts until a look knew all of it.
            self.absent.append(&mut absent);
        } else {
            self.absent = absent;
            // From the first look on, what is rotated away is ours to find, also after a restart.
            self.timers.dirty |= self.known_at_ms == 0;
            self.known_at_ms = began_ms;
        }
        self.finish_still_files(now);
        for f in &mut self.flushes {
            // The first scan that ends after the request may have begun before it; the one that
            // follows has not.
            if f.scanning {
                f.scanned = true;
            }
            f.scanning = true;
        }
        if self.flushes.iter().any(|f| !f.scanned) {
            self.timers.scan = now;
        }
    }

    fn new_file(
        &mut self,
        path: PathBuf,
        file: Arc<dyn TailFile>,
        stat: TailStat,
        head: Fingerprint,
        rotated: bool,
        now: Instant,
    ) {
        let reader = match FileReader::new(file.clone(), 0) {
            Ok(r) => r,
            // The next scan finds it again.
            Err(e) => {
                return self.incident(format!("follow {}: {}", path.display(), Chain(&e)));
            }
        };
        let name = path.to_string_lossy();
        let group = names::group(&self.settings.group, FILES, &name);
        let stream = names::stream(&self.settings.stream, FILES, &name);
        tracing::info!(path = %path.display(), stream, "following a file");
        let source = FileSource {
            path,
            id: (stat.dev, stat.ino),
            head,
            file: Some(file),
            swap: None,
            read: 0,
            read_tail: Some(reader.tail_hash()),
            size: stat.size,
            partial: 0,
            rotated,
            gone: false,
            finished: false,
            lost: false,
            copied: None,
            grew: now,
        };
        let id = self.take_lane_number();
        let mut lane = Lane::new(id, Source::File(source), group, stream, 0);
        lane.acked_tail = Some(reader.tail_hash());
        lane.reader = Some(Reader::File(reader));
        lane.unread = stat.size;
        if stat.size > 0 {
            lane.since = Some(now);
            lane.oldest = Some(self.clock.now());
        }
        self.lanes.insert(id, lane);
    }

    /// A number for a new lane. Nothing of it is sent before a checkpoint knows it.
    pub(super) fn take_lane_number(&mut self) -> u64 {
        let id = self.next_lane;
        self.next_lane += 1;
        self.timers.dirty = true;
        self.timers.checkpoint = Instant::now();
        id
    }

    fn lost(&mut self, id: u64, why: Loss) {
        self.timers.dirty = true;
        if self.resting.remove(&id).is_some() {
            // All that was known of it was delivered.
            return;
        }
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (read, acked) = (lane.read_position(), lane.acked);
        let Source::File(f) = &mut lane.source else { return };
        let path = f.path.display().to_string();
        f.lost = true;
        (f.file, f.swap, lane.reader, lane.unread) = (None, None, None, 0);
        let words = match why {
            Loss::Finished => return,
            Loss::Emptied => format!(
                "{path} was emptied and no copy of it was found: what was written after byte {read} and before that is lost"
            ),
            Loss::Vanished => format!(
                "{path} was removed while the agent was not running: what was written after byte {acked}, if anything, is lost"
            ),
        };
        lane.last_words = Some(words.clone());
        self.incident(words);
    }

    /// Closes files that were rotated away and are read to their end.
    fn finish_still_files(&mut self, now: Instant) {
        let mut finished = Vec::new();
        for lane in self.lanes.values_mut() {
            let idle = !lane.holds_batch();
            let quiet = idle && lane.unread == 0;
            let Source::File(f) = &mut lane.source else { continue };
            if f.copied.is_some() && idle {
                finished.push(lane.id);
            } else if quiet && !f.lost && !self.settings.follows(&f.path) {
                tracing::info!(path = %f.path.display(), "a file is not followed any more");
                finished.push(lane.id);
            } else if quiet && f.is_done(now) && f.partial == 0 && !f.lost && f.file.is_some() {
                tracing::info!(path = %f.path.display(), "a rotated file is read to its end");
                f.finished = true;
                finished.push(lane.id);
            }
        }
        for id in finished {
            self.put_aside(id);
        }
        self.lanes.retain(|_, lane| match &lane.source {
            Source::File(f) => !f.lost || lane.holds_batch() || lane.last_words.is_some(),
            Source::Spool(..) | Source::Journal(_) => true,
        });
    }

    /// Makes lanes of spools that have none yet.
    pub(super) fn adopt_spool_lanes(&mut self) {
        let all = self.spool.lanes();
        if all.len() == self.spool_lanes {
            return;
        }
        for (key, spool) in all {
            let have = self.lanes.values().any(|l| match &l.source {
                Source::Spool(k, _) => *k == key,
                Source::File(_) | Source::Journal(_) => false,
            });
            if !have {
                let id = self.take_lane_number();
                // Where no checkpoint tells, everything that is there is to be sent.
                let acked = spool.facts().first_seq - 1;
                self.insert_spool_lane(id, key, spool, acked);
            }
        }
    }

    pub(super) fn insert_spool_lane(
        &mut self,
        id: u64,
        key: spool::LaneKey,
        spool: Arc<spool::Lane>,
        acked: u64,
    ) {
        let (program, process) = (key.program.as_str(), key.process.as_str());
        let group = names::group(&self.settings.group, program, process);
        let stream = names::stream(&self.settings.stream, program, process);
        let facts = spool.facts();
        if facts.cut > 0 {
            self.incident(format!("the spool of {process} ended in {} damaged bytes", facts.cut));
        }
        for path in spool.foreign() {
            let path = path.display();
            self.incident(format!(
                "{path} is of another version of the agent: it stays there, its lines are not sent"
            ));
        }
        let reader = spool::Reader::new(spool.clone(), acked);
        let waiting = if facts.last_seq > acked { spool.bytes() } else { 0 };
        let mut lane = Lane::new(id, Source::Spool(key, spool), group, stream, acked);
        lane.reader = Some(Reader::Spool(reader));
        lane.unread = waiting;
        if waiting > 0 {
            lane.since = Some(Instant::now());
            lane.oldest = Some(self.clock.now());
        }
        self.lanes.insert(id, lane);
        self.spool_lanes += 1;
    }

    pub(super) fn checkpoint(&mut self) -> Checkpoint {
        let files = self.lanes.values().filter_map(Lane::file_mark);
        let resting = self.resting.values().map(|r| r.mark.clone());
        Checkpoint {
            v: 1,
            saved_at: self.known_at_ms,
            next_lane: self.next_lane,
            files: files.chain(resting).collect(),
            spools: self.lanes.values().filter_map(Lane::spool_mark).collect(),
            journal: self.journal_mark(),
        }
    }
}

impl Lane {
    fn read_position(&self) -> u64 {
        match &self.source {
            Source::File(f) => f.read,
            Source::Spool(..) | Source::Journal(_) => self.acked,
        }
    }

    /// Takes note of the file as it is now; true if a checkpoint should say so.
    fn seen(
        &mut self,
        file: Arc<dyn TailFile>,
        stat: TailStat,
        head: Fingerprint,
        name: Name,
        now: Instant,
    ) -> bool {
        let Source::File(f) = &mut self.source else { return false };
        let rotated = name != Name::Own;
        f.gone = name == Name::None;
        let id = (stat.dev, stat.ino);
        let news = f.id != id || f.head != head || f.rotated != rotated;
        if stat.size != f.size || rotated && !f.rotated || f.file.is_none() {
            f.grew = now;
        }
        let other_file = f.file.is_none() || f.id != id;
        let no_reader = self.reader.is_none() && !self.building;
        (f.id, f.head, f.rotated, f.size) = (id, head, rotated, stat.size);
        if other_file || no_reader {
            if self.building {
                f.swap = Some(file);
            } else {
                f.read = if f.file.is_none() { self.acked } else { f.read };
                (f.file, f.finished) = (Some(file.clone()), false);
                // Without one, the next look makes it.
                self.reader = match FileReader::new(file, f.read) {
                    Ok(r) => {
                        f.read_tail = Some(r.tail_hash());
                        Some(Reader::File(r))
                    }
                    Err(e) => {
                        self.counts.last_error = Some(format!("read: {}", Chain(&e)));
                        None
                    }
                };
            }
        }
        let waiting = stat.size.saturating_sub(f.read);
        if waiting > f.partial && !self.building {
            self.unread = self.unread.max(waiting);
            self.since.get_or_insert(now);
        }
        news
    }
}
