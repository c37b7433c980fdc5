//! What the task does when a job has ended.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    CHECKPOINT_EVERY, COMMIT_AFTER, FULL, MAX_INCIDENTS, Shipper,
    jobs::{self, Done, Facts},
};
use crate::{
    errors::Chain,
    logs::{
        lane::{Lane, Made, Reader, Source, WorkState},
        ports::{Failure, Outcome},
        retry::{self, Decision},
    },
};

/// A source or file of ours that cannot be read or written is tried again after this.
pub(super) const IO_WAIT: Duration = Duration::from_secs(1);
/// When so many events in a row would be put aside, it is not the events: the lane waits for a
/// person instead of emptying itself into the dead-letter file.
const MAX_BURIED: u32 = 16;
const BURIED_WAIT: Duration = Duration::from_secs(60);

impl Shipper {
    pub(super) fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = Instant::now();
        match done {
            Ok(Done::Built { lane, reader, made, facts }) => {
                self.built(lane, reader, made, facts, now)
            }
            Ok(Done::Put { lane, outcome }) => self.answered(lane, outcome, now),
            Ok(Done::Scanned { found, began_ms }) => self.scanned(found, began_ms, now),
            Ok(Done::Committed(result)) => self.committed(result, now),
            Ok(Done::Saved { lanes, checkpoint, result }) => {
                self.timers.saving = false;
                match result {
                    Ok(()) => {
                        self.saved_lanes = self.saved_lanes.max(lanes);
                        let saved = checkpoint.positions();
                        let after = self
                            .lanes
                            .values()
                            .filter(|l| saved.get(&l.id).is_none_or(|upto| *upto < l.acked));
                        let after = after.map(|l| (l.id, l.acked, l.acked_tail));
                        let mut result = self.store.compact(after);
                        for lane in self.lanes.values() {
                            result = result.and(jobs::give_back(&checkpoint, lane));
                        }
                        if let Err(e) = result {
                            self.incident(format!("tidy the spool: {}", Chain(&e)));
                        }
                    }
                    Err(e) => {
                        self.timers.dirty = true;
                        self.timers.checkpoint = now + CHECKPOINT_EVERY;
                        self.incident(format!("write the checkpoint: {}", Chain(&e)));
                    }
                }
            }
            // A job that panicked took its reader along. The lane stands still; the process is
            // restarted by whoever watches this task, and reads on from the checkpoint.
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => {}
        }
    }

    fn committed(&mut self, result: std::io::Result<()>, now: Instant) {
        self.timers.committing = false;
        if let Err(e) = result {
            self.incident(format!("commit the spool to disk: {}", Chain(&e)));
            self.timers.commit = Some(now + IO_WAIT);
        } else if self.spool.is_dirty() {
            self.timers.commit = Some(now + COMMIT_AFTER);
        }
    }

    fn built(&mut self, id: u64, reader: Reader, made: Made, facts: Facts, now: Instant) {
        let keeps_positions = self.keeps_positions;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.building = false;
        if made.batch.upto() > lane.counted {
            // What is read again is not missing again.
            lane.counted = made.batch.upto();
            lane.counts.dropped_lines += facts.missing;
            self.totals.dropped_lines += facts.missing;
        }
        self.totals.bad_utf8_lines += facts.bad_utf8;
        lane.accept_reader(reader, facts.partial);
        lane.hold(facts.held, now);
        if facts.full {
            lane.unread += FULL;
            lane.since.get_or_insert(now);
        }
        if let Some(e) = &facts.error {
            lane.counts.last_error = Some(format!("read: {}", Chain(e)));
            lane.read_again = Some(now + IO_WAIT);
            lane.unread = lane.unread.max(1);
            lane.since.get_or_insert(now);
        }
        if facts.changed {
            self.timers.scan = now;
        }
        let upto = made.batch.upto();
        if !facts.full && facts.error.is_none() {
            // Everything there is was read; a partial line is not waited for.
            lane.flush_to = lane.flush_to.map(|to| to.min(upto.max(lane.acked)));
        }
        if !made.batch.is_empty() {
            lane.staged = Some(made);
        } else if lane.work.is_none() && upto > lane.acked {
            // Only empty lines.
            (lane.acked, lane.acked_tail) = (upto, made.tail);
            self.timers.dirty = true;
            let tail = lane.acked_tail;
            if !keeps_positions {
                self.note(id, upto, tail);
            }
        }
    }

    fn note(&mut self, lane: u64, upto: u64, tail: Option<u64>) {
        if let Err(e) = self.store.note(lane, upto, tail) {
            // The checkpoint will say it.
            self.incident(format!("note an acknowledgement: {}", Chain(&e)));
        }
    }

    fn answered(&mut self, id: u64, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Failed(Failure::Throttled) => {
                let others = self.lanes.values().filter(|l| l.is_on_its_way()).count();
                self.totals.throttled_requests += 1;
                self.pace.throttled(others.saturating_sub(1), now);
            }
            // An endpoint that does not answer says nothing about what the account may do.
            Outcome::Failed(Failure::Unavailable(_) | Failure::NotSent(_)) => {}
            Outcome::Accepted | Outcome::AcceptedBut(_) | Outcome::Failed(_) => {
                self.pace.answered()
            }
        }
        match outcome {
            Outcome::Accepted => {
                self.delivered(id, &[], "", now);
            }
            Outcome::AcceptedBut(refused) => {
                let part = self.lanes.get(&id).and_then(Lane::part_len).unwrap_or(0);
                let indices = retry::refused_events(refused, part);
                let reason = "the service refused its time: too old, expired, or too far ahead";
                self.delivered(id, &indices, reason, now);
            }
            Outcome::Failed(why) => self.failed(id, &why, now),
        }
    }

    /// The part on its way is in, but for some events that are buried. False if they could not be.
    pub(super) fn delivered(
        &mut self,
        id: u64,
        buried: &[usize],
        reason: &str,
        now: Instant,
    ) -> bool {
        let dead = self.dead.clone();
        let mut given_up = 0;
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let Some(work) = &mut lane.work else { return false };
        let Some(part) = work.parts.last().cloned() else { return false };
        if !buried.is_empty() {
            let slice = work.made.batch.slice(part.clone());
            match dead.bury(&lane.group, &lane.stream, reason, &slice, buried) {
                Ok(older) => given_up = older,
                Err(e) => {
                    // Not acknowledged until they are kept somewhere. They are the ends of the part, for their
                    // time, and only they are sent again: the rest is in.
                    let head = buried.iter().enumerate().take_while(|(n, i)| n == *i).count();
                    let tail = buried.len() - head;
                    let taken = (part.len() - buried.len()) as u64;
                    work.parts.pop();
                    if tail > 0 {
                        work.parts.push(part.end - tail..part.end);
                    }
                    if head > 0 {
                        work.parts.push(part.start..part.start + head);
                    }
                    lane.counts.delivered_events += taken;
                    self.totals.delivered_events += taken;
                    let ensure = false;
                    work.state = WorkState::Waiting { until: now + IO_WAIT, ensure };
                    lane.counts.last_error = Some(format!("write a dead letter: {}", Chain(&e)));
                    return false;
                }
            }
        }
        work.parts.pop();
        let events = part.len().saturating_sub(buried.len()) as u64;
        let upto = work.made.batch.end_of(part.end);
        if events > 0 {
            lane.buried = 0;
        }
        (lane.failures, lane.needs_a_person) = (0, false);
        lane.counts.last_error = None;
        lane.counts.delivered_events += events;
        lane.counts.dead_lettered_events += buried.len() as u64;
        lane.acked = lane.acked.max(upto);
        if work.parts.is_empty() {
            lane.acked_tail = work.made.tail;
            lane.work = None;
        } else {
            lane.acked_tail = None;
            work.state = WorkState::Ready;
        }
        self.totals.delivered_events += events;
        self.totals.dead_lettered_events += buried.len() as u64;
        self.timers.dirty = true;
        let (acked, tail) = (lane.acked, lane.acked_tail);
        if !buried.is_empty() {
            tracing::warn!(events = buried.len(), reason, "log events put aside as dead letters");
        }
        if given_up > 0 {
            self.incident(format!("{given_up} old dead letters made room for new ones"));
        }
        if !self.keeps_positions {
            self.note(id, acked, tail);
        }
        true
    }

    fn failed(&mut self, id: u64, why: &Failure, now: Instant) {
        let dice = self.roll();
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(work) = &mut lane.work else { return };
        let Some(part) = work.parts.last().cloned() else { return };
        lane.failures = lane.failures.saturating_add(1);
        lane.needs_a_person = retry::needs_a_person(why);
        let text = describe(why);
        if lane.counts.last_error.as_deref() != Some(text.as_str()) {
            tracing::warn!(group = %lane.group, stream = %lane.stream, error = %text, "logs not delivered");
        }
        lane.counts.last_error = Some(text.clone());
        if matches!(why, Failure::Unavailable(_)) {
            // The request may have arrived though the answer did not.
            lane.counts.duplicate_risk_events += part.len() as u64;
            self.totals.duplicate_risk_events += part.len() as u64;
        }
        match retry::decide(why, lane.failures, part.len(), dice) {
            Decision::Resend { after } => {
                work.state = WorkState::Waiting { until: now + after, ensure: false };
            }
            Decision::Ensure { after } => {
                work.state = WorkState::Waiting { until: now + after, ensure: true };
            }
            Decision::Halve => {
                let middle = part.start + part.len() / 2;
                work.parts.pop();
                work.parts.push(middle..part.end);
                work.parts.push(part.start..middle);
                work.state = WorkState::Ready;
                lane.failures = 0;
            }
            Decision::Bury if lane.buried >= MAX_BURIED => {
                let until = now + BURIED_WAIT;
                work.state = WorkState::Waiting { until, ensure: false };
            }
            Decision::Bury => {
                if self.delivered(id, &[0], &text, now)
                    && let Some(lane) = self.lanes.get_mut(&id)
                {
                    lane.buried += 1;
                }
            }
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.take_back_last_words();
        }
    }

    /// Remembers something that a person may want to know later, and logs it.
    pub(super) fn incident(&mut self, what: String) {
        // What is found at every look is told once.
        if self.totals.incidents.contains(&what) {
            return;
        }
        tracing::warn!(what, "logs incident");
        if self.totals.incidents.len() >= MAX_INCIDENTS {
            self.totals.incidents.remove(0);
        }
        self.totals.incidents.push(what);
    }

    /// Uniform in 0..1: a xorshift generator.
    fn roll(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let top = u32::try_from(self.dice >> 32).unwrap_or(0);
        f64::from(top) / (f64::from(u32::MAX) + 1.0)
    }

    pub(super) fn publish(&mut self) {
        let now = self.clock.now();
        let mut status = self.totals.clone();
        status.spool_bytes = self.spool.used();
        status.redacted = self.redaction.totals();
        for lane in self.lanes.values() {
            if !lane.is_finished_file() {
                status.sources.push(lane.status(now));
            }
        }
        status.degraded = self.lanes.values().find_map(|l| {
            // Short failures are normal life; one that lasts is not.
            let lasts = l.failures >= 5 || l.needs_a_person;
            let error = l.counts.last_error.as_ref().filter(|_| lasts)?;
            Some(format!("{} {}: {error}", l.group, l.stream))
        });
        self.status.send_replace(status);
    }
}

fn describe(why: &Failure) -> String {
    match why {
        Failure::Throttled => "the service asks to slow down".to_owned(),
        Failure::Unavailable(what) => format!("no answer: {what}"),
        Failure::NotSent(what) => format!("not sent: {what}"),
        Failure::Missing => "the group or the stream does not exist; making it".to_owned(),
        Failure::Invalid(what) => format!("the service will not take this: {what}"),
        Failure::Denied(what) => format!("not allowed: {what}"),
        Failure::Credentials(what) => format!("no valid credentials: {what}"),
    }
}

impl Lane {
    pub(super) fn part_len(&self) -> Option<usize> {
        self.work.as_ref()?.parts.last().map(ExactSizeIterator::len)
    }

    /// Takes the reader back after a build, unless the file has changed hands meanwhile.
    fn accept_reader(&mut self, reader: Reader, partial: u64) {
        match (&mut self.source, &reader) {
            (Source::File(f), Reader::File(r)) => {
                (f.read, f.read_tail, f.partial) = (r.position(), Some(r.tail_hash()), partial);
                if f.lost {
                    return;
                }
                if let Some(file) = f.swap.take() {
                    f.file = Some(file.clone());
                    match crate::logs::source::FileReader::new(file, r.position()) {
                        Ok(r) => self.reader = Some(Reader::File(r)),
                        Err(e) => self.counts.last_error = Some(format!("read: {}", Chain(&e))),
                    }
                    return;
                }
            }
            (Source::Spool(..) | Source::Journal(_), _)
            | (Source::File(_), Reader::Spool(_) | Reader::Journal(_)) => {}
        }
        self.reader = Some(reader);
    }
}
