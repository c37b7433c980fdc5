//! What the view needs of the agent that it shows, and what it is told.

use std::future::Future;

use palisade_types::{ProcessName, ProcessWithUsage, control::Outcome};
use tokio::sync::mpsc;

use crate::Act;

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Somebody should look.
    Bad,
    /// Neither.
    Plain,
}

/// One line above the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about: `firewall`.
    pub about: &'static str,
    /// What there is to say.
    pub text: String,
    /// How well it is.
    pub tone: Tone,
}

/// Everything that is shown, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The agent, the firewall, the logs.
    pub facts: Vec<Fact>,
    /// Every process, in the agent's order.
    pub programs: Vec<ProcessWithUsage>,
}

/// One of the two outputs of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    /// `stdout` or `stderr`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Stdout => Self::Stderr,
            Self::Stderr => Self::Stdout,
        }
    }
}

/// The agent, from outside. What fails says so in one line for people.
pub trait Agent: Clone + Send + 'static {
    /// Everything that is shown.
    fn snapshot(&self) -> impl Future<Output = Result<Snapshot, String>> + Send;

    /// Does something to a process, and says what came of it when it is done.
    fn act(
        &self,
        act: Act,
        on: ProcessName,
    ) -> impl Future<Output = Result<Vec<Outcome>, String>> + Send;

    /// Sends the end of a log, and what is added to it, for as long as somebody receives it.
    fn follow(
        &self,
        process: ProcessName,
        output: Output,
        into: mpsc::Sender<Vec<u8>>,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Unix time in milliseconds.
    fn now(&self) -> i64;
}
