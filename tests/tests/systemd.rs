//! What a service manager and its journal hear from the agent.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]
#![expect(clippy::print_stdout, reason = "a test says why it cannot run")]

use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use palisade_e2e::{
    agent::{Agent, write_program},
    wait::{wait_for, wait_until},
};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");
const CAP: Duration = Duration::from_secs(30);

/// A service manager that takes each message at once.
struct Manager {
    path: PathBuf,
    messages: Receiver<String>,
}

impl Manager {
    fn new(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (tx, messages) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                if tx.send(text).is_err() {
                    return;
                }
            }
        });
        Self { path, messages }
    }

    /// The next message that holds `part`; others are passed over.
    fn hear(&self, part: &str) -> String {
        wait_for(part, CAP, || self.messages.try_iter().find(|text| text.contains(part)))
    }
}

fn agent(manager: &Path, watchdog_us: &str) -> Agent {
    let mut agent =
        Agent::new(BINARY, "programs: { a: { command: [sleep, '1000'], startsecs: 0 } }\n")
            .env("NOTIFY_SOCKET", manager.to_str().unwrap())
            .env("WATCHDOG_USEC", watchdog_us);
    agent.start();
    agent
}

/// Fills the queue of a socket that nobody reads.
fn fill(path: &Path) {
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"NOISE=1\n", path).is_ok() {}
}

#[test]
fn it_hears_ready_status_watchdog_reload_upgrade_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::new(dir.path());
    let mut agent = agent(&manager.path, "400000");
    assert!(manager.hear("READY=1").contains("STATUS="));
    manager.hear("STATUS=1 of 1 processes running");
    manager.hear("WATCHDOG=1");
    manager.hear("WATCHDOG=1");

    agent.ok(&["update"]);
    assert!(manager.hear("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.hear("READY=1");

    agent.ok(&["upgrade"]);
    manager.hear("RELOADING=1");
    manager.hear("READY=1");
    manager.hear("WATCHDOG=1");
    // The program was given no way to speak for the agent.
    let environ = std::fs::read(format!("/proc/{}/environ", agent.wait_running("a"))).unwrap();
    let environ = String::from_utf8_lossy(&environ);
    assert!(!environ.contains("NOTIFY_SOCKET") && !environ.contains("WATCHDOG"), "{environ}");

    assert_eq!(agent.stop(), Some(0));
    manager.hear("STOPPING=1");
}

#[test]
fn a_manager_that_stands_still_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    // Nobody reads it.
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut agent = agent(&path, "20000");
    let child = agent.wait_running("a");
    fill(&path);
    for command in ["status", "update", "upgrade", "status"] {
        agent.ok(&[command]);
    }
    assert_eq!(agent.wait_running("a"), child);
    assert_eq!(agent.stop(), Some(0));
    drop(manager);
}

/// Runs the agent where `/run/systemd/journal` is another directory.
const ELSEWHERE: &str = r#"#!/bin/sh
test "$1" = run || exec @BINARY@ "$@"
exec unshare --mount sh -c 'mount -t tmpfs none /run && mkdir /run/systemd && ln -s @JOURNAL@ /run/systemd/journal &&
    exec @BINARY@ run --log journald -c "$0"' "$5"
"#;

#[test]
fn a_journal_that_stands_still_holds_up_nothing_and_gets_all_lines_later() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: a mount namespace needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let journald = UnixDatagram::bind(&path).unwrap();
    let mut agent =
        Agent::new(BINARY, "programs: { a: { command: [sleep, '1000'], startsecs: 0 } }\n");
    let wrapper = agent.dir().join("elsewhere");
    let text = ELSEWHERE
        .replace("@BINARY@", agent.binary().to_str().unwrap())
        .replace("@JOURNAL@", dir.path().to_str().unwrap());
    write_program(&wrapper, &text);
    agent.start_as(&wrapper);
    agent.wait_running("a");
    fill(&path);
    for command in ["restart", "stop", "start"] {
        agent.ok(&[command, "a"]);
    }
    agent.ok(&["update"]);

    // It is read again: what was said meanwhile is there, in order.
    journald.set_nonblocking(true).unwrap();
    let mut seen = String::new();
    wait_until("the last line", CAP, || {
        let mut buffer = [0; 65_536];
        while let Ok(n) = journald.recv(&mut buffer) {
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        seen.contains("configuration applied")
    });
    let mut rest = seen.rsplit_once("NOISE=1").unwrap().1;
    for next in ["restart asked", "stop asked", "start asked", "configuration applied"] {
        let found = rest.split_once(next);
        assert!(found.is_some(), "{next}: {rest}");
        rest = found.unwrap().1;
    }
    assert_eq!(agent.stop(), Some(0));
}
