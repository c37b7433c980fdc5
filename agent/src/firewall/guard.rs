//! Whether a new list may replace the one in force: pure, by address space and never by number of
//! prefixes.
//!
//! AWS once replaced 476 prefixes by 2 that cover the same addresses; over all changes ever
//! published the largest true loss was 0.9 %. What is *refused* is wrong in itself and can only be
//! cured by a better list; what is *held* may be right and waits for an operator or a better list.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    feed::FeedList,
    model::{AddrSet, Ranges, Word},
    settings::{Guard, Nature},
};
use crate::clock::Timestamp;

/// A list this much newer than the host's clock is refused: one of the two is wrong.
pub(super) const MAX_AHEAD: Duration = Duration::from_secs(600);
/// Largest growth of the address space of one family in one update.
pub(super) const MAX_GROWTH: u128 = 4;
/// After a list appears for the first time AWS fills it up: growth is not limited for a day.
const FILLING_SECS: u64 = 86_400;

/// The list that a new one is measured against.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its publication time.
    pub sync_token: u64,
    /// Publication time of the first list ever accepted.
    pub first_token: u64,
    /// Its ranges.
    pub set: &'a AddrSet,
}

/// What is to be done with a new list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the list we have.
    Same,
    /// It replaces the list we have.
    Accept,
    /// It waits for an operator.
    Hold(Hold),
    /// It is wrong.
    Refuse(Refusal),
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Why a list waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Hold {
    /// Too much of the address space would go.
    #[error(
        "it drops {lost_permille}/1000 of the {family} addresses, more than the {max_permille}/1000 allowed"
    )]
    AddressLoss {
        /// Of which family.
        family: Family,
        /// The share that would go, in thousandths, rounded up.
        lost_permille: u32,
        /// The largest share allowed.
        max_permille: u32,
    },
    /// The address space would grow too much.
    #[error("it has {times} times the {family} addresses, more than the {MAX_GROWTH} allowed")]
    Growth {
        /// Of which family.
        family: Family,
        /// Rounded down.
        times: u64,
    },
    /// Some ranges lie outside the services that should hold them all.
    #[error("{prefixes:?} are not among the same file's CLOUDFRONT and AMAZON ranges")]
    Outside {
        /// The first few of them.
        prefixes: Vec<String>,
    },
}

/// Why a list is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Refusal {
    /// We have had a newer one.
    #[error("the list of {} is older than the one in force, of {}", when(*.sync_token), when(*.known))]
    Older {
        /// Its publication time.
        sync_token: u64,
        /// That of the list in force.
        known: u64,
    },
    /// Same version, other content.
    #[error("the list says it is the one in force (syncToken {sync_token}) but has other ranges")]
    OtherContent {
        /// The publication time of both.
        sync_token: u64,
    },
    /// Published after now.
    #[error("the list is of {}, which is in the future of this host's clock ({now})", when(*.sync_token))]
    Future {
        /// Its publication time.
        sync_token: u64,
        /// The host's clock.
        now: Timestamp,
    },
    /// It has addresses of the host's own network.
    #[error("{prefixes:?} are of this host's own VPC, which no list of AWS's has")]
    Own {
        /// The first few of them.
        prefixes: Vec<String>,
    },
    /// With the ranges still being withdrawn there would be too many.
    #[error("{ranges} ranges are more than the {max} allowed")]
    TooMany {
        /// So many.
        ranges: usize,
        /// The most allowed.
        max: usize,
    },
}

/// The moment of a `syncToken`.
#[must_use]
pub(super) fn when(sync_token: u64) -> Timestamp {
    Timestamp::from_secs(i64::try_from(sync_token).unwrap_or(i64::MAX))
}

/// Judges a new list.
#[must_use]
pub fn judge(known: Option<Known<'_>>, new: &FeedList, guard: &Guard, now: Timestamp) -> Verdict {
    let sync_token = new.sync_token;
    if when(sync_token) > now.plus(MAX_AHEAD) {
        return Verdict::Refuse(Refusal::Future { sync_token, now });
    }
    if let Some(known) = known {
        if sync_token < known.sync_token {
            return Verdict::Refuse(Refusal::Older { sync_token, known: known.sync_token });
        }
        if sync_token == known.sync_token {
            return if new.set == *known.set {
                Verdict::Same
            } else {
                Verdict::Refuse(Refusal::OtherContent { sync_token })
            };
        }
    }
    if !new.stray.is_empty() {
        let prefixes = new.stray.prefixes().into_iter().take(5).collect();
        return Verdict::Hold(Hold::Outside { prefixes });
    }
    let Some(known) = known else { return Verdict::Accept };
    let filling = sync_token.saturating_sub(known.first_token) <= FILLING_SECS;
    let max = guard.max_address_loss_permille;
    let held = change(Family::V4, &known.set.v4, &new.set.v4, max, filling)
        .or_else(|| change(Family::V6, &known.set.v6, &new.set.v6, max, filling));
    held.map_or(Verdict::Accept, Verdict::Hold)
}

/// Judges what EC2 has now. It has no versions: what is read later is newer.
#[must_use]
pub(super) fn judge_answer(
    known: Option<(&AddrSet, Filling)>,
    new: &AddrSet,
    nature: Nature,
    guard: &Guard,
) -> Verdict {
    let Some((known, filling)) = known else { return Verdict::Accept };
    if known == new {
        return Verdict::Same;
    }
    let max = guard.max_address_loss_permille;
    let filling = filling == Filling::Yes;
    match nature {
        Nature::Own => Verdict::Accept,
        Nature::Public | Nature::Published => change(Family::V4, &known.v4, &new.v4, max, filling)
            .or_else(|| change(Family::V6, &known.v6, &new.v6, max, filling))
            .map_or(Verdict::Accept, Verdict::Hold),
    }
}

/// Whether a list is so new that AWS may still be filling it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filling {
    /// It may grow as it likes.
    Yes,
    /// It has had its day.
    No,
}

impl Filling {
    /// Of a list first seen then.
    pub(super) fn since(first: u64, now: u64) -> Self {
        if now.saturating_sub(first) <= FILLING_SECS { Self::Yes } else { Self::No }
    }
}

/// What of a list of public addresses lies in the networks of this host's own, if anything does.
pub(super) fn own(set: &AddrSet, networks: &AddrSet) -> Option<Refusal> {
    let own = set.intersection(networks);
    let prefixes = || own.prefixes().into_iter().take(5).collect();
    (!own.is_empty()).then(|| Refusal::Own { prefixes: prefixes() })
}

fn change<W: Word>(
    family: Family,
    old: &Ranges<W>,
    new: &Ranges<W>,
    max_permille: u32,
    filling: bool,
) -> Option<Hold> {
    let before = old.addresses();
    if before == 0 {
        return None;
    }
    let lost = old.difference(new).addresses();
    if lost.saturating_mul(1000) > before.saturating_mul(max_permille.into()) {
        let permille = lost.saturating_mul(1000).div_ceil(before);
        let lost_permille = u32::try_from(permille).unwrap_or(u32::MAX);
        return Some(Hold::AddressLoss { family, lost_permille, max_permille });
    }
    let after = new.addresses();
    if !filling && after > before.saturating_mul(MAX_GROWTH) {
        let times = u64::try_from(after / before).unwrap_or(u64::MAX);
        return Some(Hold::Growth { family, times });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Guard = Guard {
        max_address_loss_permille: 50,
        withdraw_after: Duration::from_secs(86_400),
        max_ranges: 4096,
    };
    const DAY: u64 = 86_400;
    const NOW: u64 = 1_000 * DAY;

    fn list(sync_token: u64, prefixes: &[&str]) -> FeedList {
        let set = AddrSet::parse(prefixes.iter().copied()).unwrap();
        FeedList { sync_token, set, stray: AddrSet::default() }
    }

    fn judge_change(old: &[&str], new: &[&str]) -> Verdict {
        let old = list(NOW - DAY, old);
        let known = Known { sync_token: old.sync_token, first_token: 0, set: &old.set };
        judge(Some(known), &list(NOW, new), &GUARD, when(NOW))
    }

    #[test]
    fn a_loss_of_five_in_a_hundred_passes_and_of_six_is_held() {
        // 100 ranges of one address each; the new list lacks 5 or 6 of them.
        let all: Vec<String> = (0..100).map(|i| format!("13.0.{i}.0/32")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(judge_change(&all, &all[5..]), Verdict::Accept);
        let held = Hold::AddressLoss { family: Family::V4, lost_permille: 60, max_permille: 50 };
        assert_eq!(judge_change(&all, &all[6..]), Verdict::Hold(held));
    }

    #[test]
    fn many_prefixes_may_become_few_that_hold_the_same_addresses() {
        let many: Vec<String> = (0..=255).map(|i| format!("13.0.{i}.0/24")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(judge_change(&many, &["13.0.0.0/16"]), Verdict::Accept);
        many.reverse();
        assert_eq!(judge_change(&["13.0.0.0/16"], &many), Verdict::Accept);
    }

    #[test]
    fn an_emptied_ipv6_list_is_a_loss_of_all_of_it() {
        let verdict = judge_change(&["13.0.0.0/16", "2600:9000::/36"], &["13.0.0.0/16"]);
        let held = Hold::AddressLoss { family: Family::V6, lost_permille: 1000, max_permille: 50 };
        assert_eq!(verdict, Verdict::Hold(held));
    }

    #[test]
    fn a_first_ipv6_prefix_is_no_growth() {
        let verdict = judge_change(&["13.0.0.0/16"], &["13.0.0.0/16", "2600:9000::/36"]);
        assert_eq!(verdict, Verdict::Accept);
    }

    #[test]
    fn growth_beyond_four_times_is_held_but_not_on_the_first_day() {
        let (small, large) = (list(NOW - 60, &["13.0.0.0/16"]), list(NOW, &["13.0.0.0/13"]));
        let known = |first_token| Known { sync_token: NOW - 60, first_token, set: &small.set };
        assert_eq!(
            judge(Some(known(NOW - 2 * DAY)), &large, &GUARD, when(NOW)),
            Verdict::Hold(Hold::Growth { family: Family::V4, times: 8 })
        );
        assert_eq!(judge(Some(known(NOW - 60)), &large, &GUARD, when(NOW)), Verdict::Accept);
    }

    #[test]
    fn versions_only_go_forward() {
        let have = list(NOW, &["13.0.0.0/16"]);
        let known = Some(Known { sync_token: NOW, first_token: 0, set: &have.set });
        let judge = |token, prefix| judge(known, &list(token, &[prefix]), &GUARD, when(NOW));
        assert_eq!(judge(NOW, "13.0.0.0/16"), Verdict::Same);
        assert!(matches!(judge(NOW, "13.0.0.0/15"), Verdict::Refuse(Refusal::OtherContent { .. })));
        assert!(matches!(judge(NOW - 1, "13.0.0.0/16"), Verdict::Refuse(Refusal::Older { .. })));
        assert_eq!(judge(NOW + 600, "13.0.0.0/16"), Verdict::Accept);
        assert!(matches!(judge(NOW + 601, "13.0.0.0/16"), Verdict::Refuse(Refusal::Future { .. })));
    }

    #[test]
    fn a_range_outside_cloudfront_is_held_even_in_a_first_list() {
        let mut first = list(NOW, &["13.0.0.0/16"]);
        first.stray = AddrSet::parse(["13.0.7.0/24"]).unwrap();
        let held = Hold::Outside { prefixes: vec!["13.0.7.0/24".to_owned()] };
        assert_eq!(judge(None, &first, &GUARD, when(NOW)), Verdict::Hold(held));
    }
}
