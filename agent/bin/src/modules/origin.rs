//! The origin guard as it comes and goes.

use palisade_agent::{config::Settings, origin, task::Scope};

use super::{ModuleSet, Name, PATIENCE};
use crate::origin_wiring;

/// A running guard, by the settings it runs with.
pub(super) struct Origin {
    pub(super) scope: Scope,
    pub(super) settings: origin::Settings,
    pub(super) handle: origin::Handle,
}

impl ModuleSet {
    /// What it accepted is on disk, and nginx's files stay.
    pub(super) async fn apply_origin(&mut self, settings: &Settings) -> bool {
        let wanted = settings.origin.as_ref();
        if self.origin.as_ref().map(|o| &o.settings) == wanted {
            return false;
        }
        let key = Name::Origin.as_str();
        let trouble = self.trouble(key);
        let before = self.stop_origin().await;
        match (wanted, before) {
            (Some(wanted), _) => {
                let mut scope = Scope::new(&self.root);
                let (children, sets) = (self.children.clone(), self.sets.subscribe());
                let events = self.events.clone();
                match origin_wiring::start(&mut scope, wanted, settings, &children, sets, events) {
                    Ok(handle) => {
                        trouble.is(None);
                        self.origin = Some(Origin { scope, settings: wanted.clone(), handle });
                    }
                    Err(e) => trouble.is(Some(origin_wiring::why(&e))),
                }
            }
            (None, Some(before)) => {
                let why = format!("no longer configured: {}", origin_wiring::stays(&before));
                trouble.is(Some(why));
            }
            (None, None) => {}
        }
        self.publish();
        true
    }

    /// Ends the guard. Returns what it ran with.
    pub(super) async fn stop_origin(&mut self) -> Option<origin::Settings> {
        let running = self.origin.take()?;
        running.scope.shut_down(PATIENCE).await;
        Some(running.settings)
    }
}
