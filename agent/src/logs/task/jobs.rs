//! What runs beside the task: each job takes what it needs and gives it back with its result.

use std::{io, sync::Arc};

use tokio::{task::JoinSet, time::Instant};

use super::super::{
    batch::Batch,
    checkpoint::{Checkpoint, Place},
    content::LineRules,
    lane::{Lane, Made, Reader, Source, WorkState},
    ports::{CloudLogs, Failure, NewGroups, Outcome},
    reading::Reading,
    redaction::Redaction,
    source::{Finding, LastLine},
    spool::Spool,
};
use crate::clock::Timestamp;

/// A job that ended.
#[derive(Debug)]
pub(super) enum Done {
    Built { lane: u64, reader: Reader, made: Made, facts: Facts },
    Put { lane: u64, outcome: Outcome },
    Scanned { found: Vec<Finding>, began_ms: i64 },
    Committed(io::Result<()>),
    Saved { lanes: u64, checkpoint: Box<Checkpoint>, result: io::Result<()> },
}

/// What building a batch brought to light.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Where the source ended, if its last event is left for the next time.
    pub(super) held: Option<u64>,
    /// There is more.
    pub(super) full: bool,
    /// The file was emptied.
    pub(super) changed: bool,
    pub(super) partial: u64,
    pub(super) bad_utf8: u64,
    pub(super) missing: u64,
    pub(super) error: Option<io::Error>,
}

/// What a build needs of the settings.
#[derive(Debug)]
pub(super) struct Manner {
    pub(super) wall: Timestamp,
    pub(super) rules: Arc<LineRules>,
    pub(super) oldest_ms: i64,
    pub(super) redaction: Arc<Redaction>,
}

/// Builds a lane's next batch.
pub(super) fn build(lane: &mut Lane, now: Instant, manner: Manner, jobs: &mut JoinSet<Done>) {
    let still_at = lane.held.filter(|held| held.until <= now).map(|held| held.end);
    let last_line = if lane.takes_last_line(now) { LastLine::Take } else { LastLine::Wait };
    let Some(mut reader) = lane.reader.take() else { return };
    lane.building = true;
    (lane.unread, lane.since, lane.oldest, lane.read_again) = (0, None, None, None);
    if let (Source::Journal(j), Reader::Journal(r)) = (&mut lane.source, &mut reader) {
        r.extend(j.incoming.drain(..), lane.acked);
    }
    let id = lane.id;
    jobs.spawn_blocking(move || {
        let from = match &reader {
            Reader::File(r) => r.position(),
            Reader::Spool(r) => r.position(),
            Reader::Journal(r) => r.position(),
        };
        let mut batch = Batch::new(id, from);
        let mut facts = Facts::default();
        let how = Reading {
            now: manner.wall,
            rules: &manner.rules,
            oldest_ms: manner.oldest_ms,
            still_at,
            redaction: &manner.redaction,
        };
        let tail = match &mut reader {
            Reader::File(r) => {
                match r.fill(&mut batch, &how, last_line) {
                    Ok(f) => {
                        (facts.full, facts.changed, facts.held) = (f.full, f.changed, f.held);
                        (facts.partial, facts.bad_utf8) = (f.partial, f.bad_utf8);
                    }
                    Err(e) => facts.error = Some(e),
                }
                Some(r.tail_hash())
            }
            Reader::Spool(r) => {
                match r.fill(&mut batch, &how) {
                    Ok(f) => {
                        facts.held = f.held;
                        (facts.full, facts.missing, facts.bad_utf8) =
                            (f.full, f.missing, f.bad_utf8);
                    }
                    Err(e) => facts.error = Some(e),
                }
                None
            }
            Reader::Journal(r) => {
                let f = r.fill(&mut batch, how.redaction);
                (facts.full, facts.bad_utf8) = (f.full, f.bad_utf8);
                r.hash()
            }
        };
        let made = Made { batch: Arc::new(batch), tail };
        Done::Built { lane: id, reader, made, facts }
    });
}

/// Sends the next part of a lane's batch, making the stream first where that is wanted.
pub(super) fn send<C: CloudLogs>(
    lane: &mut Lane,
    cloud: &Arc<C>,
    new_groups: &NewGroups,
    jobs: &mut JoinSet<Done>,
) {
    let Some(work) = &mut lane.work else { return };
    let ensure = matches!(work.state, WorkState::Waiting { ensure: true, .. });
    work.state = WorkState::OnItsWay;
    let part = match work.parts.last() {
        Some(part) if *part != (0..work.made.batch.len()) => {
            Arc::new(work.made.batch.slice(part.clone()))
        }
        Some(_) | None => work.made.batch.clone(),
    };
    let (id, cloud) = (lane.id, cloud.clone());
    let new_groups = ensure.then(|| new_groups.clone());
    let (group, stream) = (lane.group.clone(), lane.stream.clone());
    jobs.spawn(async move {
        if let Some(new) = new_groups
            && let Err(why) = cloud.ensure_stream(&group, &stream, &new).await
        {
            // A group that may not be made is a matter for a person, whatever the put would say.
            return Done::Put { lane: id, outcome: Outcome::Failed(before_any_event(why)) };
        }
        Done::Put { lane: id, outcome: cloud.put(&group, &stream, &part).await }
    });
}

/// What a failure to make the stream is for the events that were to follow.
fn before_any_event(why: Failure) -> Failure {
    match why {
        Failure::Invalid(why) => Failure::Denied(why),
        Failure::Unavailable(why) => Failure::NotSent(why),
        other => other,
    }
}

/// The spool's group commit.
pub(super) fn commit(spool: Arc<Spool>, jobs: &mut JoinSet<Done>) {
    jobs.spawn_blocking(move || {
        spool.look_at_disk();
        Done::Committed(spool.sync())
    });
}

/// Writes a checkpoint, after the sink made sure of what it has.
pub(super) fn save<C: CloudLogs>(
    cloud: Arc<C>,
    place: Place,
    checkpoint: Checkpoint,
    jobs: &mut JoinSet<Done>,
) {
    jobs.spawn(async move {
        let lanes = checkpoint.next_lane;
        let checkpoint = Box::new(checkpoint);
        let written = match cloud.settle().await {
            Ok(()) => {
                let c = checkpoint.clone();
                blocking(move || place.save(&c)).await
            }
            Err(e) => Err(e),
        };
        Done::Saved { lanes, checkpoint, result: written }
    });
}

/// Runs something that blocks, as part of a job.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// Segments that a saved checkpoint covers may go.
pub(super) fn give_back(checkpoint: &Checkpoint, lane: &Lane) -> io::Result<()> {
    let Source::Spool(_, spool) = &lane.source else { return Ok(()) };
    let mark = checkpoint.spools.iter().find(|s| s.lane == lane.id);
    mark.map_or(Ok(()), |m| spool.give_back(m.acked))
}
