//! The handle of a session.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    dial::Dialer,
    driver::Driver,
    end::End,
    handshake::Mode,
    hub::{Hub, OpenError},
    machine::Stats,
    probe::FrameSize,
    service::{Service, Started},
    stream::{Shared, Stream},
};

/// How a session is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to reach the service.
    pub dialer: Dialer,
    /// Payload bytes of a frame.
    pub frame: FrameSize,
    /// Bytes under way at most.
    pub window: usize,
    /// How long the other side must be silent after this side's end before the connection is closed.
    pub linger: Duration,
    /// From opening the session to its being live.
    pub handshake: Duration,
    /// How long a lost connection is tried to be made again: as long as a session can live, since
    /// the service says when it is over.
    pub resume_for: Duration,
    /// Where the session's task is counted. A program that is about to exit closes it and waits, so
    /// that sessions whose handles were dropped are terminated.
    pub tasks: TaskTracker,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dialer: Dialer::default(),
            frame: FrameSize::default(),
            window: 4 << 20,
            linger: Duration::from_secs(1),
            handshake: Duration::from_secs(20),
            resume_for: Duration::from_secs(24 * 3600),
            tasks: TaskTracker::new(),
        }
    }
}

/// What a session is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Until the agent has said what the session is.
    Connecting,
    /// Data flows.
    Live {
        /// The data's layout.
        mode: Mode,
        /// The account's message to its people, fit for a terminal; often empty.
        message: String,
    },
    /// The connection was lost and is being made again; streams stay open.
    Reconnecting {
        /// Why it was lost, or why the last attempt failed.
        why: String,
        /// Attempts so far.
        attempt: u32,
    },
    /// It is over and terminated.
    Ended(End),
}

/// Why there is no stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The session is over.
    #[error(transparent)]
    Ended(#[from] End),
    /// The session goes on without another stream.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A port session. Dropping it terminates the session in the background.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    close: CancellationToken,
    // Dropped with the handle: the driver stops at once.
    _stop: DropGuard,
}

impl Session {
    /// Begins to connect. Call it within a Tokio runtime.
    #[must_use]
    pub fn open(started: Started, service: impl Service, options: Options) -> Self {
        let shared = Shared::new(Hub::new(options.linger));
        let (report, state) = watch::channel(State::Connecting);
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let tasks = options.tasks.clone();
        let driver = Driver::new(
            shared.clone(),
            started,
            service,
            options,
            report,
            stop.clone(),
            close.clone(),
        );
        tasks.spawn(driver.run());
        Self { shared, state, close, _stop: stop.drop_guard() }
    }

    /// Waits until data can flow.
    ///
    /// # Errors
    /// The session ended first.
    pub async fn live(&self) -> Result<Mode, End> {
        let mut state = self.state.clone();
        let found = state.wait_for(|s| matches!(s, State::Live { .. } | State::Ended(_))).await;
        match found.as_deref() {
            Ok(State::Live { mode, .. }) => Ok(*mode),
            Ok(State::Ended(end)) => Err(end.clone()),
            _ => Err(self.reason()),
        }
    }

    /// A connection to the host's port: the only one of a basic session (its second call fails), the
    /// next one of a sequential session (waits for the one before to be closed), or one of many.
    ///
    /// # Errors
    /// The session is over, or gives no more streams.
    pub async fn stream(&self) -> Result<Stream, SessionError> {
        let mode = self.live().await?;
        loop {
            let freed = self.shared.freed.notified();
            if let Some(end) = self.shared.ended() {
                return Err(end.clone().into());
            }
            let opened = self.shared.hub().open();
            match opened {
                Ok(id) => return Ok(Stream::new(self.shared.clone(), id)),
                Err(OpenError::InUse) if mode == Mode::Sequential => freed.await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the session is doing, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Figures so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.hub().stats
    }

    /// Whether the session is over, though perhaps still being terminated.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.ended().is_some()
    }

    /// Waits for the session to end by itself.
    pub async fn end(&self) -> End {
        let mut state = self.state.clone();
        match state.wait_for(|s| matches!(s, State::Ended(_))).await.as_deref() {
            Ok(State::Ended(end)) => end.clone(),
            _ => self.reason(),
        }
    }

    /// Sends what was written, bounded by 2 s, ends the session and waits for that, bounded by
    /// 3 s. Gives the reason if it had ended before.
    pub async fn close(self) -> End {
        self.close.cancel();
        self.end().await
    }

    /// The reason where the driver could not give one any more: its runtime is going down.
    fn reason(&self) -> End {
        self.shared.ended().cloned().unwrap_or(End::Cancelled)
    }
}
