//! What the table looks like, and that it keeps the limits of a custom type.

use proptest::prelude::*;

use super::*;
use crate::{
    clock::Timestamp,
    patch::{
        model::{PackageState, Severity},
        report::tests::any_report,
    },
};

fn report(items: Vec<PackageItem>) -> Report {
    Report {
        at: Timestamp::from_secs(1_790_000_000),
        run: None,
        verdict: Verdict::NonCompliant,
        items,
        release: Some("2023.6.20260101".to_owned()),
        lists_age_s: Some(5),
    }
}

fn item(name: String) -> PackageItem {
    PackageItem {
        name,
        installed: Some("1.0".to_owned()),
        available: Some("1.1".to_owned()),
        state: PackageState::Missing,
        severity: Severity::Critical,
        cves: vec!["CVE-2026-1".to_owned(), "CVE-2026-2".to_owned()],
        why: "kept back: needs libx".to_owned(),
    }
}

#[test]
fn a_table_has_a_row_for_the_host_and_one_for_each_package() {
    let up = inventory(&report(vec![item("openssl".to_owned())]), "i-1");
    let [host, package] = &up.rows[..] else { panic!("{:?}", up.rows) };
    assert_eq!((host["Kind"].as_str(), host["State"].as_str()), ("host", "NON_COMPLIANT"));
    assert_eq!(host["AvailableVersion"], "2023.6.20260101");
    let expected = [
        ("AvailableVersion", "1.1"),
        ("CVEs", "CVE-2026-1, CVE-2026-2"),
        ("InstalledVersion", "1.0"),
        ("Kind", "package"),
        ("Name", "openssl"),
        ("Reason", "kept back: needs libx"),
        ("Severity", "CRITICAL"),
        ("State", "MISSING"),
    ];
    assert!(package.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected), "{package:?}");
}

#[test]
fn what_finds_no_room_is_counted_in_the_hosts_row() {
    let up = inventory(&report((0..5000).map(|n| item(format!("p{n:05}"))).collect()), "i-1");
    let left_out = 5000 - (up.rows.len() - 1);
    assert!(up.rows.len() > 500 && left_out > 0);
    assert_eq!(
        up.rows[0]["Reason"],
        format!("{left_out} packages are not listed for want of room")
    );
}

#[test]
fn an_unknown_verdict_is_in_the_table_with_its_reason() {
    let why = "no list from deb.debian.org for 9 days".to_owned();
    let report = Report { verdict: Verdict::Unknown { why: why.clone() }, ..report(vec![]) };
    let up = inventory(&report, "i-1");
    assert_eq!((up.rows[0]["State"].as_str(), &up.rows[0]["Reason"]), ("UNKNOWN", &why));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_table_keeps_the_limits_and_its_hash_follows_the_facts(report in any_report()) {
        let up = inventory(&report, "i-1");
        prop_assert!((1..=MAX_ROWS).contains(&up.rows.len()));
        for row in &up.rows {
            prop_assert_eq!(row.keys().collect::<Vec<_>>(), up.rows[0].keys().collect::<Vec<_>>());
            prop_assert!(row.len() <= 50 && row.values().all(|v| v.chars().count() <= 4096));
        }
        prop_assert!(serde_json::to_vec(&up.rows).unwrap().len() <= MAX_BYTES);
        let mut turned = report.clone();
        turned.items.reverse();
        turned.lists_age_s = Some(77);
        prop_assert_eq!(inventory(&turned, "i-1").hash, up.hash.clone());
        let mut more = report;
        more.items.insert(0, item("a-new-one".to_owned()));
        prop_assert!(inventory(&more, "i-1").hash != up.hash);
    }
}
