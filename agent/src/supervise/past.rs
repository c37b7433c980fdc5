//! What is remembered of a process from one instance to the next: what spaces the restarts that are
//! the agent's own doing, and those of a storm. Kept in the table, so that the next agent goes on at
//! the same pace.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    minders::RECYCLE_MIN,
    storm::{CALM, LONGEST_DEBT, LONGEST_PACE, Pace, Storm},
    table::Now,
};
use crate::clock::Timestamp;

/// What is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) storm: Storm,
    /// Restarts because it was unwell.
    pub(super) repairs: Pace,
    /// When it was last replaced for its memory.
    pub(super) recycled_at: Option<Instant>,
}

/// The same as it is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SavedPast {
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_zero")]
    storm_restarts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    calm_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_repair_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_zero")]
    repairs_in_vain: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    recycled_at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Past {
    pub(super) fn saved(&self, now: Now) -> SavedPast {
        let wall = |t: Option<Instant>| t.map(|t| now.wall_of(t));
        SavedPast {
            paid_until: wall(self.storm.paid_until),
            storm_restarts: self.storm.restarts,
            calm_at: wall(self.storm.calm_at),
            no_repair_before: wall(self.repairs.not_before),
            repairs_in_vain: self.repairs.in_vain,
            recycled_at: wall(self.recycled_at),
        }
    }
}

impl SavedPast {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn read(&self, now: Now) -> Past {
        let future = |t: Option<Timestamp>, cap: Duration| t.map(|t| now.future(t, cap));
        Past {
            storm: Storm {
                paid_until: future(self.paid_until, LONGEST_DEBT),
                restarts: self.storm_restarts,
                calm_at: future(self.calm_at, CALM),
            },
            repairs: Pace {
                not_before: future(self.no_repair_before, LONGEST_PACE),
                in_vain: self.repairs_in_vain,
            },
            // Kept as the moment from which it may be replaced again, whose longest wait is known.
            recycled_at: self.recycled_at.and_then(|t| {
                let again = t.plus(RECYCLE_MIN);
                now.future(again, RECYCLE_MIN).checked_sub(RECYCLE_MIN)
            }),
        }
    }
}
