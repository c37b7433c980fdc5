//! Starting, stopping and restarting real processes: Supervisor's rules, cgroups, readiness, order.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests against real processes, some of it in helpers"
)]

mod supervise_common;

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};
use palisade_types::ProcessState;
use serde_json::json;
use supervise_common::{Agent, free_address, is_running, living, python, shell, wait_for};

fn kill(pid: i32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn a_killed_process_is_back_within_milliseconds() {
    let agent = Agent::start(json!({
        "web": { "command": ["/bin/sleep", "1000"], "autorestart": "always", "startsecs": 0 }
    }));
    let mut pid = agent.wait_state("web", ProcessState::Running).pid;
    let mut taken = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        kill(pid, Signal::SIGKILL);
        // Not by the status file, which is written later: by the mark of the new process itself.
        let next = wait_for("successor", || {
            living(&agent.run_dir())
                .into_iter()
                .map(|(p, _)| p)
                .find(|p| *p != pid && is_running(*p))
        });
        taken.push(began.elapsed());
        pid = agent.wait("web", |r| r.state == ProcessState::Running && r.pid == next).pid;
    }
    taken.sort();
    eprintln!("kill -9 to successor's exec: median {:?}, worst {:?}", taken[10], taken[19]);
    assert!(taken[10] < Duration::from_millis(200), "{taken:?}");
    assert_eq!(agent.wait("web", |r| r.restarts == 20).exit.as_deref(), Some("signal KILL"));
}

#[test]
fn a_program_that_dies_at_once_is_given_up_after_its_retries() {
    let agent = Agent::start(json!({
        "bad": { "command": shell("echo try; exit 0"), "startretries": 2 }
    }));
    let began = Instant::now();
    let row = agent.wait_state("bad", ProcessState::Fatal);
    assert!(began.elapsed() > Duration::from_millis(2900), "{:?}", began.elapsed());
    assert_eq!((row.restarts, row.exit.as_deref()), (2, Some("exit 0")));
    wait_for("all its output", || (agent.output("bad") == "try\ntry\ntry\n").then_some(()));
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "x").unwrap();
    let agent = Agent::start(json!({
        "missing": { "command": ["/nonexistent/x"], "startretries": 0 },
        "unfound": { "command": ["no-such-command"], "startretries": 0 },
        "plain": { "command": [plain], "startretries": 0 },
        "nodir": { "command": ["/bin/true"], "directory": "/nonexistent", "startretries": 0 },
        "nouser": { "command": ["/bin/true"], "user": "no-such-user", "startretries": 0 },
    }));
    for (name, words) in [
        ("missing", "can't find command '/nonexistent/x'"),
        ("unfound", "can't find command 'no-such-command'"),
        ("plain", "is not executable"),
        ("nodir", "change directory to /nonexistent: No such file or directory"),
        ("nouser", "there is no user no-such-user"),
    ] {
        let row = agent.wait_state(name, ProcessState::Fatal);
        let error = row.error.unwrap();
        assert!(error.contains(words), "{name}: {error}");
    }
}

#[test]
fn a_process_that_ignores_the_stop_signal_is_killed_and_the_agent_ends() {
    let agent = Agent::start(json!({
        "deaf": { "command": shell("trap '' TERM; echo ready; while :; do sleep 1; done"), "stopwaitsecs": 0.5, "startsecs": 0.2 }
    }));
    let pid = agent.wait_state("deaf", ProcessState::Running).pid;
    wait_for("its trap", || (agent.output("deaf") == "ready\n").then_some(()));
    let began = Instant::now();
    assert!(agent.stop());
    assert!(!is_running(pid));
    assert!(began.elapsed() > Duration::from_millis(450), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn the_end_of_the_agent_stops_in_reverse_order_and_keeps_the_last_words() {
    let code = |name: &str| {
        python(&format!(
            "import signal, sys, time\n\
             def bye(*a):\n  time.sleep(0.2); print('{name} %f' % time.monotonic(), end=''); sys.exit(0)\n\
             signal.signal(signal.SIGTERM, bye)\n\
             print('up')\n\
             while True: time.sleep(100)"
        ))
    };
    let agent = Agent::start(json!({
        "low": { "command": code("low"), "priority": 1 },
        "high": { "command": code("high"), "priority": 20 },
    }));
    for name in ["low", "high"] {
        wait_for("its handler", || agent.output(name).starts_with("up").then_some(()));
    }
    let sink = agent.run_dir().join("sink");
    let said = move |name: &str| -> f64 {
        let text = fs::read_to_string(sink.join(format!("{name}.stdout"))).unwrap();
        text.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let keep = agent.run_dir();
    // The directory goes with the agent, so it is looked at before.
    let pid = Pid::from_raw(agent.pid());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    wait_for("end", || (!keep.join("supervise.json").exists()).then_some(()));
    assert!(said("low") >= said("high") + 0.19, "{} {}", said("low"), said("high"));
}

/// The kernel tells a reader of a pipe nothing while one write goes on: neither that it grew behind an
/// unfinished line, nor that it is full.
#[test]
fn output_of_megabytes_in_one_write_is_taken_whole() {
    let agent = Agent::start(json!({
        "flood": { "command": python("import os, time\n\
            os.write(1, b''.join(b'%099d\\n' % n for n in range(80_000)))\n\
            time.sleep(1000)") }
    }));
    wait_for("all its output", || (agent.output("flood").len() == 8_000_000).then_some(()));
}

#[test]
fn a_program_starts_only_when_those_it_waits_for_are_up() {
    let agent = Agent::start(json!({
        "cache": { "command": ["/bin/sleep", "1000"], "startsecs": 3 },
        "web": { "command": ["/bin/sleep", "1000"], "startsecs": 0.1, "priority": 1, "after": ["cache"] },
    }));
    let waiting = agent.wait("web", |r| r.error.is_some());
    assert_eq!((waiting.pid, waiting.error.as_deref()), (0, Some("waits for cache")));
    let web = agent.wait_state("web", ProcessState::Running);
    let cache = agent.wait_state("cache", ProcessState::Running);
    assert!(web.since >= cache.since, "{} {}", web.since, cache.since);
}

#[test]
fn a_program_is_up_when_its_page_is_there() {
    let addr = free_address();
    let code = format!(
        "import time, http.server\n\
         time.sleep(0.6)\n\
         class H(http.server.BaseHTTPRequestHandler):\n\
         \x20 def do_GET(self):\n\
         \x20   self.send_response(200); self.end_headers()\n\
         http.server.HTTPServer(('127.0.0.1', {}), H).serve_forever()",
        addr.port()
    );
    let began = Instant::now();
    let agent = Agent::start(json!({
        "web": { "command": python(&code), "http": addr.to_string(), "startsecs": 0 }
    }));
    assert!(agent.wait_state("web", ProcessState::Running).ready);
    assert!(began.elapsed() > Duration::from_millis(400), "{:?}", began.elapsed());
}

#[test]
fn a_program_that_never_says_ready_is_stopped_and_tried_again() {
    let agent = Agent::start(json!({
        "mute": { "command": ["/bin/sleep", "1000"], "notify": 0.3, "startretries": 1 }
    }));
    let row = agent.wait_state("mute", ProcessState::Fatal);
    assert_eq!((row.pid, row.ready, row.restarts), (0, false, 1));
    assert_eq!(row.error.as_deref(), Some("not ready in time"));
    assert!(living(&agent.run_dir()).is_empty());
}

#[test]
fn an_update_touches_only_what_changed() {
    let program = |arg: &str| json!({ "command": ["/bin/sleep", arg], "startsecs": 0.1 });
    let agent =
        Agent::start(json!({ "a": program("1000"), "b": program("1000"), "c": program("1000") }));
    let before: Vec<_> = ["a", "b", "c"]
        .map(|n| agent.wait_state(n, ProcessState::Running).pid)
        .into_iter()
        .collect();
    let mut a = program("1000");
    a["stopwaitsecs"] = json!(33);
    agent.update(&json!({ "a": a, "b": program("1001"), "d": program("1000") }));
    agent.wait_state("d", ProcessState::Running);
    agent.wait("b", |r| r.state == ProcessState::Running && r.pid != before[1]);
    assert_eq!(agent.wait_state("a", ProcessState::Running).pid, before[0]);
    wait_for("end of c", || (!is_running(before[2])).then_some(()));
    wait_for("c gone from the status", || (!agent.status().contains_key("c")).then_some(()));
    assert!(!agent.run_dir().join("output/c.stdout").exists());
}

#[test]
fn orphans_are_reaped() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let wait = format!("while ! test -e {}; do sleep 0.05; done", go.display());
    let code = format!("({wait} & {wait} & {wait} &); exec sleep 1000");
    let agent = Agent::start(json!({ "web": { "command": shell(&code), "startsecs": 0.1 } }));
    agent.wait_state("web", ProcessState::Running);
    let mine = |state: char| {
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|e| fs::read_to_string(e.path().join("stat")).ok())
            .filter(|s| {
                let mut fields = s.rsplit(") ").next().unwrap_or_default().split(' ');
                fields.next().is_some_and(|f| f.starts_with(state))
                    && fields.next() == Some(&agent.pid().to_string())
            })
            .count()
    };
    // They are the agent's children by now, then gone, and none of them stays as a zombie.
    wait_for("adoption of orphans", || (mine('S') >= 2).then_some(()));
    fs::File::create(&go).unwrap();
    wait_for("only the program left", || (mine('S') == 1 && mine('Z') == 0).then_some(()));
}

#[test]
fn nothing_of_a_process_outlives_it_in_its_cgroup() {
    // A worker in a session of its own, which no group signal reaches.
    let code = "import os, time\n\
                if os.fork() == 0:\n\
                \x20 os.setsid()\n\
                \x20 time.sleep(1000)\n\
                time.sleep(1000)";
    let Some(agent) = Agent::start_in_cgroup(json!({
        "web": { "command": python(code), "autorestart": "always", "startsecs": 0.1 }
    })) else {
        return;
    };
    let run_dir = agent.run_dir();
    let pids = || living(&run_dir).into_iter().map(|(p, _)| p).collect::<Vec<_>>();
    let first = agent.wait_state("web", ProcessState::Running).pid;
    let old = wait_for("worker", || Some(pids()).filter(|p| p.len() == 2));
    kill(first, Signal::SIGKILL);
    agent.wait("web", |r| r.state == ProcessState::Running && r.pid != first);
    assert!(old.iter().all(|p| !is_running(*p)), "workers of the killed leader are still there");
    wait_for("worker", || (pids().len() == 2).then_some(()));
    assert!(agent.stop());
    assert!(pids().is_empty());
}

#[test]
fn a_program_that_daemonizes_does_not_pile_up() {
    let Some(agent) = Agent::start_in_cgroup(json!({
        "daemon": { "command": shell("setsid sleep 1000 & exit 0"), "startretries": 1 }
    })) else {
        return;
    };
    agent.wait_state("daemon", ProcessState::Fatal);
    let left = living(&agent.run_dir());
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_delegated_cgroup_is_found_used_and_found_again_after_an_exec() {
    let Some(agent) = Agent::start_delegated(json!({
        "web": { "command": ["/bin/sleep", "1000"], "startsecs": 0.1 }
    })) else {
        return;
    };
    let pid = agent.wait_state("web", ProcessState::Running).pid;
    let members = |dir: &str| {
        let text = fs::read_to_string(agent.cgroup().join(dir).join("cgroup.procs"));
        text.unwrap_or_default().lines().map(|l| l.parse().unwrap()).collect::<Vec<i32>>()
    };
    assert_eq!((members("agent"), members("p.web")), (vec![agent.pid()], vec![pid]));
    agent.re_exec();
    kill(pid, Signal::SIGKILL);
    let next = agent.wait("web", |r| r.state == ProcessState::Running && r.pid != pid).pid;
    assert_eq!((members("agent"), members("p.web")), (vec![agent.pid()], vec![next]));
}

#[test]
fn a_program_keeps_the_limit_of_open_files_that_the_agent_raises_for_itself() {
    let agent = Agent::start(json!({
        "web": { "command": shell("ulimit -Sn; exec sleep 1000"), "startsecs": 0.1 }
    }));
    let ours = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let (soft, hard) = ours.unwrap();
    let first = agent.wait_state("web", ProcessState::Running).pid;
    wait_for("its limit", || (agent.output("web") == format!("{soft}\n")).then_some(()));
    agent.re_exec();
    kill(first, Signal::SIGKILL);
    agent.wait("web", |r| r.state == ProcessState::Running && r.pid != first);
    wait_for("both limits", || (agent.output("web") == format!("{soft}\n{soft}\n")).then_some(()));
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.pid())).unwrap();
    let raised = limits.lines().find(|l| l.starts_with("Max open files")).unwrap().to_owned();
    assert_eq!(raised.split_whitespace().nth(3), Some(hard.to_string().as_str()), "{raised}");
}

#[test]
fn a_limit_that_cannot_be_had_is_shown() {
    let agent = Agent::start(json!({
        "web": { "command": ["/bin/sleep", "1000"], "pids": 10, "startsecs": 0.1 }
    }));
    let error = agent.wait_state("web", ProcessState::Running).error.unwrap();
    assert!(error.contains("limits not in force"), "{error}");
}

#[test]
fn a_process_of_another_user_can_open_its_standard_output_anew() {
    if !nix::unistd::Uid::effective().is_root() {
        return eprintln!("skipped: not root");
    }
    let agent = Agent::start(json!({
        "web": { "command": shell("id -un > /dev/stdout; id -gn >> /dev/stdout; exec sleep 1000"), "user": "nobody" }
    }));
    wait_for("its name", || (agent.output("web") == "nobody\nnogroup\n").then_some(()));
}

#[test]
fn three_hundred_programs_start_at_once_and_then_the_agent_sleeps() {
    const COUNT: usize = 300;
    let began = Instant::now();
    let agent = Agent::start(json!({
        "many": { "command": ["/bin/sleep", "1000"], "numprocs": COUNT, "startsecs": 0 }
    }));
    let up = |state| agent.status().values().filter(|r| r.state == state).count();
    wait_for("all of them", || (up(ProcessState::Running) == COUNT).then_some(()));
    let taken = began.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let rss = status.lines().find(|l| l.starts_with("VmRSS")).unwrap().to_owned();
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("voluntary")).unwrap().to_owned();
        line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()
    };
    // At rest: no wake-up at all for a whole second, once the start has settled.
    let mut last = switches();
    wait_for("a second of rest", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = switches();
        let is_at_rest = now == last;
        last = now;
        is_at_rest.then_some(())
    });
    eprintln!("{COUNT} programs up in {taken:?}; {rss}; 0 wake-ups in a second at rest");
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    let began = Instant::now();
    assert!(agent.stop());
    eprintln!("{COUNT} programs stopped in {:?}", began.elapsed());
}
