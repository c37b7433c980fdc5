//! What a person sees who replaces a program that serves, by the real binary.

#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

use std::fs;

use palisade_e2e::{
    agent::{Agent, CAP},
    wait::wait_until,
};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");

const WEB: &str = "programs:\n  web:\n    command: [/bin/sh, -c, 'test ! -e @DIR@/broken && exec sleep \
                   1000; exit 3']\n    startsecs: 2s\n    rolling: { overlap: true }\n    stop: \
                   [TERM, 5s, QUIT, 1s]\n    restarts_per_minute: 60\n";

#[test]
fn a_rolling_restart_with_overlap_says_who_was_replaced_and_a_bad_release_fails_and_leaves_the_old()
{
    let mut agent = Agent::new(BINARY, WEB);
    agent.start();
    let old = agent.wait_running("web");
    let said = agent.ok(&["restart", "--rolling", "web"]);
    let new = agent.wait_running("web");
    assert_eq!(said, format!("web: replaced (pid {old} by {new})\n"));
    wait_until("the old one to go", CAP, || !fs::exists(format!("/proc/{old}")).unwrap());
    let events = agent.ok(&["events", "-n", "100"]);
    assert!(events.contains("process replaced web: a rolling restart was asked for"), "{events}");

    fs::write(agent.dir().join("broken"), "").unwrap();
    let out = agent.ctl(&["restart", "--rolling", "web"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(
        said.contains("web: ERROR (the new instance did not come up, the old one stays"),
        "{said}"
    );
    assert_eq!(agent.wait_running("web"), new);
    let status = agent.ok(&["status"]);
    assert!(status.contains("RUNNING") && status.contains("; the new instance did"), "{status}");

    // So does a bad release by `update`; and to take it back does nothing to the good one.
    agent.configure(&WEB.replace("1000", "1500"));
    let out = agent.ctl(&["update"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.starts_with("web: changed\nweb: ERROR (the new instance did not"), "{said}");
    agent.configure(WEB);
    assert_eq!(agent.ok(&["update"]), "web: changed\n");
    assert_eq!(agent.wait_running("web"), new);
    let status = agent.ok(&["status"]);
    assert!(!status.contains("did not come up"), "{status}");

    // A changed program is replaced in the same way by `update`.
    fs::remove_file(agent.dir().join("broken")).unwrap();
    agent.configure(&WEB.replace("1000", "2000"));
    assert_eq!(agent.ok(&["update"]), "web: changed\n");
    assert_ne!(agent.wait_running("web"), new, "the command waited for it");
    // After a kill of the agent it is still one process, whatever its place is called.
    let now = agent.wait_running("web");
    agent.kill_agent();
    agent.start();
    assert_eq!(agent.wait_running("web"), now);
    assert_eq!(agent.programs().len(), 1);
}
