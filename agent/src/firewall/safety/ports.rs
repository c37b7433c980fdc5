//! What safe changes need of the outside.

use std::{fmt, future::Future, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    super::{ruleset::Ruleset, settings::Settings},
    lockout::Surroundings,
    policy::{Probe, Verdict},
    state::Trial,
};

/// Time since boot, which no step of the clock changes.
pub trait BootClock: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since boot, suspended time included.
    fn now(&self) -> u64;
    /// Which boot this is.
    fn boot_id(&self) -> String;
}

/// A moment from which the settings in force may not be enforced any more.
///
/// An agent that was stopped over the end of a trial must not repair what the guardian put back.
#[derive(Clone, Debug)]
pub struct Fence {
    pub(super) at: watch::Receiver<Option<FenceAt>>,
    pub(super) clock: Arc<dyn BootClock>,
}

/// Which settings, and until when in milliseconds since boot.
#[derive(Clone, Debug)]
pub(super) struct FenceAt {
    settings: Settings,
    until_ms: u64,
}

impl FenceAt {
    pub(super) fn of(trial: &Trial) -> Self {
        Self { settings: trial.settings.clone(), until_ms: trial.until_ms }
    }
}

impl Fence {
    /// Whether these settings may not be enforced any more.
    #[must_use]
    pub fn forbids(&self, settings: &Settings) -> bool {
        let at = self.at.borrow();
        at.as_ref().is_some_and(|f| f.settings == *settings && self.clock.now() >= f.until_ms)
    }
}

/// What a guardian is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Which trial it watches over.
    pub trial: String,
    /// The rules to put back; none to enforce nothing.
    pub old: Option<Ruleset>,
    /// When, in milliseconds since boot.
    pub until_ms: u64,
    /// Where it is written whether the trial still goes on.
    pub state: PathBuf,
}

/// A running guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guardian {
    /// Its process.
    pub pid: i32,
    /// When that started, in ticks since boot.
    pub start_ticks: u64,
}

/// Why something of the host could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SafetyError {
    /// What was tried and what went wrong.
    pub what: String,
    /// The cause below.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Processes that put rules back although the agent is dead.
pub trait Guardians: Send + 'static {
    /// Starts one; it has its order, and its own copy of the kernel's socket where rules are owned by
    /// one, when this returns.
    fn arm(
        &mut self,
        order: &Order,
        socket: Option<OwnedFd>,
    ) -> impl Future<Output = Result<Guardian, SafetyError>> + Send;
    /// Ends one; it is gone when this returns.
    fn end(&mut self, guardian: Guardian) -> impl Future<Output = ()> + Send;
}

/// A look at who is connected.
pub trait View: Send + 'static {
    /// The host as it is now; `asker` is the process that asks, where one does.
    fn look(&mut self, asker: Option<i32>) -> impl Future<Output = Surroundings> + Send;
    /// Tables of others that may drop what ours lets in, in words.
    fn foreign(&mut self) -> impl Future<Output = Vec<String>> + Send;
}

/// Real packets against rules that are not in force.
pub trait Prober: Send + 'static {
    /// Loads the rules in a network of their own and sends a packet for each probe.
    fn probe(
        &mut self,
        rules: &Ruleset,
        probes: &[Probe],
    ) -> impl Future<Output = Result<Answers, SafetyError>> + Send;
}

/// What came of each probe, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// What became of each packet.
    pub verdicts: Vec<Verdict>,
}

/// For who tries nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProber;

impl Prober for NoProber {
    async fn probe(&mut self, _: &Ruleset, _: &[Probe]) -> Result<Answers, SafetyError> {
        Err(SafetyError { what: "nothing is tried here".to_owned(), source: None })
    }
}
