//! Metrics of a real agent: documents at the strict fake of CloudWatch Logs, and the text that
//! `palisade metrics` prints.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]

use std::{net::SocketAddr, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_e2e::{
    agent::{Agent, CAP},
    aws::logs::{Fake, Faults},
    wait::wait_until,
};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");

/// Samples are ten seconds apart, and the first ones have no rates.
const SAMPLES: Duration = Duration::from_secs(90);

const PROGRAMS: &str = "programs:\n  web: { command: [/bin/sleep, '1000'], startsecs: 100ms }\n  \
                        job: { command: [/bin/true], oneshot: true }\n";

/// The documents that arrived, each as CloudWatch would read it.
fn documents(fake: &Fake) -> Vec<Value> {
    let messages = fake.messages("/test/palisade");
    messages.iter().map(|m| read(m)).collect()
}

/// Fails at what CloudWatch would make no metrics of.
fn read(message: &str) -> Value {
    let document: Value = serde_json::from_str(message).unwrap();
    assert!(document["_aws"]["Timestamp"].is_u64(), "{message}");
    let directives = document["_aws"]["CloudWatchMetrics"].as_array().unwrap();
    assert_eq!(directives.len(), 1, "{message}");
    for directive in directives {
        let names = directive["Dimensions"][0].as_array().unwrap();
        assert!((1..=30).contains(&names.len()), "{message}");
        for name in names {
            let value = document[name.as_str().unwrap()].as_str().unwrap();
            assert!(!value.is_empty() && value.is_ascii() && !value.starts_with(':'), "{message}");
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()), "{message}");
        assert!(metrics.iter().all(|m| document[m["Name"].as_str().unwrap()].is_number()));
    }
    document
}

/// The value of a line of `palisade metrics`.
fn printed(agent: &Agent, series: &str) -> Option<f64> {
    let text = agent.ok(&["metrics"]);
    let value = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

#[test]
fn metrics_arrive_and_are_printed_and_totals_begin_anew_with_the_agent() {
    let fake =
        Fake::listen(SocketAddr::from(([127, 0, 0, 1], 0)), Faults::default(), true).unwrap();
    let config = format!(
        "aws: {{ region: eu-central-1 }}\n{PROGRAMS}logs: {{ agent: false, group: '/test/{{program}}', stream: \
         '{{process}}', flush_every: 200ms }}\nmetrics: {{ every: 10s }}\n"
    );
    let mut agent = Agent::new(BINARY, &config)
        .env("AWS_ENDPOINT_URL", &fake.url())
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    agent.start();
    let child = agent.wait_running("web");
    let number = |d: &Value, name: &str| d[name].as_f64().unwrap();
    let of_web = |d: &Value| d["Program"] == "web" && d["ProgramCpuPercent"].is_number();
    wait_until("a document of the program with a rate", SAMPLES, || {
        documents(&fake).iter().any(of_web)
    });
    let seen = documents(&fake);
    let web = seen.iter().find(|d| of_web(d)).unwrap();
    assert_eq!(web["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Palisade");
    assert_eq!((&web["ProgramReady"], &web["ProgramFatal"]), (&1.into(), &0.into()));
    assert!(number(web, "ProgramMemoryBytes") > 10_000.0, "{web}");
    assert!(number(web, "ProgramCpuPercent") < 50.0, "it sleeps: {web}");
    let job = seen.iter().find(|d| d["Program"] == "job").unwrap();
    assert!(job["ProgramReady"].is_null(), "what runs once is not said to be unready: {job}");
    let host = seen.iter().find(|d| d["AgentUp"] == 1).unwrap();
    let memory = number(host, "HostMemoryUsedPercent");
    assert!(memory > 0.0 && memory < 100.0, "{host}");
    let root = seen.iter().find(|d| d["Source"] == "/").unwrap();
    assert!((0.0..=100.0).contains(&number(root, "HostDiskUsedPercent")), "{root}");
    wait_until("the shipper to tell of itself", SAMPLES, || {
        documents(&fake)
            .iter()
            .any(|d| d["Source"] == "/test/palisade" && d["LogsDroppedTotal"] == 0)
    });
    assert_eq!(printed(&agent, r#"palisade_program_ready{program="web"}"#), Some(1.0));

    let restarts = r#"palisade_program_restarts_total{program="web"}"#;
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    wait_until("the restart to be counted", CAP, || printed(&agent, restarts) == Some(1.0));
    agent.kill_agent();
    let before = documents(&fake).len();
    agent.start();
    assert_eq!(agent.program("web").unwrap().restarts, 1, "it is the same program");
    wait_until("the new agent to count from nought", CAP, || {
        printed(&agent, restarts) == Some(0.0)
    });
    wait_until("its documents", SAMPLES, || {
        documents(&fake).iter().skip(before).any(|d| of_web(d) && d["ProgramRestartsTotal"] == 0)
    });
    assert_eq!(fake.stats().violations.len(), 0, "{:?}", fake.stats().violations);
}

#[test]
fn metrics_need_no_logs_and_are_told_of_other_settings_without_a_restart() {
    let mut agent = Agent::new(BINARY, PROGRAMS);
    agent.start();
    agent.wait_running("web");
    let refused = agent.ctl(&["metrics"]);
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && says.contains("add a metrics section"), "{says}");

    agent.configure(&format!("{PROGRAMS}metrics: {{}}\n"));
    assert!(agent.ok(&["update"]).contains("metrics"), "applied");
    assert_eq!(printed(&agent, r#"palisade_program_running{program="web"}"#), Some(1.0));
    assert!(printed(&agent, "palisade_host_load1").is_some());

    agent.configure(&format!(
        "{PROGRAMS}metrics: {{ namespace: Other, every: 10s, host: false }}\nlogs: {{ agent: false, sink: local, group: \
         '/test/{{program}}' }}\n"
    ));
    agent.ok(&["update"]);
    let file = "state/logs/local/_test_palisade.ndjson";
    wait_until("a document in the new namespace", SAMPLES, || agent.read(file).contains("Other"));
    for line in agent.read(file).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let document = read(line["message"].as_str().unwrap());
        assert!(document["HostLoad1"].is_null(), "{document}");
    }
    wait_until("the host to be left out", CAP, || printed(&agent, "palisade_host_load1").is_none());

    agent.configure(PROGRAMS);
    agent.ok(&["update"]);
    assert_eq!(agent.ctl(&["metrics"]).status.code(), Some(1));
    assert_eq!(agent.stop(), Some(0));
}
