//! What is told, by facts.

use std::time::Duration;

use super::{super::facts::*, *};

fn at(s: i64) -> Timestamp {
    Timestamp::from_secs(s)
}

fn process(program: &str, process: &str, restarts: u64) -> ProcessFacts {
    ProcessFacts {
        program: program.to_owned(),
        process: process.to_owned(),
        running: true,
        ready: Some(true),
        fatal: false,
        restarts,
        used: None,
    }
}

fn used(start_ticks: u64, cpu_ms: u64, memory: u64) -> Option<Used> {
    Some(Used { start_ticks, cpu: Duration::from_millis(cpu_ms), memory })
}

fn value(s: &Snapshot, metric: Metric, of: &str) -> Option<f64> {
    let of = (!of.is_empty()).then(|| of.to_owned());
    let mut found = s.samples.iter().filter(|x| x.metric == metric && x.of == of);
    let value = found.next().map(|x| x.value);
    assert_eq!(found.next(), None, "{metric:?} {of:?} is told twice");
    value
}

/// One memory, and samples a minute apart.
struct Line(Memory, Instant, i64);

impl Line {
    fn new() -> Self {
        Self(Memory::default(), Instant::now(), 0)
    }

    fn take(&mut self, facts: &Facts, host: Option<&HostFacts>) -> Snapshot {
        self.1 += Duration::from_secs(60);
        self.2 += 60;
        self.0.sample((at(self.2), self.1), facts, host, true)
    }

    fn processes(&mut self, processes: Vec<ProcessFacts>) -> Snapshot {
        self.take(&Facts { processes, ..Facts::default() }, None)
    }
}

#[test]
fn what_is_not_known_is_left_out_and_never_nought() {
    let s = Line::new().take(&Facts::default(), Some(&HostFacts::default()));
    assert_eq!(s.samples.len(), 1, "{:?}", s.samples);
    assert_eq!(value(&s, AGENT_UP, ""), Some(1.0));
    let no_lists = PatchFacts::default();
    let s = Line::new().take(&Facts { patch: Some(no_lists), ..Facts::default() }, None);
    assert_eq!((value(&s, PATCH_MISSING, ""), value(&s, PATCH_LISTS_AGE, "")), (None, None));
    assert_eq!(value(&s, PATCH_FAILED, ""), Some(0.0));
}

#[test]
fn a_program_is_told_of_by_all_its_processes() {
    let mut line = Line::new();
    let one = |ms| ProcessFacts { used: used(1, ms, 1000), ..process("web", "web_1", 4) };
    let two = |ms| ProcessFacts { used: used(2, ms, 500), ..process("web", "web_2", 0) };
    let s = line.processes(vec![one(0), two(0)]);
    assert_eq!(value(&s, PROGRAM_CPU, "web"), None, "a rate takes two readings");
    assert_eq!(value(&s, PROGRAM_RESTARTS, "web"), Some(0.0), "those were another agent's");
    let broken =
        ProcessFacts { running: false, ready: Some(false), fatal: true, used: None, ..two(0) };
    let s = line.processes(vec![ProcessFacts { restarts: 6, ..one(30_000) }, broken]);
    assert_eq!(value(&s, PROGRAM_RUNNING, "web"), Some(1.0));
    assert_eq!(value(&s, PROGRAM_READY, "web"), Some(0.0));
    assert_eq!(value(&s, PROGRAM_FATAL, "web"), Some(1.0));
    assert_eq!(value(&s, PROGRAM_RESTARTS, "web"), Some(2.0));
    assert_eq!(value(&s, PROGRAM_MEMORY, "web"), Some(1000.0));
    assert_eq!(value(&s, PROGRAM_CPU, "web"), Some(50.0));
    let job = ProcessFacts { running: false, ready: None, ..process("job", "job", 0) };
    assert_eq!(value(&line.processes(vec![job]), PROGRAM_READY, "job"), None);
    // A successor of the name has no rate of its own yet.
    line.processes(vec![one(90_000)]);
    let s = line.processes(vec![ProcessFacts { used: used(9, 95_000, 1), ..one(0) }]);
    assert_eq!(value(&s, PROGRAM_CPU, "web"), None);
}

#[test]
fn a_sample_in_between_moves_no_rate_and_no_total() {
    let mut line = Line::new();
    let web = |ms, restarts| Facts {
        processes: vec![ProcessFacts { used: used(1, ms, 1), ..process("web", "web", restarts) }],
        ..Facts::default()
    };
    line.take(&web(0, 0), None);
    let soon = line.1 + Duration::from_millis(500);
    let s = line.0.sample((at(61), soon), &web(400, 1), None, false);
    assert_eq!(value(&s, PROGRAM_CPU, "web"), None, "too soon to tell");
    let half = line.1 + Duration::from_secs(30);
    let s = line.0.sample((at(90), half), &web(15_000, 1), None, false);
    assert_eq!(value(&s, PROGRAM_CPU, "web"), Some(50.0));
    let s = line.take(&web(60_000, 2), None);
    assert_eq!(value(&s, PROGRAM_CPU, "web"), Some(100.0), "over the whole minute");
    assert_eq!(value(&s, PROGRAM_RESTARTS, "web"), Some(2.0));
}

#[test]
fn the_firewalls_packets_count_from_our_start_also_over_a_new_table() {
    let mut line = Line::new();
    let mut take = |dropped: u64, repairs| {
        let firewall = FirewallFacts {
            in_force: true,
            ranges: vec![("edge".to_owned(), 2), ("edge".to_owned(), 3)],
            feed_ages: vec![
                ("edge".to_owned(), Duration::from_secs(9)),
                ("edge".to_owned(), Duration::from_secs(4)),
            ],
            held: 1,
            repairs,
            dropped: [("dropped".to_owned(), dropped), ("invalid".to_owned(), 10)].into(),
        };
        line.take(&Facts { firewall: Some(firewall), ..Facts::default() }, None)
    };
    let s = take(1000, 1);
    assert_eq!(value(&s, FIREWALL_DROPPED, ""), Some(0.0));
    assert_eq!(value(&s, FIREWALL_DRIFT, ""), Some(1.0), "these are our own from the start");
    assert_eq!(value(&s, FIREWALL_RANGES, "edge"), Some(5.0));
    assert_eq!(value(&s, FIREWALL_FEED_AGE, "edge"), Some(9.0), "the oldest");
    assert_eq!(
        (value(&s, FIREWALL_IN_FORCE, ""), value(&s, FIREWALL_HELD, "")),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(value(&take(1007, 1), FIREWALL_DROPPED, ""), Some(7.0));
    assert_eq!(value(&take(2, 0), FIREWALL_DROPPED, ""), Some(9.0));
}

#[test]
fn thousands_of_files_are_one_source_and_no_loss_is_forgotten_with_its_file() {
    let mut line = Line::new();
    let file = |n: u64, dropped| SourceFacts {
        group: "/p/files".to_owned(),
        name: format!("/var/log/{n}"),
        backlog: 10,
        lag: Duration::from_millis(n),
        dropped,
        dead_lettered: 0,
    };
    let mut take = |sources: Vec<SourceFacts>, dropped| {
        let logs = LogsFacts { sources, dropped, dead_lettered: 0 };
        line.take(&Facts { logs: Some(logs), ..Facts::default() }, None)
    };
    let s = take((0..10_000).map(|n| file(n, u64::from(n == 7))).collect(), 1);
    assert_eq!(s.samples.len(), 5, "{:?}", s.samples);
    assert_eq!(value(&s, LOGS_BACKLOG, "/p/files"), Some(100_000.0));
    assert_eq!(value(&s, LOGS_LAG, "/p/files"), Some(9.999));
    assert_eq!(value(&s, LOGS_DROPPED, "/p/files"), Some(1.0));
    // The file is gone, and another one that came and went between lost three lines.
    let s = take(vec![file(1, 0)], 4);
    assert_eq!(value(&s, LOGS_DROPPED, "/p/files"), Some(1.0));
    assert_eq!(value(&s, LOGS_DROPPED, GONE), Some(3.0));
    let s = take(vec![], 4);
    assert_eq!(value(&s, LOGS_DROPPED, GONE), Some(4.0));
}

#[test]
fn the_host_is_told_in_hundredths_and_since_our_start() {
    let mut line = Line::new();
    let host = |busy, all, received| HostFacts {
        cpu: Some(CpuTicks { busy, all }),
        memory: Some(MemoryFacts { total: 1000, available: 250 }),
        disks: vec![
            DiskFacts { mount: "/".to_owned(), used: 30, available: 70 },
            DiskFacts { mount: "/none".to_owned(), used: 0, available: 0 },
        ],
        load1: Some(0.5),
        network: [("eth0".to_owned(), Traffic { received, transmitted: 1 })].into(),
        pressure: PressureFacts { cpu: Some(1.25), memory: None, io: Some(0.0) },
    };
    let s = line.take(&Facts::default(), Some(&host(100, 1000, 5000)));
    assert_eq!(value(&s, HOST_CPU, ""), None);
    assert_eq!(value(&s, HOST_NETWORK_RECEIVE, ""), Some(0.0));
    // A sample that could not read the host, and one that could again.
    line.take(&Facts::default(), None);
    line.take(&Facts::default(), Some(&host(100, 1000, 5500)));
    let s = line.take(&Facts::default(), Some(&host(200, 1400, 6000)));
    assert_eq!(value(&s, HOST_CPU, ""), Some(25.0));
    assert_eq!(value(&s, HOST_MEMORY, ""), Some(75.0));
    assert_eq!((value(&s, HOST_DISK, "/"), value(&s, HOST_DISK, "/none")), (Some(30.0), None));
    assert_eq!(value(&s, HOST_NETWORK_RECEIVE, ""), Some(1000.0));
    assert_eq!(value(&s, HOST_PRESSURE_CPU, ""), Some(1.25));
    assert_eq!(value(&s, HOST_PRESSURE_MEMORY, ""), None);
    assert_eq!(value(&s, HOST_PRESSURE_IO, ""), Some(0.0));
}
