//! The record of what the agent did and why: one JSON object a line.
//!
//! One task owns the file and the last few events. Events come through a bounded queue; when it is
//! full they are dropped, and the next one written says how many, since nothing the agent
//! does may wait for its diary. Every event also goes to `tracing`.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::{Timestamp, WallClock};

/// Events that may wait to be written.
const QUEUE: usize = 1024;
/// Events kept in memory for `palisade events`.
const KEPT: usize = 500;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in Unix milliseconds.
    pub ts: Timestamp,
    /// Part of the agent: `supervise`, `firewall`, `logs`, `config`, `agent`.
    pub area: String,
    /// What happened, in a few fixed words: `process running`, `rules repaired`.
    pub what: String,
    /// To what: a process, a set, a file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Why, or how.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// On whose word, where somebody asked: `uid 0 pid 123`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// Where lines are kept.
pub trait EventSink: Send + 'static {
    /// Appends one line, which ends in a newline.
    ///
    /// # Errors
    /// When it could not be kept; the event is then only in memory and in the agent's log.
    fn append(&mut self, line: &[u8]) -> io::Result<()>;
}

#[derive(Debug)]
enum Message {
    Record(Event),
    Recent(usize, oneshot::Sender<Vec<Event>>),
}

/// Records events and tells the latest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events<C> {
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
    clock: C,
}

/// The other end of an [`Events`]: to be given to [`run`].
#[derive(Debug)]
pub struct Pending {
    queue: mpsc::Receiver<Message>,
    dropped: Arc<AtomicU64>,
}

/// A new record, and its end to run.
pub fn record<C: WallClock + Clone>(clock: C) -> (Events<C>, Pending) {
    // Full: the event is dropped and counted.
    let (tx, rx) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let events = Events { queue: tx, dropped: Arc::clone(&dropped), clock };
    (events, Pending { queue: rx, dropped })
}

impl<C: WallClock> Events<C> {
    /// Records that something happened to `subject`, and why.
    pub fn happened(
        &self,
        area: &str,
        what: &str,
        subject: impl Into<String>,
        why: impl Into<String>,
    ) {
        self.asked(area, what, subject, why, "");
    }

    /// The same, on somebody's word.
    pub fn asked(
        &self,
        area: &str,
        what: &str,
        subject: impl Into<String>,
        why: impl Into<String>,
        by: &str,
    ) {
        let event = Event {
            ts: self.clock.now(),
            area: area.to_owned(),
            what: what.to_owned(),
            subject: subject.into(),
            why: why.into(),
            by: by.to_owned(),
        };
        let Event { area, what, subject, why, .. } = &event;
        tracing::info!(target: "palisade::event", %area, %subject, %why, by, "{what}");
        if self.queue.try_send(Message::Record(event)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The latest `n` events, oldest first; none if the record is overloaded or ended.
    pub async fn recent(&self, n: usize) -> Vec<Event> {
        let (tx, rx) = oneshot::channel();
        if self.queue.send(Message::Recent(n, tx)).await.is_err() {
            return Vec::new();
        }
        rx.await.unwrap_or_default()
    }
}

/// Writes events until told to stop, and then those that still wait.
pub async fn run(mut pending: Pending, mut sink: impl EventSink, stop: CancellationToken) {
    let mut kept: VecDeque<Event> = VecDeque::with_capacity(KEPT);
    let mut sink_works = true;
    loop {
        // Both arms only wait, so losing the race drops nothing.
        let message = tokio::select! {
            biased;
            m = pending.queue.recv() => m,
            () = stop.cancelled() => pending.queue.try_recv().ok(),
        };
        match message {
            None => return,
            Some(Message::Recent(n, reply)) => {
                let latest = kept.iter().skip(kept.len().saturating_sub(n)).cloned().collect();
                // Whoever asked may have gone away.
                drop(reply.send(latest));
            }
            Some(Message::Record(mut event)) => {
                let dropped = pending.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    event.why =
                        format!("{} ({dropped} events were dropped: too many at once)", event.why);
                }
                let written = write(&mut sink, &event);
                if let (Err(e), true) = (&written, sink_works) {
                    tracing::warn!(error = %e, "events cannot be written to disk");
                }
                sink_works = written.is_ok();
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back(event);
            }
        }
    }
}

fn write(sink: &mut impl EventSink, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    sink.append(&line)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::SetClock;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl EventSink for Paper {
        fn append(&mut self, line: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_happened_is_on_paper_and_in_memory_also_after_the_word_to_stop() {
        let (events, pending) = record(SetClock::at(Timestamp::from_secs(1)));
        let paper = Paper::default();
        let stop = CancellationToken::new();
        for i in 0..QUEUE + 3 {
            events.happened("supervise", "process running", format!("p{i}"), "");
        }
        stop.cancel();
        let (recent, ()) = tokio::join!(events.recent(2), run(pending, paper.clone(), stop));
        assert_eq!(recent.last().unwrap().subject, format!("p{}", QUEUE - 1));
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), QUEUE);
        assert_eq!(text.matches("3 events were dropped").count(), 1);
    }
}
