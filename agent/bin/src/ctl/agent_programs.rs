//! The agent's programs as a patch run reaches them: over the control socket, like anybody else.

use std::{collections::BTreeMap, time::Duration};

use palisade_agent::{
    control::Overview,
    patch::{HostError, Programs, Running},
};
use palisade_types::{
    ProcessState,
    control::{Names, Outcome},
};
use tokio::time::{self, Instant};

use super::{client::Client, upgrade};
use crate::exit::Failed;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

const RESTART: &str = "restart it by the agent";

/// How long a new binary of the agent may take to come up, or the old one to come back.
const UPGRADE_WITHIN: Duration = Duration::from_secs(90);

/// One agent's programs.
#[derive(Debug)]
pub(super) struct AgentPrograms(pub(super) Client);

impl AgentPrograms {
    async fn overview(&self) -> Result<Overview, Failed> {
        self.0.get("/status").await
    }

    /// Restarts one process and waits until it is ready.
    async fn restart_one(&self, name: &str, within: Duration) -> Result<(), HostError> {
        let deadline = Instant::now() + within;
        let asked = Names { names: vec![name.to_owned()] };
        let restart = self.0.post::<Vec<Outcome>>("/programs/roll", &asked);
        let outcomes = time::timeout(within, restart)
            .await
            .map_err(|_| HostError::new(format!("{name} was not restarted in time")))?
            .map_err(|e| failed(RESTART, &e))?;
        if let Some(bad) = outcomes.iter().find(|o| !o.ok) {
            return Err(HostError::new(format!("{}: {}", bad.name, bad.what)));
        }
        loop {
            let seen = self.overview().await.map_err(|e| failed(RESTART, &e))?;
            let Some(p) = seen.programs.iter().find(|p| p.name.as_str() == name) else {
                return Err(HostError::new(format!("{name} is not there any more")));
            };
            if p.state == ProcessState::Running && p.ready {
                return Ok(());
            }
            if p.state == ProcessState::Fatal || Instant::now() >= deadline {
                let why = p.error.as_ref().or(p.exit.as_ref()).map_or("", String::as_str);
                let state = p.state;
                return Err(HostError::new(format!("{name} is {state} and not ready: {why}")));
            }
            time::sleep(LOOK_EVERY).await;
        }
    }
}

fn failed(what: &str, e: &Failed) -> HostError {
    HostError::new(format!("{what}: {e}"))
}

impl Programs for AgentPrograms {
    async fn list(&mut self) -> Option<Running> {
        let seen = self.overview().await.ok()?;
        let running = seen.programs.iter().filter(|p| p.pid > 0);
        let programs: BTreeMap<i32, String> =
            running.map(|p| (p.pid, p.program.to_string())).collect();
        Some(Running { agent: i32::try_from(seen.agent.pid).ok()?, programs })
    }

    async fn restart(&mut self, program: &str, within: Duration) -> Result<(), HostError> {
        let seen = self.overview().await.map_err(|e| failed(RESTART, &e))?;
        // What somebody stopped stays stopped.
        let of_it = seen.programs.iter().filter(|p| p.program.as_str() == program);
        let names: Vec<String> =
            of_it.filter(|p| p.state.counts_as_up()).map(|p| p.name.to_string()).collect();
        // One after the other, so that the others serve meanwhile and a bad one ends it.
        for name in names {
            self.restart_one(&name, within).await?;
        }
        Ok(())
    }

    async fn upgrade(&mut self, within: Duration) -> Result<(), HostError> {
        // One that does not come up rolls back, which may take longer than a service has.
        let within = within.max(UPGRADE_WITHIN);
        let done = upgrade::replace(&self.0, within).await;
        done.map(drop).map_err(|e| failed("replace the agent's binary", &e))
    }
}
