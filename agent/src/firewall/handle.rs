//! How others talk to the firewall task.

use std::{collections::BTreeMap, net::IpAddr, os::fd::OwnedFd};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    model::AddrSet,
    preview::Preview,
    ruleset::Ruleset,
    settings::{Settings, SourceName},
    status::{Explanation, Outcome, Plan, Refreshed, Status},
};

/// Questions that wait at once; whoever asks one more waits for room.
pub(super) const QUEUE: usize = 16;

/// The firewall task is gone, so it cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the firewall task has ended")]
pub struct Gone;

/// Why a held list could not be approved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApproveError {
    /// No such source, or none that reads a list.
    #[error("there is no source {0:?} that reads a list")]
    NoSource(String),
    /// Nothing waits there.
    #[error("no change of source {0:?} is waiting")]
    NothingHeld(String),
    /// Something else waits by now.
    #[error(
        "what waits for source {source_name:?} is version {held}, not {asked}: look at it first"
    )]
    OtherVersion {
        /// The source.
        source_name: String,
        /// The version that was approved.
        asked: u64,
        /// The version that waits.
        held: u64,
    },
    /// Two lists of the source wait, and nobody said which is meant.
    #[error("several changes of source {0:?} are waiting: name the version of one")]
    Several(String),
    /// It cannot be taken as it is.
    #[error("{0}")]
    Refused(String),
    /// See [`Gone`].
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Proof that the rules are in force, or that the configuration says they are not to be.
///
/// Whatever must not run before the firewall takes it by value.
#[derive(Debug)]
pub struct FirewallInForce(());

#[derive(Debug)]
pub(super) enum Command {
    Status(oneshot::Sender<Status>),
    Plan(oneshot::Sender<Plan>),
    Explain(IpAddr, Option<u16>, oneshot::Sender<Explanation>),
    Refresh(oneshot::Sender<Vec<Refreshed>>),
    Ruleset(oneshot::Sender<Ruleset>),
    Preview(Box<Settings>, oneshot::Sender<Preview>),
    ShareKernel(oneshot::Sender<Option<OwnedFd>>),
    /// With the version that is meant, where somebody said, and who says so.
    Approve(SourceName, Option<u64>, String, oneshot::Sender<Result<Outcome, ApproveError>>),
}

/// Talks to the firewall task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) in_force: watch::Receiver<bool>,
    pub(super) sets: watch::Receiver<BTreeMap<SourceName, AddrSet>>,
}

impl Handle {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// The state now; the packet counts are read from the kernel for it.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn status(&self) -> Result<Status, Gone> {
        self.ask(Command::Status).await
    }

    /// The state as last published, to look at and to wait on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The addresses that are let in, by source, as they change.
    #[must_use]
    pub fn sets(&self) -> watch::Receiver<BTreeMap<SourceName, AddrSet>> {
        self.sets.clone()
    }

    /// Waits for the first time that the rules are in force.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn in_force(&self) -> Result<FirewallInForce, Gone> {
        let mut seen = self.in_force.clone();
        seen.wait_for(|yes| *yes).await.map_err(|_| Gone)?;
        Ok(FirewallInForce(()))
    }

    /// What applying would change now.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn plan(&self) -> Result<Plan, Gone> {
        self.ask(Command::Plan).await
    }

    /// The rules that are wanted.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn ruleset(&self) -> Result<Ruleset, Gone> {
        self.ask(Command::Ruleset).await
    }

    /// What other settings would make of the rules; changes nothing.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn preview(&self, settings: Settings) -> Result<Preview, Gone> {
        self.ask(|reply| Command::Preview(Box::new(settings), reply)).await
    }

    /// A copy of the socket that owns our table, where one does.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn share_kernel(&self) -> Result<Option<OwnedFd>, Gone> {
        self.ask(Command::ShareKernel).await
    }

    /// Whether and why an address may connect.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn explain(&self, ip: IpAddr, port: Option<u16>) -> Result<Explanation, Gone> {
        self.ask(|reply| Command::Explain(ip, port, reply)).await
    }

    /// Reads all lists and checks the kernel now; answers when that is done.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn refresh(&self) -> Result<Vec<Refreshed>, Gone> {
        self.ask(Command::Refresh).await
    }

    /// Takes the change of a source that waits for an operator, who is `by`, if it still is this
    /// version.
    ///
    /// # Errors
    /// When nothing waits there, or something else, or it cannot be taken.
    pub async fn approve(
        &self,
        source: SourceName,
        version: Option<u64>,
        by: impl Into<String>,
    ) -> Result<Outcome, ApproveError> {
        self.ask(|reply| Command::Approve(source, version, by.into(), reply)).await?
    }
}
