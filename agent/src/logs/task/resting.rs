//! Files that are read to their end and closed: rotated ones that are done with, and, where more files have
//! something new than may be open, those that have not. They cost no descriptor, and no time but in a scan.

use std::time::Duration;

use tokio::time::Instant;

use super::{Shipper, files::FILES};
use crate::logs::{
    checkpoint::FileMark,
    lane::{FileSource, Lane, Source},
    names,
    source::Known,
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
        let m = &self.mark;
        Known {
            lane: m.lane,
            path: m.path.clone(),
            id: (m.dev, m.ino),
            head: m.head,
            position: m.acked,
            tail: m.tail,
            size: m.acked,
            file: None,
            finished: m.finished,
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
            self.resting.insert(id, Resting { mark, counts: lane.counts });
            self.timers.dirty = true;
        }
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
