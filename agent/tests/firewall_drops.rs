//! The kernel's packet log and the record of changes, against the real kernel.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; skips are printed"
)]

#[path = "firewall_lab/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of the lab")]
mod lab;

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::IpAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use lab::{EDGE4, Lab, ORIGIN4, ORIGIN6, STRANGER4, STRANGER6, settings};
use palisade_agent::{
    clock::SystemClock,
    firewall::{
        self, Ports, Settings, TableOwner,
        drops::{self, BadLog, Batch, Counters, DropLog as _, Lines, Parts},
        history::{self, Who},
    },
    sys::{
        feed_files::{DiskFiles, Feeds, NoUrls},
        history_file::DiskHistory,
        nflog::Nflog,
        nft_events::NftEvents,
        nftables::NftTable,
    },
    task::Scope,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(200);

/// As our own rules end, and without a limit, so that each packet is seen.
const RULES: &str = "add table inet t { counter dropped { }; counter ssh { }; chain c { \
    type filter hook input priority 0; \
    tcp dport 22 counter name ssh log prefix \"palisade ssh\" group 5 drop; \
    tcp dport 443 counter name dropped log prefix \"palisade drop\" group 5 drop; \
    udp dport 443 counter name dropped log prefix \"palisade drop\" group 5 drop; }; }";

struct NoCounters;

impl Counters for NoCounters {
    async fn read(&mut self) -> Option<BTreeMap<String, u64>> {
        None
    }
}

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<String>>>);

impl Lines for Paper {
    fn write(&mut self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

#[tokio::test]
async fn who_is_turned_away_is_told_with_address_port_and_reason_by_both_families() {
    let Some(lab) = Lab::build("drp") else { return };
    lab.nft(RULES);
    let (_keep, wanted) =
        watch::channel(Settings { table_owner: TableOwner::Off, ..settings(&lab) });
    let paper = Paper::default();
    let parts = Parts {
        log: Nflog::of(&lab.path("origin")),
        counters: NoCounters,
        lines: paper.clone(),
        clock: SystemClock,
    };
    let (ask, task) = drops::new(wanted, parts);
    let mut scope = Scope::new(&CancellationToken::new());
    let stop = scope.stop();
    scope.spawn("drops", task.run(stop));
    // Answered when the group is ours, or it says why not.
    assert_eq!(ask.report().await.unwrap().error, None);

    // The group is one program's: another is told so.
    let mut second = Nflog::of(&lab.path("origin"));
    assert!(matches!(second.open(drops::DEFAULT_GROUP), Err(BadLog::Taken)));
    second.open(drops::DEFAULT_GROUP + 1).unwrap();

    assert!(!lab.connects("stranger", STRANGER4, ORIGIN4, 22, NEVER));
    assert!(!lab.connects("stranger", STRANGER6, ORIGIN6, 443, NEVER));
    let forged: IpAddr = "203.0.113.9".parse().unwrap();
    lab.at("edge", move || (0..5).for_each(|_| lab::forge_udp(forged)));

    let by = |report: &drops::Report| -> BTreeMap<String, Vec<(String, Option<u16>)>> {
        let ports =
            |s: &drops::SourceCount| s.ports.iter().map(|p| (p.protocol.clone(), p.port)).collect();
        report.total.top.iter().map(|s| (s.source.to_string(), ports(s))).collect()
    };
    let mut report = ask.report().await.unwrap();
    for _ in 0..100 {
        let all = report.total.top.first().is_some_and(|s| s.packets >= 5);
        if all && report.total.sources == 3 && report.total.by_reason.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        report = ask.report().await.unwrap();
    }
    let expected =
        [("198.51.100.7", "tcp", 22), ("2001:db8:1::7", "tcp", 443), ("203.0.113.9", "udp", 443)];
    let expected: BTreeMap<_, _> = expected
        .map(|(ip, protocol, port)| (ip.to_owned(), vec![(protocol.to_owned(), Some(port))]))
        .into();
    assert_eq!(by(&report), expected, "{report:?}");
    assert_eq!(report.total.top[0].packets, 5);
    assert!(report.total.by_reason["palisade ssh"] >= 1, "{report:?}");

    // The end of the task tells of the minute that was not over.
    scope.shut_down(SOON).await;
    let lines = paper.0.lock().unwrap().clone();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["top"][0]["source"], "203.0.113.9");
    // And the group is free again.
    second.open(drops::DEFAULT_GROUP).unwrap();
}

#[tokio::test]
async fn what_a_log_that_runs_over_loses_is_counted_to_the_packet() {
    let Some(lab) = Lab::build("ovr") else { return };
    lab.nft(RULES);
    let mut log = Nflog::of(&lab.path("origin"));
    log.open(drops::DEFAULT_GROUP).unwrap();
    let sent = 6000_u64;
    let from: IpAddr = STRANGER4.parse().unwrap();
    // Nobody reads meanwhile.
    lab.at("stranger", move || (0..sent).for_each(|_| lab::forge_udp(from)));
    let mut all = Batch::default();
    while tokio::time::timeout(Duration::from_secs(1), log.next(&mut all)).await.is_ok() {}
    assert!(all.overruns > 0 && (all.packets.len() as u64) < sent, "it did not run over");
    // The number of one more says how many are missing before it.
    let from: IpAddr = EDGE4.parse().unwrap();
    lab.at("edge", move || lab::forge_udp(from));
    while !all.packets.iter().any(|p| p.source == from) {
        tokio::time::timeout(SOON, log.next(&mut all)).await.unwrap().unwrap();
    }
    println!("{} logged, {} lost, {} overruns", all.packets.len(), all.lost, all.overruns);
    assert_eq!(all.packets.len() as u64 + all.lost, sent + 1);
}

/// An nft that is still there after what it does.
#[expect(clippy::disallowed_methods, reason = "a test starts another program")]
fn tamper(lab: &Lab, command: &str) -> Child {
    let there = lab.path("origin").file_name().unwrap().to_owned();
    let mut nft = Command::new("ip");
    nft.args(["netns", "exec"]).arg(there).args(["nft", "-i"]);
    let mut nft = nft.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(nft.stdin.as_mut().unwrap(), "{command}").unwrap();
    nft
}

#[tokio::test]
async fn a_repair_is_recorded_on_disk_with_the_program_that_made_it_necessary() {
    let Some(lab) = Lab::build("rec") else { return };
    let (_keep, wanted) =
        watch::channel(Settings { table_owner: TableOwner::Off, ..settings(&lab) });
    let state = wanted.borrow().state_dir.clone();
    let ports = Ports {
        kernel: NftTable::open_in(&lab.path("origin")).unwrap(),
        changes: NftEvents::open_in(&lab.path("origin")).unwrap(),
        feed: Feeds::new(NoUrls),
        files: DiskFiles,
        clock: SystemClock,
    };
    let (book, ask, record) = history::new();
    let (handle, task) = firewall::new(wanted, ports);
    let mut scope = Scope::new(&CancellationToken::new());
    let (stop, kept) = (scope.stop(), scope.stop());
    scope.spawn("firewall", task.with_history(book, Who::Start).run(stop));
    scope.spawn("history", history::run(record, DiskHistory::new(&state), kept));
    handle.in_force().await.unwrap();

    let mut nft = tamper(&lab, "flush chain inet palisade input");
    let mut seen = handle.watch();
    let repaired = seen.wait_for(|s| s.drift.repairs == 1);
    tokio::time::timeout(SOON, repaired).await.unwrap().unwrap();
    drop(nft.stdin.take());
    let listed = ask.last(10).await.unwrap();
    scope.shut_down(SOON).await;
    nft.wait().unwrap();

    assert_eq!((listed.entries.len(), listed.error), (2, None));
    let [first, second] = listed.entries.as_slice() else { panic!("not two") };
    assert_eq!(first.who, [Who::Start]);
    let [Who::Repair { culprit: Some(culprit) }] = second.who.as_slice() else {
        panic!("{second:?}");
    };
    assert_eq!((culprit.pid, culprit.name.as_str()), (nft.id(), "nft"));
    assert_eq!(culprit.exe.as_deref(), Some("/usr/sbin/nft".as_ref()));
    assert_eq!(first.ruleset, second.ruleset);
    assert!(second.changes.iter().any(|c| c.contains("rule")), "{second:?}");
    let bytes = std::fs::read(state.join("history.jsonl")).unwrap();
    assert_eq!(history::decode(&bytes, 10), (listed.entries, 0));
}
