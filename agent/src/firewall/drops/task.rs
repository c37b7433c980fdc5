//! The loop: take what the log has, close the minute, answer.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    Batch, Counters, DropLog, Dropped, Lines, Report, Settings,
    summary::{self, Counts, Minute},
    tally::{Tally, protocol_name},
};
use crate::{
    clock::{Timestamp, WallClock},
    errors::Chain,
    firewall::{self, Gone},
};

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);
/// A log that could not be opened, or that failed, is tried again after this.
const RETRY: Duration = Duration::from_secs(60);
/// Windows that are kept for a report.
const KEPT: usize = 15;
/// Sources that are kept of each, and that a report names.
const KEPT_SOURCES: usize = 100;
/// Questions that wait at once; whoever asks one more waits for room.
const QUEUE: usize = 8;
/// One packet in so many is a sample.
const SAMPLE: u64 = 100;
/// Samples in a window at most.
const MAX_SAMPLES: u64 = 60;

/// What it needs of the outside.
#[derive(Debug)]
pub struct Parts<D, K, L, W> {
    /// The packet log.
    pub log: D,
    /// The kernel's counters.
    pub counters: K,
    /// Where lines go.
    pub lines: L,
    /// The time of day.
    pub clock: W,
}

/// Asks about dropped packets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ask {
    questions: mpsc::Sender<oneshot::Sender<Report>>,
    error: watch::Receiver<Option<String>>,
}

impl Ask {
    /// What was dropped in the last minutes.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn report(&self) -> Result<Report, Gone> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(reply).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// Why the packet log cannot be read, as long as that is so.
    #[must_use]
    pub fn error(&self) -> watch::Receiver<Option<String>> {
        self.error.clone()
    }
}

/// The task, ready to run.
#[derive(Debug)]
pub struct Drops<D, K, L, W> {
    wanted: watch::Receiver<firewall::Settings>,
    settings: Settings,
    parts: Parts<D, K, L, W>,
    questions: mpsc::Receiver<oneshot::Sender<Report>>,
    error: watch::Sender<Option<String>>,
    is_open: bool,
    tally: Tally,
    began: Timestamp,
    /// The counters as the window began; none before they were first read.
    counters: Option<BTreeMap<String, u64>>,
    kept: VecDeque<Minute>,
    /// Packets seen, to take one in a hundred.
    seen: u64,
    samples: u64,
}

/// The task, and how to ask it.
pub fn new<D: DropLog, K: Counters, L: Lines, W: WallClock>(
    wanted: watch::Receiver<firewall::Settings>,
    parts: Parts<D, K, L, W>,
) -> (Ask, Drops<D, K, L, W>) {
    let (ask, questions) = mpsc::channel(QUEUE);
    let (error, seen) = watch::channel(None);
    let settings = wanted.borrow().drops;
    let drops = Drops {
        wanted,
        settings,
        began: parts.clock.now(),
        parts,
        questions,
        error,
        is_open: false,
        tally: Tally::default(),
        counters: None,
        kept: VecDeque::with_capacity(KEPT),
        seen: 0,
        samples: 0,
    };
    (Ask { questions: ask, error: seen }, drops)
}

/// Why the loop goes on.
enum Reason {
    Stop,
    Settings,
    Question(oneshot::Sender<Report>),
    Packets(std::io::Result<()>),
    Window,
    Retry,
}

impl<D: DropLog, K: Counters, L: Lines, W: WallClock> Drops<D, K, L, W> {
    /// Runs until told to stop, and then tells of the window that was not over.
    pub async fn run(mut self, stop: CancellationToken) {
        self.began = self.parts.clock.now();
        self.counters = self.parts.counters.read().await;
        self.open();
        let mut window = Instant::now() + WINDOW;
        let mut retry = Instant::now() + RETRY;
        let mut batch = Batch::default();
        loop {
            let waits_for_retry = !self.is_open && self.settings.group.is_some();
            // Every arm only waits: packets stay in the socket until they are in the batch, and the
            // batch is kept; settings and questions stay in their channels.
            let reason = tokio::select! {
                biased;
                () = stop.cancelled() => Reason::Stop,
                Ok(()) = self.wanted.changed() => Reason::Settings,
                () = time::sleep_until(window) => Reason::Window,
                Some(reply) = self.questions.recv() => Reason::Question(reply),
                came = self.parts.log.next(&mut batch), if self.is_open => Reason::Packets(came),
                () = time::sleep_until(retry), if waits_for_retry => Reason::Retry,
            };
            // Whatever ended the wait, what is in the batch is counted.
            self.count(&mut batch);
            match reason {
                Reason::Stop => return self.close(None),
                Reason::Settings => {
                    let before = self.settings.group;
                    self.settings = self.wanted.borrow_and_update().drops;
                    if self.settings.group != before {
                        self.open();
                        retry = Instant::now() + RETRY;
                    }
                }
                Reason::Question(reply) => {
                    // Whoever asked may have gone.
                    reply.send(self.report()).unwrap_or_default();
                }
                Reason::Packets(Ok(())) => {}
                Reason::Packets(Err(e)) => {
                    self.is_open = false;
                    self.failed(format!("read the packet log: {e}"));
                    retry = Instant::now() + RETRY;
                }
                Reason::Window => {
                    let counters = self.parts.counters.read().await;
                    self.close(counters);
                    window = Instant::now() + WINDOW;
                }
                Reason::Retry => {
                    self.open();
                    retry = Instant::now() + RETRY;
                }
            }
        }
    }

    /// Asks for the packets of the group that is wanted, if one is.
    fn open(&mut self) {
        self.is_open = false;
        let Some(group) = self.settings.group else {
            self.error.send_replace(None);
            return;
        };
        match self.parts.log.open(group) {
            Ok(()) => {
                self.is_open = true;
                self.error.send_replace(None);
            }
            Err(e) => self.failed(format!("group {group}: {}", Chain(&e))),
        }
    }

    fn failed(&mut self, why: String) {
        if self.error.borrow().as_ref() != Some(&why) {
            tracing::warn!(why, "dropped packets are counted but their sources are not known");
        }
        self.error.send_replace(Some(why));
    }

    fn count(&mut self, batch: &mut Batch) {
        self.tally.take(batch);
        for packet in batch.packets.drain(..) {
            self.seen += 1;
            let is_sample = self.settings.samples
                && self.seen.is_multiple_of(SAMPLE)
                && self.samples < MAX_SAMPLES;
            if is_sample {
                self.samples += 1;
                self.parts.lines.write(&sample(&packet, self.parts.clock.now()));
            }
        }
        *batch = Batch { packets: std::mem::take(&mut batch.packets), ..Batch::default() };
    }

    /// Ends the window: a line, if anything happened.
    fn close(&mut self, counters: Option<BTreeMap<String, u64>>) {
        let now = self.parts.clock.now();
        let counted = match (&self.counters, &counters) {
            (Some(before), Some(after)) => refused(&summary::went_on(before, after)),
            _ => BTreeMap::new(),
        };
        // Counters that could not be read now are compared later with those of before.
        self.counters = counters.or(self.counters.take());
        let minute = Minute {
            from: self.began,
            until: now,
            counted,
            counts: self.tally.counts(KEPT_SOURCES),
        };
        let quiet = self.tally.is_empty() && minute.counted.is_empty();
        (self.tally, self.began, self.samples) = (Tally::default(), now, 0);
        if quiet {
            return;
        }
        self.parts.lines.write(&minute.line());
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(minute);
    }

    fn report(&self) -> Report {
        let now = self.parts.clock.now();
        let oldest = now.as_millis().saturating_sub(window_millis(KEPT));
        // Quiet minutes are not kept, so that old ones may still be there.
        let recent = || self.kept.iter().filter(move |m| m.until.as_millis() >= oldest);
        let present = self.tally.counts(KEPT_SOURCES);
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        for (name, n) in recent().flat_map(|m| &m.counted) {
            *counted.entry(name.clone()).or_default() += n;
        }
        Report {
            error: self.error.borrow().clone(),
            logging: self.settings.group.is_some(),
            since: Some(recent().next().map_or(self.began, |m| m.from)),
            minutes: recent().map(without_sources).collect(),
            counted,
            total: summary::sum(recent().map(|m| &m.counts).chain([&present]), KEPT_SOURCES),
        }
    }
}

fn window_millis(n: usize) -> i64 {
    i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX).saturating_mul(n.try_into().unwrap_or(1))
}

/// The counters of packets that were not let in.
#[must_use]
pub fn refused(counted: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let is_let_in = |name: &str| name.starts_with("from_");
    counted.iter().filter(|(name, _)| !is_let_in(name)).map(|(k, v)| (k.clone(), *v)).collect()
}

fn without_sources(minute: &Minute) -> Minute {
    Minute { counts: Counts { top: Vec::new(), ..minute.counts.clone() }, ..minute.clone() }
}

fn sample(packet: &Dropped, now: Timestamp) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        v: u32,
        kind: &'static str,
        at: String,
        reason: &'a str,
        source: std::net::IpAddr,
        protocol: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    }
    let line = Line {
        v: 1,
        kind: "firewall.drop",
        at: now.to_string(),
        reason: &packet.reason,
        source: packet.source,
        protocol: protocol_name(packet.protocol),
        port: packet.port,
    };
    serde_json::to_string(&line).unwrap_or_default()
}
