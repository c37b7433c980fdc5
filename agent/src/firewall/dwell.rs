//! Ranges that the list dropped and that stay in force for a while.
//!
//! On 2025-10-27 AWS published a list that lacked 2,720 addresses for two hours and then put them
//! back; closing at once would have cut living edges. Additions are never delayed. A range goes when
//! it has been gone for the time set *and* two versions of the list agree that it is gone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::AddrSet;
use crate::clock::Timestamp;

/// Groups kept apart; with more, the newest two are joined and wait for the younger.
const MAX_GROUPS: usize = 64;

/// The ranges that are on their way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dwell(Vec<Leaving>);

/// Ranges that one version of the list dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The ranges.
    pub set: AddrSet,
    /// When we first saw them gone.
    pub since: Timestamp,
    /// The version that dropped them.
    pub sync_token: u64,
    /// Whether a later version agrees.
    pub confirmed: bool,
}

impl Leaving {
    /// When it may go, if a later version has agreed by then.
    #[must_use]
    pub fn due(&self, after: Duration) -> Timestamp {
        self.since.plus(after)
    }
}

impl Dwell {
    /// The groups, oldest first.
    #[must_use]
    pub fn groups(&self) -> &[Leaving] {
        &self.0
    }

    /// All ranges on their way out.
    #[must_use]
    pub fn set(&self) -> AddrSet {
        self.0.iter().fold(AddrSet::default(), |all, g| all.union(&g.set))
    }

    /// After a newer version replaced `old` by `new`.
    #[must_use]
    pub fn after_change(&self, old: &AddrSet, new: &AddrSet, token: u64, now: Timestamp) -> Self {
        let mut groups: Vec<Leaving> = self
            .0
            .iter()
            .map(|g| Leaving {
                set: g.set.difference(new),
                confirmed: g.confirmed || token > g.sync_token,
                ..g.clone()
            })
            .collect();
        let dropped = old.difference(new);
        if groups.len() >= MAX_GROUPS
            && let Some(last) = groups.last_mut()
        {
            *last = Leaving {
                set: last.set.union(&dropped),
                since: now,
                sync_token: token,
                confirmed: false,
            };
        } else {
            groups.push(Leaving { set: dropped, since: now, sync_token: token, confirmed: false });
        }
        groups.retain(|g| !g.set.is_empty());
        Self(groups)
    }

    /// Without what may go by now.
    #[must_use]
    pub fn at(&self, now: Timestamp, after: Duration) -> Self {
        let stays = |g: &&Leaving| !(g.confirmed && now >= g.due(after));
        Self(self.0.iter().filter(stays).cloned().collect())
    }

    /// The next moment at which a range may go.
    #[must_use]
    pub fn next_due(&self, after: Duration) -> Option<Timestamp> {
        self.0.iter().filter(|g| g.confirmed).map(|g| g.due(after)).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn set(prefixes: &[&str]) -> AddrSet {
        AddrSet::parse(prefixes.iter().copied()).unwrap()
    }

    fn hour(h: i64) -> Timestamp {
        Timestamp::from_secs(h * 3600)
    }

    #[test]
    fn a_range_goes_after_a_day_and_only_if_a_second_version_agrees() {
        let (both, one) = (set(&["13.0.0.0/24", "13.0.2.0/24"]), set(&["13.0.0.0/24"]));
        let gone = set(&["13.0.2.0/24"]);
        let first = Dwell::default().after_change(&both, &one, 1, hour(0));
        assert_eq!(first.set(), gone);
        assert_eq!(first.at(hour(100), DAY).set(), gone, "one version alone takes nothing away");
        let second = first.after_change(&one, &one, 2, hour(1));
        assert_eq!(second.at(hour(23), DAY).set(), gone);
        assert!(second.at(hour(24), DAY).set().is_empty());
        assert_eq!(second.next_due(DAY), Some(hour(24)));
    }

    #[test]
    fn a_range_that_comes_back_is_no_longer_leaving() {
        let (both, one) = (set(&["13.0.0.0/24", "13.0.2.0/23"]), set(&["13.0.0.0/24"]));
        let part = set(&["13.0.0.0/24", "13.0.2.0/24"]);
        let dwell = Dwell::default().after_change(&both, &one, 1, hour(0));
        let dwell = dwell.after_change(&one, &part, 2, hour(2));
        assert_eq!(dwell.set().prefixes(), ["13.0.3.0/24"]);
    }

    #[test]
    fn a_clock_that_goes_back_keeps_ranges_longer_and_never_shorter() {
        let (old, new) = (set(&["13.0.0.0/23"]), set(&["13.0.0.0/24"]));
        let dwell = Dwell::default().after_change(&old, &new, 1, hour(50));
        let dwell = dwell.after_change(&new, &new, 2, hour(51));
        assert_eq!(dwell.at(hour(1), DAY).set().prefixes(), ["13.0.1.0/24"]);
    }

    proptest! {
        #[test]
        fn nothing_is_closed_sooner_than_a_day_after_it_was_listed(
            lists in proptest::collection::vec(proptest::collection::btree_set(0..8_u32, 1..8), 1..80),
        ) {
            let as_set = |l: &std::collections::BTreeSet<u32>| AddrSet {
                v4: l.iter().map(|n| (n * 2, n * 2)).collect(),
                ..AddrSet::default()
            };
            // One version an hour; whatever was listed within the last day must be in force.
            let (mut dwell, mut current) = (Dwell::default(), as_set(&lists[0]));
            for (i, l) in (0_u32..).zip(&lists).skip(1) {
                let (new, now) = (as_set(l), hour(i64::from(i)));
                dwell = dwell.after_change(&current, &new, u64::from(i), now).at(now, DAY);
                current = new;
                let in_force = current.union(&dwell.set());
                let at = usize::try_from(i).unwrap();
                for recent in &lists[at.saturating_sub(23)..=at] {
                    prop_assert!(as_set(recent).difference(&in_force).is_empty());
                }
                prop_assert!(dwell.groups().len() <= MAX_GROUPS);
            }
        }
    }
}
