//! What a report becomes: verdicts, limits, ids, order, hash.

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;

fn item(name: &str, state: PackageState) -> PackageItem {
    PackageItem {
        name: name.to_owned(),
        installed: Some("1.0".to_owned()),
        available: Some("1.1".to_owned()),
        state,
        severity: Severity::High,
        cves: vec!["CVE-2026-1".to_owned()],
        why: String::new(),
    }
}

fn report(verdict: Verdict, items: Vec<PackageItem>) -> Report {
    Report {
        at: Timestamp::from_secs(1_790_000_000),
        run: Some("run-1".to_owned()),
        verdict,
        items,
        release: None,
        lists_age_s: Some(60),
    }
}

fn bytes(items: &[ComplianceItem]) -> usize {
    let one = |i: &ComplianceItem| {
        let details = serde_json::to_string(&i.details).map_or(0, |d| d.len());
        let texts = serde_json::to_string(&(&i.id, &i.title)).map_or(0, |t| t.len());
        details
            + texts
            + r#"{"Id":,"Title":,"Severity":"INFORMATIONAL","Status":"NON_COMPLIANT","Details":},"#
                .len()
    };
    items.iter().map(one).sum()
}

#[test]
fn a_host_that_misses_nothing_says_so_in_one_compliant_item() {
    let up = compliance(&report(Verdict::Compliant, vec![]), "i-1");
    let [one] = &up.items[..] else { panic!("{:?}", up.items) };
    assert_eq!((one.id.as_str(), one.compliant), (HOST_ID, true));
    assert_eq!((up.instance.as_str(), up.execution.as_deref()), ("i-1", Some("run-1")));
}

#[test]
fn stale_lists_make_an_item_that_is_not_compliant_and_nothing_is_called_compliant() {
    let items = vec![item("a", PackageState::Installed), item("b", PackageState::Missing)];
    let why = "lists are 9 days old".to_owned();
    let up = compliance(&report(Verdict::Unknown { why }, items), "i-1");
    assert_eq!(up.items[0].title, "compliance unknown: lists are 9 days old");
    assert!(up.items.iter().all(|i| !i.compliant), "{:?}", up.items);
    assert_eq!(up.items.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), [HOST_ID, "b"]);
}

#[test]
fn a_verdict_that_its_items_contradict_is_not_believed() {
    let up = compliance(&report(Verdict::Compliant, vec![item("a", PackageState::Held)]), "i-1");
    assert!(!up.items[0].compliant);
    assert_eq!(up.items[0].severity, Severity::High);
    let up = compliance(&report(Verdict::NonCompliant, vec![]), "i-1");
    assert!(!up.items[0].compliant);
}

#[test]
fn a_title_says_what_is_wrong_and_why() {
    let with = |state, why: &str| {
        let up = compliance(
            &report(
                Verdict::NonCompliant,
                vec![PackageItem { why: why.to_owned(), ..item("ssl", state) }],
            ),
            "i-1",
        );
        up.items[1].title.clone()
    };
    assert_eq!(
        with(PackageState::Held, "hold until 2026-12-01"),
        "ssl 1.0 -> 1.1: held: hold until 2026-12-01"
    );
    assert_eq!(
        with(PackageState::Missing, "kept back: needs libx\nwhich is held"),
        "ssl 1.0 -> 1.1: missing: kept back: needs libx which is held"
    );
    assert_eq!(
        with(PackageState::InstalledPendingReboot, ""),
        "ssl 1.0 -> 1.1: installed, waits for a reboot"
    );
}

#[test]
fn the_worst_comes_first_and_what_is_done_comes_last() {
    let low = PackageItem { severity: Severity::Low, ..item("a", PackageState::Missing) };
    let items = vec![item("z", PackageState::Installed), low, item("k", PackageState::Failed)];
    let up = compliance(&report(Verdict::NonCompliant, items), "i-1");
    let ids: Vec<_> = up.items.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, [HOST_ID, "k", "a", "z"]);
}

#[test]
fn details_name_versions_state_reason_and_cves() {
    let cves: Vec<String> = (0..2000).map(|n| format!("CVE-2026-{n:05}")).collect();
    let one = PackageItem { cves, why: "x".to_owned(), ..item("a", PackageState::Missing) };
    let up = compliance(&report(Verdict::NonCompliant, vec![one]), "i-1");
    let details = &up.items[1].details;
    let keys: Vec<_> = details.keys().map(String::as_str).collect();
    assert_eq!(keys, ["AvailableVersion", "CVEs", "InstalledVersion", "Reason", "State"]);
    let cves = &details["CVEs"];
    let shown = cves.matches("CVE-").count();
    assert!(cves.len() <= MAX_VALUE && shown > 200, "{shown} in {} bytes", cves.len());
    assert!(cves.ends_with(&format!(", and {} more", 2000 - shown)), "{cves}");
}

#[test]
fn one_name_with_two_versions_makes_two_ids() {
    let newer =
        PackageItem { available: Some("1.2".to_owned()), ..item("linux", PackageState::Missing) };
    let items = vec![item("linux", PackageState::Missing), newer.clone(), newer];
    let up = compliance(&report(Verdict::NonCompliant, items), "i-1");
    let ids: Vec<_> = up.items.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, [HOST_ID, "linux", "linux=1.2", "linux=1.2#2"]);
}

#[test]
fn ten_thousand_items_are_the_most_and_the_rest_is_counted() {
    // Short enough that only their number is over the limit.
    let short = |n: usize, state| PackageItem {
        installed: None,
        available: None,
        cves: vec![],
        ..item(&n.to_string(), state)
    };
    let exactly = (0..MAX_ITEMS - 1).map(|n| short(n, PackageState::Missing)).collect::<Vec<_>>();
    for (extra, left_out) in [(0, 0), (1, 2), (5, 6)] {
        let mut items = exactly.clone();
        items.extend((0..extra).map(|n| short(100_000 + n, PackageState::Installed)));
        let (kept, _) = (fit_titles(&items), ());
        let last = kept.last().unwrap();
        assert!(kept.len() <= MAX_ITEMS);
        match left_out {
            0 => assert_eq!((kept.len(), last.id != LEFT_OUT_ID), (MAX_ITEMS, true)),
            n => {
                assert_eq!((kept.len(), last.id.as_str()), (MAX_ITEMS, LEFT_OUT_ID));
                assert!(last.title.starts_with(&format!("{n} more packages")), "{}", last.title);
            }
        }
    }
}

/// The items of a report, without the limit of bytes being in the way.
fn fit_titles(items: &[PackageItem]) -> Vec<ComplianceItem> {
    let refs: Vec<_> = items.iter().collect();
    let mut packages = numbered(&refs);
    for p in &mut packages {
        p.title.clear();
        p.id.truncate(6);
        p.details.clear();
    }
    fit_within(usize::MAX / 2, host(&report(Verdict::NonCompliant, vec![])), packages)
}

#[test]
fn what_is_left_out_is_not_compliant_if_one_of_it_is_not() {
    let long = |n: usize, state| PackageItem {
        why: "w".repeat(1000),
        ..item(&format!("package-{n:06}"), state)
    };
    for (state, compliant) in [(PackageState::Missing, false), (PackageState::Installed, true)] {
        let items = (0..5000).map(|n| long(n, state)).collect();
        let up = compliance(&report(Verdict::NonCompliant, items), "i-1");
        let last = up.items.last().unwrap();
        assert_eq!((last.id.as_str(), last.compliant), (LEFT_OUT_ID, compliant));
        assert!(bytes(&up.items) <= MAX_BYTES);
    }
}

#[test]
fn the_hash_changes_with_the_facts_and_not_with_the_time_or_the_order_they_came_in() {
    let items = vec![item("a", PackageState::Missing), item("b", PackageState::Held)];
    let first = compliance(&report(Verdict::NonCompliant, items.clone()), "i-1").hash;
    let mut later = report(Verdict::NonCompliant, items.iter().rev().cloned().collect());
    later.at = Timestamp::from_secs(1_790_003_600);
    later.run = Some("run-2".to_owned());
    later.lists_age_s = Some(3660);
    assert_eq!(compliance(&later, "i-1").hash, first);
    for change in [
        |i: &mut PackageItem| i.state = PackageState::Failed,
        |i: &mut PackageItem| i.available = Some("2".to_owned()),
        |i: &mut PackageItem| i.why = "x".to_owned(),
        |i: &mut PackageItem| i.severity = Severity::Low,
        |i: &mut PackageItem| i.cves.clear(),
    ] {
        let mut changed = items.clone();
        changed.iter_mut().take(1).for_each(change);
        assert_ne!(compliance(&report(Verdict::NonCompliant, changed), "i-1").hash, first);
    }
    assert_eq!(first.len(), 64);
}

pub(in super::super) fn any_report() -> impl Strategy<Value = Report> {
    let state = prop_oneof![
        Just(PackageState::Installed),
        Just(PackageState::InstalledPendingReboot),
        Just(PackageState::Missing),
        Just(PackageState::Failed),
        Just(PackageState::Held),
    ];
    let severity = prop_oneof![
        Just(Severity::Unspecified),
        Just(Severity::Informational),
        Just(Severity::Low),
        Just(Severity::Medium),
        Just(Severity::High),
        Just(Severity::Critical),
    ];
    // Few names, so that they come twice; long and odd texts, so that limits are met.
    let name = prop_oneof![r"[a-c]{1,2}", r"\PC{0,200}", Just("palisade/host".to_owned())];
    let text = prop_oneof![r".{0,30}", Just("\"\\\n".repeat(2000)), Just("€".repeat(5000))];
    let version = proptest::option::of(text.clone());
    let cves = proptest::collection::vec(r".{0,90}", 0..6);
    let item = (name, version.clone(), version, state, severity, cves, text.clone()).prop_map(
        |(name, installed, available, state, severity, cves, why)| PackageItem {
            name,
            installed,
            available,
            state,
            severity,
            cves,
            why,
        },
    );
    let verdict = prop_oneof![
        Just(Verdict::Compliant),
        Just(Verdict::NonCompliant),
        text.clone().prop_map(|why| Verdict::Unknown { why }),
    ];
    let run = proptest::option::of(r".{0,300}");
    let items = proptest::collection::vec(item, 0..30);
    (verdict, items, run, proptest::option::of(text)).prop_map(|(verdict, items, run, release)| {
        Report { run, release, ..report(verdict, items) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_report_keeps_the_limits_and_loses_nobody(report in any_report()) {
        let up = compliance(&report, "i-1");
        prop_assert!(up.items.len() <= MAX_ITEMS);
        prop_assert!(bytes(&up.items) <= MAX_BYTES);
        prop_assert!(up.execution.as_ref().is_none_or(|e| e.chars().count() <= MAX_ID));
        let ids: BTreeSet<_> = up.items.iter().map(|i| &i.id).collect();
        prop_assert_eq!(ids.len(), up.items.len(), "ids are unique");
        for i in &up.items {
            prop_assert!((1..=MAX_ID).contains(&i.id.chars().count()), "id {:?}", i.id);
            prop_assert!(i.title.chars().count() <= MAX_TITLE);
            prop_assert!(i.details.len() <= 64);
            for (k, v) in &i.details {
                prop_assert!(k.len() <= 64 && v.chars().count() <= MAX_VALUE);
            }
        }
        let unknown = matches!(report.verdict, Verdict::Unknown { .. });
        let wrong = report.items.iter().filter(|i| !i.state.is_compliant()).count();
        let may = report.verdict == Verdict::Compliant && wrong == 0;
        prop_assert_eq!(up.items[0].compliant, may, "only a good verdict makes a good host");
        prop_assert!(!unknown || up.items.iter().all(|i| !i.compliant));
        let left_out = up.items.iter().any(|i| i.id == LEFT_OUT_ID);
        let told = if unknown { wrong } else { report.items.len() };
        prop_assert!(left_out || up.items.len() == told + 1, "everybody is listed");
        // The same facts in another order are the same list.
        let mut turned = report.clone();
        turned.items.reverse();
        prop_assert_eq!(compliance(&turned, "i-1").items, up.items);
    }
}
