//! How others talk to the guard's task.

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    model::DropRefusal,
    secret::SecretId,
    status::{Refreshed, Status},
};

/// Questions that wait at once; whoever asks one more waits for room.
pub(super) const QUEUE: usize = 16;

/// The guard's task is gone, so it cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the origin guard's task has ended")]
pub struct Gone;

/// Why a secret was not dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropError {
    /// It must stay.
    #[error(transparent)]
    Refused(#[from] DropRefusal),
    /// See [`Gone`].
    #[error(transparent)]
    Gone(#[from] Gone),
}

#[derive(Debug)]
pub(super) enum Command {
    Refresh(oneshot::Sender<Refreshed>),
    Drop(SecretId, oneshot::Sender<Result<Status, DropRefusal>>),
}

/// Talks to the guard's task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Status>,
}

impl Handle {
    /// The state as last published, to look at and to wait on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The state as last published.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Reads the source now and puts what it has in force; answers when that is done or failed.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn refresh(&self) -> Result<Refreshed, Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Refresh(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// Stops accepting a secret that the source no longer has, now.
    ///
    /// # Errors
    /// When it must stay.
    pub async fn drop_secret(&self, id: SecretId) -> Result<Status, DropError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Drop(id, reply)).await.map_err(|_| Gone)?;
        Ok(answer.await.map_err(|_| Gone)??)
    }
}
