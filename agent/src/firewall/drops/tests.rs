//! The count against a naive one, and the task with a log and counters in memory.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    super::settings as firewall_settings, Ask, BadLog, Batch, Counters, DEFAULT_GROUP, DropLog,
    Dropped, Lines, MAX_PORTS, MAX_REASONS, MAX_SOURCES, Minute, Parts, Report, Settings, Tally,
    new,
};
use crate::clock::{SetClock, Timestamp};

fn packet(source: u32, port: u16) -> Dropped {
    Dropped {
        reason: "palisade drop".to_owned(),
        source: IpAddr::V4(source.into()),
        protocol: 6,
        port: Some(port),
    }
}

fn batch(packets: Vec<Dropped>) -> Batch {
    Batch { packets, ..Batch::default() }
}

#[test]
fn the_busiest_sources_are_named_with_their_ports_and_reasons() {
    let mut tally = Tally::default();
    tally.take(&batch(vec![packet(1, 22), packet(1, 22), packet(1, 23), packet(2, 443)]));
    let mut ssh = packet(3, 22);
    ssh.reason = "palisade ssh".to_owned();
    tally.take(&Batch { packets: vec![ssh], lost: 4, overruns: 1, unclear: 2 });
    let counts = tally.counts(2);
    assert_eq!((counts.logged, counts.lost, counts.overruns), (7, 4, 1));
    assert_eq!((counts.sources, counts.more_sources), (3, false));
    let top = &counts.top[0];
    assert_eq!((top.source, top.packets), (IpAddr::V4(1.into()), 3));
    let ports: Vec<_> =
        top.ports.iter().map(|p| (p.protocol.as_str(), p.port, p.packets)).collect();
    assert_eq!(ports, [("tcp", Some(22), 2), ("tcp", Some(23), 1)]);
    assert_eq!(counts.others, 1 + 2, "the third source, and what is not clear");
    assert_eq!(counts.by_reason["palisade drop"], 4);
    assert_eq!(counts.by_reason["palisade ssh"], 1);
}

#[test]
fn a_flood_of_forged_sources_takes_bounded_room_and_does_not_hide_the_busiest() {
    let mut tally = Tally::default();
    let flood = 200_000_u32;
    for n in 0..flood {
        // One real source among the forged ones.
        tally.take(&batch(vec![packet(n.wrapping_mul(2_654_435_761) | 1, 80)]));
        if n % 10 == 0 {
            tally.take(&batch(vec![packet(0, 22)]));
        }
    }
    let counts = tally.counts(10);
    assert_eq!(counts.logged, u64::from(flood + flood / 10));
    assert_eq!((counts.top[0].source, counts.top[0].packets), (IpAddr::V4(0.into()), 20_000));
    assert!(counts.more_sources && counts.sources <= MAX_SOURCES as u64);
    let named: u64 = counts.top.iter().map(|s| s.packets).sum();
    assert_eq!(named + counts.others, counts.logged, "each packet is counted once");
}

#[test]
fn one_source_with_every_port_and_any_number_of_words_take_bounded_room() {
    let mut tally = Tally::default();
    for port in 0..=u16::MAX {
        let reason = format!("word {}", port % 100);
        tally.take(&batch(vec![Dropped { reason, ..packet(1, port) }]));
    }
    let counts = tally.counts(10);
    let top = &counts.top[0];
    assert_eq!(top.ports.len(), MAX_PORTS);
    assert_eq!(top.ports.iter().map(|p| p.packets).sum::<u64>() + top.other_ports, 65_536);
    assert_eq!(counts.by_reason.len(), MAX_REASONS + 1);
    assert_eq!(counts.by_reason.values().sum::<u64>(), 65_536);
}

proptest! {
    #[test]
    fn with_room_for_all_the_count_is_the_naive_one(
        packets in prop::collection::vec((0..40_u32, 0..4_u16), 0..300),
    ) {
        let mut naive: HashMap<(u32, u16), u64> = HashMap::new();
        let mut tally = Tally::default();
        for (source, port) in &packets {
            *naive.entry((*source, *port)).or_default() += 1;
            tally.take(&batch(vec![packet(*source, *port)]));
        }
        let counts = tally.counts(100);
        let told: HashMap<(u32, u16), u64> = counts
            .top
            .iter()
            .flat_map(|s| s.ports.iter().map(move |p| (s.source, p)))
            .map(|(ip, p)| {
                let IpAddr::V4(ip) = ip else { panic!("IPv4 only") };
                ((ip.into(), p.port.unwrap()), p.packets)
            })
            .collect();
        prop_assert_eq!(told, naive);
        prop_assert_eq!(counts.others, 0);
    }
}

/// A log in memory: batches that a test sends, or why there is none.
struct MemLog {
    batches: Arc<tokio::sync::Mutex<mpsc::Receiver<Batch>>>,
    opened: watch::Sender<Vec<u16>>,
    refuse: watch::Receiver<bool>,
}

impl DropLog for MemLog {
    fn open(&mut self, group: u16) -> Result<(), BadLog> {
        self.opened.send_modify(|all| all.push(group));
        if *self.refuse.borrow() { Err(BadLog::Taken) } else { Ok(()) }
    }

    async fn next(&mut self, into: &mut Batch) -> io::Result<()> {
        match self.batches.lock().await.recv().await {
            Some(b) if b.lost == u64::MAX => Err(io::Error::other("the log broke")),
            Some(b) => {
                *into = b;
                Ok(())
            }
            None => std::future::pending().await,
        }
    }
}

struct MemCounters(watch::Receiver<Option<BTreeMap<String, u64>>>);

impl Counters for MemCounters {
    async fn read(&mut self) -> Option<BTreeMap<String, u64>> {
        self.0.borrow().clone()
    }
}

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<serde_json::Value>>>);

impl Lines for Paper {
    fn write(&mut self, line: &str) {
        assert!(!line.contains('\n'));
        self.0.lock().unwrap().push(serde_json::from_str(line).unwrap());
    }
}

struct World {
    batches: mpsc::Sender<Batch>,
    counters: watch::Sender<Option<BTreeMap<String, u64>>>,
    opened: watch::Receiver<Vec<u16>>,
    refuse: watch::Sender<bool>,
    settings: watch::Sender<firewall_settings::Settings>,
    paper: Paper,
    ask: Ask,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn settings(group: Option<u16>, samples: bool) -> firewall_settings::Settings {
    firewall_settings::Settings {
        ports: Vec::new(),
        sources: BTreeMap::new(),
        guard: firewall_settings::Guard {
            max_address_loss_permille: 50,
            withdraw_after: Duration::ZERO,
            max_ranges: 1,
        },
        enforce: firewall_settings::Enforce::Yes,
        table_owner: firewall_settings::TableOwner::Auto,
        guard_published: true,
        metadata_users: None,
        drops: Settings { group, samples },
        tests: Vec::new(),
        state_dir: "/state".into(),
    }
}

fn counters(dropped: u64, from_x: u64) -> Option<BTreeMap<String, u64>> {
    Some([("dropped".to_owned(), dropped), ("from_x".to_owned(), from_x)].into())
}

impl World {
    fn start(refused: bool, wanted: firewall_settings::Settings) -> Self {
        let (batches, from) = mpsc::channel(16);
        let (opened, seen_opened) = watch::channel(Vec::new());
        let (refuse, refused) = watch::channel(refused);
        let (counters, read) = watch::channel(counters(100, 7));
        let (settings, wanted) = watch::channel(wanted);
        let paper = Paper::default();
        let log =
            MemLog { batches: Arc::new(tokio::sync::Mutex::new(from)), opened, refuse: refused };
        let clock = SetClock::at(Timestamp::from_secs(1_790_000_000));
        let parts = Parts { log, counters: MemCounters(read), lines: paper.clone(), clock };
        let (ask, drops) = new(wanted, parts);
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test waits for it itself")]
        let task = tokio::spawn(drops.run(stop.clone()));
        Self { batches, counters, opened: seen_opened, refuse, settings, paper, ask, stop, task }
    }

    /// Sends packets and waits until they are counted.
    async fn came(&self, b: Batch) -> Report {
        let before = self.ask.report().await.unwrap().total.logged;
        let more = b.packets.len() as u64;
        self.batches.send(b).await.unwrap();
        loop {
            let report = self.ask.report().await.unwrap();
            if report.total.logged >= before + more {
                return report;
            }
            tokio::task::yield_now().await;
        }
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        std::mem::take(&mut *self.paper.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_minute_is_one_line_with_what_was_logged_beside_what_the_kernel_counted() {
    let w = World::start(false, settings(Some(DEFAULT_GROUP), false));
    let many = (0..12).flat_map(|n| vec![packet(n, 22); 13 - n as usize]).collect();
    let report = w.came(batch(many)).await;
    assert_eq!((report.error, report.total.logged), (None, 90));
    w.counters.send_replace(counters(5100, 70));
    time::sleep(Duration::from_secs(61)).await;
    let lines = w.lines();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(line["kind"], "firewall.drops");
    assert_eq!(line["counted"], serde_json::json!({ "dropped": 5000 }), "not who was let in");
    assert_eq!((&line["logged"], &line["sources"]), (&90.into(), &12.into()));
    assert_eq!(line["top"].as_array().unwrap().len(), 10);
    assert_eq!(line["top"][0]["ports"][0]["port"], 22);
    assert_eq!(line["others"], 3 + 2, "the last two of twelve");
    let minute: Minute = serde_json::from_value(line.clone()).unwrap();
    assert_eq!(minute.counts.by_reason["palisade drop"], 90);

    // A quiet minute is no line, and the report still knows the last one.
    time::sleep(Duration::from_secs(120)).await;
    assert!(w.lines().is_empty());
    let report = w.came(batch(vec![packet(0, 23)])).await;
    assert_eq!((report.total.logged, report.minutes.len()), (91, 1));
    assert_eq!(report.total.top[0].packets, 14, "the same source of two minutes is one");
    assert_eq!(report.counted["dropped"], 5000);

    // The end tells of the minute that was not over.
    w.stop.cancel();
    w.task.await.unwrap();
    assert_eq!(w.paper.0.lock().unwrap()[0]["logged"], 1);
}

#[tokio::test(start_paused = true)]
async fn counters_alone_are_a_line_and_their_new_beginning_is_no_flood() {
    let w = World::start(false, settings(None, false));
    // Settled, so that the counters of the beginning are read.
    assert!(!w.ask.report().await.unwrap().logging);
    assert!(w.opened.borrow().is_empty(), "no group is asked for");
    w.counters.send_replace(counters(130, 7));
    time::sleep(Duration::from_secs(61)).await;
    w.counters.send_replace(counters(2, 7));
    time::sleep(Duration::from_secs(60)).await;
    w.counters.send_replace(None);
    time::sleep(Duration::from_secs(60)).await;
    w.counters.send_replace(counters(9, 7));
    time::sleep(Duration::from_secs(60)).await;
    let counted: Vec<_> = w.lines().iter().map(|l| l["counted"]["dropped"].clone()).collect();
    assert_eq!(counted, [30, 2, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_another_reads_is_told_and_tried_again() {
    let w = World::start(true, settings(Some(DEFAULT_GROUP), false));
    let mut error = w.ask.error();
    let why = error.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(why.contains("another program") && why.contains("firewall.drops.group"), "{why}");
    assert_eq!(w.ask.report().await.unwrap().error, Some(why));
    w.refuse.send_replace(false);
    error.wait_for(Option::is_none).await.unwrap();
    assert_eq!(w.came(batch(vec![packet(1, 1)])).await.total.logged, 1);

    // One that breaks is opened anew as well.
    w.batches.send(Batch { lost: u64::MAX, ..Batch::default() }).await.unwrap();
    error.wait_for(|e| e.as_ref().is_some_and(|e| e.contains("the log broke"))).await.unwrap();
    error.wait_for(Option::is_none).await.unwrap();
    assert_eq!(*w.opened.borrow(), [DEFAULT_GROUP; 3]);

    // Another group is another log; the same settings once more are not.
    w.settings.send_replace(settings(Some(7), false));
    let mut opened = w.opened.clone();
    opened.wait_for(|all| all.last() == Some(&7)).await.unwrap();
    w.settings.send_replace(settings(Some(7), true));
    assert_eq!(w.came(batch(vec![packet(1, 1)])).await.total.logged, 2);
    assert_eq!(w.opened.borrow().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn one_packet_in_a_hundred_is_a_sample_and_no_more_than_one_a_second() {
    let w = World::start(false, settings(Some(DEFAULT_GROUP), true));
    w.came(batch(vec![packet(1, 22); 10_000])).await;
    let samples = w.lines();
    assert_eq!(samples.len(), 60);
    assert!(samples.iter().all(|l| l["kind"] == "firewall.drop" && l["source"] == "0.0.0.1"));
    time::sleep(Duration::from_secs(61)).await;
    w.lines();
    w.came(batch(vec![packet(1, 22); 250])).await;
    assert_eq!(w.lines().len(), 2);
}
