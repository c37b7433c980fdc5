//! Followed files and what hosts do to them beside plain rotation: packing, links, outages, very many of
//! them, and marks that are damaged.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use flate2::{Compression, write::GzEncoder};
use palisade_agent::{
    logs::{TailEntry, TailFile, TailFs},
    sys::tail_fs::Disk,
};

use crate::common::*;

fn empty(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
}

/// As gzip does: under another name, with the same time, and the file is gone.
fn gzip(path: &Path) {
    let packed = format!("{}.gz", path.display());
    let mut out = GzEncoder::new(fs::File::create(&packed).unwrap(), Compression::fast());
    out.write_all(&fs::read(path).unwrap()).unwrap();
    let time = fs::metadata(path).unwrap().modified().unwrap();
    out.finish().unwrap().set_modified(time).unwrap();
    fs::remove_file(path).unwrap();
}

async fn read_and_stop(place: &Place, cloud: &Cloud, pattern: &str) {
    let agent = Agent::start(place.settings(pattern), cloud).await;
    agent.flush().await;
    agent.stop().await;
}

#[tokio::test]
async fn copies_that_are_emptied_while_nothing_can_be_delivered() {
    for pattern in ["app.log", "app.log*"] {
        let (place, cloud) = (Place::new(), Cloud::default());
        let path = place.log("app.log");
        write(&path, &numbered(0..100));
        let agent = Agent::start(place.settings(pattern), &cloud).await;
        agent.flush().await;
        down(&cloud);
        for round in 0..3 {
            write(&path, &numbered(100 + round * 900..100 + round * 900 + 900));
            wait_until("the lines to be seen", || agent.handle.status().backlog_bytes() > 0).await;
            for n in (1..=round).rev() {
                let name = |n: usize| place.log(&format!("app.log.{n}"));
                fs::rename(name(n), name(n + 1)).unwrap();
            }
            fs::copy(&path, place.log("app.log.1")).unwrap();
            empty(&path);
            let seen = fs::metadata(&path).unwrap().len();
            assert_eq!(seen, 0);
            // Until a look has found it; by its backlog, which nothing takes away meanwhile.
            let before = agent.handle.status().sources.len();
            wait_until("a lane for the copy", || {
                let status = agent.handle.status();
                status.sources.len() > before.min(round + 1) || !status.incidents.is_empty()
            })
            .await;
        }
        cloud.heal();
        wait_until("all lines", || cloud.lines().len() >= 2800).await;
        let incidents = agent.handle.status().incidents;
        agent.stop().await;
        assert_eq!(lost_and_doubled(&cloud.lines(), 2800), (0, 0), "{pattern}");
        assert!(incidents.is_empty(), "{incidents:?}");
    }
}

#[tokio::test]
async fn a_copy_is_found_by_content_whatever_its_name() {
    for name in ["app.log-20261126", "app-20261126.log", "app.log.old", "app.log.1.gz"] {
        let (place, cloud) = (Place::new(), Cloud::default());
        let path = place.log("app.log");
        write(&path, &numbered(0..300));
        read_and_stop(&place, &cloud, "app.log").await;
        write(&path, &numbered(300..600));
        let copy = place.log(name.trim_end_matches(".gz"));
        fs::copy(&path, &copy).unwrap();
        if name.ends_with(".gz") {
            gzip(&copy);
        }
        empty(&path);
        write(&path, &numbered(600..1400));
        let agent = Agent::start(place.settings("app.log"), &cloud).await;
        wait_until("all lines", || cloud.lines().len() >= 1400).await;
        let incidents = agent.handle.status().incidents;
        agent.stop().await;
        read_and_stop(&place, &cloud, "app.log").await;
        assert_eq!(lost_and_doubled(&cloud.lines(), 1400), (0, 0), "{name}");
        assert!(cloud.lines().is_sorted() && incidents.is_empty(), "{name}: {incidents:?}");
    }
}

#[tokio::test]
async fn files_that_are_packed_while_no_agent_runs_are_read_to_their_end_in_order() {
    for pattern in ["app.log", "app.log*"] {
        let (place, cloud) = (Place::new(), Cloud::default());
        let path = place.log("app.log");
        let n = |n: usize| place.log(&format!("app.log.{n}"));
        write(&path, &numbered(0..300));
        read_and_stop(&place, &cloud, pattern).await;
        // The first was read in part, the second never seen; a third is not packed yet.
        write(&path, &numbered(300..600));
        fs::rename(&path, n(3)).unwrap();
        gzip(&n(3));
        write(&n(2), &numbered(600..900));
        gzip(&n(2));
        write(&n(1), &numbered(900..1200));
        write(&path, &numbered(1200..1500));
        for _ in 0..2 {
            let agent = Agent::start(place.settings(pattern), &cloud).await;
            wait_until("all lines", || cloud.lines().len() >= 1500).await;
            agent.flush().await;
            agent.stop().await;
            assert_eq!(lost_and_doubled(&cloud.lines(), 1500), (0, 0), "{pattern}");
        }
        assert!(cloud.lines().is_sorted(), "the oldest file comes first");
    }
}

#[tokio::test]
async fn a_file_that_is_renamed_packed_and_deleted_during_an_outage_is_read_by_its_descriptor() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let path = place.log("app.log");
    write(&path, &numbered(0..10));
    let agent = Agent::start(place.settings("app.log"), &cloud).await;
    agent.flush().await;
    down(&cloud);
    // Far more than is read ahead.
    write(&path, &numbered(10..60_000));
    wait_until("the lines to be seen", || agent.handle.status().backlog_bytes() > 1_000_000).await;
    fs::rename(&path, place.log("app.log.1")).unwrap();
    write(&path, &numbered(60_000..60_100));
    gzip(&place.log("app.log.1"));
    fs::remove_file(place.log("app.log.1.gz")).unwrap();
    wait_until("the new file to be seen", || agent.handle.status().sources.len() == 2).await;
    cloud.heal();
    wait_until("all lines", || cloud.lines().len() >= 60_100).await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 60_100), (0, 0));
    assert!(cloud.lines().is_sorted());
}

#[tokio::test]
async fn a_file_that_is_emptied_and_refilled_alike_before_anybody_looked_is_found_in_its_copy() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let path = place.log("app.log");
    let header = "# a header that each file begins with\n".repeat(40);
    write(&path, &header);
    let agent = Agent::start(place.settings("app.log"), &cloud).await;
    agent.flush().await;
    for round in 0..3 {
        write(&path, &numbered(round * 500..round * 500 + 500));
        fs::copy(&path, place.log(&format!("app.log.{}", 9 - round))).unwrap();
        empty(&path);
        write(&path, &header);
        agent.flush().await;
    }
    write(&path, &numbered(1500..1600));
    wait_until("all lines", || cloud.lines().len() >= 1600 + 4 * 40).await;
    agent.stop().await;
    let mut lines = cloud.lines();
    lines.retain(|l| !l.starts_with('#'));
    assert_eq!(lost_and_doubled(&lines, 1600), (0, 0));
}

#[tokio::test]
async fn a_file_with_several_names_is_read_once_and_a_link_that_is_changed_is_followed() {
    let (place, cloud) = (Place::new(), Cloud::default());
    write(&place.log("b.log"), &numbered(0..100));
    fs::hard_link(place.log("b.log"), place.log("a.log")).unwrap();
    write(&place.log("app-1.txt"), &numbered(100..200));
    std::os::unix::fs::symlink("app-1.txt", place.log("current.log")).unwrap();
    std::os::unix::fs::symlink("b.log", place.log("0.log")).unwrap();
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    write(&place.log("app-1.txt"), &numbered(200..250));
    write(&place.log("app-2.txt"), &numbered(250..300));
    fs::remove_file(place.log("current.log")).unwrap();
    std::os::unix::fs::symlink("app-2.txt", place.log("current.log")).unwrap();
    wait_until("both files of the link", || cloud.lines().len() >= 300).await;
    write(&place.log("a.log"), &numbered(300..310));
    wait_until("what came by another name", || cloud.lines().len() >= 310).await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 310), (0, 0));
    assert_eq!(cloud.streams().len(), 2, "{:?}", cloud.streams());
}

#[tokio::test]
async fn a_writer_that_never_opens_its_file_again_is_heard_also_after_it_was_closed() {
    let (place, cloud) = (Place::new(), Cloud::default());
    write(&place.log("app.log"), &numbered(0..10));
    let agent = Agent::start(place.settings("app.log"), &cloud).await;
    agent.flush().await;
    fs::rename(place.log("app.log"), place.log("app.log.1")).unwrap();
    wait_until("the file to be closed", || agent.handle.status().sources.is_empty()).await;
    write(&place.log("app.log.1"), &numbered(10..20));
    wait_until("what came late", || cloud.lines().len() >= 20).await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 20), (0, 0));
}

/// The disk, where files cannot be opened for a while.
#[derive(Debug)]
struct Closed(AtomicBool);

impl TailFs for Closed {
    fn list(&self, dir: &Path) -> io::Result<Vec<TailEntry>> {
        Disk.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn TailFile>> {
        if self.0.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(24)); // EMFILE
        }
        Disk.open(path)
    }

    fn device(&self, dir: &Path) -> io::Result<u64> {
        Disk.device(dir)
    }
}

#[tokio::test]
async fn files_that_cannot_be_opened_are_told_and_read_later_without_any_hint() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let files = Arc::new(Closed(AtomicBool::new(true)));
    write(&place.log("a.log"), &numbered(0..50));
    write(&place.log("b.log"), &numbered(50..100));
    let around = Around { files: files.clone(), hints: false, ..Around::default() };
    let agent = Agent::start_with(place.settings("*.log"), Some(cloud.clone()), around).await;
    wait_until("both to be told", || agent.handle.status().incidents.len() == 2).await;
    // A rotation meanwhile: the next look is to find what lies under other names by now.
    write(&place.log("a.log"), &numbered(100..150));
    fs::rename(place.log("a.log"), place.log("a.log.1")).unwrap();
    write(&place.log("a.log"), &numbered(150..200));
    files.0.store(false, Ordering::SeqCst);
    wait_until("all lines", || cloud.lines().len() >= 200).await;
    let incidents = agent.handle.status().incidents;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 200), (0, 0));
    assert!(incidents.len() <= 3, "each is told once: {incidents:?}");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
async fn marks_that_are_damaged_old_or_gone_cost_lines_twice_and_never_a_line() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let (path, marks) = (place.log("app.log"), place.state().join("checkpoint"));
    let (old, notes) = (place.state().join("checkpoint.old"), place.state().join("acks"));
    write(&path, &numbered(0..100));
    read_and_stop(&place, &cloud, "app.log").await;
    let first = fs::read(&marks).unwrap();
    let mut written = 100;
    let mut damage: Vec<Box<dyn Fn()>> = Vec::new();
    damage.push(Box::new(|| fs::write(&marks, b"palisade-checkpoint 00000000\n{}").unwrap()));
    damage.push(Box::new(|| fs::write(&marks, b"").unwrap()));
    // From a backup, older than all else.
    damage.push(Box::new(|| {
        fs::write(&marks, &first).unwrap();
        fs::write(&old, b"torn").unwrap();
        fs::write(&notes, [7; 60]).unwrap();
    }));
    damage.push(Box::new(|| {
        for file in [&marks, &old, &notes] {
            fs::remove_file(file).unwrap();
        }
    }));
    for (round, spoil) in damage.iter().enumerate() {
        spoil();
        write(&path, &numbered(written..written + 100));
        written += 100;
        read_and_stop(&place, &cloud, "app.log").await;
        let (lost, _) = lost_and_doubled(&cloud.lines(), written);
        assert_eq!(lost, 0, "round {round}");
    }
}

/// How many files of the directory this process holds open.
fn held_open(place: &Place) -> usize {
    let dir = place.dir.path().join("log");
    let fds = fs::read_dir("/proc/self/fd").unwrap();
    let targets = fds.filter_map(|e| fs::read_link(e.ok()?.path()).ok());
    targets.filter(|t| t.starts_with(&dir)).count()
}

#[tokio::test]
async fn more_files_than_may_be_open_are_all_read_and_those_that_grow_are_followed() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let (total, active) = (2200, 200);
    let file = |i: usize| place.log(&format!("{i}.log"));
    for i in 0..total {
        write(&file(i), &numbered(i..i + 1));
    }
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    let mut most_open = 0;
    wait_until("all files", || {
        most_open = most_open.max(held_open(&place));
        cloud.lines().len() >= total
    })
    .await;
    for i in 0..active {
        write(&file(i * 11), &numbered(total + i..total + i + 1));
    }
    wait_until("those that grew", || {
        most_open = most_open.max(held_open(&place));
        cloud.lines().len() >= total + active
    })
    .await;
    agent.stop().await;
    assert!((500..=1001).contains(&most_open), "{most_open}");
    // What was closed is not read again by the next agent, and goes on where it was.
    write(&file(7), &numbered(total + active..total + active + 1));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    wait_until("the last line", || cloud.lines().len() > total + active).await;
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), total + active + 1), (0, 0));
}
