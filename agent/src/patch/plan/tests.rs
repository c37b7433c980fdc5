use std::time::Duration;

use super::*;
use crate::patch::{
    lists::Trouble,
    settings::{Hold, Reboot, Scope, Tell},
    window::Windows,
};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

pub(crate) fn settings() -> Settings {
    Settings {
        manager: None,
        windows: Windows::default(),
        scope: Scope::Security,
        reboot: Reboot::WhenNeeded,
        restart: Vec::new(),
        leave: Vec::new(),
        holds: Vec::new(),
        max_packages: None,
        compliance: Tell::Nobody,
        splay: Duration::ZERO,
        cutoff: Duration::ZERO,
        lists_max_age: Duration::from_secs(3600),
        lock_timeout: Duration::from_secs(5),
        session_grace: Duration::ZERO,
        service_timeout: Duration::from_secs(5),
        apt_security: Vec::new(),
        release: None,
        state_dir: "/nowhere".into(),
    }
}

fn source(age_s: Option<i64>) -> SourceList {
    SourceList {
        source: "http://sec bookworm-security".to_owned(),
        security: true,
        present: true,
        fetched: age_s.map(|s| Timestamp::from_secs(NOW.as_secs() - s)),
        trouble: None,
    }
}

fn update(name: &str) -> Update {
    Update { name: name.into(), from: Some("1".into()), to: "2".into(), ..Update::default() }
}

fn facts() -> Facts {
    Facts { sources: vec![source(Some(60))], ..Facts::default() }
}

fn names(list: &[Update]) -> Vec<&str> {
    list.iter().map(|u| u.name.as_str()).collect()
}

#[test]
fn a_host_with_fresh_lists_and_nothing_missing_is_compliant() {
    let p = plan(facts(), &[], &settings(), NOW);
    assert_eq!(p.verdict, Verdict::Compliant);
    assert!(p.is_empty());
    assert_eq!(p.lists_age_s(), Some(60));
}

#[test]
fn whoever_cannot_know_is_never_called_compliant() {
    let untrusted = |what: &str| Some(Trouble { what: what.to_owned(), untrusted: true });
    let gone = SourceList { present: false, ..source(Some(60)) };
    let forged = SourceList { trouble: untrusted("BADSIG"), ..source(Some(60)) };
    let plain = SourceList { security: false, ..source(Some(60)) };
    for (sources, words) in [
        (vec![], "no source of packages is set up"),
        (vec![source(None)], "never fetched"),
        (vec![source(Some(60)), source(Some(3601))], "last fetched at"),
        (vec![source(Some(-600))], "last fetched at"),
        (vec![gone], "are gone"),
        (vec![forged], "is not trusted: BADSIG"),
        (vec![plain], "carries security updates"),
    ] {
        let p = plan(Facts { sources, ..Facts::default() }, &[], &settings(), NOW);
        let Verdict::Unknown { why } = p.verdict else { panic!("{words}: {:?}", p.verdict) };
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_source_that_cannot_be_reached_for_a_while_is_still_known() {
    let trouble = Some(Trouble { what: "timeout".to_owned(), untrusted: false });
    let sources = vec![SourceList { trouble, ..source(Some(60)) }];
    let p = plan(Facts { sources, ..Facts::default() }, &[], &settings(), NOW);
    assert_eq!(p.verdict, Verdict::Compliant);
}

#[test]
fn each_package_that_is_left_has_its_reason() {
    let hold = |package: &str, until| Hold { package: package.into(), until, why: "ABI".into() };
    let later = Some(NOW.plus(Duration::from_secs(1)));
    let s = Settings {
        holds: vec![hold("held", later), hold("over", Some(NOW)), hold("always", None)],
        max_packages: Some(1),
        ..settings()
    };
    let all = ["always", "done", "held", "marked", "over", "surplus"];
    let f = Facts {
        wanted: all.iter().map(|n| update(n)).collect(),
        doable: vec![update("done"), update("over")],
        blocked: vec![Blocked { update: update("stuck"), obstacle: Some("needs x".into()) }],
        marked: vec!["marked:amd64".to_owned()],
        ..facts()
    };
    let p = plan(f, &["surplus".to_owned()], &s, NOW);
    let why: Vec<_> = p.kept_back.iter().map(|k| (k.update.name.as_str(), k.why.clone())).collect();
    assert_eq!(
        why,
        [
            ("always", Reason::Hold { until: None, why: "ABI".into() }),
            ("held", Reason::Hold { until: later, why: "ABI".into() }),
            ("marked", Reason::Marked),
            ("stuck", Reason::Obstacle { what: "needs x".into() }),
            ("surplus", Reason::Limit { max: 1 }),
        ]
    );
    assert_eq!(p.verdict, Verdict::NonCompliant);
}

#[test]
fn a_half_installed_package_and_a_pending_restart_are_not_compliant() {
    let broken = vec![Broken { name: "brk".into(), what: "half-configured".into() }];
    let p = plan(Facts { broken, ..facts() }, &[], &settings(), NOW);
    assert_eq!(p.verdict, Verdict::NonCompliant);
    let reboot = RebootNeed { reasons: vec!["kernel".into()], packages: vec![] };
    let p = plan(Facts { reboot, ..facts() }, &[], &settings(), NOW);
    assert_eq!(p.verdict, Verdict::NonCompliant);
    assert!(!p.is_empty());
}

#[test]
fn a_full_run_takes_the_worst_first_and_new_dependencies_do_not_count() {
    let mut list = vec![update("a"), update("b"), update("c")];
    list[2].severity = Severity::Critical;
    list.push(Update { from: None, ..update("dep") });
    assert_eq!(over_limit(&list, Some(2)), ["b"]);
    assert_eq!(over_limit(&list, Some(3)), Vec::<String>::new());
    assert_eq!(over_limit(&list, None), Vec::<String>::new());
    assert_eq!(names(&list).len(), 4);
}
