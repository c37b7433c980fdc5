//! What other settings would make of the rules. Part of the task, whose state it looks at.

use std::{collections::BTreeMap, mem};

use super::{
    super::{
        model::AddrSet,
        ports::{Changes, Feed, Files, Kernel},
        ruleset::Ruleset,
        settings::{Enforce, Settings, SourceName},
        status::Plan,
    },
    Firewall,
};
use crate::clock::WallClock;

/// What settings would make of the rules.
#[derive(Clone, Debug)]
pub struct Preview {
    /// What would change in the kernel.
    pub plan: Plan,
    /// The rules in force; none where nothing is enforced.
    pub now: Option<Ruleset>,
    /// The rules as they would be; none where nothing would be enforced.
    pub want: Option<Ruleset>,
    /// The same, were they enforced.
    pub rules: Ruleset,
    /// The ranges of every source.
    pub sets: BTreeMap<SourceName, AddrSet>,
}

impl<K: Kernel, C: Changes, F: Feed, S: Files, W: WallClock> Firewall<K, C, F, S, W> {
    /// Looks through other settings for a moment; the state is as before when this returns.
    pub(super) async fn preview(&mut self, settings: Settings) -> Preview {
        let now = self.enforced();
        let sources = self.sources_of(&settings, self.sources.clone()).await;
        let own = mem::replace(&mut self.settings, settings);
        let own_sources = mem::replace(&mut self.sources, sources);
        let plan = self.plan().await;
        let (want, rules, sets) = (self.enforced(), self.want(), self.sources.in_force());
        self.settings = own;
        self.sources = own_sources;
        Preview { plan, now, want, rules, sets }
    }

    fn enforced(&mut self) -> Option<Ruleset> {
        match self.settings.enforce {
            Enforce::Yes => Some(self.want()),
            Enforce::PlanOnly => None,
        }
    }
}
