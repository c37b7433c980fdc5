//! How requests that concern the agent as a whole reach its main loop.

use palisade_types::control::{AgentStatus, Failure, FailureKind, Phase, Updated};
use tokio::sync::{mpsc, oneshot, watch};

use super::{GroupChanges, GroupRefusal};
use crate::{firewall, supervise::ProcessSpec};

/// Requests that may wait for the main loop, which handles one at a time. Further ones wait with whoever
/// asks: connections are few.
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
    /// Read the configuration anew, and tell what differs.
    Reread {
        /// Who asked.
        by: String,
        /// The answer.
        reply: oneshot::Sender<Result<GroupChanges, Failure>>,
    },
    /// Put a group of the configuration as last read in force.
    AddGroup {
        /// Its name.
        group: String,
        /// Who asked.
        by: String,
        /// The answer.
        reply: oneshot::Sender<Result<(), GroupRefusal>>,
    },
    /// Take a group whose processes are stopped out of force.
    RemoveGroup {
        /// Its name.
        group: String,
        /// Who asked.
        by: String,
        /// The answer.
        reply: oneshot::Sender<Result<(), GroupRefusal>>,
    },
    /// The processes of the configuration as last read.
    Configured {
        /// The answer.
        reply: oneshot::Sender<Vec<ProcessSpec>>,
    },
    /// Read the configuration anew for its firewall section, and change nothing.
    FirewallSettings {
        /// The answer.
        reply: oneshot::Sender<Result<firewall::Settings, Failure>>,
    },
    /// Stop all programs, read the configuration anew, and start them; answered when that begins.
    Restart {
        /// Who asked.
        by: String,
        /// The answer.
        reply: oneshot::Sender<()>,
    },
    /// Stop all programs and end; answered when that begins.
    ShutDown {
        /// Who asked.
        by: String,
        /// The answer.
        reply: oneshot::Sender<()>,
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
        let (requests, rx) = mpsc::channel(QUEUE);
        (Self { requests, status }, rx)
    }

    /// The agent as it is now.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        self.status.borrow().clone()
    }

    /// Whether it is ending, or stopping all programs to start them anew.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.status.borrow().phase == Phase::Stopping
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

    /// Reads the configuration anew and changes nothing.
    ///
    /// # Errors
    /// The mistakes in it, or that the agent is busy.
    pub async fn reread(&self, by: String) -> Result<GroupChanges, Failure> {
        self.ask(|reply| AppRequest::Reread { by, reply }).await?
    }

    /// Puts a group of the configuration as last read in force.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn add_group(&self, group: String, by: String) -> Result<(), GroupRefusal> {
        let asked = self.ask(|reply| AppRequest::AddGroup { group, by, reply }).await;
        asked.unwrap_or(Err(GroupRefusal::Busy))
    }

    /// Takes a group whose processes are stopped out of force.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn remove_group(&self, group: String, by: String) -> Result<(), GroupRefusal> {
        let asked = self.ask(|reply| AppRequest::RemoveGroup { group, by, reply }).await;
        asked.unwrap_or(Err(GroupRefusal::Busy))
    }

    /// The processes of the configuration as last read.
    ///
    /// # Errors
    /// When the agent is busy.
    pub async fn configured(&self) -> Result<Vec<ProcessSpec>, Failure> {
        self.ask(|reply| AppRequest::Configured { reply }).await
    }

    /// The firewall's settings as the configuration file has them now.
    ///
    /// # Errors
    /// The mistakes in it, that it has none, or that the agent is busy.
    pub async fn firewall_settings(&self) -> Result<firewall::Settings, Failure> {
        self.ask(|reply| AppRequest::FirewallSettings { reply }).await?
    }

    /// Begins to stop all programs, to start them anew from the configuration as it is then.
    ///
    /// # Errors
    /// When the agent is busy.
    pub async fn restart(&self, by: String) -> Result<(), Failure> {
        self.ask(|reply| AppRequest::Restart { by, reply }).await
    }

    /// Begins to stop all programs, to end.
    ///
    /// # Errors
    /// When the agent is busy.
    pub async fn shut_down(&self, by: String) -> Result<(), Failure> {
        self.ask(|reply| AppRequest::ShutDown { by, reply }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> AppRequest,
    ) -> Result<T, Failure> {
        let (tx, rx) = oneshot::channel();
        let busy = || Failure::new(FailureKind::Busy, "the agent is busy or stopping");
        self.requests.send(request(tx)).await.map_err(|_| busy())?;
        rx.await.map_err(|_| busy())
    }
}

#[cfg(test)]
mod tests {
    use palisade_types::control::ConfigState;

    use super::*;

    #[tokio::test]
    async fn however_many_ask_at_once_each_is_answered() {
        let (status, seen) = watch::channel(AgentStatus {
            version: String::new(),
            pid: 1,
            since: 0,
            upgrades: 0,
            phase: Phase::Running,
            config: ConfigState::Current { path: String::new(), since: 0 },
            degraded: Vec::new(),
            not_upgraded: None,
        });
        let (app, mut requests) = AppHandle::new(seen);
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..4 * QUEUE {
            let app = app.clone();
            asking.spawn(async move { app.configured().await });
        }
        for _ in 0..4 * QUEUE {
            let Some(AppRequest::Configured { reply }) = requests.recv().await else { panic!() };
            reply.send(Vec::new()).unwrap();
        }
        while let Some(answer) = asking.join_next().await {
            assert_eq!(answer.unwrap(), Ok(Vec::new()));
        }
        drop((requests, status));
        assert_eq!(app.configured().await.unwrap_err().kind, FailureKind::Busy);
    }
}
