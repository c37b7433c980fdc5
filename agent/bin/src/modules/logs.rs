//! Log shipping as it comes and goes.

use std::time::Duration;

use palisade_agent::{config::Settings, logs, task::Scope};
use tokio::time::Instant;

use super::{ModuleSet, Name, PATIENCE};
use crate::{logs_wiring, wiring::Output};

/// Rest before logs that could not be started are tried again.
const LOGS_RETRY: Duration = Duration::from_secs(5);

/// A running log module.
pub(super) struct Logs {
    pub(super) scope: Scope,
    pub(super) settings: logs::Settings,
    pub(super) handle: logs::Handle,
}

impl ModuleSet {
    /// Other settings are taken over by the running module, without a line held up.
    pub(super) async fn apply_logs(&mut self, settings: &Settings) -> bool {
        match (&mut self.logs, settings.logs.as_ref()) {
            (None, None) => {
                self.own.send_replace(Output::Off);
                false
            }
            (Some(running), Some(wanted)) if running.settings == *wanted => false,
            (Some(running), Some(wanted)) => {
                let named = logs_wiring::named(wanted.clone(), settings).await;
                if running.handle.reload(named).await.is_err() {
                    tracing::debug!("logs are being started again and will have the new settings");
                }
                running.settings = wanted.clone();
                self.open_output();
                true
            }
            (None, Some(wanted)) => {
                let wanted = wanted.clone();
                self.start_logs(wanted, settings).await;
                true
            }
            (Some(_), None) => {
                self.stop_logs(PATIENCE).await;
                self.output.send_replace(Output::Off);
                self.own.send_replace(Output::Off);
                self.logs_retry = None;
                self.published.send_modify(|m| drop(m.troubles.remove(Name::Logs.as_str())));
                true
            }
        }
    }

    async fn start_logs(&mut self, wanted: logs::Settings, all: &Settings) {
        self.hold_lines();
        let mut scope = Scope::new(&self.root);
        let trouble = self.trouble(Name::Logs.as_str());
        let start =
            logs_wiring::start(&mut scope, wanted.clone(), all, &self.children, trouble.clone());
        match start.await {
            Ok(handle) => {
                self.logs = Some(Logs { scope, settings: wanted, handle });
                self.logs_retry = None;
                self.open_output();
                self.publish();
            }
            Err(e) => {
                // Output waits in the pipes: a disk that is full now may not be in a while.
                trouble.is(Some(format!("not started: {e:#}")));
                self.logs_retry = Some(Instant::now() + LOGS_RETRY);
                scope.shut_down(PATIENCE).await;
            }
        }
    }

    /// Points the programs' output at the running log module, if it is to have it.
    fn open_output(&self) {
        let Some(running) = &self.logs else { return };
        let output = |wanted| match wanted {
            true => Output::To(running.handle.clone()),
            false => Output::Off,
        };
        self.output.send_replace(output(running.settings.programs));
        self.own.send_replace(output(running.settings.agent));
    }

    /// Until logs run, output waits in the pipes and the agent's own events in their task.
    fn hold_lines(&self) {
        self.output.send_replace(Output::Waits);
        self.own.send_replace(Output::Waits);
    }

    /// Ends the log module in good order; output waits in the pipes from now on.
    pub(super) async fn stop_logs(&mut self, within: Duration) {
        self.hold_lines();
        let Some(running) = self.logs.take() else { return };
        self.publish();
        running.handle.stop(within).await;
        running.scope.shut_down(PATIENCE).await;
    }
}
