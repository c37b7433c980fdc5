use super::*;
use crate::{
    clock::SetClock,
    patch::{
        Reboot, Trigger, Update, plan::tests::settings, record::Found, services::Stale,
        settings::Unit, testutil::MemHost,
    },
};

const START: Timestamp = Timestamp::from_secs(1_000_000);

fn host(packages: &[&str]) -> MemHost {
    let host = MemHost::default();
    let mut s = host.state();
    for name in packages {
        let found = Found { version: "1".to_owned(), whole: true };
        s.installed.insert((*name).to_owned(), found);
        s.archive.insert((*name).to_owned(), "2".to_owned());
    }
    drop(s);
    host
}

fn parts(host: &MemHost) -> Parts<MemHost, MemHost, MemHost, MemHost, SetClock> {
    Parts {
        packages: host.clone(),
        services: host.clone(),
        power: host.clone(),
        journal: host.clone(),
        clock: SetClock::at(START),
    }
}

fn in_window() -> Record {
    Record::new(Trigger::Window, "", START, Some(START.plus(Duration::from_secs(3600))))
}

async fn go(host: &MemHost, settings: &Settings, record: Record) -> (Left, Record) {
    let left = run(record, settings, &mut parts(host), &CancellationToken::new()).await.unwrap();
    (left, host.state().journal.clone().unwrap())
}

fn unit(name: &str) -> Stale {
    Stale {
        pid: 1,
        cgroup: format!("system.slice/{name}"),
        file: "/lib/x".into(),
        program: None,
        is_agent: false,
    }
}

#[tokio::test(start_paused = true)]
async fn everything_missing_is_installed_and_the_record_says_so() {
    let h = host(&["a", "b"]);
    let (left, r) = go(&h, &settings(), in_window()).await;
    assert_eq!((left, r.outcome.clone()), (Left::Over, Some(Ended::Done)));
    assert_eq!(r.installed.len(), 2);
    assert_eq!(h.state().history.len(), 1);
    let phases: Vec<_> = h.state().saved.iter().map(|r| r.phase).collect();
    assert!(phases.is_sorted(), "{phases:?}");
    let over_without_outcome = |r: &Record| r.phase == Phase::Done && r.outcome.is_none();
    assert!(!h.state().saved.iter().any(over_without_outcome), "{:?}", h.state().saved);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_freed_in_time_is_waited_for_and_one_that_is_not_defers_the_run() {
    let h = host(&["a"]);
    h.state().locked_by = Some("process 7 (apt-get)".into());
    let free = async {
        time::sleep(Duration::from_secs(3)).await;
        h.state().locked_by = None;
    };
    let s = settings();
    let ((_, r), ()) = tokio::join!(go(&h, &s, in_window()), free);
    assert_eq!(r.outcome, Some(Ended::Done));

    let h = host(&["a"]);
    h.state().locked_by = Some("process 7 (apt-get)".into());
    let (_, r) = go(&h, &s, in_window()).await;
    let why = "process 7 (apt-get) works on packages".to_owned();
    assert_eq!(r.outcome, Some(Ended::Deferred { why }));
    assert_eq!(h.state().installed["a"].version, "1");
}

#[tokio::test(start_paused = true)]
async fn a_package_that_fails_leaves_the_others_done_and_the_next_run_repairs_it() {
    let h = host(&["a", "bad"]);
    h.state().bad = vec!["bad".into()];
    h.state().need.reasons.push("kernel".into());
    let (left, r) = go(&h, &settings(), in_window()).await;
    assert_eq!(r.installed.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert!(
        matches!(&r.outcome, Some(Ended::Partly { failed }) if failed == &["bad: exit status 3"])
    );
    // With a half-installed package the host is not restarted.
    assert_eq!(left, Left::Over);
    h.state().bad.clear();
    h.state().need = RebootNeed::default();
    go(&h, &settings(), in_window()).await;
    assert!(h.state().installed["bad"].whole);
}

#[tokio::test(start_paused = true)]
async fn services_are_restarted_in_order_and_one_that_fails_ends_the_order() {
    let h = host(&["lib"]);
    let stale = vec![unit("a.service"), unit("b.service"), unit("c.service")];
    h.state().users.insert("lib".into(), stale);
    h.state().sick = vec!["a.service".into()];
    let order = ["c.service", "a.service"].map(|n| Unit::Systemd(n.into())).to_vec();
    let (_, r) = go(&h, &Settings { restart: order, ..settings() }, in_window()).await;
    let said: Vec<_> = r.services.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "c.service: restarted",
            "a.service: it is not up",
            "b.service: not restarted, since a.service failed"
        ]
    );
    assert_eq!(h.state().acted.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_restarts_the_host_once_and_the_run_ends_after_that() {
    let h = host(&["krn"]);
    h.state().kernels = vec!["krn".into()];
    let s = settings();
    let (left, r) = go(&h, &s, in_window()).await;
    assert_eq!((left, r.phase), (Left::Restarting, Phase::Reboot));
    let (left, r) = go(&h, &s, r).await;
    assert_eq!((left, r.outcome.clone(), r.rebooted), (Left::Over, Some(Ended::Done), true));
    assert_eq!(h.state().boot, 1);
}

#[tokio::test(start_paused = true)]
async fn outside_of_a_window_and_against_the_settings_the_host_is_not_restarted() {
    for (record, reboot) in [
        (Record::new(Trigger::Now, "root", START, None), Reboot::WhenNeeded),
        (in_window(), Reboot::Never),
    ] {
        let h = host(&["krn"]);
        h.state().kernels = vec!["krn".into()];
        let (left, r) = go(&h, &Settings { reboot, ..settings() }, record).await;
        assert_eq!((left, h.state().boot), (Left::Over, 0));
        assert!(r.notes.iter().any(|n| n.contains("not restarted")), "{:?}", r.notes);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_logged_in_is_told_and_delays_the_restart() {
    let h = host(&["krn"]);
    h.state().kernels = vec!["krn".into()];
    h.state().sessions = vec!["ann on pts/0".into()];
    let s = Settings { session_grace: Duration::from_secs(600), ..settings() };
    let leave = async {
        time::sleep(Duration::from_secs(30)).await;
        assert_eq!(h.state().boot, 0);
        assert_eq!(h.state().told.len(), 1);
        h.state().sessions.clear();
    };
    let ((left, _), ()) = tokio::join!(go(&h, &s, in_window()), leave);
    assert_eq!((left, h.state().boot), (Left::Restarting, 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_cut_off_while_installing_goes_on_and_counts_what_was_done_before() {
    let h = host(&["a", "b"]);
    let mut r = in_window();
    r.phase = Phase::Install;
    r.resumed = 1;
    r.planned = look(&mut h.clone(), &settings(), START).await.unwrap().0.updates;
    // "a" was done before the power went, "b" half.
    h.state().installed.insert("a".into(), Found { version: "2".into(), whole: true });
    h.state().installed.insert("b".into(), Found { version: "2".into(), whole: false });
    let (_, r) = go(&h, &settings(), r).await;
    assert_eq!(r.outcome, Some(Ended::Done));
    assert_eq!(r.installed.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cut_off_again_and_again_is_given_up() {
    let h = host(&["a"]);
    let r = Record { resumed: MAX_RESUMED + 1, ..in_window() };
    let (_, r) = go(&h, &settings(), r).await;
    assert!(matches!(r.outcome, Some(Ended::Failed { .. })));
    assert_eq!(h.state().installed["a"].version, "1");
}

#[tokio::test(start_paused = true)]
async fn a_full_run_leaves_the_rest_for_the_next() {
    let h = host(&["a", "b", "c"]);
    let s = Settings { max_packages: Some(2), ..settings() };
    let (_, r) = go(&h, &s, in_window()).await;
    assert_eq!(r.installed.len(), 2);
    assert_eq!(r.kept_back[0].why.to_string(), "a run updates at most 2 packages");
    assert_eq!(h.state().installed["c"].version, "1");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_cut_off_before_it_installed_does_not_begin_outside_its_window() {
    let h = host(&["a"]);
    let over = Some(START.plus(Duration::from_secs(1)));
    let late = || Record { phase: Phase::Install, last_call: over, ..in_window() };
    let mut p = parts(&h);
    p.clock = SetClock::at(START.plus(Duration::from_secs(86_400)));
    run(late(), &settings(), &mut p, &CancellationToken::new()).await.unwrap();
    let r = h.state().journal.clone().unwrap();
    assert!(matches!(r.outcome, Some(Ended::Deferred { .. })), "{:?}", r.outcome);
    assert_eq!(h.state().installed["a"].version, "1");
    // What it had begun it ends.
    let begun =
        Record { planned: vec![Update { name: "a".into(), ..Update::default() }], ..late() };
    run(begun, &settings(), &mut p, &CancellationToken::new()).await.unwrap();
    assert_eq!(h.state().installed["a"].version, "2");
}
