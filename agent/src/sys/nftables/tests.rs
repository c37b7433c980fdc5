//! The table in a namespace of the test's own, with the real kernel.
#![expect(clippy::print_stdout, reason = "tests say what they skip")]

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::mpsc};

use nix::sched::{CloneFlags, unshare};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};

use super::*;
use crate::firewall::{AddrSet, Allow, Extent, Protocol, Refill, Ruleset, compare};

/// A network namespace that lives as long as this.
struct Namespace {
    path: PathBuf,
    _end: mpsc::Sender<()>,
}

fn namespace() -> Option<Namespace> {
    let (made, path) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let there = unshare(CloneFlags::CLONE_NEWNET);
        let thread = nix::unistd::gettid();
        made.send(there.map(|()| PathBuf::from(format!("/proc/self/task/{thread}/ns/net"))))
            .unwrap();
        ended.recv().unwrap_err();
    });
    match path.recv().unwrap() {
        Ok(path) => Some(Namespace { path, _end: end }),
        Err(e) => {
            println!("skipped: no network namespace can be made: {e}");
            None
        }
    }
}

fn set(prefixes: &[&str]) -> AddrSet {
    AddrSet::parse(prefixes.iter().copied()).unwrap()
}

fn allow(source: &str, ports: &[u16]) -> Allow {
    let ports = ports.iter().copied().collect();
    Allow { protocol: Protocol::Tcp, ports, source: source.to_owned() }
}

/// Every kind of rule and set there is.
fn everything() -> Ruleset {
    let ends: [(IpAddr, u64); 2] = [
        ("10.9.0.1".parse().unwrap(), now() + 600_000),
        ("2001:db8::9".parse().unwrap(), now() + 700_000),
    ];
    Ruleset {
        sets: [
            ("bastion".to_owned(), set(&["10.20.0.10/32"])),
            (
                "cloudfront".to_owned(),
                set(&["0.0.0.0/6", "13.0.0.0/15", "240.0.0.0/4", "2600:9000::/28"]),
            ),
        ]
        .into(),
        timed: [("grants".to_owned(), ends.into())].into(),
        rules: vec![
            allow("bastion", &[22]),
            allow("cloudfront", &[80, 443]),
            allow("grants", &[22, 2222]),
        ],
        guard_published: true,
        metadata_users: Some(BTreeSet::from([0, 33])),
        log_group: Some(5),
        owned: true,
    }
}

async fn make(table: &mut NftTable, want: &Ruleset) {
    let have = table.read().await.unwrap();
    let change = compare(want, &have).unwrap();
    table.apply(&change).await.unwrap();
}

async fn left(table: &mut NftTable, want: &Ruleset) -> Option<Change> {
    compare(want, &table.read().await.unwrap())
}

#[tokio::test]
async fn what_is_put_there_is_what_is_read_back() {
    let Some(there) = namespace() else { return };
    let mut table = NftTable::open_in(&there.path).unwrap();
    assert_eq!(table.read().await.unwrap(), Observed::Absent);
    let mut want = everything();
    make(&mut table, &want).await;
    assert_eq!(left(&mut table, &want).await, None);
    // Rules, sets and counters that go.
    want.rules.pop();
    want.timed.clear();
    want.metadata_users = None;
    make(&mut table, &want).await;
    assert_eq!(left(&mut table, &want).await, None);
    let none = Change { extent: Extent::Nothing, want, differences: Vec::new(), generation: None };
    table.apply(&none).await.unwrap();
    assert_eq!(table.read().await.unwrap(), Observed::Absent);
}

#[tokio::test]
async fn the_end_of_a_grant_can_be_moved_either_way() {
    let Some(there) = namespace() else { return };
    let mut table = NftTable::open_in(&there.path).unwrap();
    let mut want = everything();
    make(&mut table, &want).await;
    for later in [3_600_000, 60_000] {
        let end = now() + later;
        for ends in want.timed.values_mut() {
            ends.values_mut().for_each(|e| *e = end);
        }
        make(&mut table, &want).await;
        assert_eq!(left(&mut table, &want).await, None, "{later}");
    }
}

#[tokio::test]
async fn a_table_with_an_owner_is_nobody_elses_and_stays_when_its_owner_ends() {
    let Some(there) = namespace() else { return };
    let mut ours = NftTable::open_in(&there.path).unwrap();
    let want = everything();
    make(&mut ours, &want).await;
    let Observed::Table(seen) = ours.read().await.unwrap() else { panic!("no table") };
    if !seen.claim.can_own {
        println!("skipped: this kernel knows no owners that leave their table (6.9)");
        return;
    }
    assert_eq!((seen.claim.owner, seen.claim.persists), (Owner::Us, true));
    let mut other = NftTable::open_in(&there.path).unwrap();
    let change = left(&mut other, &want).await.unwrap();
    let e = other.apply(&change).await.unwrap_err();
    assert!(e.hint.as_ref().unwrap().contains("another process owns"), "{e:?}");
    let none = Change { extent: Extent::Nothing, ..change };
    other.apply(&none).await.unwrap_err();
    assert_eq!(left(&mut ours, &want).await, None);
    // Handed on, it is the same owner.
    let mut heir = NftTable::from_socket(ours.socket().unwrap()).unwrap();
    drop(ours);
    assert_eq!(left(&mut heir, &want).await, None);
    other.apply(&none).await.unwrap_err();
    drop(heir);
    // Orphaned, it stands as it was, and is claimed without a rule being touched.
    let claim = left(&mut other, &want).await.unwrap();
    assert_eq!(claim.extent, Extent::Sets(BTreeMap::new()));
    other.apply(&claim).await.unwrap();
    assert_eq!(left(&mut other, &want).await, None);
}

#[tokio::test]
async fn a_change_that_was_overtaken_is_not_made() {
    let Some(there) = namespace() else { return };
    let mut table = NftTable::open_in(&there.path).unwrap();
    let want = Ruleset { owned: false, ..everything() };
    make(&mut table, &want).await;
    let mut more = want.clone();
    more.sets.insert("bastion".to_owned(), set(&["10.20.0.11/32"]));
    let change = left(&mut table, &more).await.unwrap();
    let mut other = NftTable::open_in(&there.path).unwrap();
    let theirs = Ruleset { log_group: None, ..want.clone() };
    make(&mut other, &theirs).await;
    let e = table.apply(&change).await.unwrap_err();
    assert_eq!(
        Chain(&e).to_string(),
        "change our table: somebody else changed rules in the same moment"
    );
    assert_eq!(left(&mut table, &theirs).await, None, "their change was lost");
}

#[tokio::test]
async fn the_kernels_refusal_names_what_it_refused_and_changes_nothing() {
    let Some(there) = namespace() else { return };
    let mut table = NftTable::open_in(&there.path).unwrap();
    let want = everything();
    make(&mut table, &want).await;
    let change = Change {
        extent: Extent::Sets(
            [(
                "no_such".to_owned(),
                Refill::Some {
                    out: Elements::Ports([1].into()),
                    into: Elements::Ports([2].into()),
                },
            )]
            .into(),
        ),
        want: want.clone(),
        differences: Vec::new(),
        generation: None,
    };
    let e = table.apply(&change).await.unwrap_err();
    let text = Chain(&e).to_string();
    assert!(text.starts_with("change our table: elements of set no_such: No such file"), "{text}");
    assert_eq!(left(&mut table, &want).await, None);
}

/// Ranges of all kinds: at both ends of the address space, that touch, of one address.
#[tokio::test]
async fn any_set_becomes_any_other_whole_or_by_its_differences() {
    let Some(there) = namespace() else { return };
    let mut table = NftTable::open_in(&there.path).unwrap();
    let edge = proptest::prop_oneof![0..40_u32, u32::MAX - 40..=u32::MAX, proptest::num::u32::ANY];
    let pairs = proptest::collection::vec((edge.clone(), edge), 0..60);
    let mut runner = TestRunner::deterministic();
    let mut random = || {
        let v4: Vec<(u32, u32)> = pairs.new_tree(&mut runner).unwrap().current();
        let wide = |n: u32| u128::from(n) << 96 | u128::from(n);
        let v6 = v4.iter().map(|(a, b)| (wide(*a), wide(*b))).collect();
        AddrSet { v4: v4.into_iter().collect(), v6 }
    };
    let mut want = Ruleset { rules: vec![allow("a", &[1])], ..Ruleset::default() };
    for nth in 0..150 {
        want.sets.insert("a".to_owned(), random());
        let have = table.read().await.unwrap();
        let Some(mut change) = compare(&want, &have) else { continue };
        if let (Extent::Sets(sets), Observed::Table(have), 1) = (&mut change.extent, have, nth % 2)
        {
            for (name, refill) in sets {
                *refill = by_difference(&want.kernel_sets()[name], &have.sets[name]);
            }
        }
        table.apply(&change).await.unwrap();
        assert_eq!(left(&mut table, &want).await, None, "round {nth}: {want:?}");
    }
}

fn by_difference(want: &Elements, have: &Elements) -> Refill {
    match (want, have) {
        (Elements::V4(w), Elements::V4(h)) => {
            Refill::Some { out: Elements::V4(h.without(w)), into: Elements::V4(w.without(h)) }
        }
        (Elements::V6(w), Elements::V6(h)) => {
            Refill::Some { out: Elements::V6(h.without(w)), into: Elements::V6(w.without(h)) }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn many_thousand_ranges_go_in_and_come_back() {
    let Some(there) = namespace() else { return };
    let mut table = NftTable::open_in(&there.path).unwrap();
    let many: AddrSet = AddrSet {
        v4: (0..20_000_u32).map(|n| (n << 8, n << 8 | 7)).collect(),
        v6: (0..20_000_u128).map(|n| (n << 64, n << 64 | 7)).collect(),
    };
    let mut want = Ruleset { rules: vec![allow("a", &[1])], ..Ruleset::default() };
    want.sets.insert("a".to_owned(), many.clone());
    make(&mut table, &want).await;
    assert_eq!(left(&mut table, &want).await, None);
    let fewer = many.difference(&set(&["0.0.64.0/20"]));
    want.sets.insert("a".to_owned(), fewer);
    make(&mut table, &want).await;
    assert_eq!(left(&mut table, &want).await, None);
}
