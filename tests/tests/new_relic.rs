//! New Relic as a second sink, by the real binary: both get every line, and neither waits for the other.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; tests write files"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use palisade_e2e::{
    agent::{Agent, CAP},
    aws::logs::{Fake, Faults},
    new_relic::NewRelic,
    wait::wait_until,
};
use palisade_types::ProcessState;

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");
const KEY: &str = "0123456789abcdef0123456789abcdefNRAL";
const LINES: u32 = 3000;

fn config(endpoint: &str) -> String {
    format!(
        "aws: {{ region: eu-central-1 }}\nprograms:\n  counter:\n    \
         command: [/bin/sh, -c, 'i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i line; done']\n    \
         autostart: false\n    startsecs: 0\n    autorestart: false\n    stdout_logfile: NONE\n\
         logs:\n  group: /test/{{program}}\n  stream: '{{process}}'\n  flush_every: 200ms\n  agent: false\n  \
         files: [{{ path: @DIR@/web.log }}]\n  \
         new_relic: {{ license_key_file: @DIR@/key, endpoint: '{endpoint}' }}\n"
    )
}

fn write_key(dir: &Path, key: &str) {
    let new = dir.join("key.new");
    fs::write(&new, format!("{key}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, dir.join("key")).unwrap();
}

fn start(fake: &Fake, relic: &NewRelic) -> Agent {
    let mut agent = Agent::new(BINARY, &config(&relic.endpoint()))
        .env("AWS_ENDPOINT_URL", &fake.url())
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    write_key(agent.dir(), KEY);
    fs::write(agent.dir().join("web.log"), "a request\nanother request\n").unwrap();
    agent.start();
    agent
}

fn count(agent: &Agent) {
    agent.ok(&["start", "counter"]);
    agent.wait_state("counter", ProcessState::Exited);
}

fn all_of(relic: &NewRelic, times: u32) {
    wait_until("every line to be at New Relic", CAP, || {
        u32::try_from(relic.arrived().messages.len()) == Ok(LINES + 2)
            && relic.arrived().messages.values().sum::<u32>() == LINES * times + 2
    });
    let arrived = relic.arrived();
    assert!(arrived.violations.is_empty(), "{:?}", arrived.violations);
    assert!(arrived.messages.contains_key("another request"));
}

#[test]
fn each_line_goes_to_both_and_the_key_is_shown_nowhere() {
    let (fake, relic) = (Fake::start(Faults::default()).unwrap(), NewRelic::start(KEY).unwrap());
    let mut agent = start(&fake, &relic);
    count(&agent);
    agent.ok(&["logs", "flush", "--timeout", "25s"]);
    all_of(&relic, 1);
    assert_eq!(fake.stats().lines, u64::from(LINES) + 2);
    let told = || agent.ok(&["logs", "status"]) + &agent.ok(&["logs", "status", "--json"]);
    wait_until("the status to say so", CAP, || told().contains("New Relic: 3002 events delivered"));
    let told = told();
    assert_eq!(agent.stop(), Some(0));
    for shown in [told, agent.log()] {
        assert!(!shown.contains(KEY), "{shown}");
    }
}

#[test]
fn while_one_is_down_the_other_goes_on_and_a_kill_in_between_loses_nothing() {
    let (fake, relic) = (Fake::start(Faults::default()).unwrap(), NewRelic::start(KEY).unwrap());
    let mut agent = start(&fake, &relic);
    for status in [503, 429, 403] {
        relic.answer(Some(status));
        let before = fake.stats().lines;
        count(&agent);
        wait_until("CloudWatch to have all", CAP, || {
            fake.stats().lines >= before + u64::from(LINES)
        });
        agent.kill_agent();
        agent.start();
    }
    let told = agent.ok(&["logs", "status", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(told["new_relic"].is_object(), "{told}");
    relic.answer(None);
    // What was refused is held for up to a minute; a new agent asks at once.
    agent.kill_agent();
    agent.start();
    all_of(&relic, 3);

    fake.set_faults(Faults { refuse: true, ..Faults::default() });
    count(&agent);
    all_of(&relic, 4);
}

#[test]
fn a_key_that_is_changed_is_read_again_and_one_that_others_may_read_is_refused() {
    let (fake, relic) =
        (Fake::start(Faults::default()).unwrap(), NewRelic::start("another").unwrap());
    let agent = start(&fake, &relic);
    let says = |what: &str| {
        wait_until(what, CAP, || agent.ok(&["logs", "status"]).contains(what));
    };
    says("is the license key of this region?");
    fs::set_permissions(agent.dir().join("key"), fs::Permissions::from_mode(0o644)).unwrap();
    says("everybody may use it");
    write_key(agent.dir(), "another");
    wait_until("the lines to arrive", CAP, || relic.arrived().messages.len() == 2);
}
