//! Carries the output of one stream from its pipe to the log file and to the sink.
//!
//! Bytes are copied out of the pipe, given away, and only then taken out of the pipe. So whenever the
//! agent dies, a line is in the pipe or has been given away; if it dies between the two steps, that
//! line is given away twice. An unfinished line stays in the pipe until its rest comes, its writer
//! ends, or it is too long. The log file, which a person may be watching, shows it before that: a
//! question without a newline is to be seen while its program waits for the answer.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
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
    task::News,
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
    /// Told when there is something else to say of the log file.
    pub(super) news: mpsc::Sender<News>,
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
    /// Why the log file is not written, while it is not.
    trouble: Mutex<Option<String>>,
    /// One pump at a time: the next waits until the last has come to a rest. It holds the beginning of
    /// a communication that was taken out of the pipe before its end.
    turn: tokio::sync::Mutex<Option<Vec<u8>>>,
}

impl Lane {
    /// Why the log file of this stream is not written, while it is not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

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
        // The settings may be others by now.
        self.note(None);
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
            log.show(&seen);
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
        match &outcome {
            LogOutcome::Failed(e) => self.note(Some(&Chain(e))),
            LogOutcome::StillFailing if self.lane.trouble().is_some() => {}
            // Another writer to the same file was told why.
            LogOutcome::StillFailing => self.note(Some(&"the agent's log says why")),
            LogOutcome::Written | LogOutcome::NotRotated(_) | LogOutcome::Recovered { .. } => {
                self.note(None);
            }
        }
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

    /// Keeps why the log file is not written, for the status.
    fn note(&self, why: Option<&dyn fmt::Display>) {
        let trouble = why.map(|why| format!("log of {} not written: {why}", self.source.stream));
        let mut kept = self.lane.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept != trouble {
            *kept = trouble;
            // Never waits: who is asked may be waiting for this pump. The next news shows it, too.
            self.news.try_send(News::Log).unwrap_or_default();
        }
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
