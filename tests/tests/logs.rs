//! Program output on its way to CloudWatch, through the whole agent, against the strict fake.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]

use palisade_e2e::{
    agent::{Agent, CAP},
    aws::logs::{Fake, Faults, Stats},
    wait::wait_until,
};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");

/// Numbered lines, a few thousand a second, until it is stopped; a file is followed beside it.
const CONFIG: &str = "aws: { region: eu-central-1 }\nprograms:\n  counter:\n    command: [/bin/sh, -c, \
                      'i=0; while :; do i=$((i+1)); echo $i line; [ $((i % 20)) = 0 ] && sleep 0.01; done']\n    \
                      stdout_logfile: NONE\nlogs:\n  group: /test/{program}\n  stream: '{process}'\n  \
                      retention_days: 30\n  \
                      kms_key: arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\n  \
                      flush_every: 200ms\n  agent: false\n";

fn start(fake: &Fake) -> Agent {
    let mut agent = Agent::new(BINARY, CONFIG)
        .env("AWS_ENDPOINT_URL", &fake.url())
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    agent.start();
    agent
}

/// Stops the program, waits until all it said has arrived, and returns what the fake counted.
fn settle(agent: &Agent, fake: &Fake) -> Stats {
    agent.ok(&["stop", "counter"]);
    agent.ok(&["logs", "flush", "--timeout", "25s"]);
    fake.stats()
}

fn wait_lines(fake: &Fake, more: u64) {
    let have = fake.stats().distinct;
    wait_until("more lines to arrive", CAP, || fake.stats().distinct > have + more);
}

/// That lines 1 to the last all arrived.
fn assert_no_gap(stats: &Stats) {
    let last = stats.distinct;
    assert!(last > 500 && stats.streams.len() == 1, "{stats:?}");
    assert_eq!(stats.violations.len(), 0, "{stats:?}");
    let highest = stats.streams.values().next().unwrap().highest;
    assert_eq!(highest, Some(last), "lines are missing: {stats:?}");
}

#[test]
fn throttling_and_an_upgrade_in_the_middle_lose_and_double_nothing() {
    let fake = Fake::start(Faults { throttle: 0.3, ..Faults::default() }).unwrap();
    let mut agent = start(&fake);
    wait_lines(&fake, 500);
    agent.ok(&["upgrade"]);
    wait_until("the new binary", CAP, || {
        String::from_utf8_lossy(&agent.ctl(&["status"]).stdout)
            .contains("upgraded in place 1 times")
    });
    wait_lines(&fake, 500);
    let stats = settle(&agent, &fake);
    assert_no_gap(&stats);
    assert_eq!((stats.duplicates, stats.out_of_order), (0, 0), "{stats:?}");
    let stream = stats.streams.values().next().unwrap();
    assert_eq!(stream.retention_days, Some(30));
    assert!(stream.kms_key.as_ref().is_some_and(|k| k.ends_with("1234567890ab")));
    assert_eq!(agent.stop(), Some(0));
    assert!(!agent.log().contains("not-a-secret"));
}

#[test]
fn a_killed_agent_loses_no_line_on_the_way_to_cloudwatch() {
    let fake = Fake::start(Faults::default()).unwrap();
    let mut agent = start(&fake);
    for _ in 0..3 {
        wait_lines(&fake, 300);
        agent.kill_agent();
        agent.start();
    }
    wait_lines(&fake, 300);
    assert_no_gap(&settle(&agent, &fake));
}

#[test]
fn an_endpoint_that_is_down_is_told_and_waited_out() {
    let fake = Fake::start(Faults { refuse: true, ..Faults::default() }).unwrap();
    let agent = start(&fake);
    let child = agent.wait_running("counter");
    wait_until("status to say why", CAP, || {
        let status = agent.ok(&["logs", "status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["sources"][0]["last_error"].is_string()
            && status["sources"][0]["backlog_bytes"].as_u64() > Some(10_000)
    });
    assert_eq!(agent.wait_running("counter"), child);
    fake.set_faults(Faults::default());
    wait_lines(&fake, 500);
    let stats = settle(&agent, &fake);
    assert_no_gap(&stats);
    assert_eq!(stats.duplicates, 0, "{stats:?}");
}

#[test]
fn without_a_region_status_says_what_to_do_and_programs_run_on() {
    let config = CONFIG.replace("eu-central-1", "auto");
    let mut agent = Agent::new(BINARY, &config).env("AWS_EC2_METADATA_DISABLED", "true");
    agent.start();
    let child = agent.wait_running("counter");
    wait_until("status to say why", CAP, || {
        let status = agent.ok(&["status"]);
        status.contains("degraded")
            && status.contains("nothing is shipped")
            && status.contains("region")
    });
    assert_eq!(agent.wait_running("counter"), child);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn what_the_agent_does_is_in_its_own_stream_over_restarts_and_upgrades() {
    let config = "programs:\n  short:\n    command: [/bin/sh, -c, 'exit 3']\n    startretries: 0\n    \
                  autostart: false\nlogs:\n  sink: local\n  group: /test/{program}\n  stream: '{process}'\n";
    let mut agent = Agent::new(BINARY, config);
    agent.start();
    drop(agent.ctl(&["start", "short"]));
    agent.ok(&["upgrade"]);
    wait_until("the new binary", CAP, || {
        String::from_utf8_lossy(&agent.ctl(&["status"]).stdout)
            .contains("upgraded in place 1 times")
    });
    assert_eq!(agent.stop(), Some(0));
    agent.configure(&format!("{config}  agent: true\n"));
    agent.start();
    agent.ok(&["logs", "flush", "--timeout", "25s"]);
    let read = || -> Vec<serde_json::Value> {
        let text = agent.read("state/logs/local/_test_palisade.ndjson");
        let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
        lines
            .map(|l: serde_json::Value| {
                assert_eq!(l["stream"], "palisade-agent", "{l}");
                serde_json::from_str(l["message"].as_str().unwrap()).unwrap()
            })
            .collect()
    };
    let started =
        |all: &[serde_json::Value]| all.iter().filter(|e| e["what"] == "agent started").count();
    wait_until("the second start to be told", CAP, || started(&read()) == 2);
    let all = read();
    for what in [
        "process fatal",
        "upgrade asked for",
        "agent upgraded in place",
        "agent stopping",
        "agent stopped",
    ] {
        let count = all.iter().filter(|e| e["what"] == what).count();
        assert_eq!(count, 1, "{what}: {all:#?}");
    }
    // Without it, nothing more is told.
    agent.configure(&format!("{config}  agent: false\n"));
    agent.ok(&["update"]);
    drop(agent.ctl(&["start", "short"]));
    agent.ok(&["logs", "flush", "--timeout", "25s"]);
    let fatal = read().iter().filter(|e| e["what"] == "process fatal").count();
    assert_eq!(fatal, 1);
}
