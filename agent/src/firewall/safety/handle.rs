//! How others talk to the task that sees to safe changes.

use std::{net::IpAddr, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    super::{handle::Gone, settings::Settings},
    policy::Verdict,
    status::{Applied, Proposal, SafetyStatus, TestResult},
};

/// Questions that wait at once; whoever asks one more waits for room.
pub(super) const QUEUE: usize = 8;

/// What came of settings that a reload brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// They are in force already.
    Same,
    /// They are in force now.
    Taken,
    /// They are not put in force, and why.
    KeptBack(String),
}

/// How to apply.
#[derive(Clone, Debug)]
pub struct ApplyRequest {
    /// The settings of the file.
    pub settings: Settings,
    /// Roll back after this unless it is confirmed.
    pub confirm: Option<Duration>,
    /// Apply also what would be refused.
    pub force: bool,
    /// The process that asks.
    pub asker: Option<i32>,
    /// The same in words.
    pub by: String,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It would lock somebody out, or a test fails.
    #[error("{}", .0.join("; "))]
    Unsafe(Vec<String>),
    /// Another change waits to be confirmed.
    #[error("another change waits to be confirmed")]
    OnTrial,
    /// Nothing waits to be confirmed.
    #[error("no change waits to be confirmed")]
    NoTrial,
    /// It was tried and did not work; the settings before are in force.
    #[error("{0}")]
    Failed(String),
    /// See [`Gone`].
    #[error(transparent)]
    Gone(#[from] Gone),
}

#[derive(Debug)]
pub(super) enum Command {
    Offer(Box<Settings>, oneshot::Sender<Offer>),
    Plan(Box<Settings>, Option<i32>, oneshot::Sender<Result<Proposal, Refused>>),
    Apply(Box<ApplyRequest>, oneshot::Sender<Result<Applied, Refused>>),
    Confirm(oneshot::Sender<Result<(), Refused>>),
    Rollback(String, oneshot::Sender<Result<(), Refused>>),
    Test(Box<Settings>, oneshot::Sender<Result<Tested, Refused>>),
    Probe(IpAddr, u16, oneshot::Sender<Result<Verdict, Refused>>),
    Foreign(oneshot::Sender<Vec<String>>),
}

/// What came of the tests, and why no packet was sent, where that is so.
pub type Tested = (Vec<TestResult>, Option<String>);

/// Talks to the task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SafetyHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<SafetyStatus>,
    pub(super) settings: watch::Receiver<Settings>,
}

impl SafetyHandle {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// The state, to look at and to wait on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<SafetyStatus> {
        self.status.clone()
    }

    /// The settings that are in force now.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings.borrow().clone()
    }

    /// Settings of a reload: taken if they lock nobody out.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn offer(&self, settings: Settings) -> Result<Offer, Gone> {
        self.ask(|reply| Command::Offer(Box::new(settings), reply)).await
    }

    /// What settings would change; changes nothing.
    ///
    /// # Errors
    /// When the firewall cannot answer.
    pub async fn plan(&self, settings: Settings, asker: Option<i32>) -> Result<Proposal, Refused> {
        self.ask(|reply| Command::Plan(Box::new(settings), asker, reply)).await?
    }

    /// Puts settings in force, for good or on trial.
    ///
    /// # Errors
    /// Why they are not; those before are in force then.
    pub async fn apply(&self, request: ApplyRequest) -> Result<Applied, Refused> {
        self.ask(|reply| Command::Apply(Box::new(request), reply)).await?
    }

    /// The settings on trial stay in force.
    ///
    /// # Errors
    /// When there are none.
    pub async fn confirm(&self) -> Result<(), Refused> {
        self.ask(Command::Confirm).await?
    }

    /// The settings before those on trial are in force again.
    ///
    /// # Errors
    /// When none are on trial.
    pub async fn rollback(&self, by: String) -> Result<(), Refused> {
        self.ask(|reply| Command::Rollback(by, reply)).await?
    }

    /// Tries the tests of these settings.
    ///
    /// # Errors
    /// When the firewall cannot answer.
    pub async fn test(&self, settings: Settings) -> Result<Tested, Refused> {
        self.ask(|reply| Command::Test(Box::new(settings), reply)).await?
    }

    /// What becomes of a real packet from this address by the rules that are wanted now.
    ///
    /// # Errors
    /// Why none could be sent.
    pub async fn probe(&self, ip: IpAddr, port: u16) -> Result<Verdict, Refused> {
        self.ask(|reply| Command::Probe(ip, port, reply)).await?
    }

    /// Tables of others that may drop what ours lets in, in words.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn foreign(&self) -> Result<Vec<String>, Gone> {
        self.ask(Command::Foreign).await
    }
}
