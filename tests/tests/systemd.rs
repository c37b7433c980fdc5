//! What a service manager hears from the agent.

use std::{os::unix::net::UnixDatagram, time::Duration};

use palisade_e2e::{agent::Agent, wait::wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");
const CAP: Duration = Duration::from_secs(30);

/// The next message that holds `part`; others are passed over.
fn hear(manager: &UnixDatagram, part: &str) -> String {
    wait_for(part, CAP, || {
        let mut buffer = [0; 4096];
        let n = manager.recv(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(buffer.get(..n)?).into_owned();
        text.contains(part).then_some(text)
    })
}

#[test]
fn it_hears_ready_status_watchdog_reload_upgrade_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut agent =
        Agent::new(BINARY, "programs: { a: { command: [sleep, '1000'], startsecs: 0 } }\n")
            .env("NOTIFY_SOCKET", path.to_str().unwrap())
            .env("WATCHDOG_USEC", "400000");
    agent.start();
    assert!(hear(&manager, "READY=1").contains("STATUS="));
    hear(&manager, "STATUS=1 of 1 processes running");
    hear(&manager, "WATCHDOG=1");
    hear(&manager, "WATCHDOG=1");

    agent.ok(&["update"]);
    assert!(hear(&manager, "RELOADING=1").contains("MONOTONIC_USEC="));
    hear(&manager, "READY=1");

    agent.ok(&["upgrade"]);
    hear(&manager, "RELOADING=1");
    hear(&manager, "READY=1");
    hear(&manager, "WATCHDOG=1");
    // The program was given no way to speak for the agent.
    let environ = std::fs::read(format!("/proc/{}/environ", agent.wait_running("a"))).unwrap();
    let environ = String::from_utf8_lossy(&environ);
    assert!(!environ.contains("NOTIFY_SOCKET") && !environ.contains("WATCHDOG"), "{environ}");

    assert_eq!(agent.stop(), Some(0));
    hear(&manager, "STOPPING=1");
}
