//! What the kernel's table is to be, and what must change to get there. Pure.
//!
//! ```text
//! settings, ranges in force --desired--> Ruleset --compare--> Change (one transaction) or nothing
//!                                                    ^
//!                                        Observed (read back)
//! ```
//! A change of ranges alone flushes and refills the sets it concerns; a change of anything else
//! flushes the chain and writes all rules anew. Either is one transaction that loses no allowed
//! packet and lets no other in. The table itself is replaced only when it cannot be understood.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    model::{AddrSet, Ranges, Word},
    observe::{Elements, Observed, ObservedRule, Table},
    render,
    settings::{Settings, SourceName},
    status::SetChange,
};

/// Name of our table, of family `inet`.
pub const TABLE: &str = "palisade";
/// Name of our chain at the input hook.
pub(super) const CHAIN: &str = "input";
/// Before the usual filter chains, after connection tracking.
pub(super) const PRIORITY: i32 = -10;

/// What our table is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Sets of addresses by source; every source that a rule names is here.
    pub sets: BTreeMap<String, AddrSet>,
    /// Ports that are open to sources.
    pub rules: Vec<Allow>,
}

/// Ports that are open to one source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allow {
    /// Of which protocol.
    pub protocol: Protocol,
    /// Which; never empty.
    pub ports: BTreeSet<u16>,
    /// To whom.
    pub source: String,
}

/// A protocol with ports. The configuration knows TCP only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Ruleset {
    /// Sets by their name in the kernel.
    #[must_use]
    pub fn kernel_sets(&self) -> BTreeMap<String, Elements> {
        let mut all = BTreeMap::new();
        for (source, set) in &self.sets {
            all.insert(format!("{source}_v4"), Elements::V4(set.v4.clone()));
            all.insert(format!("{source}_v6"), Elements::V6(set.v6.clone()));
        }
        all
    }

    /// Names of the counters: one for each verdict that is worth a number.
    #[must_use]
    pub fn counters(&self) -> BTreeSet<String> {
        let sources = self.rules.iter().map(|r| render::counter_of(&r.source));
        sources.chain([render::DROPPED.to_owned(), render::INVALID.to_owned()]).collect()
    }
}

/// The ruleset of `settings` with the ranges in force.
#[must_use]
pub fn desired(settings: &Settings, in_force: &BTreeMap<SourceName, AddrSet>) -> Ruleset {
    // One rule for each source, in the order of names, so that order in the file makes no change.
    let mut ports: BTreeMap<&SourceName, BTreeSet<u16>> = BTreeMap::new();
    for rule in &settings.ports {
        for source in &rule.from {
            ports.entry(source).or_default().extend(rule.tcp.iter().map(|p| p.get()));
        }
    }
    let mut ruleset = Ruleset::default();
    for (source, ports) in ports {
        if ports.is_empty() {
            continue;
        }
        let name = source.as_str().to_owned();
        ruleset.sets.insert(name.clone(), in_force.get(source).cloned().unwrap_or_default());
        ruleset.rules.push(Allow { protocol: Protocol::Tcp, ports, source: name });
    }
    ruleset
}

/// A transaction that makes the table what it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What the table is to be.
    pub want: Ruleset,
    /// What has to be done.
    pub extent: Extent,
    /// What differs, in words.
    pub differences: Vec<String>,
}

/// How much a transaction rewrites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Refill these sets; all else is right.
    Sets(BTreeSet<String>),
    /// Write the chain, its rules and all sets anew.
    Rules {
        /// The chain exists with a hook or priority that cannot be changed in place.
        rebuild_chain: bool,
        /// Chains in our table that are not ours.
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

/// What has to change, or nothing.
///
/// `echo` is how this kernel's `nft` prints our rules, where that was found to differ from how we
/// write them.
#[must_use]
pub fn compare(want: &Ruleset, have: &Observed, echo: Option<&[ObservedRule]>) -> Option<Change> {
    let change = |extent, differences| Some(Change { want: want.clone(), extent, differences });
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
    let wrong_sets = compare_sets(want, table, &mut differences);
    let extent = compare_rules(want, table, echo, &mut differences);
    if differences.is_empty() {
        return None;
    }
    change(extent.unwrap_or(Extent::Sets(wrong_sets)), differences)
}

fn fresh() -> Extent {
    Extent::Rules {
        rebuild_chain: false,
        drop_chains: BTreeSet::new(),
        drop_sets: BTreeSet::new(),
        drop_counters: BTreeSet::new(),
    }
}

/// Sets whose elements are wrong.
fn compare_sets(want: &Ruleset, have: &Table, differences: &mut Vec<String>) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for (name, elements) in want.kernel_sets() {
        if let Some(there) = have.sets.get(&name)
            && *there != elements
            && there.same_type(&elements)
        {
            differences.push(format!("set {name} has other elements"));
            wrong.insert(name);
        }
    }
    wrong
}

/// What differs beside the elements of sets, if anything does.
fn compare_rules(
    want: &Ruleset,
    have: &Table,
    echo: Option<&[ObservedRule]>,
    differences: &mut Vec<String>,
) -> Option<Extent> {
    let before = differences.len();
    let sets = want.kernel_sets();
    let counters = want.counters();
    for (name, elements) in &sets {
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
    let drop_chains: BTreeSet<String> =
        have.chains.keys().filter(|n| *n != CHAIN).cloned().collect();
    differences.extend(drop_chains.iter().map(|n| format!("chain {n} is not wanted")));
    let drop_counters: BTreeSet<String> =
        have.counters.keys().filter(|n| !counters.contains(*n)).cloned().collect();
    differences.extend(drop_counters.iter().map(|n| format!("counter {n} is not wanted")));
    for name in counters.iter().filter(|n| !have.counters.contains_key(*n)) {
        differences.push(format!("counter {name} is not there"));
    }

    let mut rebuild_chain = false;
    match have.chains.get(CHAIN) {
        None => differences.push("the chain is not there".to_owned()),
        Some(chain) => {
            rebuild_chain = !chain.base.as_ref().is_some_and(render::is_our_hook);
            if rebuild_chain {
                differences.push("the chain is at another hook".to_owned());
            } else if chain.base.as_ref().is_none_or(|b| b.policy != "drop") {
                differences.push("the chain's policy is not drop".to_owned());
            }
            let ours = render::expected_rules(want);
            if chain.rules != ours && echo != Some(chain.rules.as_slice()) {
                differences.push(rules_differ(&ours, &chain.rules));
            }
        }
    }
    (differences.len() > before).then_some(Extent::Rules {
        rebuild_chain,
        drop_chains,
        drop_sets,
        drop_counters,
    })
}

fn rules_differ(ours: &[ObservedRule], there: &[ObservedRule]) -> String {
    let missing = ours.iter().filter(|r| !there.contains(r)).count();
    let foreign = there.iter().filter(|r| !ours.contains(r)).count();
    match (missing, foreign) {
        (0, 0) => "rules are in another order, or there twice".to_owned(),
        _ => format!("{missing} rules are missing and {foreign} are not ours"),
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
            (Elements::Strange(_), _) => None,
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
    use crate::firewall::{Kernel as _, testutil::MemKernel};

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
        }
    }

    async fn loaded(want: &Ruleset) -> (MemKernel, Observed) {
        let mut kernel = MemKernel::default();
        let first = compare(want, &Observed::Absent, None).unwrap();
        kernel.apply(&first).await.unwrap();
        let have = kernel.observed();
        (kernel, have)
    }

    fn words(change: &Change) -> String {
        String::from_utf8(render::transaction(change).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn what_is_as_it_should_be_is_left_alone() {
        let want = ruleset(&["13.0.0.0/24"]);
        let (_, have) = loaded(&want).await;
        assert_eq!(compare(&want, &have, None), None);
        assert!(set_changes(&want, &have).is_empty());
    }

    #[tokio::test]
    async fn other_ranges_refill_only_their_own_set() {
        let (_, have) = loaded(&ruleset(&["13.0.0.0/24"])).await;
        let want = ruleset(&["13.0.0.0/24", "13.0.2.0/24"]);
        let change = compare(&want, &have, None).unwrap();
        assert_eq!(change.extent, Extent::Sets(["a_v4".to_owned()].into()));
        let words = words(&change);
        assert!(words.contains("13.0.2.0") && !words.contains("chain"), "{words}");
        let changes = set_changes(&want, &have);
        let [set] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(set.added, ["13.0.2.0/24"]);
        assert_eq!((set.removed.len(), set.address_permille), (0, Some(1000)));
    }

    #[tokio::test]
    async fn the_table_is_deleted_only_when_it_cannot_be_understood() {
        let want = ruleset(&["13.0.0.0/24"]);
        let (kernel, _) = loaded(&want).await;
        let deletes = |have: &Observed| {
            words(&compare(&want, have, None).unwrap()).contains("{\"delete\":{\"table\"")
        };
        assert!(!deletes(&Observed::Absent));
        assert!(deletes(&Observed::Unclear("cut".to_owned())));
        for tamper in [
            (|t: &mut Table| t.chains.clear()) as fn(&mut Table),
            |t| t.sets.clear(),
            |t| t.counters.clear(),
            |t| drop(t.sets.insert("b_v4".to_owned(), Elements::Strange("x".to_owned()))),
            |t| drop(t.sets.insert("mine".to_owned(), Elements::V4(Ranges::default()))),
            |t| drop(t.chains.insert("mine".to_owned(), Default::default())),
            |t| t.chains.values_mut().for_each(|c| c.base = None),
        ] {
            let Observed::Table(mut table) = kernel.observed() else { panic!("no table") };
            tamper(&mut table);
            let have = Observed::Table(table);
            assert!(matches!(compare(&want, &have, None).unwrap().extent, Extent::Rules { .. }));
            assert!(!deletes(&have));
        }
    }
}
