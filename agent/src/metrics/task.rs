//! The loop: wait for the next moment, sample, hand the documents on, answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_blocking},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    emf::{self, Document, Value},
    facts::{Facts, HostFacts},
    gather::Memory,
    ports::{AgentSource, HostSource, Lines, Taken},
    prometheus,
    settings::Settings,
    snapshot::Snapshot,
    table::AGENT_UP,
};
use crate::clock::{Timestamp, WallClock};

/// Questions that wait at once; whoever asks one more waits for room.
const QUEUE: usize = 8;
/// How long the host and the agent's parts may take to answer; what is late is left out.
const WITHIN: Duration = Duration::from_secs(5);
/// An answer younger than this is given again: a sample reads the host.
const FRESH: Duration = Duration::from_secs(1);

/// The task is gone, so it cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task that samples metrics has ended")]
pub struct Gone;

/// Who this host is in CloudWatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `InstanceId`: the instance's, or the host's name.
    pub instance: String,
    /// `AutoScalingGroupName`, where it is in a group.
    pub group: Option<String>,
}

/// What it needs of the outside.
#[derive(Debug)]
pub struct Parts<H, A, L, W> {
    /// The host.
    pub host: H,
    /// The agent's parts.
    pub agent: A,
    /// Where documents go.
    pub lines: L,
    /// The time of day.
    pub clock: W,
}

/// Asks for the values. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<oneshot::Sender<String>>);

impl Handle {
    /// The values of now in Prometheus' text format.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn text(&self) -> Result<String, Gone> {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

/// The task, ready to run.
#[derive(Debug)]
pub struct Task<H, A, L, W> {
    settings: watch::Receiver<Settings>,
    /// None until it is known; no document is made before.
    identity: watch::Receiver<Option<Identity>>,
    host: Arc<H>,
    agent: A,
    lines: L,
    clock: W,
    questions: mpsc::Receiver<oneshot::Sender<String>>,
    memory: Memory,
    /// A reading of the host that did not come back in time.
    late: Option<JoinHandle<HostFacts>>,
    last: Option<(Instant, Snapshot)>,
    /// The minute in which CloudWatch was last told that the agent is up.
    up_minute: Option<i64>,
}

/// The task, and how to ask it.
pub fn new<H: HostSource, A: AgentSource, L: Lines, W: WallClock>(
    settings: watch::Receiver<Settings>,
    identity: watch::Receiver<Option<Identity>>,
    parts: Parts<H, A, L, W>,
) -> (Handle, Task<H, A, L, W>) {
    let (ask, questions) = mpsc::channel(QUEUE);
    let task = Task {
        settings,
        identity,
        host: Arc::new(parts.host),
        agent: parts.agent,
        lines: parts.lines,
        clock: parts.clock,
        questions,
        memory: Memory::default(),
        late: None,
        last: None,
        up_minute: None,
    };
    (Handle(ask), task)
}

/// Why the loop goes on.
enum Reason {
    Stop,
    Settings,
    Due,
    Question(oneshot::Sender<String>),
}

impl<H: HostSource, A: AgentSource, L: Lines, W: WallClock> Task<H, A, L, W> {
    /// Runs until told to stop. The last part of an interval is not told of: its gauges are old by then,
    /// and its totals begin anew with the next agent.
    pub async fn run(mut self, stop: CancellationToken) {
        // What rates are taken from.
        if stop.run_until_cancelled(self.sample(true)).await.is_none() {
            return;
        }
        let mut due = self.next();
        loop {
            // Every arm only waits: settings and questions stay in their channels.
            let reason = tokio::select! {
                biased;
                () = stop.cancelled() => Reason::Stop,
                Ok(()) = self.settings.changed() => Reason::Settings,
                () = time::sleep_until(due) => Reason::Due,
                Some(reply) = self.questions.recv() => Reason::Question(reply),
            };
            match reason {
                Reason::Stop => return,
                Reason::Settings => due = self.next(),
                Reason::Due => {
                    // A sample that the end interrupts is not told of.
                    let Some(snapshot) = stop.run_until_cancelled(self.sample(true)).await else {
                        return;
                    };
                    self.tell(&snapshot);
                    due = self.next();
                }
                Reason::Question(reply) => {
                    let Some(snapshot) = stop.run_until_cancelled(self.answer()).await else {
                        return;
                    };
                    // Whoever asked may have gone.
                    reply.send(prometheus::text(&snapshot)).unwrap_or_default();
                }
            }
        }
    }

    fn next(&self) -> Instant {
        Instant::now() + until_next(self.clock.now(), self.settings.borrow().every)
    }

    async fn answer(&mut self) -> Snapshot {
        match &self.last {
            Some((at, snapshot)) if at.elapsed() < FRESH => snapshot.clone(),
            Some(_) | None => self.sample(false).await,
        }
    }

    /// All values of now. Those that `keeps` are what the next rates are taken from.
    async fn sample(&mut self, keeps: bool) -> Snapshot {
        let facts = time::timeout(WITHIN, self.agent.facts()).await.unwrap_or_else(|_| {
            tracing::warn!("parts of the agent do not answer; their metrics are left out");
            Facts::default()
        });
        let host = self.read_host().await;
        let (at, now) = (self.clock.now(), Instant::now());
        let snapshot = self.memory.sample((at, now), &facts, host.as_ref(), keeps);
        self.last = Some((now, snapshot.clone()));
        snapshot
    }

    /// Reads the host beside the agent's one thread. While a reading hangs there is no second one.
    async fn read_host(&mut self) -> Option<HostFacts> {
        if !self.settings.borrow().host || self.late.as_ref().is_some_and(|l| !l.is_finished()) {
            return None;
        }
        let host = Arc::clone(&self.host);
        let mut reading = spawn_blocking(move || host.read());
        match time::timeout(WITHIN, &mut reading).await {
            Ok(Ok(facts)) => return Some(facts),
            Ok(Err(e)) => tracing::error!(error = %e, "reading the host's figures panicked"),
            Err(_) => {
                tracing::warn!("reading the host's figures hangs; its metrics are left out");
                self.late = Some(reading);
            }
        }
        None
    }

    /// Hands on one document for each set of dimensions.
    fn tell(&mut self, snapshot: &Snapshot) {
        let Some(identity) = self.identity.borrow().clone() else { return };
        let namespace = self.settings.borrow().namespace.clone();
        let minute = snapshot.at.as_secs().div_euclid(60);
        let mut sets: BTreeMap<_, Vec<Value<'_>>> = BTreeMap::new();
        for s in &snapshot.samples {
            if s.metric == AGENT_UP && self.up_minute == Some(minute) {
                continue;
            }
            let value = Value { name: s.metric.name, unit: s.metric.unit, value: s.value };
            sets.entry((s.metric.per.dimension(), s.of.as_deref())).or_default().push(value);
        }
        let (mut left_out, mut dropped) = (0, 0_u64);
        for ((dimension, of), values) in sets {
            let mut dimensions = vec![("InstanceId", identity.instance.as_str())];
            dimensions.extend(identity.group.as_deref().map(|g| ("AutoScalingGroupName", g)));
            dimensions.extend(dimension.zip(of));
            let document = Document {
                namespace: &namespace,
                at: snapshot.at,
                dimensions: &dimensions,
                values: &values,
            };
            let encoded = emf::encode(&document).unwrap_or_else(|e| {
                tracing::warn!(error = %e, "metrics are not told of");
                emf::Encoded::default()
            });
            left_out += encoded.left_out;
            let has_up = values.iter().any(|v| v.name == AGENT_UP.name);
            for line in &encoded.lines {
                match self.lines.write(line) {
                    Taken::Yes if has_up => self.up_minute = Some(minute),
                    Taken::Yes => {}
                    Taken::Unwanted => return,
                    Taken::Dropped => dropped += 1,
                }
            }
        }
        if left_out + dropped > 0 {
            tracing::warn!(left_out, dropped, "metrics of this sample are missing in CloudWatch");
        }
    }
}

/// The time to the next sample: in the middle of each interval of the clock, so that none falls on the
/// border of a minute and each minute has its own.
fn until_next(now: Timestamp, every: Duration) -> Duration {
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let past = (now.as_millis().saturating_sub(every / 2)).rem_euclid(every);
    let mut left = every - past;
    // A timer may be early by a little, and a sample that is due now was just made.
    if left < every / 4 {
        left += every;
    }
    Duration::from_millis(left.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_fall_in_the_middle_of_each_interval_of_the_clock() {
        let minute = Duration::from_secs(60);
        for (now, next) in [(0, 30_000), (10_000, 30_000), (30_000, 90_000), (29_990, 90_000)] {
            let left = until_next(Timestamp::from_millis(now), minute);
            assert_eq!(now + i64::try_from(left.as_millis()).unwrap(), next, "{now}");
        }
        let left = until_next(Timestamp::from_millis(-1), Duration::from_secs(10));
        assert_eq!(left, Duration::from_millis(5001));
    }
}
