//! A process that is being replaced while its agent is killed or executes anew.
#![expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests against real processes"
)]

mod supervise_common;

use std::{thread, time::Duration};

use palisade_types::ProcessState;
use serde_json::{Value, json};
use supervise_common::{Agent, living, python, wait_for};

/// Says who it is, and goes a little after it was told to.
const WORKER: &str = "
import os, signal, sys, time
def stop(*_):
    time.sleep(0.2)
    print('END', os.environ['RELEASE'], os.getpid(), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print('BEGIN', os.environ['RELEASE'], os.getpid(), flush=True)
while True:
    time.sleep(10)
";

fn release(n: u32) -> Value {
    json!({ "web": {
        "command": python(WORKER),
        "environment": { "RELEASE": n.to_string() },
        "startsecs": 0.3,
        "overlap": true,
    }})
}

/// The release of each process that lives.
fn releases(agent: &Agent) -> Vec<String> {
    let environ = |pid: i32| std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let of = |pid| {
        let text = String::from_utf8_lossy(&environ(pid)).into_owned();
        text.split('\0').find_map(|v| v.strip_prefix("RELEASE=")).unwrap_or("gone").to_owned()
    };
    living(&agent.run_dir()).into_iter().map(|(pid, _)| of(pid)).collect()
}

/// Whatever happens to the agent at whatever moment of a replacement: never more than two, in the end
/// the new release alone, and every word of all of them.
fn disturbed(what: &str, disturb: impl Fn(&mut Agent)) {
    let mut agent = Agent::start(release(0));
    agent.wait_state("web", ProcessState::Running);
    let begun = |agent: &Agent, n: u32| {
        let line = format!("BEGIN {n} ");
        wait_for("its first words", || agent.output("web").contains(&line).then_some(()));
    };
    begun(&agent, 0);
    // Before the new one is made, while it comes up, at the swap, while the old one goes, afterwards.
    for (n, pause) in (1..).zip([0, 60, 200, 290, 320, 400, 600]) {
        agent.update(&release(n));
        thread::sleep(Duration::from_millis(pause));
        disturb(&mut agent);
        assert!(living(&agent.run_dir()).len() <= 2, "{what} after {pause} ms");
        // An agent that was killed before it heard of the new settings reads them at its start.
        wait_for("the new release alone", || {
            let seen = releases(&agent);
            assert!(seen.len() <= 2, "{what} after {pause} ms: {seen:?}");
            assert!(!seen.is_empty(), "{what} after {pause} ms: nobody serves");
            (seen == [n.to_string()]).then_some(())
        });
        agent.wait_state("web", ProcessState::Running);
        begun(&agent, n);
    }
    wait_for("the last words of all", || {
        let said = agent.output("web");
        (0..7).all(|n| said.contains(&format!("END {n} "))).then_some(())
    });
    let said = agent.output("web");
    let begun = said.lines().filter(|l| l.starts_with("BEGIN")).count();
    eprintln!("{what}: 7 releases, {begun} processes, nobody missing");
    assert!(agent.stop());
}

#[test]
fn a_replacement_is_finished_by_the_agent_after_one_that_was_killed() {
    disturbed("killed", |agent| agent.crash_and_start());
}

#[test]
fn a_replacement_is_finished_by_an_agent_that_executes_itself_anew() {
    disturbed("executed anew", |agent| agent.re_exec());
}
