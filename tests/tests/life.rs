//! What survives the agent: its upgrade, its death, its orderly end.

#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

use std::{fs, path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_agent::sys::files::write_atomic;
use palisade_e2e::{
    agent::{Agent, CAP, copy_program},
    wait::{wait_for, wait_until},
};
use palisade_types::ProcessState;

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");

/// Prints numbered lines as fast as the pipe takes them, a thousand a second or so.
const COUNTER: &str = "programs:\n  counter:\n    command: [/bin/sh, -c, 'i=0; while :; do i=$((i+1)); \
                       echo line $i; sleep 0.001; done']\n    stdout_logfile_maxbytes: 0\n";
const LOG: &str = "state/programs/counter.stdout.log";

/// The numbers in the log file, in its order.
fn numbers(agent: &Agent) -> Vec<u64> {
    let text = agent.read(LOG);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|l| l.strip_prefix("line ").unwrap().parse().unwrap()).collect()
}

fn wait_lines(agent: &Agent, beyond: usize) {
    wait_until("more lines", CAP, || numbers(agent).len() > beyond + 50);
}

#[test]
fn an_upgrade_in_place_keeps_pids_and_doubles_and_loses_no_line() {
    let mut agent = Agent::new(BINARY, COUNTER);
    agent.start();
    let child = agent.wait_running("counter");
    for round in 1..=3 {
        wait_lines(&agent, numbers(&agent).len());
        // A package upgrade puts a new file at the path; the old one lives on unnamed.
        let new = agent.dir().join("new");
        copy_program(Path::new(BINARY), &new);
        fs::rename(&new, agent.binary()).unwrap();
        if round == 2 {
            agent.signal(Signal::SIGUSR2);
        } else {
            let said = agent.ok(&["upgrade"]);
            assert!(said.contains("replaced"), "{said}");
        }
        let text = format!("upgraded in place {round} times");
        wait_until("the new binary", CAP, || {
            String::from_utf8_lossy(&agent.ctl(&["status"]).stdout).contains(&text)
        });
        let exe = fs::read_link(format!("/proc/{}/exe", agent.pid())).unwrap();
        assert_eq!(exe, agent.binary().canonicalize().unwrap());
        assert_eq!(agent.wait_running("counter"), child);
    }
    wait_lines(&agent, numbers(&agent).len());
    let seen = numbers(&agent);
    assert!(seen.iter().copied().eq(1..=seen.len() as u64), "lines are missing or doubled");
}

#[test]
fn a_binary_that_does_not_run_is_not_upgraded_to() {
    let mut agent = Agent::new(BINARY, COUNTER);
    agent.start();
    let child = agent.wait_running("counter");
    let new = agent.dir().join("new");
    write_atomic(&new, b"#!/bin/sh\necho broken build; exit 1\n", 0o755).unwrap();
    let good = agent.dir().join("good");
    fs::rename(agent.binary(), &good).unwrap();
    fs::rename(&new, agent.binary()).unwrap();
    agent.signal(Signal::SIGUSR2);
    wait_until("the refusal", CAP, || agent.log().contains("not upgraded"));
    fs::rename(&good, agent.binary()).unwrap();
    assert!(agent.log().contains("broken build"), "{}", agent.log());
    assert_eq!(agent.wait_running("counter"), child);
    assert!(agent.ok(&["status"]).contains("upgraded in place 0 times"));
}

#[test]
fn an_agent_that_is_killed_in_a_restart_leaves_the_start_to_the_next_one() {
    let mut agent = Agent::new(
        BINARY,
        "programs:\n  deaf:\n    command: [/bin/sh, -c, 'trap : TERM; while :; do sleep 0.1; done']\n    \
         stopwaitsecs: 6s\n",
    );
    for verb in ["restart", "stop"] {
        agent.start();
        let old = agent.wait_running("deaf");
        let asking = std::process::Command::new(agent.binary())
            .arg("-c")
            .arg(agent.config())
            .args([verb, "deaf"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
        agent.wait_state("deaf", ProcessState::Stopping);
        // The table is written 20 times a second.
        std::thread::sleep(Duration::from_millis(200));
        agent.kill_agent();
        asking.unwrap().wait().unwrap();
        agent.start();
        if verb == "restart" {
            wait_until("a new one", CAP, || {
                agent
                    .program("deaf")
                    .is_some_and(|p| p.state == ProcessState::Running && p.pid != old)
            });
            agent.stop();
        } else {
            agent.wait_state("deaf", ProcessState::Stopped);
        }
    }
}

#[test]
fn a_restart_is_done_to_its_end_although_nobody_waits_for_it_unless_somebody_stops_it() {
    let mut agent = Agent::new(
        BINARY,
        "programs:\n  deaf:\n    command: [/bin/sh, -c, 'trap : TERM; while :; do sleep 0.1; done']\n    \
         stopwaitsecs: 6s\n",
    );
    agent.start();
    let old = agent.wait_running("deaf");
    for is_stopped in [false, true] {
        let mut asking = std::process::Command::new(agent.binary())
            .arg("-c")
            .arg(agent.config())
            .args(["restart", "deaf"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        agent.wait_state("deaf", ProcessState::Stopping);
        asking.kill().unwrap();
        asking.wait().unwrap();
        if is_stopped {
            agent.ok(&["stop", "deaf"]);
            std::thread::sleep(Duration::from_millis(300));
            agent.wait_state("deaf", ProcessState::Stopped);
        } else {
            wait_until("a new one", CAP, || {
                agent
                    .program("deaf")
                    .is_some_and(|p| p.state == ProcessState::Running && p.pid != old)
            });
        }
    }
}

/// Puts a script at the agent's path that passes the check before an upgrade.
fn put_script(agent: &Agent, run: &str) {
    let new = agent.dir().join("new");
    let script = format!("#!/bin/sh\ncase $1 in check|-c) exit 0 ;; esac\n{run}\n");
    write_atomic(&new, script.as_bytes(), 0o755).unwrap();
    fs::rename(&new, agent.binary()).unwrap();
}

/// Writes each of the texts to whoever reads the file next, in this order.
fn serve_in_turn(path: &Path, texts: &[&str]) {
    let next = path.with_extension("next");
    let fifo = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    fifo(&next);
    fs::rename(&next, path).unwrap();
    for text in texts {
        // Opened when a reader is there; from then on the path is the next reader's.
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        fifo(&next);
        fs::rename(&next, path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }
}

#[test]
fn a_new_binary_that_fails_before_it_is_ready_gives_way_to_the_one_before() {
    let mut agent = Agent::new(BINARY, COUNTER);
    agent.start();
    let (pid, child) = (agent.pid(), agent.wait_running("counter"));
    let good = agent.dir().join("good");
    fs::rename(agent.binary(), &good).unwrap();
    put_script(&agent, &format!("exec {} \"$@\"", good.display()));
    // The agent reads a good file, the new binary a bad one, the old one a good one again.
    let text = fs::read_to_string(agent.config()).unwrap();
    let config = agent.config();
    let served = std::thread::spawn(move || serve_in_turn(&config, &[&text, "version: 2", &text]));
    let socket = agent.dir().join("run/control.sock");
    let ctl = |verb: &str| {
        let args = ["--socket", socket.to_str().unwrap(), verb];
        std::process::Command::new(&good).args(args).output().unwrap()
    };
    let out = ctl("upgrade");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    served.join().unwrap();
    assert_eq!(out.status.code(), Some(1), "{said}\n{}", agent.log());
    assert!(said.contains("did not come up") && said.contains("the configuration"), "{said}");
    assert_eq!(agent.pid(), pid);
    let status = String::from_utf8_lossy(&ctl("status").stdout).into_owned();
    assert!(status.contains("did not come up"), "{status}");
    assert!(status.contains(&format!("RUNNING   pid {child}")), "{status}");

    // Mended: the next upgrade is to the binary at the path, and nothing is left of the way back.
    copy_program(&good, &agent.dir().join("mended"));
    fs::rename(agent.dir().join("mended"), agent.binary()).unwrap();
    fs::remove_file(agent.config()).unwrap();
    agent.configure(COUNTER);
    assert!(agent.ok(&["upgrade"]).contains("replaced"));
    assert!(!agent.ok(&["status"]).contains("did not come up"));
    assert_eq!(agent.wait_running("counter"), child);
    let left: Vec<_> = fs::read_dir(agent.dir().join("state/upgrade")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_new_binary_that_dies_at_once_leaves_the_way_back_to_whoever_starts_it_again() {
    let mut agent = Agent::new(BINARY, COUNTER);
    agent.start();
    let child = agent.wait_running("counter");
    put_script(&agent, "kill -SEGV $$");
    agent.signal(Signal::SIGUSR2);
    agent.wait_gone();
    let previous = agent.dir().join("state/upgrade/previous");
    let note = agent.read("state/upgrade/pending");
    let meta = fs::metadata(agent.binary()).unwrap();
    let expected = {
        use std::os::unix::fs::MetadataExt as _;
        format!("{}-{}-{}", meta.ino(), meta.mtime(), meta.size())
    };
    assert_eq!(note, expected);
    // What the unit's launch script does next.
    let stands_for = agent.binary().to_str().unwrap().to_owned();
    let mut agent = agent.env("PALISADE_BINARY", &stands_for);
    agent.start_as(&previous);
    let status = agent.status_by(&previous);
    assert!(status.contains("did not come up"), "{status}");
    assert!(status.contains(&format!("RUNNING   pid {child}")), "{status}");
    // A refused upgrade leaves the way back as it is: the bad binary is still at the path.
    let text = fs::read_to_string(agent.config()).unwrap();
    write_atomic(&agent.config(), b"version: 2", 0o644).unwrap();
    agent.signal(Signal::SIGUSR2);
    wait_until("the refusal", CAP, || agent.log().contains("not upgraded"));
    write_atomic(&agent.config(), text.as_bytes(), 0o644).unwrap();
    assert!(previous.exists(), "the same binary would be tried again at the next start");

    // Another binary is taken, and is the one to upgrade from then on.
    for _ in 0..2 {
        copy_program(Path::new(BINARY), &agent.dir().join("mended"));
        fs::rename(agent.dir().join("mended"), agent.binary()).unwrap();
        let said = agent.ok(&["upgrade"]);
        assert!(said.contains("replaced"), "{said}");
        assert_eq!(agent.wait_running("counter"), child);
    }
    assert!(!previous.exists());
}

#[test]
fn a_killed_agent_leaves_programs_running_and_the_next_adopts_them_without_a_lost_line() {
    let mut agent = Agent::new(BINARY, COUNTER);
    agent.start();
    let child = agent.wait_running("counter");
    for _ in 0..3 {
        wait_lines(&agent, numbers(&agent).len());
        agent.kill_agent();
        assert!(Path::new(&format!("/proc/{child}")).exists());
        agent.start();
        assert_eq!(agent.wait_running("counter"), child);
    }
    wait_lines(&agent, numbers(&agent).len());
    let mut seen = numbers(&agent);
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.iter().copied().eq(1..=seen.len() as u64), "lines are missing");
    // A crash between keeping a chunk and taking it from the pipe can double that chunk.
    assert!(all - seen.len() < 3 * 5000, "{} doubled", all - seen.len());
}

#[test]
fn an_adopted_program_that_ends_is_started_again() {
    let mut agent = Agent::new(BINARY, COUNTER);
    agent.start();
    let child = agent.wait_running("counter");
    agent.kill_agent();
    agent.start();
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    wait_until("its successor", CAP, || {
        agent.program("counter").is_some_and(|p| p.pid > 0 && p.pid != child && p.restarts == 1)
    });
}

#[test]
fn a_program_that_ended_while_no_agent_was_there_is_started_again() {
    let mut agent = Agent::new(BINARY, COUNTER);
    agent.start();
    let child = agent.wait_running("counter");
    agent.kill_agent();
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    agent.start();
    assert_ne!(agent.wait_running("counter"), child);
}

#[test]
fn sigterm_stops_the_programs_and_then_the_agent() {
    let mut agent = Agent::new(BINARY, COUNTER);
    agent.start();
    let child = agent.wait_running("counter");
    assert_eq!(agent.stop(), Some(0));
    assert!(!Path::new(&format!("/proc/{child}")).exists());
    assert_eq!(agent.ctl(&["status"]).status.code(), Some(4));
}

#[test]
fn the_word_to_stop_is_heard_also_in_the_middle_of_an_upgrade() {
    for ms in [0, 2, 5, 10, 20, 40] {
        let mut agent = Agent::new(BINARY, COUNTER);
        agent.start();
        let child = agent.wait_running("counter");
        agent.signal(Signal::SIGUSR2);
        // No fact to wait for: the word is to fall into every part of the upgrade.
        std::thread::park_timeout(Duration::from_millis(ms));
        assert_eq!(agent.stop(), Some(0), "{ms} ms: {}", agent.log());
        assert!(!Path::new(&format!("/proc/{child}")).exists(), "{ms} ms");
    }
}

#[test]
fn an_upgrade_that_would_not_find_its_programs_again_is_refused() {
    let mut agent = Agent::new(BINARY, COUNTER);
    agent.start();
    let child = agent.wait_running("counter");
    let text = std::fs::read_to_string(agent.config()).unwrap();
    let moved = text.replace("/run,", "/other-run,");
    write_atomic(&agent.config(), moved.as_bytes(), 0o644).unwrap();
    let socket = agent.dir().join("run/control.sock");
    let refused = agent.ctl(&["--socket", socket.to_str().unwrap(), "upgrade"]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    write_atomic(&agent.config(), text.as_bytes(), 0o644).unwrap();
    assert_eq!(agent.wait_running("counter"), child);
}

#[test]
fn a_rolling_restart_goes_one_by_one_and_ends_at_the_first_that_is_not_up() {
    let mut agent = Agent::new(
        BINARY,
        "programs:\n  pool:\n    command: [/bin/sh, -c, 'test ! -e @DIR@/broken-%(process_num)d && exec \
         sleep 1000']\n    numprocs: 3\n    startsecs: 2s\n    startretries: 0\n",
    );
    agent.start();
    let pids = |agent: &Agent| ["pool_00", "pool_01", "pool_02"].map(|n| agent.wait_running(n));
    let before = pids(&agent);
    agent.ok(&["restart", "--rolling", "pool:*"]);
    let after = pids(&agent);
    assert!(before.iter().zip(&after).all(|(a, b)| a != b), "{before:?} {after:?}");
    let events = agent.ok(&["events", "-n", "100"]);
    let at = |what: &str| events.rfind(what).unwrap_or_else(|| panic!("{what}: {events}"));
    assert!(at("process running pool_00") < at("process stopping pool_01"), "{events}");

    fs::write(agent.dir().join("broken-1"), "").unwrap();
    let out = agent.ctl(&["restart", "--rolling", "pool:*"]);
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("1 not restarted"), "{said}");
    assert_ne!(agent.wait_running("pool_00"), after[0]);
    assert_eq!(agent.wait_running("pool_02"), after[2]);
}

#[test]
fn verbs_work_and_say_what_supervisors_users_expect() {
    let mut agent = Agent::new(
        BINARY,
        "programs:\n  a: { command: [/bin/sh, -c, 'trap \"echo got hup\" HUP; echo hello; while :; do \
         sleep 0.05; done'], autostart: false }\n  bad: { command: /nonexistent/x, startretries: 0, \
         autostart: false }\n  pool: { command: [sleep, '1000'], numprocs: 2 }\n",
    );
    agent.start();
    assert_eq!(agent.ctl(&["status"]).status.code(), Some(3));
    assert_eq!(agent.ok(&["start", "a"]), "a: started\n");
    assert_eq!(agent.ok(&["start", "a"]), "a: already started\n");
    assert_eq!(agent.ok(&["signal", "HUP", "a"]), "a: signalled\n");
    let tail = wait_for("the trap to speak", CAP, || {
        Some(agent.ok(&["tail", "a"])).filter(|t| t.contains("got hup"))
    });
    assert!(tail.starts_with("hello\n"), "{tail}");
    assert_eq!(agent.ok(&["clear", "a"]), "a: cleared\n");
    assert_eq!(agent.ok(&["tail", "a"]), "");
    let bad = agent.ctl(&["start", "bad"]);
    let text = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert!(text.starts_with("bad: ERROR (") && text.contains("/nonexistent/x"), "{text}");
    agent.wait_running("pool_01");
    assert_eq!(agent.ok(&["restart", "pool:*"]).lines().count(), 4);
    let unknown = agent.ctl(&["stop", "a", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nobody: no such process"));
    agent.wait_running("a");
    assert_eq!(agent.ok(&["stop", "all"]).lines().filter(|l| l.ends_with(": stopped")).count(), 3);
    assert_eq!(agent.wait_state("a", ProcessState::Stopped).pid, 0);
    let events = agent.ok(&["events"]);
    assert!(events.contains("stop asked for") && events.contains("uid "), "{events}");
}

#[test]
fn an_agent_that_hangs_is_not_waited_for_for_ever() {
    let mut agent = Agent::new(BINARY, "programs: {}\n");
    agent.start();
    agent.signal(Signal::SIGSTOP);
    let told = agent.ctl(&["status"]);
    agent.signal(Signal::SIGCONT);
    assert_eq!(told.status.code(), Some(4));
    let error = String::from_utf8_lossy(&told.stderr);
    assert!(error.contains("no answer within 30 s") && error.contains("journalctl"), "{error}");
    assert_eq!(agent.stop(), Some(0));
}
