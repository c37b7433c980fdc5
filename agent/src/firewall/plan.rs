//! What the kernel's table is to be, and what must change to get there. Pure.
//!
//! ```text
//! settings, ranges in force --desired--> Ruleset --compare--> Change (one transaction) or nothing
//!                                                    ^
//!                                        Observed (read back)
//! ```
//! A change of elements alone touches the sets it concerns; a change of anything else flushes the
//! chains and writes all rules anew. Either is one transaction that loses no allowed packet and lets
//! no other in. The table itself is replaced only when it cannot be understood, or the kernel refused
//! anything less.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    instructions,
    model::{Ranges, Word},
    observe::{Claim, Elements, Observed, Owner, SeenRule, Table},
    rules::{self, Chain, Hook, Policy},
    ruleset::Ruleset,
    status::SetChange,
};

/// Name of our table, of family `inet`.
pub const TABLE: &str = "palisade";
/// Before the usual filter chains, after connection tracking.
pub const PRIORITY: i32 = -10;
/// Sets with fewer elements are flushed and filled, which is quicker than finding out what differs.
const SMALL: usize = 256;

/// A transaction that makes the table what it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What the table is to be.
    pub want: Ruleset,
    /// What has to be done.
    pub extent: Extent,
    /// What differs, in words.
    pub differences: Vec<String>,
    /// The number of transactions that the kernel had made when the table was read: with another one
    /// in between, the change is not made.
    pub generation: Option<u32>,
}

/// How much a transaction rewrites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Change elements of these sets; all else is right.
    Sets(BTreeMap<String, Refill>),
    /// Write the chains, their rules and all sets anew.
    Rules {
        /// Chains in our table that are not ours, or hooked in elsewhere.
        drop_chains: BTreeSet<String>,
        /// Sets in our table that are not wanted, or of another type.
        drop_sets: BTreeSet<String>,
        /// Counters in our table that are not wanted.
        drop_counters: BTreeSet<String>,
    },
    /// Replace the table with all that is in it.
    Table,
    /// Remove the table: nothing is to be enforced.
    Nothing,
}

/// How elements of a set are changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refill {
    /// All out, all in.
    Whole,
    /// Some out, then some in.
    Some {
        /// What goes.
        out: Elements,
        /// What comes.
        into: Elements,
    },
}

impl Extent {
    /// What to try after the kernel refused this `refusals` times: ways that depend on less and less of
    /// what is there. Whatever that is, a table can be replaced.
    pub(super) fn after(&mut self, refusals: u32) {
        match self {
            Self::Sets(_) | Self::Rules { .. } if refusals > 1 => *self = Self::Table,
            // All out and all in, instead of what differs: kernels had bugs in the latter.
            Self::Sets(sets) if refusals > 0 => {
                sets.values_mut().for_each(|refill| *refill = Refill::Whole);
            }
            Self::Sets(_) | Self::Rules { .. } | Self::Table | Self::Nothing => {}
        }
    }
}

/// What has to change, or nothing.
#[must_use]
pub fn compare(want: &Ruleset, have: &Observed) -> Option<Change> {
    let generation = match have {
        Observed::Table(t) => Some(t.generation),
        Observed::Absent | Observed::Unclear(_) => None,
    };
    let change =
        |extent, differences| Some(Change { want: want.clone(), extent, differences, generation });
    let table = match have {
        Observed::Table(t) => t,
        Observed::Absent => {
            return change(fresh(), vec!["the table is not there".to_owned()]);
        }
        Observed::Unclear(why) => {
            return change(Extent::Table, vec![format!("the table cannot be understood: {why}")]);
        }
    };
    if !table.strange.is_empty() {
        let strange = table.strange.iter().map(|s| format!("there is a strange {s}"));
        return change(Extent::Table, strange.collect());
    }
    let mut differences = Vec::new();
    match standing(want, &table.claim) {
        Standing::Right => {}
        Standing::ToClaim => differences.push("the table is not ours alone".to_owned()),
        Standing::Fixed => {
            let why = "the table was made with another kind of owner".to_owned();
            return change(Extent::Table, vec![why]);
        }
    }
    let sets = want.kernel_sets();
    let wrong_sets = compare_sets(&sets, table, &mut differences);
    let extent = compare_rules(want, &sets, table, &mut differences);
    if differences.is_empty() {
        return None;
    }
    change(extent.unwrap_or(Extent::Sets(wrong_sets)), differences)
}

/// Whether the table belongs to whom it is to.
enum Standing {
    Right,
    /// It is to be had for the asking, or the asking will tell whose it is.
    ToClaim,
    /// The kernel lets nobody change this: it has to be made anew.
    Fixed,
}

fn standing(want: &Ruleset, claim: &Claim) -> Standing {
    match (want.owned && claim.can_own, claim.owner, claim.persists) {
        (true, Owner::Us, true) | (false, Owner::Nobody, _) => Standing::Right,
        (true, Owner::Nobody, true) | (_, Owner::Other(_), _) => Standing::ToClaim,
        (true, Owner::Nobody, false) | (true, Owner::Us, false) | (false, Owner::Us, _) => {
            Standing::Fixed
        }
    }
}

fn fresh() -> Extent {
    Extent::Rules {
        drop_chains: BTreeSet::new(),
        drop_sets: BTreeSet::new(),
        drop_counters: BTreeSet::new(),
    }
}

/// Sets whose elements are wrong, and how they are mended.
fn compare_sets(
    want: &BTreeMap<String, Elements>,
    have: &Table,
    differences: &mut Vec<String>,
) -> BTreeMap<String, Refill> {
    let mut wrong = BTreeMap::new();
    for (name, elements) in want {
        if let Some(there) = have.sets.get(name)
            && there.same_type(elements)
            && !elements.matches(there, have.read_at)
        {
            differences.push(format!("set {name} has other elements"));
            wrong.insert(name.clone(), refill(elements, there));
        }
    }
    wrong
}

/// Small sets are filled anew, which no state of theirs can make fail; of large ones only what
/// differs is touched. An element with an end is never added over itself: kernels before 6.12 keep
/// the old end.
fn refill(want: &Elements, have: &Elements) -> Refill {
    let large = have.count() >= SMALL;
    match (want, have) {
        (Elements::V4(w), Elements::V4(h)) if large => {
            let (out, into) = (h.without(w), w.without(h));
            Refill::Some { out: Elements::V4(out), into: Elements::V4(into) }
        }
        (Elements::V6(w), Elements::V6(h)) if large => {
            let (out, into) = (h.without(w), w.without(h));
            Refill::Some { out: Elements::V6(out), into: Elements::V6(into) }
        }
        _ => Refill::Whole,
    }
}

/// What differs beside the elements of sets, if anything does.
fn compare_rules(
    want: &Ruleset,
    sets: &BTreeMap<String, Elements>,
    have: &Table,
    differences: &mut Vec<String>,
) -> Option<Extent> {
    let before = differences.len();
    let chains = rules::chains(want);
    let counters = rules::counters(&chains);
    for (name, elements) in sets {
        match have.sets.get(name) {
            None => differences.push(format!("set {name} is not there")),
            Some(there) if !there.same_type(elements) => {
                differences.push(format!("set {name} is of another type"));
            }
            Some(_) => {}
        }
    }
    let wrong_type = |(name, there): &(&String, &Elements)| {
        sets.get(*name).is_none_or(|wanted| !wanted.same_type(there))
    };
    let drop_sets: BTreeSet<String> =
        have.sets.iter().filter(wrong_type).map(|(n, _)| n.clone()).collect();
    for name in drop_sets.iter().filter(|n| !sets.contains_key(*n)) {
        differences.push(format!("set {name} is not wanted"));
    }
    let drop_counters: BTreeSet<String> =
        have.counters.keys().filter(|n| !counters.contains(*n)).cloned().collect();
    differences.extend(drop_counters.iter().map(|n| format!("counter {n} is not wanted")));
    for name in counters.iter().filter(|n| !have.counters.contains_key(*n)) {
        differences.push(format!("counter {name} is not there"));
    }
    let drop_chains = compare_chains(&chains, have, differences);
    (differences.len() > before).then_some(Extent::Rules { drop_chains, drop_sets, drop_counters })
}

/// What differs in chains; those that have to go first.
fn compare_chains(
    wanted: &[Chain],
    have: &Table,
    differences: &mut Vec<String>,
) -> BTreeSet<String> {
    let unwanted = have.chains.keys().filter(|n| !wanted.iter().any(|c| c.hook.name() == *n));
    let mut drop_chains: BTreeSet<String> = unwanted.cloned().collect();
    differences.extend(drop_chains.iter().map(|n| format!("chain {n} is not wanted")));
    for chain in wanted {
        let name = chain.hook.name();
        let Some(there) = have.chains.get(name) else {
            differences.push(format!("chain {name} is not there"));
            continue;
        };
        match &there.base {
            Some(base)
                if base.kind == "filter"
                    && hook_of(base.hook) == Some(chain.hook)
                    && base.priority == PRIORITY =>
            {
                if base.drops != (chain.policy == Policy::Drop) {
                    differences.push(format!("chain {name} has another policy"));
                }
            }
            _ => {
                differences.push(format!("chain {name} is at another hook"));
                drop_chains.insert(name.to_owned());
            }
        }
        let ours = expected(chain);
        if there.rules != ours {
            differences.push(rules_differ(name, &ours, &there.rules));
        }
    }
    drop_chains
}

/// `enum nf_inet_hooks`.
#[must_use]
pub fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
    }
}

fn hook_of(number: u32) -> Option<Hook> {
    [Hook::Input, Hook::Forward, Hook::Output].into_iter().find(|h| hook_number(*h) == number)
}

/// The rules of a chain as they will be read back.
#[must_use]
pub fn expected(chain: &Chain) -> Vec<SeenRule> {
    let seen = |rule: &rules::Rule| SeenRule {
        comment: rule.comment.clone(),
        steps: instructions::compile(rule),
    };
    chain.rules.iter().map(seen).collect()
}

fn rules_differ(chain: &str, ours: &[SeenRule], there: &[SeenRule]) -> String {
    let missing = ours.iter().filter(|r| !there.contains(r)).count();
    let foreign = there.iter().filter(|r| !ours.contains(r)).count();
    match (missing, foreign) {
        (0, 0) => format!("rules of chain {chain} are in another order, or there twice"),
        _ => format!("chain {chain}: {missing} rules are missing and {foreign} are not ours"),
    }
}

/// What would change in the sets, for people.
#[must_use]
pub(super) fn set_changes(want: &Ruleset, have: &Observed) -> Vec<SetChange> {
    let none = BTreeMap::new();
    let there = match have {
        Observed::Table(t) => &t.sets,
        Observed::Absent | Observed::Unclear(_) => &none,
    };
    let mut changes = Vec::new();
    for (name, wanted) in want.kernel_sets() {
        let change = match (&wanted, there.get(&name)) {
            (Elements::V4(w), Some(Elements::V4(h))) => set_change(&name, w, h),
            (Elements::V6(w), Some(Elements::V6(h))) => set_change(&name, w, h),
            (Elements::V4(w), _) => set_change(&name, w, &Ranges::default()),
            (Elements::V6(w), _) => set_change(&name, w, &Ranges::default()),
            // Ports are in the rules' own words, and who has a grant is told by `access list`.
            _ => None,
        };
        changes.extend(change);
    }
    changes
}

fn set_change<W: Word>(set: &str, want: &Ranges<W>, have: &Ranges<W>) -> Option<SetChange> {
    let text = |r: Ranges<W>| r.cidrs().map(|c| c.to_string()).collect::<Vec<_>>();
    let (added, removed) = (text(want.difference(have)), text(have.difference(want)));
    let there = have.addresses();
    let address_permille = (there > 0).then(|| {
        let (new, old) = (want.addresses(), there);
        let share = |n: u128| i64::try_from(n.saturating_mul(1000) / old).unwrap_or(i64::MAX);
        if new >= old { share(new - old) } else { -share(old - new) }
    });
    (!added.is_empty() || !removed.is_empty()).then(|| SetChange {
        set: set.to_owned(),
        added,
        removed,
        address_permille,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::{
        AddrSet, Kernel as _, instructions::Instruction, ruleset::*, testutil::MemKernel,
    };

    fn ruleset(prefixes: &[&str]) -> Ruleset {
        let allow = |source: &str, port| Allow {
            protocol: Protocol::Tcp,
            ports: [port].into(),
            source: source.to_owned(),
        };
        let set = AddrSet::parse(prefixes.iter().copied()).unwrap();
        Ruleset {
            sets: [("a".to_owned(), set), ("b".to_owned(), AddrSet::default())].into(),
            rules: vec![allow("a", 443), allow("b", 22)],
            ..Ruleset::default()
        }
    }

    async fn loaded(want: &Ruleset) -> (MemKernel, Observed) {
        let mut kernel = MemKernel::default();
        let first = compare(want, &Observed::Absent).unwrap();
        kernel.apply(&first).await.unwrap();
        let have = kernel.observed();
        (kernel, have)
    }

    #[tokio::test]
    async fn what_is_as_it_should_be_is_left_alone() {
        let want = ruleset(&["13.0.0.0/24"]);
        let (_, have) = loaded(&want).await;
        assert_eq!(compare(&want, &have), None);
        assert!(set_changes(&want, &have).is_empty());
    }

    #[tokio::test]
    async fn other_ranges_touch_only_their_own_set() {
        let (_, have) = loaded(&ruleset(&["13.0.0.0/24"])).await;
        let want = ruleset(&["13.0.0.0/24", "13.0.2.0/24"]);
        let change = compare(&want, &have).unwrap();
        assert_eq!(change.extent, Extent::Sets([("a_v4".to_owned(), Refill::Whole)].into()));
        let changes = set_changes(&want, &have);
        let [set] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(set.added, ["13.0.2.0/24"]);
        assert_eq!((set.removed.len(), set.address_permille), (0, Some(1000)));
    }

    #[tokio::test]
    async fn of_a_large_set_only_what_differs_is_touched() {
        let many: Vec<String> =
            (0..SMALL).map(|n| format!("13.{}.{}.0/24", n / 100, n % 100 * 2)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (_, have) = loaded(&ruleset(&many)).await;
        let mut fewer = many.clone();
        fewer.splice(3..4, ["14.0.0.0/24"]);
        let change = compare(&ruleset(&fewer), &have).unwrap();
        let Extent::Sets(sets) = &change.extent else { panic!("{change:?}") };
        let Refill::Some { out, into } = &sets["a_v4"] else { panic!("{change:?}") };
        assert_eq!((out.count(), into.count()), (1, 1));
    }

    #[tokio::test]
    async fn the_table_is_replaced_only_when_it_cannot_be_understood() {
        let want = ruleset(&["13.0.0.0/24"]);
        let (kernel, _) = loaded(&want).await;
        let replaces = |have: &Observed| compare(&want, have).unwrap().extent == Extent::Table;
        assert!(!replaces(&Observed::Absent));
        assert!(replaces(&Observed::Unclear("cut".to_owned())));
        for tamper in [
            (|t: &mut Table| t.chains.clear()) as fn(&mut Table),
            |t| t.sets.clear(),
            |t| t.counters.clear(),
            |t| drop(t.sets.insert("b_v4".to_owned(), Elements::Strange("x".to_owned()))),
            |t| drop(t.sets.insert("mine".to_owned(), Elements::V4(Ranges::default()))),
            |t| drop(t.chains.insert("mine".to_owned(), Default::default())),
            |t| t.chains.values_mut().for_each(|c| c.base = None),
            |t| t.chains.values_mut().for_each(|c| drop(c.rules.pop())),
            |t| {
                let steps = t.chains.values_mut().flat_map(|c| &mut c.rules).map(|r| &mut r.steps);
                steps.for_each(|s| s.push(Instruction::Verdict(true)));
            },
        ] {
            let Observed::Table(mut table) = kernel.observed() else { panic!("no table") };
            tamper(&mut table);
            let have = Observed::Table(table);
            assert!(matches!(compare(&want, &have).unwrap().extent, Extent::Rules { .. }));
        }
        let Observed::Table(mut table) = kernel.observed() else { panic!("no table") };
        table.claim = Claim { can_own: true, owner: Owner::Us, persists: true };
        assert!(replaces(&Observed::Table(table)), "nobody is to own it");
    }
    #[tokio::test]
    async fn a_table_is_claimed_where_the_kernel_can_and_made_anew_where_it_must() {
        let want = Ruleset { owned: true, ..ruleset(&["13.0.0.0/24"]) };
        let (kernel, _) = loaded(&want).await;
        let extent = |can_own, owner, persists| {
            let Observed::Table(mut table) = kernel.observed() else { panic!("no table") };
            table.claim = Claim { can_own, owner, persists };
            compare(&want, &Observed::Table(table)).map(|c| c.extent)
        };
        let claimed = Some(Extent::Sets(BTreeMap::new()));
        assert_eq!(extent(true, Owner::Us, true), None);
        assert_eq!(extent(true, Owner::Nobody, true), claimed);
        assert_eq!(extent(true, Owner::Nobody, false), Some(Extent::Table));
        assert_eq!(extent(false, Owner::Nobody, false), None, "an older kernel");
        assert_eq!(extent(true, Owner::Other(7), true), claimed, "the kernel will refuse");
    }
}
