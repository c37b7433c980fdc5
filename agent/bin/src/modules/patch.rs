//! Patching as it comes and goes.

use palisade_agent::{config::Settings, patch, task::Scope};
use palisade_agent_aws::HostIdentity;
use tokio::sync::watch;

use super::{ModuleSet, PATIENCE};
use crate::wiring;

/// A running watch over patch runs.
pub(super) struct Patch {
    pub(super) scope: Scope,
    pub(super) settings: patch::Settings,
    pub(super) handle: patch::Handle,
}

impl ModuleSet {
    /// A run that goes on is a process of its own: it is found again by its journal.
    pub(super) async fn apply_patch(&mut self, settings: &Settings) -> bool {
        let wanted = settings.patch.as_ref();
        if self.patch.as_ref().map(|p| &p.settings) == wanted {
            return false;
        }
        self.stop_patch().await;
        if let Some(wanted) = wanted {
            let mut scope = Scope::new(&self.root);
            let parts = wiring::patch(&self.children, wanted, self.command.clone());
            let (told, seen) = watch::channel(patch::Told::Off);
            let (handle, task) = patch::new(wanted.clone(), seen, parts);
            let stop = scope.stop();
            scope.spawn("patch", task.run(stop));
            let said = wiring::tell_patch(handle.watch(), self.events.clone(), scope.stop());
            scope.spawn("patch events", said);
            if let (patch::Tell::Ssm, Some(aws)) = (wanted.compliance, &settings.aws) {
                let host = HostIdentity::kept_in(&settings.host.state_dir);
                let reports = wiring::report(aws, host, handle.watch(), told, scope.stop());
                scope.spawn("patch reports", reports);
            }
            self.patch = Some(Patch { scope, settings: wanted.clone(), handle });
        }
        self.publish();
        true
    }

    /// Ends the watch over patch runs. A run itself goes on, or is taken up by the next agent.
    pub(crate) async fn stop_patch(&mut self) {
        if let Some(running) = self.patch.take() {
            running.scope.shut_down(PATIENCE).await;
        }
    }
}
