//! The log path as a process of its own against the strict fake: what arrives through crashes,
//! outages, faults and rotation, over HTTP and with real signals.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use palisade_e2e::{
    aws::logs::{Fake, Faults, Stats},
    shipping::{Ship, line, wait_for, write_lines},
};

const CAP: Duration = Duration::from_secs(60);

/// Cargo builds examples along with tests, beside them.
fn program() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let ship = me.parent().unwrap().parent().unwrap().join("examples/ship");
    assert!(ship.exists(), "{} is missing: cargo build --example ship", ship.display());
    ship
}

struct Place {
    dir: tempfile::TempDir,
    fake: Fake,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), fake: Fake::start(Faults::default()).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ship(&self, more: &[&str]) -> Ship {
        let (state, file) = (self.path("state"), self.path("app.log"));
        let mut args = vec!["--state", text(&state), "--file", text(&file), "--flush-ms", "100"];
        args.extend(more);
        Ship::start(&program(), &self.fake.url(), args).unwrap()
    }

    fn wait(&self, lines: u64) -> Stats {
        wait_for(&self.fake, CAP, |s| s.distinct >= lines)
    }

    fn write(&self, range: std::ops::Range<usize>) {
        write_lines(&self.path("app.log"), range).unwrap();
    }

    /// Lets real time pass in which nothing is expected to arrive.
    fn pass(&self, time: Duration) {
        wait_for(&self.fake, time, |_| false);
    }
}

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

fn assert_all(stats: &Stats, lines: u64, most_doubled: u64) {
    assert_eq!(stats.distinct, lines, "of {lines} lines");
    assert!(stats.duplicates <= most_doubled, "{} doubled", stats.duplicates);
    assert!(stats.violations.is_empty(), "{:?}", stats.violations);
}

#[test]
fn a_file_arrives_whole_once_and_in_order_with_and_without_gzip() {
    for more in [&[][..], &["--compress"]] {
        let place = Place::new();
        place.write(0..60_000);
        let ship = place.ship(more);
        place.wait(60_000);
        ship.terminate().unwrap();
        let stats = place.fake.stats();
        assert_all(&stats, 60_000, 0);
        assert_eq!(stats.out_of_order, 0);
        let retention = stats.streams.values().next().unwrap().retention_days;
        assert_eq!(retention, Some(30));
        if !more.is_empty() {
            assert!(stats.wire_bytes * 3 < stats.message_bytes, "{} bytes", stats.wire_bytes);
        }
    }
}

#[test]
fn kill_at_any_instant_loses_nothing() {
    let place = Place::new();
    let (in_file, each) = (60_000, 2000);
    place.write(0..in_file);
    let spool = place.path("state/spool/stdin/stdin");
    let mut fed = in_file;
    // Eight deaths, each at another place of the way; program output is fed beside the file.
    for round in 1..=8_u64 {
        let mut ship = place.ship(&["--stdin"]);
        let mut stdin = ship.stdin().unwrap();
        for n in fed..fed + each {
            stdin.write_all(line(n, 200).as_bytes()).unwrap();
        }
        fed += each;
        drop(stdin);
        // What is in the pipe is not the shipper's yet: it must be in the spool before the kill,
        // or have arrived.
        let last = format!("{:09} ", fed - 1).into_bytes();
        wait_for(&place.fake, CAP, |s| {
            let taken = s.streams.get("/test/stdin host/stdin").map_or(0, |x| x.lines);
            let segments = fs::read_dir(&spool).into_iter().flatten().flatten();
            let mut contents = segments.filter_map(|e| fs::read(e.path()).ok());
            taken >= (fed - in_file) as u64
                || contents.any(|c| c.windows(last.len()).rev().take(8 << 10).any(|w| w == last))
        });
        wait_for(&place.fake, Duration::from_secs(2), |s| s.lines >= round * 9000);
        ship.kill().unwrap();
    }
    place.write(fed..fed + 20_000);
    let ship = place.ship(&[]);
    let total = (fed + 20_000) as u64;
    place.wait(total);
    ship.terminate().unwrap();
    // At most a request per lane and death, of about 4,600 lines.
    assert_all(&place.fake.stats(), total, 8 * 2 * 4_700);
}

#[test]
fn an_outage_with_a_kill_in_it_loses_nothing() {
    let place = Place::new();
    place.write(0..20_000);
    let ship = place.ship(&[]);
    place.wait(20_000);
    place.fake.set_faults(Faults { refuse: true, ..Faults::default() });
    place.write(20_000..40_000);
    place.pass(Duration::from_millis(1500));
    ship.kill().unwrap();
    let ship = place.ship(&[]);
    place.pass(Duration::from_millis(500));
    place.fake.set_faults(Faults::default());
    place.wait(40_000);
    ship.terminate().unwrap();
    // The first lines were delivered long before the kill; only their checkpoint counts.
    assert_all(&place.fake.stats(), 40_000, 0);
}

#[test]
fn a_third_of_requests_throttled_or_failed_loses_and_doubles_nothing() {
    for faults in [
        Faults { throttle: 0.3, ..Faults::default() },
        Faults { error: 0.3, ..Faults::default() },
        Faults { cut: 0.3, ..Faults::default() },
    ] {
        let place = Place::new();
        place.fake.set_faults(faults);
        place.write(0..80_000);
        let ship = place.ship(&[]);
        place.wait(80_000);
        ship.terminate().unwrap();
        let stats = place.fake.stats();
        assert!(!stats.faults.is_empty());
        assert_all(&stats, 80_000, 0);
    }
}

#[test]
fn an_answer_that_gets_lost_doubles_its_request_and_no_more() {
    let place = Place::new();
    place.fake.set_faults(Faults { drop_ack: 0.2, ..Faults::default() });
    place.write(0..80_000);
    let ship = place.ship(&[]);
    place.wait(80_000);
    place.fake.set_faults(Faults::default());
    ship.terminate().unwrap();
    let stats = place.fake.stats();
    let dropped = stats.faults.get("drop_ack").copied().unwrap_or(0);
    assert_all(&stats, 80_000, dropped * 4_700);
}

#[test]
fn expired_credentials_and_missing_rights_keep_everything() {
    for faults in [
        Faults { denied: true, ..Faults::default() },
        Faults { expired: true, ..Faults::default() },
    ] {
        let place = Place::new();
        place.fake.set_faults(faults);
        place.write(0..5_000);
        let ship = place.ship(&[]);
        wait_for(&place.fake, CAP, |s| s.requests >= 2);
        place.fake.set_faults(Faults::default());
        place.wait(5_000);
        ship.terminate().unwrap();
        assert_all(&place.fake.stats(), 5_000, 0);
    }
}

/// Ten minutes behind, then ahead, then right again, as when somebody sets the clock.
#[test]
fn a_clock_that_is_wrong_is_put_right_by_the_services() {
    let place = Place::new();
    let ship = place.ship(&[]);
    for (n, clock_ahead_s) in [(1, 600), (2, -600), (3, 0)] {
        place.fake.set_faults(Faults { clock_ahead_s, ..Faults::default() });
        place.write((n - 1) * 5_000..n * 5_000);
        place.wait(n as u64 * 5_000);
    }
    ship.terminate().unwrap();
    assert_all(&place.fake.stats(), 15_000, 0);
}

/// The request that is never answered is given up after 30 seconds; a kill would not be so patient.
#[test]
fn an_endpoint_that_takes_requests_and_never_answers_holds_nothing_for_ever() {
    let place = Place::new();
    place.fake.set_faults(Faults { hang: true, ..Faults::default() });
    place.write(0..10_000);
    let ship = place.ship(&[]);
    place.pass(Duration::from_secs(1));
    place.fake.set_faults(Faults::default());
    place.wait(10_000);
    ship.terminate().unwrap();
    assert_all(&place.fake.stats(), 10_000, 0);
}

#[test]
fn twenty_files_over_a_slow_way_arrive_side_by_side() {
    let place = Place::new();
    place.fake.set_faults(Faults { delay_ms: 200, ..Faults::default() });
    let files: Vec<String> = (0..20).map(|n| format!("{n}.log")).collect();
    for (n, file) in files.iter().enumerate() {
        write_lines(&place.path(file), n * 1000..(n + 1) * 1000).unwrap();
    }
    let pattern = place.path("*.log");
    let ship = place.ship(&["--file", text(&pattern)]);
    place.wait(20_000);
    ship.terminate().unwrap();
    let stats = place.fake.stats();
    assert_all(&stats, 20_000, 0);
    assert_eq!((stats.out_of_order, stats.streams.len()), (0, 20));
}

#[test]
fn deleted_streams_and_groups_and_a_poisonous_event() {
    let place = Place::new();
    place.write(0..10_000);
    let ship = place.ship(&[]);
    place.wait(10_000);
    place.fake.delete_streams();
    place.write(10_000..20_000);
    place.wait(20_000);
    place.fake.set_faults(Faults { poison: Some("000025000 ".to_owned()), ..Faults::default() });
    place.write(20_000..30_000);
    place.wait(29_999);
    place.fake.set_faults(Faults::default());
    place.fake.delete_group("/test/files");
    place.write(30_000..40_000);
    place.wait(39_999);
    let remade = place.fake.stats().streams.into_values().map(|x| (x.lines, x.retention_days));
    assert_eq!(remade.collect::<Vec<_>>(), [(10_000, Some(30))]);
    ship.terminate().unwrap();
    assert_all(&place.fake.stats(), 39_999, 0);
    let dead = fs::read_to_string(place.path("state/dead-letter.ndjson")).unwrap();
    assert_eq!(dead.lines().count(), 1);
    assert!(dead.contains("000025000 "));
}

#[test]
fn eight_rotations_live_and_eight_while_dead() {
    let place = Place::new();
    let rotated = |n: usize| place.path(&format!("app.log.{n}"));
    let shift = || {
        for n in (1..20).rev().filter(|n| rotated(*n).exists()) {
            fs::rename(rotated(n), rotated(n + 1)).unwrap();
        }
        fs::rename(place.path("app.log"), rotated(1)).unwrap();
    };
    let ship = place.ship(&[]);
    for round in 0..8 {
        place.write(round * 2000..round * 2000 + 2000);
        shift();
    }
    place.wait(16_000);
    ship.terminate().unwrap();
    assert_all(&place.fake.stats(), 16_000, 0);
    for round in 8..16 {
        place.write(round * 2000..round * 2000 + 2000);
        shift();
    }
    place.write(32_000..33_000);
    let ship = place.ship(&[]);
    place.wait(33_000);
    ship.terminate().unwrap();
    assert_all(&place.fake.stats(), 33_000, 0);
}

#[test]
fn copies_that_are_emptied_live() {
    let place = Place::new();
    let ship = place.ship(&[]);
    for round in 0..4_usize {
        place.write(round * 3000..round * 3000 + 3000);
        let (log, copy) = (place.path("app.log"), place.path("app.log.1"));
        if round > 0 {
            fs::rename(&copy, place.path(&format!("app.log.{}", round + 1))).unwrap();
        }
        fs::copy(&log, &copy).unwrap();
        fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
        if round % 2 == 1 {
            place.wait(round as u64 * 3000);
        }
    }
    place.wait(12_000);
    ship.terminate().unwrap();
    assert_all(&place.fake.stats(), 12_000, 0);
}
