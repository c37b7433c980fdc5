//! What survives the agent: its processes, their output, their sockets.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests against real processes, some of it in helpers"
)]

mod supervise_common;

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use palisade_types::ProcessState;
use serde_json::json;
use supervise_common::{Agent, free_address, living, python, shell, wait_for};

/// Writes numbered lines for ever, about two thousand a second, and says so if that ever fails.
const COUNTER: &str = "
import time, sys
n = 0
while True:
    for _ in range(20):
        sys.stdout.write('%d\\n' % n)
        n += 1
    sys.stdout.flush()
    time.sleep(0.01)
";

/// The numbers that arrived, in order of arrival.
fn numbers(agent: &Agent, name: &str) -> Vec<u64> {
    agent.output(name).lines().map(|l| l.parse().unwrap()).collect()
}

fn assert_none_missing(seen: &[u64]) {
    let set: BTreeSet<_> = seen.iter().copied().collect();
    let last = *set.last().unwrap();
    let missing = (0..=last).filter(|n| !set.contains(n)).count();
    assert_eq!(missing, 0, "of {last} lines");
}

#[test]
fn a_killed_agent_is_followed_by_one_that_adopts_and_no_line_is_lost() {
    let mut agent = Agent::start(json!({ "count": { "command": python(COUNTER) } }));
    let first = agent.wait_state("count", ProcessState::Running);
    for round in 1..=5 {
        let before = numbers(&agent, "count").len();
        wait_for("more lines", || (numbers(&agent, "count").len() > before + 300).then_some(()));
        agent.crash();
        // Longer than a pipe without reader would live, shorter than it takes to fill one.
        thread::sleep(Duration::from_millis(50 * round));
        agent.start_again();
        let now = agent.wait_state("count", ProcessState::Running);
        assert_eq!((now.pid, now.restarts), (first.pid, 0), "round {round}");
        assert_eq!(living(&agent.run_dir()).len(), 1, "one copy");
    }
    let before = numbers(&agent, "count").len();
    wait_for("more lines", || (numbers(&agent, "count").len() > before + 300).then_some(()));
    let seen = numbers(&agent, "count");
    assert_none_missing(&seen);
    let doubled = seen.len() - seen.iter().collect::<BTreeSet<_>>().len();
    eprintln!("{} lines over 5 kills, 0 lost, {doubled} doubled", seen.len());
    assert!(agent.stop());
}

#[test]
fn an_agent_that_executes_anew_loses_and_doubles_no_line() {
    let agent = Agent::start(json!({ "count": { "command": python(COUNTER) } }));
    let first = agent.wait_state("count", ProcessState::Running);
    for _ in 0..5 {
        let before = numbers(&agent, "count").len();
        wait_for("more lines", || (numbers(&agent, "count").len() > before + 300).then_some(()));
        agent.re_exec();
        let now = agent.wait_state("count", ProcessState::Running);
        assert_eq!((now.pid, now.restarts), (first.pid, 0));
    }
    let before = numbers(&agent, "count").len();
    wait_for("more lines", || (numbers(&agent, "count").len() > before + 300).then_some(()));
    let seen = numbers(&agent, "count");
    assert_eq!(seen, (0..u64::try_from(seen.len()).unwrap()).collect::<Vec<_>>());
    eprintln!("{} lines over 5 re-execs, 0 lost, 0 doubled", seen.len());
    assert!(agent.stop());
}

#[test]
fn a_child_of_before_the_exec_is_still_waited_for_with_its_exit_code() {
    let code = "import signal, sys, time\n\
                signal.signal(signal.SIGTERM, lambda *a: sys.exit(7))\n\
                print('up', flush=True)\n\
                while True: time.sleep(100)";
    let agent = Agent::start(json!({
        "seven": { "command": python(code), "autorestart": "never", "startsecs": 0.3 }
    }));
    let pid = agent.wait_state("seven", ProcessState::Running).pid;
    wait_for("its handler", || (agent.output("seven") == "up\n").then_some(()));
    agent.re_exec();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let row = agent.wait_state("seven", ProcessState::Exited);
    assert_eq!(row.exit.as_deref(), Some("exit 7"));
}

#[test]
fn the_end_of_an_adopted_process_is_seen_and_answered() {
    let mut agent = Agent::start(json!({
        "web": { "command": ["/bin/sleep", "1000"], "autorestart": "always", "startsecs": 0.1 }
    }));
    let first = agent.wait_state("web", ProcessState::Running).pid;
    agent.crash_and_start();
    assert_eq!(agent.wait_state("web", ProcessState::Running).pid, first);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let row = agent.wait("web", |r| r.state == ProcessState::Running && r.pid != first);
    assert_eq!(row.restarts, 1);
    let exit = row.exit.unwrap();
    assert!(["signal KILL", "unknown"].contains(&exit.as_str()), "{exit}");
    eprintln!("exit of an adopted process: {exit}");
}

#[test]
fn a_process_that_died_while_no_agent_was_there_is_started_again() {
    let mut agent = Agent::start(json!({
        "web": { "command": ["/bin/sleep", "1000"], "startsecs": 0.1 }
    }));
    let first = agent.wait_state("web", ProcessState::Running).pid;
    agent.crash();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), Signal::SIGKILL).unwrap();
    wait_for("death", || (!supervise_common::is_running(first)).then_some(()));
    agent.start_again();
    let row = agent.wait("web", |r| r.state == ProcessState::Running && r.pid != first);
    // Told by the zombie while its new parent has not reaped it, by nobody after that.
    let exit = row.exit.unwrap();
    assert!(["signal KILL", "unknown"].contains(&exit.as_str()), "{exit}");
}

#[test]
fn a_process_is_found_by_its_mark_when_the_table_is_lost_or_broken() {
    let programs = json!({ "web": { "command": ["/bin/sleep", "1000"], "startsecs": 0.1 } });
    let mut agent = Agent::start(programs);
    let first = agent.wait_state("web", ProcessState::Running).pid;
    agent.crash();
    std::fs::remove_file(agent.run_dir().join("supervise.json")).unwrap();
    agent.start_again();
    assert_eq!(agent.wait_state("web", ProcessState::Running).pid, first);
    agent.crash();
    std::fs::write(agent.run_dir().join("supervise.json"), "{\"v\":1,").unwrap();
    agent.start_again();
    assert_eq!(agent.wait_state("web", ProcessState::Running).pid, first);
    assert_eq!(living(&agent.run_dir()).len(), 1);
}

#[test]
fn a_mark_that_another_user_puts_on_is_not_believed() {
    if !nix::unistd::Uid::effective().is_root() {
        return eprintln!("skipped: not root");
    }
    let programs = json!({ "web": { "command": ["/bin/sleep", "1000"], "startsecs": 0.1 } });
    let mut agent = Agent::start(programs);
    let real = agent.wait_state("web", ProcessState::Running).pid;
    agent.crash();
    let forger = "import os\n\
                  os.setgid(65534); os.setuid(65534)\n\
                  env = dict(PALISADE_SUPERVISOR=os.environ['D'], PALISADE_PROCESS='web',\n\
                  \x20          PALISADE_PID=str(os.getpid()))\n\
                  os.execve('/bin/sleep', ['sleep', '1000'], env)";
    let mut forged = std::process::Command::new("/usr/bin/python3")
        .args(["-c", forger])
        .env("D", agent.run_dir())
        .spawn()
        .unwrap();
    wait_for("forgery", || (living(&agent.run_dir()).len() == 2).then_some(()));
    std::fs::remove_file(agent.run_dir().join("supervise.json")).unwrap();
    agent.start_again();
    assert_eq!(agent.wait_state("web", ProcessState::Running).pid, real);
    forged.kill().unwrap();
    forged.wait().unwrap();
}

#[test]
fn a_process_whose_settings_went_away_with_the_agent_is_stopped_by_the_next() {
    let mut agent = Agent::start(json!({
        "old": { "command": ["/bin/sleep", "1000"], "startsecs": 0.1 },
        "kept": { "command": ["/bin/sleep", "1000"], "startsecs": 0.1 }
    }));
    let old = agent.wait_state("old", ProcessState::Running).pid;
    let kept = agent.wait_state("kept", ProcessState::Running).pid;
    agent.crash();
    let config = agent.dir.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut config_now: serde_json::Value = serde_json::from_str(&text).unwrap();
    config_now["programs"].as_object_mut().unwrap().remove("old");
    std::fs::write(&config, config_now.to_string()).unwrap();
    agent.start_again();
    wait_for("end of the old one", || (!supervise_common::is_running(old)).then_some(()));
    assert_eq!(agent.wait_state("kept", ProcessState::Running).pid, kept);
}

/// Accepts on descriptor 3 and answers each connection with its own pid.
const SERVER: &str = "
import os, socket
assert os.environ['LISTEN_FDS'] == '1' and os.environ['LISTEN_PID'] == str(os.getpid())
assert os.environ['LISTEN_FDNAMES'] == 'http'
s = socket.socket(fileno=3)
while True:
    c, _ = s.accept()
    c.recv(100)
    c.sendall(str(os.getpid()).encode())
    c.close()
";

fn ask(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"x")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

#[test]
fn a_listening_socket_serves_over_re_exec_and_crash_of_the_agent() {
    let addr = free_address();
    let mut agent = Agent::start(json!({
        "web": { "command": python(SERVER), "sockets": { "http": addr.to_string() } }
    }));
    let pid = agent.wait_state("web", ProcessState::Running).pid;
    let is_over = Arc::new(AtomicBool::new(false));
    let client = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let (mut good, mut bad) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                match ask(addr) {
                    Ok(_) => good += 1,
                    Err(_) => bad += 1,
                }
            }
            (good, bad)
        }
    });
    for _ in 0..3 {
        agent.re_exec();
        agent.crash_and_start();
        assert_eq!(agent.wait_state("web", ProcessState::Running).pid, pid);
    }
    // The new agent holds the very same socket: a restart of the program loses no connection either,
    // those that come meanwhile wait in its queue.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let next = agent.wait("web", |r| r.state == ProcessState::Running && r.pid != pid).pid;
    wait_for("answer of the next", || ask(addr).ok().filter(|a| *a == next.to_string()));
    is_over.store(true, Ordering::Relaxed);
    let (good, bad) = client.join().unwrap();
    eprintln!("{good} connections answered, {bad} not");
    // The one that the killed program had accepted is the program's loss, not the socket's.
    assert!(good > 100 && bad <= 1, "{good} good, {bad} bad");
}

#[test]
fn readiness_said_during_a_re_exec_is_heard() {
    let code = "import os, socket, time\n\
                time.sleep(0.5)\n\
                s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
                s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n\
                time.sleep(1000)";
    let agent = Agent::start(
        json!({ "web": { "command": python(code), "notify": 15.0, "startsecs": 0.1 } }),
    );
    let pid = agent.wait("web", |r| r.pid > 0).pid;
    agent.re_exec();
    let row = agent.wait_state("web", ProcessState::Running);
    assert_eq!((row.pid, row.ready), (pid, true));
}

#[test]
fn a_wait_before_the_next_try_outlives_the_agent() {
    let mut agent = Agent::start(json!({
        "bad": { "command": shell("exit 3"), "startretries": 9 }
    }));
    agent.wait("bad", |r| r.state == ProcessState::Backoff && r.restarts >= 1);
    let table = agent.run_dir().join("supervise.json");
    let is_written = || std::fs::read_to_string(&table).unwrap().contains("\"backoff\"");
    wait_for("table", || is_written().then_some(()));
    agent.crash_and_start();
    let row = agent.wait_state("bad", ProcessState::Backoff);
    assert!(row.restarts >= 1, "{row:?}");
    assert_eq!(row.exit.as_deref(), Some("exit 3"));
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn an_agent_killed_at_any_instant_leaves_at_most_one_copy_of_each() {
    // Twenty that are being started when the first kills come, and ten that die all the time.
    let mut agent = Agent::start(json!({
        "still": { "command": ["/bin/sleep", "1000"], "numprocs": 20, "startsecs": 0 },
        "brief": {
            "command": shell("sleep 0.02"), "numprocs": 10, "startsecs": 0, "autorestart": "always"
        },
    }));
    let mut dice = Dice(7);
    let mut most = 0;
    for _ in 0..40 {
        thread::sleep(Duration::from_micros(dice.below(60_000)));
        agent.crash();
        let copies = living(&agent.run_dir());
        let mains: Vec<_> = copies.iter().filter(|(pid, _)| is_main(*pid)).collect();
        for (_, name) in &mains {
            let same = mains.iter().filter(|(_, n)| n == name).count();
            assert_eq!(same, 1, "copies of {name}: {copies:?}");
        }
        most = most.max(mains.len());
        if !agent.run_dir().join("status.json").exists() {
            std::fs::write(agent.run_dir().join("status.json"), "[]").unwrap();
        }
        agent.start_again();
    }
    let up = |agent: &Agent| {
        let rows = agent.status();
        rows.values().filter(|r| r.program_is("still") && r.state == ProcessState::Running).count()
    };
    wait_for("all that stay", || (up(&agent) == 20).then_some(()));
    let still = living(&agent.run_dir()).into_iter().filter(|(_, n)| n.starts_with("still"));
    assert_eq!(still.count(), 20);
    eprintln!("40 kills at any instant, never a second copy; at most {most} lived through one");
}

trait Named {
    fn program_is(&self, program: &str) -> bool;
}

impl Named for palisade_types::ProcessStatus {
    fn program_is(&self, program: &str) -> bool {
        self.group.as_str() == program
    }
}

/// Whether a process is the one that the agent started, not one that inherited its environment.
fn is_main(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|e| {
        String::from_utf8_lossy(&e).split('\0').any(|v| v == format!("PALISADE_PID={pid}"))
    })
}

#[test]
fn a_second_agent_on_the_same_directory_is_refused_and_touches_nothing() {
    let agent =
        Agent::start(json!({ "web": { "command": ["/bin/sleep", "1000"], "startsecs": 0.1 } }));
    let pid = agent.wait_state("web", ProcessState::Running).pid;
    let second = agent.second();
    assert!(!second.success());
    assert_eq!(agent.wait_state("web", ProcessState::Running).pid, pid);
    assert_eq!(living(&agent.run_dir()).len(), 1);
}
