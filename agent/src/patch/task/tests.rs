use jiff::{civil::Weekday, tz::TimeZone};

use super::*;
use crate::{
    clock::{SetClock, Timestamp},
    patch::{
        Found, Verdict,
        plan::tests::settings as plain,
        testutil::MemHost,
        window::{Window, Windows},
    },
    task::Scope,
};

/// Thursdays, 01:00 to 03:00 UTC: 1970-01-01 was one.
fn settings() -> Settings {
    let start = "01:00".parse().unwrap();
    let w = Window::new(vec![Weekday::Thursday], start, Duration::from_secs(7200), TimeZone::UTC);
    Settings { windows: Windows(vec![w.unwrap()]), ..plain() }
}

struct Rig {
    host: MemHost,
    clock: SetClock,
    handle: Handle,
    scope: Scope,
}

fn rig(now: i64) -> Rig {
    let host = MemHost::default();
    let clock = SetClock::at(Timestamp::from_secs(now));
    start(host, clock)
}

fn start(host: MemHost, clock: SetClock) -> Rig {
    let parts = TaskParts {
        packages: host.clone(),
        journal: host.clone(),
        starter: host.clone(),
        clock: clock.clone(),
        host: "h".to_owned(),
    };
    let (handle, task) = new(settings(), watch::channel(Told::Off).1, parts);
    let mut scope = Scope::new(&CancellationToken::new());
    scope.spawn("patch", task.run(scope.stop()));
    Rig { host, clock, handle, scope }
}

impl Rig {
    async fn until(&self, what: impl FnMut(&Status) -> bool) -> Status {
        let mut seen = self.handle.watch();
        let found = time::timeout(Duration::from_secs(3600), seen.wait_for(what)).await;
        found.unwrap().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_starts_when_the_window_opens_and_is_followed_to_its_end() {
    let rig = rig(0);
    let s = rig.until(|s| s.report.is_some()).await;
    assert_eq!(s.report.unwrap().verdict, Verdict::Compliant);
    assert_eq!(s.due, Some(Timestamp::from_secs(3600)));
    assert!(rig.host.state().started.is_empty());
    rig.clock.set(Timestamp::from_secs(3600));
    let s = rig.until(|s| s.running.is_some()).await;
    let mut record = s.running.unwrap();
    assert_eq!(record.last_call, Some(Timestamp::from_secs(3 * 3600)));
    // The run ends by itself.
    record.phase = Phase::Done;
    record.outcome = Some(Ended::Done);
    record.ended = Some(Timestamp::from_secs(3700));
    rig.host.clone().close(&record).unwrap();
    rig.host.state().running = false;
    let s = rig.until(|s| s.running.is_none() && s.last.is_some()).await;
    assert!(s.due.unwrap() > Timestamp::from_secs(86_400));
    assert_eq!(rig.host.state().started.len(), 1);
    rig.scope.shut_down(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn outside_of_a_window_a_run_is_refused_with_the_time_of_the_next_unless_now_is_said() {
    let rig = rig(0);
    let err = rig.handle.run(When::InWindow, "root".into()).await.unwrap_err();
    assert_eq!(err, RunError::Closed { next: Some(Timestamp::from_secs(3600)) });
    assert!(err.to_string().contains("1970-01-01T01:00:00"), "{err}");
    let record = rig.handle.run(When::Now, "root".into()).await.unwrap();
    assert_eq!((record.trigger, record.last_call), (Trigger::Now, None));
    let again = rig.handle.run(When::Now, "root".into()).await.unwrap_err();
    assert!(matches!(again, RunError::Running(id) if id == record.id));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_process_is_gone_is_taken_up_where_it_was() {
    let host = MemHost::default();
    let mut r = Record::new(Trigger::Window, "", Timestamp::from_secs(3600), None);
    r.phase = Phase::Install;
    host.state().journal = Some(r);
    let rig = start(host, SetClock::at(Timestamp::from_secs(3700)));
    rig.until(|s| s.running.as_ref().is_some_and(|r| r.resumed == 1)).await;
    let started = rig.host.state().started.clone();
    assert_eq!((started.len(), started[0].phase), (1, Phase::Install));
}

#[tokio::test(start_paused = true)]
async fn the_plan_says_what_is_missing_and_when_it_is_due() {
    let rig = rig(0);
    let found = Found { version: "1".into(), whole: true };
    rig.host.state().installed.insert("a".into(), found);
    rig.host.state().archive.insert("a".into(), "2".into());
    let planned = rig.handle.plan().await.unwrap();
    assert_eq!(planned.plan.updates[0].name, "a");
    assert_eq!(planned.due, Some(Timestamp::from_secs(3600)));
    let s = rig.until(|s| s.waiting == 1).await;
    assert_eq!(s.report.unwrap().verdict, Verdict::NonCompliant);
}

#[tokio::test(start_paused = true)]
async fn a_package_manager_that_does_not_answer_is_a_report_that_nobody_can_tell() {
    let rig = rig(0);
    rig.until(|s| s.report.is_some()).await;
    rig.host.state().mute = Some("malformed line 3 in sources.list".to_owned());
    let s = rig.until(|s| s.error.is_some()).await;
    let verdict = s.report.unwrap().verdict;
    assert!(matches!(&verdict, Verdict::Unknown { why } if why.contains("line 3")), "{verdict:?}");
    rig.scope.shut_down(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_taken_up_now_is_kept_and_one_that_never_runs_is_given_up() {
    let host = MemHost::default();
    let cut_off = Record {
        phase: Phase::Install,
        ..Record::new(Trigger::Window, "", Timestamp::from_secs(0), None)
    };
    host.state().journal = Some(cut_off);
    host.state().barren = Some("the host is going down".to_owned());
    let rig = start(host, SetClock::at(Timestamp::from_secs(10)));
    rig.until(|s| s.running.as_ref().is_some_and(|r| r.resumed == 2)).await;
    assert!(rig.host.state().history.is_empty());
    // From here on its process is started and ends at once, again and again.
    rig.host.state().barren = None;
    let s = rig
        .until(|s| {
            s.running.is_none() || {
                rig.host.state().running = false;
                false
            }
        })
        .await;
    assert!(matches!(s.last.unwrap().outcome, Some(Ended::Failed { .. })));
    rig.scope.shut_down(Duration::from_secs(1)).await;
}
