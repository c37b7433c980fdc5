//! The firewall as it comes and goes.

use palisade_agent::{
    firewall::{
        self,
        history::Who,
        safety::{Offer, Safety, SafetyHandle},
    },
    sys::nftables::NftTable,
    task::Scope,
};

use super::{ModuleSet, Name, PATIENCE};
use crate::{firewall_safety, firewall_wiring, origin_wiring, wiring};

/// A running module, by the settings it runs with.
pub(super) struct Firewall {
    pub(super) scope: Scope,
    pub(super) safety: SafetyHandle,
    pub(super) handle: firewall::Handle,
    pub(super) drops: firewall::drops::Ask,
    pub(super) history: firewall::history::Ask,
    /// Why the settings last offered were not taken.
    pub(super) kept_back: Option<String>,
}

impl ModuleSet {
    pub(super) async fn apply_firewall(&mut self, wanted: Option<&firewall::Settings>) -> bool {
        match (&mut self.firewall, wanted) {
            (None, None) => false,
            (Some(running), Some(wanted)) => {
                let came = running.safety.offer(wanted.clone()).await;
                running.kept_back = match &came {
                    Ok(Offer::KeptBack(why)) => Some(why.clone()),
                    // Gone: it failed, and is started anew with these.
                    Ok(Offer::Same | Offer::Taken) | Err(_) => None,
                };
                matches!(came, Ok(Offer::Taken))
            }
            (None, Some(wanted)) => {
                let mut scope = Scope::new(&self.root);
                let ports = firewall_safety::ports(&self.children, &self.command.binary);
                let guarded = Safety::open(ports, wanted.clone()).await;
                let table = self.table.get_or_insert_with(NftTable::here);
                let (handle, task) = firewall::new(
                    guarded.settings(),
                    wiring::firewall(table.clone(), self.lists.clone()),
                );
                let (book, history, record) = firewall::history::new();
                let task = task
                    .with_grants(self.direct.subscribe())
                    .with_fence(guarded.fence())
                    .with_history(book, Who::Start);
                scope.spawn(
                    "firewall history",
                    firewall_wiring::history(wanted, record, scope.stop()),
                );
                let drops = firewall_wiring::Drops {
                    wanted: guarded.settings(),
                    counters: handle.clone(),
                    modules: self.published.subscribe(),
                    trouble: self.trouble(firewall_wiring::DROPS),
                };
                let drops = drops.start(&mut scope);
                let stop = scope.stop();
                scope.spawn("firewall", task.run(stop));
                let sets = origin_wiring::forward(handle.sets(), self.sets.clone(), scope.stop());
                scope.spawn("firewall sets", sets);
                let told = wiring::tell_firewall(handle.watch(), self.events.clone(), scope.stop());
                scope.spawn("firewall events", told);
                let safety = guarded.handle();
                let trouble = self.trouble(firewall_safety::TROUBLE);
                let told = firewall_safety::tell(safety.status(), trouble, scope.stop());
                scope.spawn("firewall safety events", told);
                let stop = scope.stop();
                scope.spawn("firewall safety", guarded.run(handle.clone(), stop));
                self.firewall =
                    Some(Firewall { scope, safety, handle, drops, history, kept_back: None });
                self.published.send_modify(|m| drop(m.troubles.remove(Name::Firewall.as_str())));
                self.publish();
                true
            }
            (Some(_), None) => {
                if let Some(running) = self.firewall.take() {
                    running.scope.shut_down(PATIENCE).await;
                }
                // What we own nobody else could remove.
                self.table = None;
                let why =
                    "the rules stay in the kernel; nft delete table inet palisade removes them";
                self.events.happened("firewall", "no longer kept", "", why);
                let key = Name::Firewall.as_str();
                let trouble = format!("no longer configured, and {why}");
                self.published.send_modify(|m| {
                    m.troubles.remove(firewall_wiring::DROPS);
                    m.troubles.insert(key, trouble);
                });
                self.publish();
                true
            }
        }
    }
}
