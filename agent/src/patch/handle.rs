//! How others talk to the patch task.

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    record::Record,
    status::{Planned, Status},
};
use crate::clock::Timestamp;

/// Questions that wait at once; whoever asks one more waits for room.
pub(super) const QUEUE: usize = 8;

/// The patch task is gone, so it cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the patch task has ended")]
pub struct Gone;

/// Why a run was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// No window is open.
    #[error("no window is open{}", next_words(*.next))]
    Closed {
        /// When the next opens.
        next: Option<Timestamp>,
    },
    /// One goes on.
    #[error("run {0} is going on")]
    Running(String),
    /// It could not be started.
    #[error("{0}")]
    Failed(String),
    /// See [`Gone`].
    #[error(transparent)]
    Gone(#[from] Gone),
}

fn next_words(next: Option<Timestamp>) -> String {
    next.map_or_else(String::new, |t| format!(", the next opens at {t}"))
}

/// Whether a run may begin outside of every window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Only inside one.
    InWindow,
    /// At once. Outside of a window the host is not restarted.
    Now,
}

#[derive(Debug)]
pub(super) enum Command {
    Plan(oneshot::Sender<Result<Planned, String>>),
    Run { when: When, by: String, reply: oneshot::Sender<Result<Record, RunError>> },
    History(usize, oneshot::Sender<Result<Vec<Record>, String>>),
}

/// Talks to the patch task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Status>,
}

impl Handle {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// The state as last published.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The state, to wait on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What a run would do now.
    ///
    /// # Errors
    /// When the package manager does not answer.
    pub async fn plan(&self) -> Result<Planned, String> {
        self.ask(Command::Plan).await.map_err(|e| e.to_string())?
    }

    /// Starts a run and answers once it is started.
    ///
    /// # Errors
    /// When it may not or cannot begin.
    pub async fn run(&self, when: When, by: String) -> Result<Record, RunError> {
        self.ask(|reply| Command::Run { when, by, reply }).await?
    }

    /// The last `n` runs that are over, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn history(&self, n: usize) -> Result<Vec<Record>, String> {
        self.ask(|reply| Command::History(n, reply)).await.map_err(|e| e.to_string())?
    }
}
