//! What this run owes the cloud at its end: sessions to terminate, grants to take back, commands to
//! cancel. Written down before the thing can exist, so that no way out, a signal in the middle
//! included, forgets one.

use std::sync::{Arc, Mutex, PoisonError};

use palisade_types::grant::GrantId;
use tokio::{task::JoinSet, time::timeout};

use crate::{access, cloud::Cloud};

/// For settling all of them; what is not done by then ends by itself at the host.
const BOUND: std::time::Duration = std::time::Duration::from_secs(3);

/// One thing owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    /// A session that nobody has opened a channel on.
    Session(String),
    /// A grant.
    Grant { instance: String, id: GrantId },
    /// A command that is still awaited: on one host, or on all of its hosts.
    Command { id: String, instance: Option<String> },
}

/// All of them. Clones share the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Debts(Arc<Mutex<Vec<(Cloud, Debt)>>>);

impl Debts {
    /// From now on this is owed.
    pub(crate) fn add(&self, cloud: &Cloud, debt: Debt) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((cloud.clone(), debt));
    }

    /// It is settled, or somebody else owes it now.
    pub(crate) fn forget(&self, debt: &Debt) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, d)| d != debt);
    }

    /// Grants outlive this run.
    pub(crate) fn keep_grants(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, d)| !matches!(d, Debt::Grant { .. }));
    }

    /// Settles everything at once, within a bound.
    pub(crate) async fn settle(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut work = JoinSet::new();
        for (cloud, debt) in all {
            work.spawn(async move { settle(&cloud, debt).await });
        }
        let done = timeout(BOUND, async { while work.join_next().await.is_some() {} }).await;
        // Late ones are dropped with the set: what they would have ended has an end of its own.
        drop(done);
    }
}

/// Best effort: nobody is there any more to be told.
async fn settle(cloud: &Cloud, debt: Debt) {
    let outcome = match debt {
        Debt::Session(id) => cloud.terminate_session(&id).await,
        Debt::Command { id, instance } => cloud.cancel_command(&id, instance.as_slice()).await,
        Debt::Grant { instance, id } => {
            access::revoke_quietly(cloud, &instance, &id).await;
            Ok(())
        }
    };
    drop(outcome);
}
