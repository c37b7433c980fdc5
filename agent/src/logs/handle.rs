//! What the rest of the agent holds of the log path.

use std::{io, sync::Arc, time::Duration};

use palisade_types::{ProcessName, ProgramName};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{self, Instant},
};

use super::{
    error::HandleError,
    settings::Settings,
    spool::{LaneKey, Spool},
    status::Status,
};
use crate::clock::WallClock;

/// How much later than asked for the end may come: the last checkpoint takes a moment.
const STOP_SLACK: Duration = Duration::from_secs(1);

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
    pub(super) clock: Arc<dyn DebugClock>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Status>,
}

/// A wall clock that can be shown.
pub(super) trait DebugClock: WallClock + std::fmt::Debug {}
impl<T: WallClock + std::fmt::Debug> DebugClock for T {}

impl Handle {
    /// Takes whole lines; a last one without its newline counts as a line. When this returns, they
    /// survive the death of the agent, and soon after (64 KiB or 200 ms) a power cut.
    ///
    /// Where the spool is full and may not drop, this waits until there is room. It must not be
    /// dropped midway by a caller that will give the same chunk again: the lines may be in already.
    /// It writes to the page cache from the calling thread.
    ///
    /// # Errors
    /// When the disk refuses, a full one above all: then nothing of the chunk is in, and the caller
    /// keeps it and tries again.
    pub async fn append(&self, from: &LineSource, chunk: &[u8]) -> io::Result<()> {
        while !self.try_append(from, chunk)? {
            if self.commands.is_closed() {
                // Nobody will make room any more; whoever called asks again where lines go now.
                return Err(io::Error::other("log shipping has ended"));
            }
            // Room may have been made since the try; the timer covers that.
            time::timeout(Duration::from_millis(200), self.spool.room()).await.unwrap_or_default();
        }
        Ok(())
    }

    /// As [`append`](Self::append), but says `false` instead of waiting; then nothing is in.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn try_append(&self, from: &LineSource, chunk: &[u8]) -> io::Result<bool> {
        if self.spool.reserve(chunk).is_err() {
            return Ok(false);
        }
        let key = LaneKey { program: from.program.clone(), process: from.process.clone() };
        let number = match from.stream {
            OutputStream::Stdout => 1,
            OutputStream::Stderr => 2,
        };
        let lane = self.spool.lane(&key)?;
        loop {
            match lane.append(number, self.clock.now(), chunk) {
                // Each round drops a segment, so there is an end.
                Err(e) if e.kind() == io::ErrorKind::StorageFull && self.spool.drop_for_disk() => {}
                done => return done.map(|_| true),
            }
        }
    }

    /// Sends everything that is there now without waiting for full requests.
    ///
    /// # Errors
    /// When the deadline passes first; the rest stays on disk and is sent as usual.
    pub async fn flush(&self, deadline: Duration) -> Result<(), HandleError> {
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
        let command = Command::Reload(Box::new(settings));
        self.commands.try_send(command).map_err(|_| HandleError::Gone)
    }

    /// The present state. It is at most about a second old.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.spool_bytes = self.spool.used();
        status
    }

    /// Delivers what is possible before the deadline, writes the checkpoint and ends the task.
    /// Whatever is appended afterwards is safe on disk and is sent by the next agent.
    pub async fn stop(&self, deadline: Duration) {
        let (done, answer) = oneshot::channel();
        let command = Command::Stop { deadline: Instant::now() + deadline, done };
        // A shipper that does not run yet takes no command and gives no answer: not waited for, since
        // what is on disk is safe. Nor does an error matter, which says that the task has ended.
        if self.commands.try_send(command).is_ok() {
            drop(time::timeout(deadline + STOP_SLACK, answer).await);
        }
    }
}
