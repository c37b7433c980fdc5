//! The task with twins of the world, on a paused clock.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{emf::tests::read, facts::*, prometheus::tests as exposition, table::TABLE, *};
use crate::clock::{Timestamp, WallClock};

const WAIT: Duration = Duration::from_secs(60);

/// A day's clock that goes with the runtime's.
struct Ticking(Instant);

impl WallClock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_787_411_820).plus(self.0.elapsed())
    }
}

/// A host whose reading hangs as long as the lock is held.
struct Host(Arc<Mutex<()>>);

impl HostSource for Host {
    fn read(&self) -> HostFacts {
        drop(self.0.lock().unwrap());
        HostFacts { load1: Some(0.5), ..HostFacts::default() }
    }
}

/// An agent with one program, or one that never answers.
struct Agent {
    hangs: bool,
}

impl AgentSource for Agent {
    async fn facts(&mut self) -> Facts {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let web = ProcessFacts {
            program: "web".to_owned(),
            process: "web".to_owned(),
            running: true,
            ready: Some(true),
            fatal: false,
            restarts: 3,
            used: None,
        };
        Facts { processes: vec![web], ..Facts::default() }
    }
}

#[derive(Clone)]
struct Paper {
    lines: Arc<Mutex<Vec<String>>>,
    takes: Taken,
}

impl Lines for Paper {
    fn write(&mut self, line: &str) -> Taken {
        if self.takes == Taken::Yes {
            self.lines.lock().unwrap().push(line.to_owned());
        }
        self.takes
    }
}

struct Rig {
    settings: watch::Sender<Settings>,
    identity: watch::Sender<Option<Identity>>,
    host: Arc<Mutex<()>>,
    lines: Arc<Mutex<Vec<String>>>,
    handle: Handle,
    stop: CancellationToken,
}

impl Rig {
    fn new(every: u64, hangs: bool) -> (Self, impl Future<Output = ()>) {
        let every = Duration::from_secs(every);
        let (settings, wanted) =
            watch::channel(Settings { namespace: "Palisade".to_owned(), every, host: true });
        let identity = Identity { instance: "i-1".to_owned(), group: Some("asg".to_owned()) };
        let (identity, known) = watch::channel(Some(identity));
        let paper = Paper { lines: Arc::default(), takes: Taken::Yes };
        let host = Arc::new(Mutex::new(()));
        let parts = Parts {
            host: Host(Arc::clone(&host)),
            agent: Agent { hangs },
            lines: paper.clone(),
            clock: Ticking(Instant::now()),
        };
        let (handle, task) = new(wanted, known, parts);
        let stop = CancellationToken::new();
        let rig = Self { settings, identity, host, lines: paper.lines, handle, stop: stop.clone() };
        (rig, task.run(stop))
    }

    /// What was written, each read by the strict reader, and nothing is left.
    fn written(&self) -> Vec<serde_json::Value> {
        self.lines.lock().unwrap().drain(..).map(|l| read(&l)).collect()
    }
}

/// Runs the task beside a story.
async fn beside(
    task: impl Future<Output = ()>,
    stop: CancellationToken,
    story: impl Future<Output = ()>,
) {
    let story = async {
        story.await;
        stop.cancel();
    };
    tokio::join!(task, story);
}

#[tokio::test(start_paused = true)]
async fn each_minute_has_one_document_for_each_set_of_dimensions() {
    let (rig, task) = Rig::new(60, false);
    let stop = rig.stop.clone();
    let story = async {
        time::sleep(WAIT * 3).await;
        let written = rig.written();
        assert_eq!(written.len(), 6, "{written:#?}");
        let (host, web) = (&written[0], &written[1]);
        assert_eq!(
            (&host["InstanceId"], &host["AutoScalingGroupName"]),
            (&"i-1".into(), &"asg".into())
        );
        assert_eq!((&host["AgentUp"], &host["HostLoad1"]), (&1.into(), &0.5.into()));
        assert_eq!((&web["Program"], &web["ProgramReady"]), (&"web".into(), &1.into()));
        assert_eq!(web["AgentUp"], serde_json::Value::Null);
        let times: Vec<i64> =
            written.iter().map(|d| d["_aws"]["Timestamp"].as_i64().unwrap()).collect();
        assert_eq!(times[0] % 60_000, 30_000);
        assert_eq!((times[2] - times[0], times[4] - times[2]), (60_000, 60_000));
    };
    beside(task, stop, story).await;
}

#[tokio::test(start_paused = true)]
async fn however_often_a_sample_is_taken_an_agent_is_up_once_in_a_minute() {
    let (rig, task) = Rig::new(10, false);
    let stop = rig.stop.clone();
    let story = async {
        time::sleep(WAIT * 5).await;
        let written = rig.written();
        let hosts: Vec<_> = written.iter().filter(|d| d["Program"].is_null()).collect();
        assert_eq!(hosts.len(), 30);
        let ups: Vec<i64> = hosts
            .iter()
            .filter(|d| !d["AgentUp"].is_null())
            .map(|d| d["_aws"]["Timestamp"].as_i64().unwrap() / 60_000)
            .collect();
        assert_eq!(ups.len(), 5, "{ups:?}");
        assert_eq!(ups.iter().collect::<BTreeSet<_>>().len(), 5, "{ups:?}");
    };
    beside(task, stop, story).await;
}

#[tokio::test(start_paused = true)]
async fn new_settings_take_effect_at_once_and_without_an_identity_nothing_is_told() {
    let (rig, task) = Rig::new(60, false);
    let stop = rig.stop.clone();
    let story = async {
        let known = rig.identity.send_replace(None);
        time::sleep(WAIT * 2).await;
        assert_eq!(rig.written().len(), 0);
        assert!(rig.handle.text().await.unwrap().contains("palisade_agent_up 1\n"));
        rig.identity.send_replace(known);
        let every = Duration::from_secs(10);
        let new = Settings { namespace: "Other".to_owned(), every, host: false };
        rig.settings.send_replace(new);
        time::sleep(Duration::from_secs(20)).await;
        let written = rig.written();
        // The second one has nothing of the host: the agent was told to be up in this minute already.
        assert_eq!(written.len(), 3, "{written:#?}");
        let directive = &written[0]["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Other");
        assert!(written[0]["HostLoad1"].is_null());
    };
    beside(task, stop, story).await;
}

#[tokio::test]
async fn what_hangs_is_left_out_and_the_rest_is_told() {
    time::pause();
    let (rig, task) = Rig::new(60, true);
    let stop = rig.stop.clone();
    let story = async {
        let host = Arc::clone(&rig.host);
        // Held by a thread of its own, so that nobody awaits with it.
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (ready, is_held) = std::sync::mpsc::channel();
        let holder = std::thread::spawn(move || {
            let guard = host.lock().unwrap();
            ready.send(()).unwrap();
            drop((held.recv(), guard));
        });
        is_held.recv().unwrap();
        // The clock does not go by itself while something blocks.
        for _ in 0..400 {
            time::advance(Duration::from_millis(500)).await;
            tokio::task::yield_now().await;
        }
        let written = rig.written();
        assert!(!written.is_empty());
        assert!(
            written.iter().all(|d| d["AgentUp"] == 1 && d["HostLoad1"].is_null()),
            "{written:#?}"
        );
        drop(hold);
        holder.join().unwrap();
    };
    beside(task, stop, story).await;
}

#[tokio::test(start_paused = true)]
async fn the_text_is_of_now_and_survives_a_strict_reader() {
    let (rig, task) = Rig::new(60, false);
    let stop = rig.stop.clone();
    let story = async {
        time::sleep(Duration::from_secs(2)).await;
        let text = rig.handle.text().await.unwrap();
        let values = exposition::read(&text);
        let get = |name: &str, label: &str| values[&(name.to_owned(), label.to_owned())];
        assert!((get("palisade_agent_up", "") - 1.0).abs() < f64::EPSILON);
        assert!((get("palisade_program_ready", "web") - 1.0).abs() < f64::EPSILON);
        assert_eq!(rig.written().len(), 0, "asking writes nothing");
    };
    beside(task, stop, story).await;
    let gone = Rig::new(60, false).0;
    assert_eq!(gone.handle.text().await, Err(Gone));
}

#[test]
fn names_are_what_both_worlds_take_and_each_comes_once() {
    let mut names = BTreeSet::new();
    for m in TABLE {
        assert!(m.name.bytes().all(|b| b.is_ascii_alphanumeric()), "{}", m.name);
        assert!(names.insert(m.name.to_owned()) && names.insert(m.prometheus_name()));
        assert_eq!(m.kind == Kind::Total, m.name.ends_with("Total"), "{}", m.name);
        assert!(m.help.ends_with('.') && !m.help.contains('|'), "{}", m.name);
        for (unit, end) in [(Unit::Percent, "Percent"), (Unit::Seconds, "Seconds")] {
            assert_eq!(m.unit == unit, m.name.ends_with(end), "{}", m.name);
        }
    }
    let names: Vec<_> = TABLE.iter().map(Metric::prometheus_name).collect();
    assert!(names.contains(&"palisade_program_restarts_total".to_owned()), "{names:?}");
    assert!(names.contains(&"palisade_host_network_receive_bytes_total".to_owned()));
}

/// The page has the table as it is. `PALISADE_RENEW=1` writes it anew.
#[test]
fn the_page_about_metrics_has_every_metric_as_it_is() {
    const BEGINS: &str = "<!-- The table is made by agent/src/metrics/table.rs -->\n";
    const ENDS: &str = "<!-- end of the table -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(BEGINS).unwrap();
    let (table, after) = rest.split_once(ENDS).unwrap();
    if std::env::var_os("PALISADE_RENEW").is_some() {
        let renewed = format!("{before}{BEGINS}{}{ENDS}{after}", page());
        renew(path, &renewed);
        return;
    }
    assert_eq!(table, page(), "PALISADE_RENEW=1 renews it");
}

#[expect(clippy::disallowed_methods, reason = "a test renews its page")]
fn renew(path: &str, text: &str) {
    std::fs::write(path, text).unwrap();
}
