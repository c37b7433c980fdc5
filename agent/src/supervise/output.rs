//! Carries the output of one stream from its pipe to the log file and to the sink.
//!
//! Bytes are copied out of the pipe, given away, and only then taken out of the pipe. So whenever the
//! agent dies, a line is in the pipe or has been given away; if it dies between the two steps, that
//! line is given away twice. An unfinished line stays in the pipe until its rest comes, its writer
//! ends, or it is too long. The log file, which a person may be watching, shows it before that: a
//! question without a newline is to be seen while its program waits for the answer.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use palisade_types::GroupName;
use tokio::{
    sync::{Notify, mpsc},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    LogOutcome, OutputPipe, OutputSink, OutputSource, ProgramLog,
    bus::{About, BusEvent, Publisher, log_name},
    capture::{self, Split},
};
use crate::errors::Chain;

/// An unfinished line of this size is given away in parts: a quarter of the pipe, which can be full
/// of half-empty pages at half its size.
pub(super) const LONGEST_LINE: usize = 64 << 10;

/// The first wait after the sink or the pipe failed; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// The most output that one event tells; what is given away at once and is more becomes several.
const EVENT_BYTES: usize = 64 << 10;

/// How long an unfinished line may be before the log file shows it.
const SHOWN_AFTER: Duration = Duration::from_millis(200);

/// While an unfinished line is left, the pipe is looked at again after so long, doubled each time up
/// to the other. The kernel does not tell that a pipe grew if it was not empty and its writer is in the
/// middle of one write: that one fills it and waits for us.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// The longest wait. There is no last try: the process waits in its pipe meanwhile, nothing is lost.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// One stream and where it goes.
#[derive(Debug)]
pub(super) struct Pump<P, L, S> {
    pub(super) pipe: Arc<P>,
    pub(super) log: Option<L>,
    pub(super) sink: Arc<S>,
    pub(super) source: OutputSource,
    pub(super) telling: Telling,
    pub(super) lane: Arc<Lane>,
    /// Ends the pump at the next moment at which nothing is half done.
    pub(super) stop: CancellationToken,
    /// Ends the pump even if the sink does not answer, which may have taken what it was given.
    pub(super) abandon: CancellationToken,
    /// Ends the pump once it has given away all that is there: nobody will write any more.
    pub(super) finish: CancellationToken,
    /// Dropped with the pump, so that its end can be waited for.
    pub(super) alive: mpsc::Sender<()>,
}

/// What is told of a stream as events.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) bus: Publisher,
    /// Of which process: its name in its group, and the group.
    pub(super) label: String,
    pub(super) group: GroupName,
    /// All output.
    pub(super) is_log_told: bool,
    /// The most that is kept of a communication; 0 if there are none.
    pub(super) capture: usize,
}

impl Telling {
    fn about(&self, lane: &Lane) -> About {
        let pid = lane.pid.load(Ordering::Relaxed);
        About { label: self.label.clone(), group: self.group.clone(), pid }
    }
}

/// What the pumps of one stream share over time.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Told when the writer ended.
    pub(super) ended: Notify,
    /// The writer, or who it was.
    pub(super) pid: AtomicI32,
    /// One pump at a time: the next waits until the last has come to a rest. It holds the beginning of
    /// a communication that was taken out of the pipe before its end.
    turn: tokio::sync::Mutex<Option<Vec<u8>>>,
}

impl Lane {
    /// Waits until no pump works here.
    pub(super) async fn at_rest(&self) {
        drop(self.turn.lock().await);
    }
}

impl<P: OutputPipe, L: ProgramLog, S: OutputSink> Pump<P, L, S> {
    /// Runs until stopped.
    pub(super) async fn run(mut self) {
        let lane = Arc::clone(&self.lane);
        let Some(mut open) = self.stop.run_until_cancelled(lane.turn.lock()).await else { return };
        let mut is_ended = false;
        let mut wait = RETRY_MIN;
        let (mut unfinished_since, mut shown) = (None, 0);
        let (mut rest, mut look) = (0, LOOK_MIN);
        while !self.stop.is_cancelled() {
            match self.drain(is_ended, &mut open).await {
                Ok(left) => {
                    wait = RETRY_MIN;
                    look = if left == rest { (look * 2).min(LOOK_MAX) } else { LOOK_MIN };
                    rest = left;
                    // Communications are no output, and only whole ones tell themselves apart.
                    let is_to_show = self.telling.capture == 0 && left > shown;
                    shown = shown.min(left);
                    let since = unfinished_since.take().unwrap_or_else(Instant::now);
                    unfinished_since = (is_to_show && self.log.is_some()).then_some(since);
                }
                Err(e) => {
                    tracing::warn!(process = %self.source.process, stream = %self.source.stream,
                        error = %Chain(&e), "output pipe failed");
                    if self.finish.is_cancelled() {
                        break;
                    }
                    time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                    continue;
                }
            }
            if self.finish.is_cancelled() && is_ended {
                break;
            }
            is_ended = false;
            let to_show = unfinished_since.map(|since| since + SHOWN_AFTER);
            // Every arm only waits: what is in the pipe is still there when another arm wins.
            tokio::select! {
                () = time::sleep_until(to_show.unwrap_or_else(Instant::now)), if to_show.is_some() => {
                    unfinished_since = None;
                    shown = self.show_unfinished();
                }
                () = time::sleep(look), if rest > 0 => {}
                () = self.stop.cancelled() => {}
                () = lane.ended.notified() => is_ended = true,
                () = self.finish.cancelled() => is_ended = true,
                grown = self.pipe.grown() => if let Err(e) = grown {
                    tracing::warn!(process = %self.source.process, error = %Chain(&e), "output pipe failed");
                    time::sleep(RETRY_MAX).await;
                }
            }
        }
        drop(self.alive);
    }

    /// Shows the unfinished line in the log file. How long it was.
    fn show_unfinished(&mut self) -> usize {
        let mut seen = Vec::new();
        // A pipe that fails now fails at the next drain, which says so.
        if self.pipe.peek(&mut seen).is_ok()
            && let Some(log) = &mut self.log
        {
            let outcome = log.show(&seen);
            self.report(outcome);
        }
        seen.len()
    }

    /// Gives away all that is ripe. How much is left in the pipe.
    async fn drain(&mut self, is_ended: bool, open: &mut Option<Vec<u8>>) -> io::Result<usize> {
        let mut seen = Vec::new();
        loop {
            self.pipe.peek(&mut seen)?;
            let before = open.clone();
            let Split { output, message, taken, open: after } =
                capture::split(before, &seen, is_ended, self.telling.capture);
            let left = seen.len() - taken;
            if taken == 0 {
                return Ok(left);
            }
            seen.truncate(output);
            if !seen.is_empty() && !self.give_away(&seen).await {
                return Ok(left);
            }
            self.tell(&seen, message);
            self.pipe.consume(taken)?;
            *open = after;
            if self.stop.is_cancelled() {
                return Ok(left);
            }
        }
    }

    /// Tells of it as events, if anybody hears of such.
    fn tell(&self, output: &[u8], message: Option<Vec<u8>>) {
        let (bus, stream) = (&self.telling.bus, self.source.stream);
        if self.telling.is_log_told && bus.wants(log_name(stream)) {
            let about = self.telling.about(&self.lane);
            for part in output.chunks(EVENT_BYTES) {
                bus.publish(BusEvent::log(&about, stream, part));
            }
        }
        if let Some(message) = message {
            let about = self.telling.about(&self.lane);
            bus.publish(BusEvent::communication(&about, stream, &message));
        }
    }

    /// False when stopped before the sink took it.
    async fn give_away(&mut self, bytes: &[u8]) -> bool {
        let mut wait = RETRY_MIN;
        loop {
            let written = self.sink.write(&self.source, bytes);
            match self.abandon.run_until_cancelled(written).await {
                None => return false,
                Some(Ok(())) => {
                    // After the sink, so that a pump that ends while the sink refuses leaves nothing
                    // in the file that the next one would write again.
                    if let Some(log) = &mut self.log {
                        let outcome = log.append(bytes);
                        self.report(outcome);
                    }
                    return true;
                }
                Some(Err(e)) => tracing::warn!(process = %self.source.process, error = %Chain(&e),
                    retry_ms = wait.as_millis(), "output not taken; the process will wait"),
            }
            // Losing either arm loses nothing: the bytes are still in the pipe.
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = time::sleep(wait) => {}
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    fn report(&self, outcome: LogOutcome) {
        let (process, stream) = (&self.source.process, self.source.stream);
        match outcome {
            LogOutcome::Written | LogOutcome::StillFailing => {}
            LogOutcome::NotRotated(e) => tracing::error!(%process, %stream, error = %Chain(&e),
                "log file not rotated; it grows"),
            LogOutcome::Failed(e) => tracing::error!(%process, %stream, error = %Chain(&e),
                "log file not written; its lines are dropped and counted, the process runs on"),
            LogOutcome::Recovered { dropped } => {
                tracing::warn!(%process, %stream, dropped_bytes = dropped,
                "log file written again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::OwnedFd,
        sync::{Mutex, PoisonError},
    };

    use super::*;
    use crate::supervise::{Stream, bus};

    /// A pipe in memory.
    #[derive(Debug, Default)]
    struct MemPipe {
        content: Mutex<Vec<u8>>,
        grown: Notify,
    }

    impl MemPipe {
        fn put(&self, bytes: &[u8]) {
            self.content.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            self.grown.notify_one();
        }
    }

    impl OutputPipe for MemPipe {
        fn writer(&self) -> io::Result<OwnedFd> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn duplicate(&self) -> io::Result<OwnedFd> {
            Err(io::ErrorKind::Unsupported.into())
        }
        async fn grown(&self) -> io::Result<()> {
            self.grown.notified().await;
            Ok(())
        }
        fn peek(&self, into: &mut Vec<u8>) -> io::Result<()> {
            into.clone_from(&self.content.lock().unwrap_or_else(PoisonError::into_inner));
            Ok(())
        }
        fn consume(&self, bytes: usize) -> io::Result<()> {
            self.content.lock().unwrap_or_else(PoisonError::into_inner).drain(..bytes);
            Ok(())
        }
    }

    /// A sink that refuses while told to, and keeps the rest.
    #[derive(Debug, Default)]
    struct MemSink {
        refusals: Mutex<u32>,
        is_stuck: std::sync::atomic::AtomicBool,
        got: Mutex<Vec<u8>>,
    }

    impl OutputSink for MemSink {
        async fn write(&self, _: &OutputSource, bytes: &[u8]) -> io::Result<()> {
            if self.is_stuck.load(std::sync::atomic::Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            if *refusals > 0 {
                *refusals -= 1;
                return Err(io::Error::other("spool full"));
            }
            self.got.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(())
        }
    }

    /// A log file in memory, and the line that it was to show last.
    #[derive(Clone, Debug, Default)]
    struct MemLog {
        written: Arc<Mutex<Vec<u8>>>,
        shown: Arc<Mutex<Vec<u8>>>,
    }

    impl ProgramLog for MemLog {
        fn append(&mut self, bytes: &[u8]) -> LogOutcome {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.extend_from_slice(bytes);
            LogOutcome::Written
        }
        fn show(&mut self, line: &[u8]) -> LogOutcome {
            *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = line.to_vec();
            LogOutcome::Written
        }
    }

    struct Rig {
        pipe: Arc<MemPipe>,
        sink: Arc<MemSink>,
        log: MemLog,
        lane: Arc<Lane>,
        stop: CancellationToken,
        finish: CancellationToken,
        abandon: CancellationToken,
        alive: mpsc::Receiver<()>,
    }

    impl Rig {
        fn new() -> (Self, impl Future<Output = ()>) {
            Self::with_capture(100)
        }

        fn with_capture(capture: usize) -> (Self, impl Future<Output = ()>) {
            let (tx, alive) = mpsc::channel(1);
            let rig = Self {
                pipe: Arc::default(),
                sink: Arc::default(),
                log: MemLog::default(),
                lane: Arc::default(),
                stop: CancellationToken::new(),
                finish: CancellationToken::new(),
                abandon: CancellationToken::new(),
                alive,
            };
            let pump = Pump {
                pipe: Arc::clone(&rig.pipe),
                log: Some(rig.log.clone()),
                sink: Arc::clone(&rig.sink),
                source: OutputSource {
                    program: "web".parse().unwrap(),
                    process: "web".parse().unwrap(),
                    stream: Stream::Stdout,
                },
                telling: Telling {
                    bus: bus::channel().0,
                    label: "web".to_owned(),
                    group: "web".parse().unwrap(),
                    is_log_told: true,
                    capture,
                },
                lane: Arc::clone(&rig.lane),
                stop: rig.stop.clone(),
                finish: rig.finish.clone(),
                abandon: rig.abandon.clone(),
                alive: tx,
            };
            (rig, pump.run())
        }

        fn shown(&self) -> String {
            let shown = self.log.shown.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&shown).into_owned()
        }

        fn written(&self) -> String {
            let written = self.log.written.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&written).into_owned()
        }

        fn got(&self) -> String {
            let got = self.sink.got.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&got).into_owned()
        }

        fn left(&self) -> usize {
            self.pipe.content.lock().unwrap_or_else(PoisonError::into_inner).len()
        }
    }

    const SOON: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn an_unfinished_line_stays_in_the_pipe_until_its_rest_comes() {
        let (rig, pump) = Rig::new();
        let check = async {
            rig.pipe.put(b"one\ntw");
            time::sleep(SOON).await;
            assert_eq!((rig.got().as_str(), rig.left()), ("one\n", 2));
            rig.pipe.put(b"o\n");
            time::sleep(SOON).await;
            assert_eq!((rig.got().as_str(), rig.left()), ("one\ntwo\n", 0));
            rig.stop.cancel();
        };
        tokio::join!(pump, check);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_file_is_to_show_an_unfinished_line_in_time_even_if_it_grows() {
        let (rig, pump) = Rig::with_capture(0);
        let check = async {
            rig.pipe.put(b"one\nsure? ");
            time::sleep(SOON).await;
            assert_eq!((rig.written().as_str(), rig.shown().as_str()), ("one\n", ""));
            for _ in 0..25 {
                rig.pipe.put(b".");
                time::sleep(SOON).await;
            }
            assert!(rig.shown().starts_with("sure? ..."), "{}", rig.shown());
            rig.pipe.put(b"yes\n");
            time::sleep(SOON).await;
            let whole = format!("one\nsure? {}yes\n", ".".repeat(25));
            assert_eq!((&rig.written(), &rig.got()), (&whole, &whole));
            rig.stop.cancel();
        };
        tokio::join!(pump, check);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_that_grows_behind_an_unfinished_line_need_not_say_so() {
        let (rig, pump) = Rig::new();
        let check = async {
            rig.pipe.put(b"one\ntw");
            time::sleep(LOOK_MAX * 5).await;
            assert_eq!(rig.left(), 2);
            rig.pipe.content.lock().unwrap().extend_from_slice(b"o\n");
            time::sleep(LOOK_MAX).await;
            assert_eq!((rig.got().as_str(), rig.left()), ("one\ntwo\n", 0));
            rig.stop.cancel();
        };
        tokio::join!(pump, check);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_words_of_a_process_are_kept_without_a_newline() {
        let (rig, pump) = Rig::new();
        let check = async {
            rig.pipe.put(b"fatal: no");
            time::sleep(SOON).await;
            assert_eq!(rig.got(), "");
            rig.lane.ended.notify_one();
            time::sleep(SOON).await;
            assert_eq!(rig.got(), "fatal: no");
            rig.stop.cancel();
        };
        tokio::join!(pump, check);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pump_told_to_finish_gives_away_all_and_ends() {
        let (rig, pump) = Rig::new();
        rig.pipe.put(b"one\ntwo");
        rig.finish.cancel();
        pump.await;
        assert_eq!((rig.got().as_str(), rig.left()), ("one\ntwo", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_communication_is_no_output_and_is_not_waited_for_with_what_is() {
        let (rig, pump) = Rig::new();
        let check = async {
            rig.pipe.put(b"one\n<!--XSUPERVISOR:BEGIN-->said<!--XSU");
            time::sleep(SOON).await;
            assert_eq!((rig.got().as_str(), rig.left()), ("one\n", 35));
            rig.pipe.put(b"PERVISOR:END-->two\n");
            time::sleep(SOON).await;
            assert_eq!((rig.got().as_str(), rig.left()), ("one\ntwo\n", 0));
            rig.stop.cancel();
        };
        tokio::join!(pump, check);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_too_long_for_the_pipe_is_given_away_in_parts() {
        let (rig, pump) = Rig::new();
        let check = async {
            rig.pipe.put(&vec![b'x'; LONGEST_LINE]);
            time::sleep(SOON).await;
            assert_eq!((rig.got().len(), rig.left()), (LONGEST_LINE, 0));
            rig.stop.cancel();
        };
        tokio::join!(pump, check);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_refuses_is_asked_again_and_nothing_is_lost_or_doubled() {
        let (rig, pump) = Rig::new();
        *rig.sink.refusals.lock().unwrap() = 10;
        let check = async {
            rig.pipe.put(b"one\n");
            time::sleep(SOON).await;
            assert_eq!(rig.left(), 4, "not consumed before it is safe");
            time::sleep(RETRY_MAX * 10).await;
            assert_eq!((rig.got().as_str(), rig.left()), ("one\n", 0));
            rig.stop.cancel();
        };
        tokio::join!(pump, check);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_pump_leaves_the_rest_in_the_pipe_and_tells_its_end() {
        let (mut rig, pump) = Rig::new();
        *rig.sink.refusals.lock().unwrap() = 1000;
        let stop = rig.stop.clone();
        let pipe = Arc::clone(&rig.pipe);
        let check = async {
            pipe.put(b"one\n");
            time::sleep(SOON).await;
            stop.cancel();
            assert!(rig.alive.recv().await.is_none());
        };
        tokio::join!(pump, check);
        assert_eq!(rig.left(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_never_answers_holds_a_pump_only_until_it_is_abandoned() {
        let (rig, pump) = Rig::new();
        rig.sink.is_stuck.store(true, std::sync::atomic::Ordering::Relaxed);
        rig.pipe.put(b"one\n");
        let check = async {
            time::sleep(SOON).await;
            rig.stop.cancel();
            time::sleep(SOON).await;
            rig.abandon.cancel();
        };
        tokio::join!(pump, check);
        assert_eq!((rig.got().as_str(), rig.left()), ("", 4));
    }
}
