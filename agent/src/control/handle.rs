//! How requests that concern the agent as a whole reach its main loop.

use palisade_types::control::{AgentStatus, Failure, FailureKind, Updated};
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that may wait for the main loop, which handles one at a time.
const QUEUE: usize = 16;

/// A request for the main loop, with who asked and where the answer goes.
#[derive(Debug)]
pub enum AppRequest {
    /// Read the configuration anew and apply it.
    Update {
        /// Who asked.
        by: String,
        /// The answer.
        reply: oneshot::Sender<Result<Updated, Failure>>,
    },
    /// Replace the binary; answered when nothing stands in the way any more.
    Upgrade {
        /// Who asked.
        by: String,
        /// The answer.
        reply: oneshot::Sender<Result<(), Failure>>,
    },
}

/// Talks to the main loop.
#[derive(Clone, Debug)]
pub struct AppHandle {
    requests: mpsc::Sender<AppRequest>,
    status: watch::Receiver<AgentStatus>,
}

impl AppHandle {
    /// A handle, and the requests that come through it.
    pub fn new(status: watch::Receiver<AgentStatus>) -> (Self, mpsc::Receiver<AppRequest>) {
        // Full: the request is refused as busy.
        let (requests, rx) = mpsc::channel(QUEUE);
        (Self { requests, status }, rx)
    }

    /// The agent as it is now.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        self.status.borrow().clone()
    }

    /// Reads the configuration anew and applies it.
    ///
    /// # Errors
    /// The mistakes in it, or that the agent is busy.
    pub async fn update(&self, by: String) -> Result<Updated, Failure> {
        self.ask(|reply| AppRequest::Update { by, reply }).await?
    }

    /// Replaces the agent's binary by the one at its path.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn upgrade(&self, by: String) -> Result<(), Failure> {
        self.ask(|reply| AppRequest::Upgrade { by, reply }).await?
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> AppRequest,
    ) -> Result<T, Failure> {
        let (tx, rx) = oneshot::channel();
        let busy = || Failure::new(FailureKind::Busy, "the agent is busy or stopping");
        self.requests.try_send(request(tx)).map_err(|_| busy())?;
        rx.await.map_err(|_| busy())
    }
}
