//! Files that can be read no more: what was read of them waits to be delivered, and what their streams are
//! to be told last.
//!
//! Such a lane cannot give a batch back, so that it must not take room from those that can. Bounds: beyond
//! [`MAX_BATCHES`] batches of lines, the ones of the file that was found first become dead letters; so do
//! last words beyond [`MAX_LANES`]. Where dead letters cannot be written, what is too much takes room
//! as any other batch does, and no more is read than there is room for.

use tokio::time::Instant;

use super::{Shipper, outcome::IO_WAIT};
use crate::{
    clock::Timestamp,
    logs::{
        batch::Batch,
        lane::{Lane, Made, Source, Work, WorkState},
    },
};

/// Most batches that wait though they cannot be read again, besides [`MAX_HELD`](super::MAX_HELD).
const MAX_BATCHES: usize = 4;
/// Most lanes of files that are lost.
const MAX_LANES: usize = 1000;

impl Shipper {
    /// How much of [`MAX_HELD`](super::MAX_HELD) is taken, once too much of what is lost was put aside.
    pub(super) fn room_taken(&mut self, now: Instant) -> usize {
        let lost = self.put_aside_what_is_too_much(now);
        let all: usize = self.lanes.values().map(Lane::batches).sum();
        all - lost.min(MAX_BATCHES)
    }

    /// Returns how many batches of lost files are left.
    fn put_aside_what_is_too_much(&mut self, now: Instant) -> usize {
        loop {
            let lost = self.lanes.values().filter(|l| l.is_lost());
            let (lanes, batches) =
                lost.fold((0, 0), |(lanes, batches), l| (lanes + 1, batches + l.batches()));
            let lines = batches > MAX_BATCHES;
            if !lines && lanes <= MAX_LANES || now < self.timers.put_aside {
                return batches;
            }
            let mut may = self.lanes.values().filter(|l| l.is_lost() && !l.is_on_its_way());
            let Some(id) = may.find(|l| !lines || l.batches() > 0).map(|l| l.id) else {
                return batches;
            };
            if !self.put_aside_lines(id, now) || !lines && !self.put_aside_last_words(id, now) {
                self.timers.put_aside = now + IO_WAIT;
            }
        }
    }

    /// Makes dead letters of the lines that a lost file's lane has, and lets its last words say so.
    fn put_aside_lines(&mut self, id: u64, now: Instant) -> bool {
        const WHY: &str = "the file was lost, and too many lines of such files waited";
        let mut events = 0;
        let done = loop {
            let Some(lane) = self.lanes.get_mut(&id) else { return false };
            if lane.work.is_none()
                && let Some(made) = lane.staged.take()
            {
                lane.work = Some(Work::new(made));
            }
            let Some(part) = lane.part_len().filter(|_| lane.batches() > 0) else { break true };
            if !self.delivered(id, &(0..part).collect::<Vec<_>>(), WHY, now) {
                break false;
            }
            events += part;
        };
        if events > 0
            && let Some(lane) = self.lanes.get_mut(&id)
        {
            let what =
                format!("{events} events were put aside as dead letters, undelivered: {WHY}");
            lane.last_words = Some(match lane.last_words.take() {
                Some(words) => format!("{words}; {what}"),
                None => what.clone(),
            });
            let what = format!("{}: {what}", lane.counts.name);
            self.incident(what);
        }
        done
    }

    /// Makes a dead letter of a lane's last words, with which the lane ends.
    fn put_aside_last_words(&mut self, id: u64, now: Instant) -> bool {
        const WHY: &str = "too many files were lost whose streams could not be told";
        let wall = self.clock.now();
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.read_again = None;
            lane.take_up_next(now, wall);
            let name = lane.counts.name.clone();
            if lane.work.is_some() && !self.delivered(id, &[0], WHY, now) {
                return false;
            }
            self.lanes.remove(&id);
            self.incident(format!(
                "{name}: what its stream was to be told is a dead letter: {WHY}"
            ));
        }
        true
    }
}

impl Lane {
    /// A file's that can be read no more, and of which nothing is being read.
    fn is_lost(&self) -> bool {
        matches!(&self.source, Source::File(f) if f.lost) && !self.building
    }

    /// Takes up what is to be delivered next: the batch that was made ahead, or, behind all that was read,
    /// the last words.
    pub(super) fn take_up_next(&mut self, now: Instant, wall: Timestamp) {
        if self.work.is_some() {
            return;
        }
        let mut work = match self.staged.take() {
            Some(made) => Work::new(made),
            None if self.building || self.read_again.is_some_and(|at| now < at) => return,
            None => {
                let Some(words) = self.last_words.take() else { return };
                let mut batch = Batch::new(self.id, self.acked);
                if batch.push(wall, &format!("[palisade] {words}"), self.acked).is_err() {
                    return;
                }
                let made = Made { batch: batch.into(), tail: None };
                Work { last_words: Some(words), ..Work::new(made) }
            }
        };
        if std::mem::take(&mut self.ensure_next) {
            work.state = WorkState::Waiting { until: now, ensure: true };
        }
        self.work = Some(work);
    }

    /// Last words that have to wait do so as words.
    pub(super) fn take_back_last_words(&mut self) {
        let Some(Work { state: WorkState::Waiting { until, ensure }, last_words, .. }) =
            &mut self.work
        else {
            return;
        };
        let Some(words) = last_words.take() else { return };
        (self.read_again, self.ensure_next) = (Some(*until), *ensure);
        self.last_words = Some(words);
        self.work = None;
    }
}
