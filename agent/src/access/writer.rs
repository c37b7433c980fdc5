//! The task that owns the audit log.
//!
//! Nobody waits for it: lines come through a bounded queue, and when that is full they are counted,
//! and the count is a line of the log. While the disk refuses, lines wait and are tried again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{broadcast, mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    audit::{Entry, Event, Head},
    model::Moment,
    ports::AuditLog,
};

/// Lines that may wait to be written.
const QUEUE: usize = 1024;
/// Lines that are written at once.
const BATCH: usize = 64;
/// Entries that a slow listener may be behind.
const HEARD: usize = 256;
/// Rest before a disk that refused is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Where the log stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) head: Head,
    /// Why lines wait, if they do.
    pub(super) error: Option<String>,
}

/// Takes lines. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    queue: mpsc::Sender<(Event, Moment)>,
    dropped: Arc<AtomicU64>,
}

impl Audit {
    pub(super) fn note(&self, event: Event, now: Moment) {
        if self.queue.try_send((event, now)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The task.
#[derive(Debug)]
pub struct AuditWriter<L> {
    log: L,
    queue: mpsc::Receiver<(Event, Moment)>,
    dropped: Arc<AtomicU64>,
    entries: broadcast::Sender<Entry>,
    standing: watch::Sender<Standing>,
    /// That the end of the file was missing, to be the first line of this life.
    cut: Option<Event>,
}

/// What others hold of the writer.
#[derive(Clone, Debug)]
pub(super) struct AuditEnds {
    pub(super) audit: Audit,
    pub(super) entries: broadcast::Sender<Entry>,
    pub(super) standing: watch::Receiver<Standing>,
}

pub(super) fn writer<L: AuditLog>(log: L) -> (AuditEnds, AuditWriter<L>) {
    let (tx, queue) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let (entries, _) = broadcast::channel(HEARD);
    let (standing, seen) = watch::channel(Standing::default());
    let audit = Audit { queue: tx, dropped: Arc::clone(&dropped) };
    let ends = AuditEnds { audit, entries: entries.clone(), standing: seen };
    (ends, AuditWriter { log, queue, dropped, entries, standing, cut: None })
}

impl<L: AuditLog> AuditWriter<L> {
    /// Writes until all who may write have gone, which they do when told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let Some(mut head) = self.open(&stop).await else { return };
        let mut last = None;
        loop {
            let Some(first) = self.queue.recv().await else { return };
            let mut batch = vec![first];
            while let Some(more) =
                (batch.len() < BATCH).then(|| self.queue.try_recv().ok()).flatten()
            {
                batch.push(more);
            }
            if let Some((_, now)) = batch.last() {
                last = Some(*now);
            }
            let lost = self.dropped.swap(0, Ordering::Relaxed);
            if let (true, Some(now)) = (lost > 0, last) {
                batch.push((Event::Lost { count: lost }, now));
            }
            if let (Some(cut), Some((_, now))) = (self.cut.take(), batch.first()) {
                batch.insert(0, (cut, *now));
            }
            if !self.write(&mut head, batch, &stop).await {
                return;
            }
        }
    }

    /// Finds the end of the log; none if told to stop before that worked.
    async fn open(&mut self, stop: &CancellationToken) -> Option<Head> {
        loop {
            match self.log.open().await {
                Ok(tail) => {
                    let last = tail.last.unwrap_or_default();
                    let head = tail.head.unwrap_or_default();
                    // The file may be ahead of its head by what the last life wrote when it died.
                    let cut =
                        head.seq > last.seq || (head.seq == last.seq && head.hash != last.hash);
                    let begin = if cut { head.clone() } else { last.clone() };
                    if cut {
                        let event = Event::Cut { head: head.seq, file: last.seq };
                        tracing::error!(?event, "the audit log was cut off or changed at its end");
                        // Its own number goes on from the head, so that the gap stays visible.
                        self.cut = Some(event);
                    }
                    self.publish(&begin, None);
                    return Some(begin);
                }
                Err(e) => {
                    tracing::error!(error = %e, "the audit log cannot be opened");
                    self.publish(&Head::default(), Some(format!("open the audit log: {e}")));
                    tokio::select! {
                        () = time::sleep(RETRY) => {}
                        () = stop.cancelled() => return None,
                    }
                }
            }
        }
    }

    /// Writes lines, again and again until it works. False if told to stop meanwhile.
    async fn write(
        &mut self,
        head: &mut Head,
        batch: Vec<(Event, Moment)>,
        stop: &CancellationToken,
    ) -> bool {
        let (mut bytes, mut entries, mut next) = (Vec::new(), Vec::new(), head.clone());
        for (event, now) in batch {
            let Ok((line, after)) = next.next(event.clone(), now) else { continue };
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
            entries.push(Entry { seq: after.seq, hash: after.hash.clone(), event });
            next = after;
        }
        loop {
            match self.log.append(bytes.clone(), next.clone()).await {
                Ok(()) => break,
                Err(e) => {
                    tracing::error!(error = %e, lines = entries.len(), "audit lines wait to be written");
                    self.publish(head, Some(format!("write the audit log: {e}")));
                    if stop.is_cancelled() {
                        return false;
                    }
                    tokio::select! {
                        () = time::sleep(RETRY) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
        *head = next;
        self.publish(head, None);
        for entry in entries {
            // Nobody may listen.
            drop(self.entries.send(entry));
        }
        true
    }

    fn publish(&self, head: &Head, error: Option<String>) {
        let now = Standing { head: head.clone(), error };
        self.standing.send_if_modified(|s| {
            let differs = *s != now;
            *s = now;
            differs
        });
    }
}
