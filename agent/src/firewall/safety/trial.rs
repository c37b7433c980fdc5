//! Trials: how one begins, is taken over from the agent before, and ends. The order of the steps is what
//! counts: the agent may be killed after each.

use std::time::Duration;

use super::{
    super::{
        super::{
            handle::Handle, ports::Files, preview::Preview, ruleset::Ruleset, settings::Settings,
        },
        handle::Refused,
        ports::{FenceAt, Guardians, Order, Prober, View},
        state::Trial,
    },
    Safety,
};
use crate::{clock::WallClock, errors::Chain};

impl<V: View, G: Guardians, P: Prober, S: Files + Sync, W: WallClock> Safety<V, G, P, S, W> {
    /// Guardian first, then the note on disk, then the rules: dying anywhere in between leaves the rules
    /// before, or somebody who puts them back.
    pub(super) async fn begin_trial(
        &mut self,
        settings: Settings,
        confirm: Duration,
        by: String,
        preview: Preview,
        firewall: &Handle,
    ) -> Result<Trial, Refused> {
        let now_ms = self.ports.boot.now();
        let confirm_ms = u64::try_from(confirm.as_millis()).unwrap_or(u64::MAX);
        let until_ms = now_ms.saturating_add(confirm_ms);
        let mut trial = Trial {
            id: format!("{now_ms}-{}", std::process::id()),
            settings: settings.clone(),
            until_ms,
            boot_id: self.ports.boot.boot_id(),
            by,
            guardian: None,
        };
        let order = self.order(&trial, preview.now);
        let socket = firewall.share_kernel().await?;
        let armed = self.ports.guardians.arm(&order, socket).await;
        let guardian = armed.map_err(|e| Refused::Failed(Chain(&e).to_string()))?;
        trial.guardian = Some(guardian);
        self.kept.trial = Some(trial.clone());
        self.store().await;
        if let Some(why) = self.trouble.clone() {
            self.kept.trial = None;
            self.ports.guardians.end(guardian).await;
            return Err(Refused::Failed(why));
        }
        self.fence.send_replace(Some(FenceAt::of(&trial)));
        if let Some(why) = self.put(settings, firewall).await {
            self.roll_back("the kernel refused it".to_owned(), firewall).await.unwrap_or_default();
            // Not their fault: they may be tried again.
            self.kept.refused = None;
            self.store().await;
            return Err(Refused::Failed(why));
        }
        tracing::warn!(
            seconds = confirm.as_secs(),
            by = trial.by,
            "firewall settings on trial; they are rolled back unless confirmed"
        );
        Ok(trial)
    }

    fn order(&self, trial: &Trial, old: Option<Ruleset>) -> Order {
        Order { trial: trial.id.clone(), old, until_ms: trial.until_ms, state: self.file.clone() }
    }

    /// A trial of the agent before goes on: its guardian is gone, and gets a successor.
    pub(super) async fn arm_again(&mut self, firewall: &Handle) {
        let Some(mut trial) = self.kept.trial.clone() else { return };
        // Only while the agent ends; its successor sees to the trial.
        let Ok(before) = firewall.preview(self.kept.in_force.clone()).await else { return };
        let order = self.order(&trial, before.want);
        let socket = firewall.share_kernel().await.ok().flatten();
        match self.ports.guardians.arm(&order, socket).await {
            Ok(guardian) => trial.guardian = Some(guardian),
            Err(e) => {
                trial.guardian = None;
                tracing::error!(error = %Chain(&e), "the trial goes on without a guardian");
            }
        }
        self.kept.trial = Some(trial);
    }

    pub(super) async fn confirm(&mut self, firewall: &Handle) -> Result<(), Refused> {
        let on_trial = self.kept.clone();
        let Some(trial) = self.kept.trial.take() else { return Err(Refused::NoTrial) };
        self.kept.in_force = trial.settings.clone();
        self.kept.refused = None;
        // First on disk: the guardian looks there before it does anything, and so does the next agent.
        self.store().await;
        if let Some(why) = self.trouble.clone() {
            self.kept = on_trial;
            return Err(Refused::Failed(why));
        }
        if let Some(guardian) = trial.guardian {
            self.ports.guardians.end(guardian).await;
        }
        self.fence.send_replace(None);
        tracing::info!("firewall settings confirmed");
        // If that took long, the guardian was quicker, and its rules are no longer wanted.
        if let Some(why) = self.put(trial.settings, firewall).await {
            tracing::error!(why, "firewall settings are confirmed, and not in force");
        }
        self.judge_offered(firewall).await;
        Ok(())
    }

    pub(super) async fn end_if_due(&mut self, firewall: &Handle) {
        let Some(trial) = &self.kept.trial else { return };
        if trial.goes_on(self.ports.boot.now(), &self.ports.boot.boot_id()) {
            return;
        }
        if let Err(e) = self.roll_back("it was not confirmed in time".to_owned(), firewall).await {
            tracing::error!(error = %e, "firewall settings are rolled back, and not in force");
        }
    }

    /// First in the kernel, then on disk: whoever finds a trial there whose time is over rolls it back.
    pub(super) async fn roll_back(
        &mut self,
        why: String,
        firewall: &Handle,
    ) -> Result<(), Refused> {
        tracing::warn!(why, "firewall settings are rolled back");
        let guardian = self.kept.trial.as_ref().and_then(|t| t.guardian);
        let failed = self.put(self.kept.in_force.clone(), firewall).await;
        let now = self.ports.clock.now();
        self.kept.roll_back(why, now);
        self.store().await;
        if let Some(guardian) = guardian {
            self.ports.guardians.end(guardian).await;
        }
        self.fence.send_replace(None);
        self.judge_offered(firewall).await;
        failed.map_or(Ok(()), |why| Err(Refused::Failed(why)))
    }
}
