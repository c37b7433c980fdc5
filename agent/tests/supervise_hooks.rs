//! Hooks and one-shots with real processes: who they run as, where their words go, and what is left of
//! them when the agent or their time is over.
#![expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests against real processes, some of it in helpers"
)]

mod supervise_common;

use std::fs;

use nix::sys::signal::Signal;
use palisade_types::ProcessState;
use serde_json::json;
use supervise_common::{Agent, is_running, shell, wait_for};

/// What the sink got of a process's standard error.
fn stderr(agent: &Agent, name: &str) -> String {
    let path = agent.run_dir().join("sink").join(format!("{name}.stderr"));
    fs::read_to_string(path).unwrap_or_default()
}

/// The pid that a hook wrote to a file of the agent's directory.
fn pid_in(agent: &Agent, file: &str) -> i32 {
    let path = agent.dir.path().join(file);
    wait_for("pid", || fs::read_to_string(&path).ok()?.trim().parse().ok())
}

/// A hook that writes its pid and stays.
fn stays(dir: &std::path::Path, file: &str) -> serde_json::Value {
    shell(&format!("echo $$ > {0}.new && mv {0}.new {0}; exec sleep 600", dir.join(file).display()))
}

#[test]
fn a_hook_runs_as_its_program_does_and_its_words_are_in_the_programs_log() {
    if !nix::unistd::Uid::effective().is_root() {
        return eprintln!("skipped: not root, so there is no other user to become");
    }
    let say = "echo \"pre $(id -un) $(pwd) $COLOUR $PALISADE_HOOK $SUPERVISOR_PROCESS_NAME\"";
    let agent = Agent::start(json!({ "web": {
        "command": shell("exec sleep 600"),
        "user": "nobody",
        "directory": "/tmp",
        "environment": { "COLOUR": "blue" },
        "startsecs": 0.0,
        "pre_start": [shell(say)],
        "post_start": [shell("echo \"post $MAINPID\"")],
    }}));
    let row = agent.wait_state("web", ProcessState::Running);
    let said = wait_for("words of the hooks", || {
        let said = stderr(&agent, "web");
        said.contains("post").then_some(said)
    });
    assert_eq!(said, format!("pre nobody /tmp blue pre_start web\npost {}\n", row.pid));
    assert_eq!(agent.output("web"), "");
    assert!(agent.stop());
}

#[test]
fn a_hook_that_fails_says_which_and_how_and_the_program_is_not_started() {
    let agent = Agent::start(json!({
        "bad": { "command": shell("echo started"), "startretries": 0,
                 "pre_start": [shell("echo why >&2; exit 9")] },
        "gone": { "command": shell("echo started"), "startretries": 0,
                  "pre_start": [["/no/such/hook"]] },
        "slow": { "command": shell("echo started"), "startretries": 0, "hook_timeout": 0.2,
                  "pre_start": [["/bin/sleep", "600"]] },
    }));
    let why = |name: &str| agent.wait_state(name, ProcessState::Fatal).error.unwrap();
    assert_eq!(why("bad"), "pre_start hook 1 (/bin/sh): exit 9");
    assert_eq!(why("gone"), "pre_start hook 1 (/no/such/hook): can't find command '/no/such/hook'");
    assert_eq!(why("slow"), "pre_start hook 1 (/bin/sleep): took longer than 200ms and was killed");
    assert_eq!(stderr(&agent, "bad"), "why\n");
    assert_eq!(agent.output("bad") + &agent.output("gone") + &agent.output("slow"), "");
    assert!(agent.stop());
}

#[test]
fn a_killed_agent_leaves_no_hook_and_the_next_one_begins_it_anew() {
    let home = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(json!({ "web": {
        "command": shell("exec sleep 600"),
        "pre_start": [stays(home.path(), "hook")],
    }}));
    let path = home.path().join("hook");
    let pid = || wait_for("pid", || fs::read_to_string(&path).ok()?.trim().parse::<i32>().ok());
    let mut last = pid();
    for _ in 0..3 {
        fs::remove_file(&path).unwrap();
        agent.crash();
        wait_for("end of the hook", || (!is_running(last)).then_some(()));
        agent.start_again();
        let now = pid();
        assert_ne!(now, last);
        last = now;
    }
    let row = agent.wait_state("web", ProcessState::Starting);
    assert_eq!(row.pid, 0);
    agent.signal(Signal::SIGTERM);
    wait_for("end of the hook", || (!is_running(last)).then_some(()));
    assert!(agent.stop());
}

#[test]
fn a_re_exec_ends_a_hook_before_it_is_begun_anew() {
    let home = tempfile::tempdir().unwrap();
    let agent = Agent::start(json!({ "web": {
        "command": shell("exec sleep 600"),
        "startsecs": 0.0,
        "post_start": [stays(home.path(), "hook")],
    }}));
    let path = home.path().join("hook");
    let pid = || wait_for("pid", || fs::read_to_string(&path).ok()?.trim().parse::<i32>().ok());
    let web = agent.wait_state("web", ProcessState::Running).pid;
    let first = pid();
    fs::remove_file(&path).unwrap();
    agent.re_exec();
    assert_ne!(pid(), first);
    assert!(!is_running(first));
    assert_eq!(agent.wait_state("web", ProcessState::Running).pid, web);
    assert!(agent.stop());
}

#[test]
fn what_a_hook_leaves_behind_goes_with_it_where_there_is_a_cgroup() {
    let Some(agent) = Agent::start_in_cgroup(json!({ "web": {
        "command": shell("exec sleep 600"),
        "startsecs": 0.0,
        "pre_start": [shell("setsid sleep 600 & echo $! > $PALISADE_SUPERVISOR/../left")],
    }})) else {
        return;
    };
    agent.wait_state("web", ProcessState::Running);
    let left = pid_in(&agent, "left");
    wait_for("end of what was left", || (!is_running(left)).then_some(()));
    assert!(agent.stop());
}

#[test]
fn a_program_waits_for_a_one_shot_to_be_done() {
    let agent = Agent::start(json!({
        "migrate": { "command": shell("sleep 0.3; echo done"), "oneshot": true },
        "web": { "command": shell("exec sleep 600"), "startsecs": 0.0, "after": ["migrate"] },
    }));
    agent.wait_state("web", ProcessState::Running);
    let row = agent.wait_state("migrate", ProcessState::Exited);
    assert_eq!((row.exit.as_deref(), row.ready), (Some("exit 0"), true));
    wait_for("its words", || (agent.output("migrate") == "done\n").then_some(()));
    assert!(agent.stop());
}

#[test]
fn an_agent_killed_in_a_one_shot_adopts_it_and_dependents_wait_on() {
    let mut agent = Agent::start(json!({
        "migrate": { "command": shell("while ! test -e $PALISADE_SUPERVISOR/go; do sleep 0.05; done"),
                     "oneshot": true },
        "web": { "command": shell("exec sleep 600"), "startsecs": 0.0, "after": ["migrate"] },
    }));
    let first = agent.wait("migrate", |r| r.pid > 0);
    agent.crash_and_start();
    let again = agent.wait("migrate", |r| r.pid > 0);
    assert_eq!(first.pid, again.pid);
    assert_eq!(agent.status()["web"].pid, 0);
    fs::write(agent.run_dir().join("go"), "").unwrap();
    // How another's child ended is not told by every kernel: then it is run once more.
    agent.wait_state("migrate", ProcessState::Exited);
    agent.wait_state("web", ProcessState::Running);
    assert!(agent.stop());
}
