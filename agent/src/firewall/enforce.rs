//! Makes the kernel's table what it is to be, and keeps it so.
//!
//! ```text
//! read --same--> in force
//!   | differs, and not too many repairs lately
//! apply (one transaction) --> forget our own hint --> read back --same--> in force
//!   | failed: once more at once, then later and later
//! ```

use tokio::time::Instant;

use super::{
    observe::{Observed, ObservedRule},
    pace::{self, Repairs},
    plan::{self, CHAIN, Change, Extent, Ruleset},
    ports::{Changed, Changes, Kernel, KernelError},
    render,
    status::{Drift, Repair, State},
};
use crate::{clock::Timestamp, errors::Chain};

/// Tries at once, before waiting: somebody may change the table between our read and our apply.
const TRIES: u32 = 2;

/// Why the kernel is looked at.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// What we want may have changed, or it is time to look.
    Ours,
    /// The kernel told of a change.
    Hint(Changed, Instant),
}

/// The one that applies.
#[derive(Debug)]
pub(super) struct Enforcer<K, C> {
    kernel: K,
    changes: C,
    /// What was last seen in force.
    in_force: Option<Ruleset>,
    /// Rules as we write them, and as this kernel's nft prints them, where the two differ.
    echo: Option<(Vec<ObservedRule>, Vec<ObservedRule>)>,
    repairs: Repairs,
    failures: u32,
    /// Not looked at again before this, after a failure or in a storm.
    retry_at: Option<Instant>,
    pub(super) state: State,
    drift: Drift,
    pub(super) packets: std::collections::BTreeMap<String, u64>,
}

impl<K: Kernel, C: Changes> Enforcer<K, C> {
    pub(super) fn new(kernel: K, changes: C) -> Self {
        Self {
            kernel,
            changes,
            drift: Drift::default(),
            in_force: None,
            echo: None,
            repairs: Repairs::default(),
            failures: 0,
            retry_at: None,
            state: State::Starting,
            packets: std::collections::BTreeMap::new(),
        }
    }

    /// Waits for word of a change; for ever in a storm or after a failure, when the time of the next look
    /// is set and word would be no use. Losing the wait loses nothing.
    pub(super) async fn hint(&mut self) -> Cause {
        if self.drift.storm || self.retry_at.is_some_and(|at| at > Instant::now()) {
            std::future::pending::<()>().await;
        }
        let changed = self.changes.next().await;
        Cause::Hint(changed, Instant::now())
    }

    /// Changes by others, as others may see them.
    pub(super) fn drift(&self) -> Drift {
        Drift { watching: self.changes.is_watching(), ..self.drift.clone() }
    }

    /// When it wants to be called again, if earlier than the usual check.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Reads the table and its packet counts.
    pub(super) async fn read(&mut self) -> Result<Observed, KernelError> {
        let have = self.kernel.read().await?;
        if let Observed::Table(t) = &have {
            self.packets.clone_from(&t.counters);
        }
        Ok(have)
    }

    /// What has to change.
    pub(super) fn compare(&self, want: &Ruleset, have: &Observed) -> Option<Change> {
        let echo = self.echo.as_ref().filter(|(ours, _)| *ours == render::expected_rules(want));
        plan::compare(want, have, echo.map(|(_, theirs)| theirs.as_slice()))
    }

    /// Looks, and enforces nothing: rules of before are removed, for who says that nothing is to be
    /// enforced must not be kept out by them.
    pub(super) async fn look(&mut self, want: &Ruleset) {
        self.retry_at = None;
        self.in_force = None;
        let differs = match self.read().await {
            Ok(Observed::Absent) => Some(self.compare(want, &Observed::Absent).is_some()),
            Ok(Observed::Table(_) | Observed::Unclear(_)) => {
                let change = Change {
                    want: Ruleset::default(),
                    extent: Extent::Nothing,
                    differences: Vec::new(),
                };
                if let Err(e) = self.kernel.apply(&change).await {
                    return self.failed(&e);
                }
                tracing::info!("firewall rules removed: enforce is false");
                self.changes.drain();
                Some(true)
            }
            Err(e) => {
                tracing::debug!(error = %Chain(&e), "the kernel's rules cannot be read");
                None
            }
        };
        self.state = State::PlanOnly { differs };
    }

    /// Makes the table what it is to be.
    pub(super) async fn converge(&mut self, want: &Ruleset, cause: &Cause, now: Timestamp) {
        self.retry_at = None;
        let started = Instant::now();
        let mut last = None;
        for _ in 0..TRIES {
            match self.attempt(want, cause, now, started).await {
                Ok(Attempt::InForce) => {
                    self.seen_in_force(want, now);
                    return;
                }
                Ok(Attempt::Stormy(until)) => {
                    self.retry_at = Some(until);
                    return;
                }
                Err(e) => last = Some(e),
            }
        }
        if let Some(e) = last {
            self.failed(&e);
        }
    }

    async fn attempt(
        &mut self,
        want: &Ruleset,
        cause: &Cause,
        now: Timestamp,
        started: Instant,
    ) -> Result<Attempt, KernelError> {
        let have = self.read().await?;
        let Some(change) = self.compare(want, &have) else { return Ok(Attempt::InForce) };
        // It was right, and we did not change it.
        let is_drift = self.in_force.as_ref() == Some(want);
        if is_drift {
            let allowed = self.repairs.allowed_at(started);
            if allowed > started {
                self.storm(&change);
                return Ok(Attempt::Stormy(allowed));
            }
        }
        // What came before our own change is word of the change that we found; what comes by it is
        // word of ours, and the read after it sees all there is.
        let also = self.changes.drain();
        self.kernel.apply(&change).await?;
        if is_drift {
            // Counted also if the other is so fast that it is undone before it is read back.
            self.repairs.made(Instant::now());
        }
        self.changes.drain();
        let back = self.read().await?;
        self.verify(want, &back)?;
        if is_drift {
            self.repaired(change.differences, cause, also, now, started);
        } else {
            tracing::info!(differences = ?change.differences, "firewall rules applied");
        }
        Ok(Attempt::InForce)
    }

    /// Compares what was read back with what was sent.
    fn verify(&mut self, want: &Ruleset, back: &Observed) -> Result<(), KernelError> {
        let Some(left) = self.compare(want, back) else { return Ok(()) };
        let ours = render::expected_rules(want);
        // Another version of nft may print a rule in other words. Its words are believed if all else
        // is right and each rule stands in its place by its comment.
        if let Observed::Table(table) = back
            && let Some(theirs) = table.chains.get(CHAIN).map(|c| &c.rules)
            && plan::compare(want, back, Some(theirs)).is_none()
            && ours.iter().map(|r| &r.comment).eq(theirs.iter().map(|r| &r.comment))
        {
            tracing::warn!(
                "nft prints our rules in other words than we use; comparing with its own"
            );
            self.echo = Some((ours, theirs.clone()));
            return Ok(());
        }
        Err(KernelError {
            what: format!(
                "the rules read back are not those applied: {}",
                left.differences.join("; ")
            ),
            hint: None,
            source: None,
        })
    }

    fn seen_in_force(&mut self, want: &Ruleset, now: Timestamp) {
        let since = match &self.state {
            State::InForce { since, .. } if self.in_force.as_ref() == Some(want) => *since,
            _ => now,
        };
        self.state = State::InForce { since, checked: now };
        self.in_force = Some(want.clone());
        self.failures = 0;
        self.drift.storm = false;
    }

    fn repaired(
        &mut self,
        changes: Vec<String>,
        cause: &Cause,
        also: Option<Changed>,
        now: Timestamp,
        started: Instant,
    ) {
        let done = Instant::now();
        let (culprit, from) = match cause {
            Cause::Hint(changed, at) => (changed.by.clone(), *at),
            Cause::Ours => (None, started),
        };
        let culprit = culprit.or(also.and_then(|c| c.by));
        let culprit = culprit.map(|(pid, name)| format!("{name} (pid {pid})"));
        let took_ms = u64::try_from(done.duration_since(from).as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            culprit,
            took_ms,
            ?changes,
            "firewall rules were changed by another program and are repaired"
        );
        self.drift.repairs += 1;
        self.drift.last = Some(Repair { at: now, culprit, changes, took_ms });
    }

    fn storm(&mut self, change: &Change) {
        if !self.drift.storm {
            tracing::error!(
                differences = ?change.differences,
                "another program keeps changing the firewall rules; they are now repaired once a minute"
            );
        }
        self.drift.storm = true;
        self.state = State::Failed {
            why: format!(
                "another program keeps changing our rules: {}",
                change.differences.join("; ")
            ),
            hint: Some("find out which by `firewall status` and stop it, or have it leave table inet palisade alone".to_owned()),
            failures: 0,
        };
    }

    fn failed(&mut self, e: &KernelError) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + pace::kernel_retry(self.failures));
        let why = Chain(e).to_string();
        tracing::error!(
            error = why,
            hint = e.hint,
            failures = self.failures,
            "firewall rules cannot be put in force"
        );
        self.state = State::Failed { why, hint: e.hint.clone(), failures: self.failures };
    }
}

enum Attempt {
    InForce,
    Stormy(Instant),
}
