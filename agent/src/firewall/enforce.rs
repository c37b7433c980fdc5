//! Makes the kernel's table what it is to be, and keeps it so.
//!
//! ```text
//! read --same--> in force
//!   | differs, and not too many repairs lately
//! apply (one transaction) --> forget our own hint --> read back --same--> in force
//!   | failed: twice more at once, at last with a table made anew; then later and later
//! ```

use tokio::time::Instant;

use super::{
    history::{Book, Culprit},
    observe::Observed,
    pace::{self, Repairs},
    plan::{Change, Extent, compare},
    ports::{Changed, Changes, Kernel, KernelError},
    ruleset::Ruleset,
    status::{Drift, Repair, State},
};
use crate::{clock::Timestamp, errors::Chain};

/// Tries at once, before waiting: somebody may change the table between our read and our apply, and what
/// is there may be in the way of all but a new table.
const TRIES: u32 = 3;

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
    repairs: Repairs,
    failures: u32,
    /// Not looked at again before this, after a failure or in a storm.
    retry_at: Option<Instant>,
    pub(super) state: State,
    drift: Drift,
    pub(super) history: Book,
    pub(super) packets: std::collections::BTreeMap<String, u64>,
}

impl<K: Kernel, C: Changes> Enforcer<K, C> {
    pub(super) fn new(kernel: K, changes: C) -> Self {
        Self {
            kernel,
            changes,
            drift: Drift::default(),
            history: Book::default(),
            in_force: None,
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

    /// A copy of the socket that owns our table, where one does.
    pub(super) fn share(&self) -> Option<std::os::fd::OwnedFd> {
        self.kernel.share()
    }

    /// Looks, and enforces nothing: rules of before are removed, for who says that nothing is to be
    /// enforced must not be kept out by them.
    pub(super) async fn look(&mut self, want: &Ruleset, now: Timestamp) {
        self.retry_at = None;
        self.in_force = None;
        let differs = match self.read().await {
            Ok(Observed::Absent) => Some(compare(want, &Observed::Absent).is_some()),
            Ok(have @ (Observed::Table(_) | Observed::Unclear(_))) => {
                let change = Change {
                    want: Ruleset::default(),
                    extent: Extent::Nothing,
                    differences: vec!["the table is removed: enforce is false".to_owned()],
                    generation: None,
                };
                if let Err(e) = self.kernel.apply(&change).await {
                    return self.failed(&e);
                }
                tracing::info!("firewall rules removed: enforce is false");
                self.history.applied(&have, &change, None, now);
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
        for nth in 0..TRIES {
            match self.attempt(want, cause, now, started, nth).await {
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
        nth: u32,
    ) -> Result<Attempt, KernelError> {
        let have = self.read().await?;
        let Some(mut change) = compare(want, &have) else { return Ok(Attempt::InForce) };
        change.extent.after(nth);
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
        Self::verify(want, &back)?;
        if is_drift {
            let (culprit, took_ms) = self.repaired(&change.differences, cause, also, now, started);
            self.history.repaired(culprit, &have, &change, generation(&back), now, took_ms);
        } else {
            tracing::info!(differences = ?change.differences, "firewall rules applied");
            self.history.applied(&have, &change, generation(&back), now);
        }
        Ok(Attempt::InForce)
    }

    /// Compares what was read back with what was sent.
    fn verify(want: &Ruleset, back: &Observed) -> Result<(), KernelError> {
        let Some(left) = compare(want, back) else { return Ok(()) };
        let what =
            format!("the rules read back are not those applied: {}", left.differences.join("; "));
        Err(KernelError { what, hint: None, source: None })
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
        self.history.nothing();
    }

    fn repaired(
        &mut self,
        changes: &[String],
        cause: &Cause,
        also: Option<Changed>,
        now: Timestamp,
        started: Instant,
    ) -> (Option<Culprit>, u64) {
        let done = Instant::now();
        let (culprit, from) = match cause {
            Cause::Hint(changed, at) => (Culprit::of(changed), *at),
            Cause::Ours => (None, started),
        };
        let named = culprit.or(also.as_ref().and_then(Culprit::of));
        let culprit = named.as_ref().map(ToString::to_string);
        let took_ms = u64::try_from(done.duration_since(from).as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            culprit,
            took_ms,
            ?changes,
            "firewall rules were changed by another program and are repaired"
        );
        self.drift.repairs += 1;
        self.drift.last = Some(Repair { at: now, culprit, changes: changes.to_vec(), took_ms });
        (named, took_ms)
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

fn generation(seen: &Observed) -> Option<u32> {
    match seen {
        Observed::Table(table) => Some(table.generation),
        Observed::Absent | Observed::Unclear(_) => None,
    }
}

enum Attempt {
    InForce,
    Stormy(Instant),
}
