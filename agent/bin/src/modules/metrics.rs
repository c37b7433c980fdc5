//! The metrics as they come and go.

use palisade_agent::{config::Settings, metrics, supervise, task::Scope};
use tokio::sync::watch;

use super::{ModuleSet, PATIENCE};
use crate::metrics_wiring;

/// A running sampler, and how it is told of other settings.
pub(super) struct Metrics {
    pub(super) scope: Scope,
    pub(super) settings: watch::Sender<metrics::Settings>,
    pub(super) handle: metrics::Handle,
}

impl ModuleSet {
    /// Totals go on over other settings; they begin anew when the section comes back.
    pub(super) async fn apply_metrics(&mut self, settings: &Settings) -> bool {
        match (&self.metrics, settings.metrics.as_ref()) {
            (None, None) => return false,
            (Some(running), Some(wanted)) => {
                return running.settings.send_if_modified(|known| {
                    let differs = known != wanted;
                    known.clone_from(wanted);
                    differs
                });
            }
            (None, Some(wanted)) => {
                let mut scope = Scope::new(&self.root);
                let (told, wanted) = watch::channel(wanted.clone());
                let agent = metrics_wiring::Agent {
                    modules: self.published.subscribe(),
                    supervise: self.supervise.subscribe(),
                };
                let handle = metrics_wiring::start(&mut scope, wanted, agent, settings);
                self.metrics = Some(Metrics { scope, settings: told, handle });
            }
            (Some(_), None) => self.stop_metrics().await,
        }
        self.publish();
        true
    }

    /// Ends the sampler.
    pub(super) async fn stop_metrics(&mut self) {
        if let Some(running) = self.metrics.take() {
            running.scope.shut_down(PATIENCE).await;
        }
    }

    /// Whose programs metrics are of, from now on.
    pub(crate) fn supervises(&self, supervise: supervise::Handle) {
        self.supervise.send_replace(Some(supervise));
    }
}
