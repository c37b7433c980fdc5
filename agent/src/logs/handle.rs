//! What the rest of the agent holds of the log path.

use std::{io, sync::Arc, time::Duration};

use palisade_types::{ProcessName, ProgramName};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{self, Instant},
};

use super::{
    error::HandleError,
    redaction::{Clean, Redaction},
    settings::Settings,
    spool::{LaneKey, NoRoom, Spool},
    status::Status,
};
use crate::clock::WallClock;

/// How much later than asked for the end may come: the last checkpoint takes a moment.
const STOP_SLACK: Duration = Duration::from_secs(1);
/// A full spool is looked at again after this.
const A_WHILE: Duration = Duration::from_millis(200);

/// Where a chunk of output comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LineSource {
    /// The program.
    pub program: ProgramName,
    /// The process of it.
    pub process: ProcessName,
    /// Which of its streams.
    pub stream: OutputStream,
}

/// The program that the agent's own lines are of. They hold nothing of others, so nothing is taken out of
/// them: numbers of metrics may look like cards.
pub const OWN_PROGRAM: &str = "palisade";

impl LineSource {
    /// The agent's own lines of one kind, as if a process of this name wrote them.
    #[must_use]
    pub fn own(process: &str) -> Option<Self> {
        let (program, process) = (OWN_PROGRAM.parse().ok()?, process.parse().ok()?);
        Some(Self { program, process, stream: OutputStream::Stdout })
    }
}

/// One of the two output streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Reload(Box<Settings>),
    Flush(oneshot::Sender<()>),
    Stop { deadline: Instant, done: oneshot::Sender<()> },
}

/// Takes lines, and answers about them. Clones share one log path.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) spool: Arc<Spool>,
    pub(super) redaction: Arc<Redaction>,
    pub(super) clock: Arc<dyn DebugClock>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Status>,
    /// The path to the second sink.
    pub(super) second: Option<Box<Handle>>,
}

/// A wall clock that can be shown.
pub(super) trait DebugClock: WallClock + std::fmt::Debug {}
impl<T: WallClock + std::fmt::Debug> DebugClock for T {}

impl Handle {
    /// One handle for two sinks: what is appended goes to both.
    #[must_use]
    pub fn with_second(mut self, second: Self) -> Self {
        self.second = Some(Box::new(second));
        self
    }

    /// Takes whole lines; a last one without its newline counts as a line. When this returns, they
    /// survive the death of the agent, and soon after (64 KiB or 200 ms) a power cut. What the settings
    /// hide is taken out before; of the agent's own program `palisade`, nothing is.
    ///
    /// Where the spool is full and may not drop, this waits until there is room. It must not be
    /// dropped midway by a caller that will give the same chunk again: the lines may be in already.
    /// It writes to the page cache from the calling thread.
    ///
    /// # Errors
    /// When the disk refuses, a full one above all: then nothing of the chunk is in, and the caller
    /// keeps it and tries again. Where the settings let lines be dropped, those of a disk that refuses for
    /// ten seconds are.
    ///
    /// With a second sink the lines are in the spools of both when this returns. What only the second one
    /// refuses is tried again here and is no error, since the caller would give it to the first again.
    pub async fn append(&self, from: &LineSource, chunk: &[u8]) -> io::Result<()> {
        let clean = self.redaction.clean(from, chunk);
        while !self.store_or_tell(from, &clean)? {
            if self.commands.is_closed() {
                // Nobody will make room any more; whoever called asks again where lines go now.
                return Err(io::Error::other("log shipping has ended"));
            }
            // Room may have been made since the try; the timer covers that.
            time::timeout(A_WHILE, self.spool.room()).await.unwrap_or_default();
        }
        if let Some(second) = &self.second {
            while !second.store_or_tell(from, &clean).unwrap_or(false)
                && !second.commands.is_closed()
            {
                time::timeout(A_WHILE, second.spool.room()).await.unwrap_or_default();
            }
        }
        self.redaction.stored(from, clean);
        Ok(())
    }

    /// As [`append`](Self::append), but says `false` instead of waiting; then nothing is in.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn try_append(&self, from: &LineSource, chunk: &[u8]) -> io::Result<bool> {
        let clean = self.redaction.clean(from, chunk);
        if self.store(from, &clean)?.is_err() {
            return Ok(false);
        }
        if let Some(second) = &self.second {
            // Who does not wait for the first sink does not wait for a copy either.
            drop(second.store(from, &clean));
        }
        self.redaction.stored(from, clean);
        Ok(true)
    }

    /// As [`store`](Self::store), for who waits: why is told in the status.
    fn store_or_tell(&self, from: &LineSource, clean: &Clean<'_>) -> io::Result<bool> {
        match self.store(from, clean) {
            Ok(Ok(())) => Ok(true),
            Ok(Err(no_room)) => {
                self.spool.refused(&no_room);
                Ok(false)
            }
            Err(e) => {
                self.spool.refused(&e);
                Err(e)
            }
        }
    }

    fn store(&self, from: &LineSource, clean: &Clean<'_>) -> io::Result<Result<(), NoRoom>> {
        let chunk = clean.text.as_ref();
        if let Err(no_room) = self.spool.reserve(chunk) {
            return Ok(Err(no_room));
        }
        let key = LaneKey { program: from.program.clone(), process: from.process.clone() };
        let number = match from.stream {
            OutputStream::Stdout => 1,
            OutputStream::Stderr => 2,
        };
        self.spool.append(&key, number, self.clock.now(), chunk).map(Ok)
    }

    /// Sends everything that is there now without waiting for full requests.
    ///
    /// # Errors
    /// When the deadline passes first; the rest stays on disk and is sent as usual.
    pub async fn flush(&self, deadline: Duration) -> Result<(), HandleError> {
        let Some(second) = &self.second else { return self.flush_here(deadline).await };
        let (first, second) = tokio::join!(self.flush_here(deadline), second.flush_here(deadline));
        first.and(second)
    }

    async fn flush_here(&self, deadline: Duration) -> Result<(), HandleError> {
        let (done, answer) = oneshot::channel();
        self.commands.send(Command::Flush(done)).await.map_err(|_| HandleError::Gone)?;
        match time::timeout(deadline, answer).await {
            Ok(answer) => answer.map_err(|_| HandleError::Gone),
            Err(_) => Err(HandleError::Late { backlog_bytes: self.status().backlog_bytes() }),
        }
    }

    /// Takes new settings: files, names of groups and streams, spool size and flush time. Sink,
    /// compression and directory stay as they were at start.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn reload(&self, settings: Settings) -> Result<(), HandleError> {
        if let (Some(second), Some(settings)) = (&self.second, settings.second()) {
            Box::pin(second.reload(settings)).await?;
        }
        let command = Command::Reload(Box::new(settings));
        self.commands.try_send(command).map_err(|_| HandleError::Gone)
    }

    /// The present state. It is at most about a second old.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.spool_bytes = self.spool.used();
        status.new_relic = self.second.as_ref().map(|s| Box::new(s.status()));
        status.redacted = self.redaction.totals();
        if let Some(trouble) = self.spool.trouble() {
            let cause = status.degraded.map(|d| format!("; {d}")).unwrap_or_default();
            status.degraded = Some(format!("{trouble}{cause}"));
        }
        status
    }

    /// Delivers what is possible before the deadline, writes the checkpoint and ends the task.
    /// Whatever is appended afterwards is safe on disk and is sent by the next agent.
    pub async fn stop(&self, deadline: Duration) {
        let Some(second) = &self.second else { return self.stop_here(deadline).await };
        tokio::join!(self.stop_here(deadline), second.stop_here(deadline));
    }

    async fn stop_here(&self, deadline: Duration) {
        let (done, answer) = oneshot::channel();
        let command = Command::Stop { deadline: Instant::now() + deadline, done };
        // A shipper that does not run yet takes no command and gives no answer: not waited for, since
        // what is on disk is safe. Nor does an error matter, which says that the task has ended.
        if self.commands.try_send(command).is_ok() {
            drop(time::timeout(deadline + STOP_SLACK, answer).await);
        }
    }
}
