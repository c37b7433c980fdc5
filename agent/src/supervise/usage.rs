//! What processes use: readings become rates, and only while somebody asks.
//!
//! One task holds the last reading of each process. Whoever asks is answered from one pass over the
//! host for all processes; those who ask soon after each other share it. Nothing is read while nobody
//! asks, so an agent that nobody looks at does no work for this.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use palisade_types::{Counted, ProcessName, ProcessStatus, Usage};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{self, Instant},
};

use super::{SuperviseError, ports::Usages};

/// Questions that may wait for one pass; whoever asks waits when it is full.
const ASKING: usize = 16;

/// An answer younger than this is given again: more passes would only cost.
const FRESH: Duration = Duration::from_millis(400);

/// A reading older than this says nothing of the present; a rate is then taken over [`SPAN`].
const STALE: Duration = Duration::from_secs(60);

/// What a first rate is taken over: long enough for the kernel's ticks of 10 ms to count.
const SPAN: Duration = Duration::from_millis(400);

/// What each living process uses, by name. One that does not run is not in it.
pub type UsageOf = Arc<BTreeMap<ProcessName, Usage>>;

/// What a meter is asked for.
#[derive(Debug)]
pub(super) enum Question {
    /// Rates of now.
    Rates(oneshot::Sender<UsageOf>),
    /// What was used so far, for whoever keeps readings of its own to compare with.
    SoFar(oneshot::Sender<BTreeMap<ProcessName, Reading>>),
}

/// What a process and all that it started have used so far, as the host tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When the process itself started, in the kernel's ticks: tells it from its successor.
    pub start_ticks: u64,
    /// CPU time so far.
    pub cpu: Duration,
    /// Memory now, in bytes.
    pub memory: u64,
    /// How the memory was come by.
    pub counted: Counted,
    /// Living processes.
    pub processes: u32,
}

/// Asks what processes use. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Meter(mpsc::Sender<Question>);

impl Meter {
    /// What all living processes use now. The first answer in a while takes [`SPAN`]; so does none
    /// that follows.
    pub(super) async fn look(&self) -> Result<UsageOf, SuperviseError> {
        let (tx, rx) = oneshot::channel();
        self.0.send(Question::Rates(tx)).await.map_err(|_| SuperviseError::Ended)?;
        rx.await.map_err(|_| SuperviseError::Ended)
    }

    /// What all living processes have used so far: one pass, which no rate is taken from.
    pub(super) async fn so_far(&self) -> Result<BTreeMap<ProcessName, Reading>, SuperviseError> {
        let (tx, rx) = oneshot::channel();
        self.0.send(Question::SoFar(tx)).await.map_err(|_| SuperviseError::Ended)?;
        rx.await.map_err(|_| SuperviseError::Ended)
    }
}

/// A meter, and the task that answers it. The task ends with the last clone of the meter.
pub(super) fn meter<H: Usages + Clone>(
    host: H,
    status: watch::Receiver<Vec<ProcessStatus>>,
) -> (Meter, impl Future<Output = ()> + Send) {
    // Full: those who ask wait.
    let (tx, asked) = mpsc::channel(ASKING);
    (Meter(tx), answer(host, status, asked))
}

async fn answer<H: Usages + Clone>(
    host: H,
    status: watch::Receiver<Vec<ProcessStatus>>,
    mut asked: mpsc::Receiver<Question>,
) {
    let mut rates = Rates::default();
    let mut last: Option<(Instant, UsageOf)> = None;
    while let Some(question) = asked.recv().await {
        let first = match question {
            Question::Rates(first) => first,
            Question::SoFar(reply) => {
                // Whoever asked may be gone.
                drop(reply.send(read(&host, &status).await));
                continue;
            }
        };
        let now = Instant::now();
        let fresh = last.as_ref().filter(|(at, _)| now - *at < FRESH);
        let answer = match fresh {
            Some((_, answer)) => Arc::clone(answer),
            None => {
                if rates.are_stale(now) {
                    rates = Rates::default();
                    rates.take(now, read(&host, &status).await);
                    time::sleep(SPAN).await;
                }
                let readings = read(&host, &status).await;
                let at = Instant::now();
                let answer = Arc::new(rates.take(at, readings));
                last = Some((at, Arc::clone(&answer)));
                answer
            }
        };
        // Whoever asked may be gone; then nobody wants to know.
        drop(first.send(answer));
    }
}

/// One pass. It reads files, so it is done beside the agent's one thread.
async fn read<H: Usages + Clone>(
    host: &H,
    status: &watch::Receiver<Vec<ProcessStatus>>,
) -> BTreeMap<ProcessName, Reading> {
    let living: Vec<_> =
        status.borrow().iter().filter(|p| p.pid > 0).map(|p| (p.name.clone(), p.pid)).collect();
    let host = host.clone();
    spawn_blocking(move || host.usage(&living)).await.unwrap_or_else(|e| {
        tracing::error!(error = %e, "reading what processes use panicked");
        BTreeMap::new()
    })
}

/// The readings before, and what two of them tell.
#[derive(Debug, Default)]
struct Rates {
    before: BTreeMap<ProcessName, (Instant, Reading)>,
    at: Option<Instant>,
}

impl Rates {
    fn are_stale(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now - at > STALE)
    }

    /// Notes the readings made at `at` and says what they tell. A process that was not there before,
    /// or is another one under the same name, has no rate yet.
    fn take(
        &mut self,
        at: Instant,
        readings: BTreeMap<ProcessName, Reading>,
    ) -> BTreeMap<ProcessName, Usage> {
        let told = |(name, now): (&ProcessName, &Reading)| {
            let before = self.before.get(name).filter(|(_, r)| r.start_ticks == now.start_ticks);
            let usage = Usage {
                cpu_percent: before.and_then(|(then, r)| percent(now.cpu, r.cpu, at - *then)),
                memory_bytes: now.memory,
                memory_counted: now.counted,
                processes: now.processes,
            };
            (name.clone(), usage)
        };
        let usage = readings.iter().map(told).collect();
        self.before = readings.into_iter().map(|(name, r)| (name, (at, r))).collect();
        self.at = Some(at);
        usage
    }
}

/// Hundredths of a CPU, to a tenth. What ended and was not waited for within the tree takes its time
/// with it, so a sum may go down: that is nothing used.
fn percent(now: Duration, before: Duration, span: Duration) -> Option<f64> {
    if span.is_zero() {
        return None;
    }
    let share = now.saturating_sub(before).as_secs_f64() / span.as_secs_f64();
    Some((share * 1000.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use palisade_types::ProcessState;

    use super::*;

    fn reading(start_ticks: u64, cpu_ms: u64) -> Reading {
        Reading {
            start_ticks,
            cpu: Duration::from_millis(cpu_ms),
            memory: 4096,
            counted: Counted::Resident,
            processes: 1,
        }
    }

    fn web(r: Reading) -> BTreeMap<ProcessName, Reading> {
        BTreeMap::from([("web".parse().unwrap(), r)])
    }

    fn rate(of: &BTreeMap<ProcessName, Usage>) -> Option<f64> {
        of[&"web".parse().unwrap()].cpu_percent
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_takes_two_readings_of_the_same_process() {
        let mut rates = Rates::default();
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        assert_eq!(rate(&rates.take(start, web(reading(1, 500)))), None);
        assert_eq!(rate(&rates.take(after(2), web(reading(1, 1500)))), Some(50.0));
        // More than one CPU.
        assert_eq!(rate(&rates.take(after(3), web(reading(1, 3250)))), Some(175.0));
        // Another process of the same name, and a child that took its time with it.
        assert_eq!(rate(&rates.take(after(4), web(reading(2, 90_000)))), None);
        assert_eq!(rate(&rates.take(after(5), web(reading(2, 10)))), Some(0.0));
        assert_eq!(rate(&rates.take(after(5), web(reading(2, 10)))), None, "no time passed");
    }

    /// What one pass asked for.
    type Pass = Vec<(ProcessName, i32)>;

    /// A host on which `web` uses half of a CPU, and every pass is counted.
    #[derive(Clone)]
    struct Half {
        start: Instant,
        asked_for: Arc<Mutex<Vec<Pass>>>,
    }

    impl Usages for Half {
        fn usage(&self, of: &[(ProcessName, i32)]) -> BTreeMap<ProcessName, Reading> {
            self.asked_for.lock().unwrap().push(of.to_vec());
            let used = self.start.elapsed() / 2;
            let reading = Reading { cpu: used, ..reading(1, 0) };
            of.iter().map(|(name, _)| (name.clone(), reading)).collect()
        }
    }

    fn status(pid: i32) -> ProcessStatus {
        ProcessStatus {
            name: "web".parse().unwrap(),
            program: "web".parse().unwrap(),
            group: "web".parse().unwrap(),
            state: ProcessState::Running,
            pid,
            ready: true,
            restarts: 0,
            since: 0,
            exit: None,
            error: None,
            schedule: None,
        }
    }

    fn host() -> Half {
        Half { start: Instant::now(), asked_for: Arc::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_look_has_a_rate_and_looks_close_together_share_a_pass() {
        let host = host();
        let (_status, rx) = watch::channel(vec![status(7)]);
        let (meter, task) = meter(host.clone(), rx);
        let looks = async move {
            let seen = meter.look().await.unwrap();
            assert_eq!(rate(&seen), Some(50.0));
            let passes = || host.asked_for.lock().unwrap().len();
            assert_eq!(passes(), 2, "a rate takes two");
            assert!(Arc::ptr_eq(&seen, &meter.look().await.unwrap()));
            assert_eq!(passes(), 2);
            time::sleep(Duration::from_secs(2)).await;
            assert_eq!(rate(&meter.look().await.unwrap()), Some(50.0));
            assert_eq!(passes(), 3, "the pass before is what it is compared with");
            time::sleep(Duration::from_secs(3_600)).await;
            assert_eq!(passes(), 3, "nobody asked");
            assert_eq!(rate(&meter.look().await.unwrap()), Some(50.0));
            assert_eq!(passes(), 5, "an hour ago says nothing of now");
            assert_eq!(host.asked_for.lock().unwrap()[0], [("web".parse().unwrap(), 7)]);
        };
        tokio::join!(task, looks);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_so_far_is_one_pass_and_moves_no_rate() {
        let host = host();
        let (_status, rx) = watch::channel(vec![status(7)]);
        let (meter, task) = meter(host.clone(), rx);
        let looks = async move {
            meter.look().await.unwrap();
            time::sleep(Duration::from_secs(10)).await;
            let read = meter.so_far().await.unwrap();
            assert_eq!(read[&"web".parse().unwrap()].cpu, host.start.elapsed() / 2);
            assert_eq!(host.asked_for.lock().unwrap().len(), 3);
            time::sleep(Duration::from_secs(10)).await;
            assert_eq!(rate(&meter.look().await.unwrap()), Some(50.0));
            assert_eq!(host.asked_for.lock().unwrap().len(), 4, "over the twenty seconds");
        };
        tokio::join!(task, looks);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_run_is_not_asked_for() {
        let host = host();
        let (_status, rx) = watch::channel(vec![status(0)]);
        let (meter, task) = meter(host.clone(), rx);
        let look = async move {
            assert!(meter.look().await.unwrap().is_empty());
            assert!(host.asked_for.lock().unwrap().iter().all(Vec::is_empty));
        };
        tokio::join!(task, look);
    }
}
