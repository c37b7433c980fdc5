//! What a guardian does: wait, look whether the trial still goes on, put the rules before back.

use std::time::Duration;

use tokio::time;

use super::{
    super::{
        history::{Entry, Who},
        observe::Observed,
        plan::{self, Change, Extent},
        ports::{Files, Kernel, KernelError},
        ruleset::Ruleset,
    },
    ports::{BootClock, Order},
    state,
};
use crate::{clock::WallClock, errors::Chain};

/// An agent that lives rolls back by itself; the guardian gives it this long.
const GRACE_MS: u64 = 400;
/// Time since boot is looked at this often: while a host sleeps it goes on, and timers do not.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Rest before the kernel is asked again.
const RETRY: Duration = Duration::from_millis(200);
/// Tries before it is given up: a minute.
const TRIES: u32 = 300;

/// How a guardian's watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The trial was confirmed or rolled back by the agent.
    NotNeeded,
    /// The rules before are in force. What that changed, for the record, if it changed anything.
    PutBack(Option<Box<Entry>>),
    /// The kernel refused them to the end.
    Failed(String),
}

/// Waits for the end of the trial, and puts the rules before back unless it was decided by then.
pub async fn stand_by<K: Kernel, S: Files>(
    order: &Order,
    kernel: &mut K,
    files: &S,
    clock: &dyn BootClock,
    wall: &impl WallClock,
) -> Ended {
    let act_at = order.until_ms.saturating_add(GRACE_MS);
    loop {
        let left = act_at.saturating_sub(clock.now());
        if left == 0 {
            break;
        }
        time::sleep(Duration::from_millis(left).min(LOOK_EVERY)).await;
    }
    let mut why = String::new();
    for nth in 0..TRIES {
        if !goes_on(order, files).await {
            return Ended::NotNeeded;
        }
        match put_back(order.old.as_ref(), kernel, nth).await {
            Ok(None) => return Ended::PutBack(None),
            Ok(Some((have, change))) => {
                let entry = Entry::of(vec![Who::Guardian], &have, &change, wall.now());
                return Ended::PutBack(Some(Box::new(entry)));
            }
            Err(e) => why = Chain(&e).to_string(),
        }
        time::sleep(RETRY).await;
    }
    Ended::Failed(why)
}

/// Whether nobody has decided. What cannot be read is taken for undecided.
async fn goes_on<S: Files>(order: &Order, files: &S) -> bool {
    match files.read(&order.state, state::MAX_BYTES).await {
        Ok(Some(bytes)) => match state::decode(&bytes) {
            Ok(kept) => kept.trial.is_some_and(|t| t.id == order.trial),
            Err(_) => true,
        },
        Ok(None) | Err(_) => true,
    }
}

/// What was there and what was changed, if anything had to be.
async fn put_back<K: Kernel>(
    old: Option<&Ruleset>,
    kernel: &mut K,
    refusals: u32,
) -> Result<Option<(Observed, Change)>, KernelError> {
    let have = kernel.read().await?;
    let change = match (old, &have) {
        (Some(old), _) => plan::compare(old, &have),
        (None, Observed::Absent) => None,
        (None, Observed::Table(_) | Observed::Unclear(_)) => Some(Change {
            want: Ruleset::default(),
            extent: Extent::Nothing,
            differences: vec!["the table is removed: nothing was enforced before".to_owned()],
            generation: None,
        }),
    };
    let Some(mut change) = change else { return Ok(None) };
    change.extent.after(refusals);
    kernel.apply(&change).await?;
    Ok(Some((have, change)))
}
