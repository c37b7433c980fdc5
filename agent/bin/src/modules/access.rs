//! Access as it comes and goes.

use palisade_agent::{access, config::Settings, task::Scope};

use super::{ModuleSet, Name, PATIENCE};
use crate::access_wiring;

/// The running access module.
pub(super) struct Access {
    pub(super) scope: Scope,
    pub(super) settings: access::Settings,
    pub(super) handle: access::Handle,
}

impl ModuleSet {
    /// Grants and logins outlive the module: its journal has them.
    pub(super) async fn apply_access(&mut self, settings: &Settings) -> bool {
        let host = &settings.host;
        let wanted = match (&settings.access, &self.access) {
            (Some(wanted), _) => wanted.clone(),
            // The section is gone, and with it whom it named: their grants and logins are ended.
            (None, Some(running)) => running.settings.shut(),
            (None, None) if access::Settings::journal(&host.run_dir).exists() => {
                access::Settings::closed(&host.run_dir, &host.state_dir)
            }
            (None, None) => return false,
        };
        if self.access.as_ref().is_some_and(|a| a.settings == wanted) {
            return false;
        }
        self.stop_access().await;
        self.start_access(&wanted);
        self.publish();
        true
    }

    fn start_access(&mut self, wanted: &access::Settings) {
        let mut scope = Scope::new(&self.root);
        let trouble = self.trouble(Name::Access.as_str());
        let parts = access_wiring::access(wanted, &self.command.binary);
        let (handle, task, server, writer) = access::new(wanted.clone(), parts);
        self.direct.send_replace(handle.direct().borrow().clone());
        let told = access_wiring::tell_access(handle.entries(), self.events.clone(), scope.stop());
        scope.spawn("access events", told);
        let (stop, audit_stop) = (scope.stop(), scope.stop());
        scope.spawn("access audit", writer.run(audit_stop));
        scope.spawn("access", task.run(stop));
        let asked =
            access_wiring::keys(wanted.clone(), server, handle.watch(), trouble, scope.stop());
        scope.spawn("access keys", asked);
        let direct = access_wiring::forward(handle.direct(), self.direct.clone(), scope.stop());
        scope.spawn("access addresses", direct);
        self.access = Some(Access { scope, settings: wanted.clone(), handle });
    }

    pub(super) async fn stop_access(&mut self) {
        if let Some(running) = self.access.take() {
            running.scope.shut_down(PATIENCE).await;
        }
    }
}
