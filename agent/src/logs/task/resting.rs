//! Files that are read to their end and closed: rotated ones that are done with, and, where more files have
//! something new than may be open, those that have not. They cost no descriptor, and no time but in a scan.

use std::time::Duration;

use tokio::time::Instant;

use super::{Shipper, files::FILES};
use crate::logs::{
    checkpoint::FileMark,
    lane::{FileSource, Lane, Source},
    names,
    ports::TailStat,
    source::{Fingerprint, Known},
    status::SourceStatus,
};

/// A file that has had nothing new for so long gives way to one that has.
const UNCHANGED_FOR: Duration = Duration::from_secs(2);

/// A closed file.
#[derive(Debug)]
pub(super) struct Resting {
    pub(super) mark: FileMark,
    counts: SourceStatus,
}

impl Resting {
    pub(super) fn new(mark: FileMark) -> Self {
        Self { mark, counts: SourceStatus::default() }
    }

    pub(super) fn known(&self) -> Known {
        self.mark.known()
    }
}

impl FileMark {
    /// What a look is to know of a closed file.
    pub(in crate::logs) fn known(&self) -> Known {
        Known {
            lane: self.lane,
            path: self.path.clone(),
            id: (self.dev, self.ino),
            head: self.head,
            position: self.acked,
            tail: self.tail,
            size: self.acked,
            file: None,
            finished: self.finished,
            resting: true,
        }
    }
}

impl Shipper {
    /// Closes a file that has nothing new, if all of it is delivered.
    pub(super) fn rest(&mut self, id: u64, now: Instant) {
        if self.lanes.get(&id).is_some_and(|l| l.may_rest(now, Duration::ZERO)) {
            self.put_aside(id);
        }
    }

    /// Closes every file that has had nothing new for a while: the next look may open others.
    pub(super) fn rest_all(&mut self, now: Instant) {
        let lanes = self.lanes.values().filter(|l| l.may_rest(now, UNCHANGED_FOR));
        let quiet: Vec<u64> = lanes.map(|l| l.id).collect();
        for id in &quiet {
            self.put_aside(*id);
        }
    }

    pub(super) fn put_aside(&mut self, id: u64) {
        if let Some(lane) = self.lanes.remove(&id)
            && let Some(mark) = lane.file_mark()
        {
            self.resting.insert(mark.lane, Resting { mark, counts: lane.counts });
            self.timers.dirty = true;
        }
    }

    /// Nothing is left to be read of a file, and this is what is known of it from now on, so that it is not
    /// taken for a new one: it has another device number, or it was emptied, and this is its copy.
    pub(super) fn all_is_read(&mut self, id: u64, stat: TailStat, head: Fingerprint, tail: u64) {
        self.timers.dirty = true;
        if let Some(r) = self.resting.get_mut(&id)
            && r.mark.acked == stat.size
        {
            (r.mark.dev, r.mark.ino) = (stat.dev, stat.ino);
            return;
        }
        // A number of its own: what was noted of the lane is about positions that the copy does not have.
        let number = self.take_lane_number();
        let mark = |path| FileMark {
            lane: number,
            path,
            dev: stat.dev,
            ino: stat.ino,
            head,
            acked: stat.size,
            tail: Some(tail),
            finished: true,
        };
        if let Some(Resting { mark: old, counts }) = self.resting.remove(&id) {
            self.resting.insert(number, Resting { mark: mark(old.path), counts });
            return;
        }
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Source::File(f) = &mut lane.source else { return };
        f.copied = Some(mark(f.path.clone()));
        f.lost = true;
        (f.file, f.swap, lane.reader, lane.unread) = (None, None, None, 0);
    }

    /// Makes a lane of a closed file again.
    pub(super) fn wake(&mut self, id: u64, now: Instant) {
        let Some(Resting { mark, counts }) = self.resting.remove(&id) else { return };
        let name = mark.path.to_string_lossy();
        let group = names::group(&self.settings.group, FILES, &name);
        let stream = names::stream(&self.settings.stream, FILES, &name);
        let source = Source::File(FileSource::from_mark(&mark, now));
        let mut lane = Lane::new(id, source, group, stream, mark.acked);
        lane.acked_tail = mark.tail;
        let named = lane.counts;
        lane.counts =
            SourceStatus { name: named.name, group: named.group, stream: named.stream, ..counts };
        self.lanes.insert(id, lane);
    }
}

impl Lane {
    /// Everything is delivered, and nothing new came for so long.
    fn may_rest(&self, now: Instant, unchanged_for: Duration) -> bool {
        let Source::File(f) = &self.source else { return false };
        !self.holds_batch()
            && self.unread == 0
            && self.flush_to.is_none()
            && !f.lost
            && f.partial == 0
            && f.size == self.acked
            && now.duration_since(f.grew) >= unchanged_for
    }
}
