//! Event listeners, over agents that die.

use std::time::Duration;

use palisade_agent::supervise::{AutoRestart, ProcessSpec};
use palisade_types::ProcessState;

use crate::rig::{Rig, heard, listener, one, shell, wait_heard};

#[tokio::test]
async fn a_listener_hears_of_everything_in_supervisors_words() {
    let dir = tempfile::tempdir().unwrap();
    let web = ProcessSpec {
        autostart: false,
        autorestart: AutoRestart::Never,
        label: "web_00".to_owned(),
        ..shell("web", "exec sleep 1000")
    };
    let fails = ProcessSpec {
        autostart: false,
        startsecs: Duration::from_secs(5),
        startretries: 0,
        ..shell("fails", "exit 3")
    };
    let ears = listener(dir.path(), "ears", "ok", &["EVENT"], 1000);
    let rig = Rig::new(dir.path(), vec![ears, web.clone(), fails]);
    wait_heard(
        dir.path(),
        "ears",
        &["PROCESS_GROUP_ADDED 0 0 groupname:ears|", "SUPERVISOR_STATE_CHANGE_RUNNING 3 3 "],
    )
    .await;
    rig.handle.start(one("web")).await.unwrap();
    let pid = rig.state("web", ProcessState::Running).await.pid;
    rig.handle.stop(one("web")).await.unwrap();
    drop(rig.handle.start(one("fails")).await);
    rig.remote("hello").await;
    let mut settings = rig.settings.clone();
    settings.processes.retain(|s| s.name.as_str() != "web");
    rig.handle.update(settings).await.unwrap();
    let of_web = "processname:web_00 groupname:web from_state:";
    let lines = wait_heard(
        dir.path(),
        "ears",
        &[
            "PROCESS_STATE_RUNNING",
            &format!("{of_web}STOPPED tries:0"),
            &format!("{of_web}STARTING pid:{pid}"),
            &format!("{of_web}RUNNING pid:{pid}"),
            &format!("{of_web}STOPPING pid:{pid}"),
            "processname:fails groupname:fails from_state:STOPPED tries:0",
            "processname:fails groupname:fails from_state:STARTING tries:1",
            "processname:fails groupname:fails from_state:BACKOFF",
            "REMOTE_COMMUNICATION",
            "PROCESS_GROUP_REMOVED",
        ],
    )
    .await;
    assert!(lines.iter().any(|l| l.ends_with(" type:test|hello")), "{lines:#?}");
    let serials: Vec<u64> =
        lines.iter().map(|l| l.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(serials, (0..serials.len() as u64).collect::<Vec<_>>());
    rig.end().await;
}

#[tokio::test]
async fn an_event_that_is_refused_or_whose_listener_dies_is_sent_again_before_all_others() {
    for mode in ["refuse-once", "die-once"] {
        let dir = tempfile::tempdir().unwrap();
        let ears = listener(dir.path(), "ears", mode, &["REMOTE_COMMUNICATION"], 10);
        let rig = Rig::new(dir.path(), vec![ears]);
        rig.state("ears", ProcessState::Running).await;
        for data in ["one", "two"] {
            rig.remote(data).await;
        }
        let lines = wait_heard(dir.path(), "ears", &["one", "one", "two"]).await;
        assert_eq!(lines.len(), 3, "{mode}: {lines:#?}");
        rig.end().await;
    }
}

#[tokio::test]
async fn a_listener_that_hangs_or_babbles_slows_nobody_and_loses_its_oldest_events() {
    let dir = tempfile::tempdir().unwrap();
    let events = ["REMOTE_COMMUNICATION"];
    let specs = vec![
        listener(dir.path(), "hangs", "hang", &events, 2),
        listener(dir.path(), "babbles", "babble", &events, 2),
        listener(dir.path(), "good", "ok", &events, 100),
    ];
    let rig = Rig::new(dir.path(), specs);
    for who in ["hangs", "babbles", "good"] {
        rig.state(who, ProcessState::Running).await;
    }
    rig.remote("first").await;
    for who in ["hangs", "babbles", "good"] {
        wait_heard(dir.path(), who, &["first"]).await;
    }
    for i in 0..50 {
        rig.remote(&format!("number {i}.")).await;
    }
    let lines = wait_heard(dir.path(), "good", &["number 0.", "number 49."]).await;
    assert_eq!(lines.len(), 51);
    assert_eq!(heard(dir.path(), "hangs").len(), 1);
    // A new process in place of the one that hangs gets what it had, and then the newest two.
    rig.handle.stop(one("hangs")).await.unwrap();
    let mut settings = rig.settings.clone();
    settings.processes[0] = listener(dir.path(), "hangs", "ok", &events, 2);
    rig.handle.update(settings).await.unwrap();
    rig.handle.start(one("hangs")).await.unwrap();
    let lines = wait_heard(dir.path(), "hangs", &["first", "first", "number 49."]).await;
    assert_eq!(lines.len(), 3, "{lines:#?}");
    rig.end().await;
}

#[tokio::test]
async fn a_listener_does_not_notice_that_its_agent_is_killed_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let ears = listener(dir.path(), "ears", "ok", &["REMOTE_COMMUNICATION"], 1000);
    let mut rig = Rig::new(dir.path(), vec![ears]);
    let pid = rig.state("ears", ProcessState::Running).await.pid;
    let mut sent = 0;
    for round in 0..6 {
        for _ in 0..20 {
            rig.remote(&format!("n {sent}.")).await;
            sent += 1;
        }
        if round % 2 == 0 {
            // Nothing waits that a killed agent could take with it.
            wait_heard(dir.path(), "ears", &[&format!("n {}.", sent - 1)]).await;
            rig = rig.crash().await;
        } else {
            rig = rig.replace().await;
        }
    }
    rig.remote("the end").await;
    let lines = wait_heard(dir.path(), "ears", &["the end"]).await;
    let numbers: Vec<_> = lines.iter().filter_map(|l| l.split_once("|n ")).map(|p| p.1).collect();
    let want: Vec<_> = (0..sent).map(|n| format!("{n}.")).collect();
    assert_eq!(numbers, want);
    assert_eq!(rig.state("ears", ProcessState::Running).await.pid, pid);
    rig.end().await;
}
