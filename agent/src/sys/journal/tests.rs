//! Against real journal files, made by systemd's own importer.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use super::*;
use crate::logs::{JournalEntry, JournalPlace, cursor_hash};

const IMPORTER: &str = "/lib/systemd/systemd-journal-remote";

/// Adds entries to a journal file: unit and message, which may be any bytes.
#[expect(clippy::disallowed_methods, reason = "a test makes a journal with systemd's importer")]
fn add(dir: &Path, first: u64, entries: &[(&str, &[u8])]) {
    let mut text = Vec::new();
    for (i, (unit, message)) in (first..).zip(entries) {
        let us = 1_795_000_000_000_000 + i;
        let head = format!(
            "__REALTIME_TIMESTAMP={us}\n__MONOTONIC_TIMESTAMP={i}\n_BOOT_ID={:032x}\n_SYSTEMD_UNIT={unit}\n_SYSTEMD_CGROUP=/system.slice/{unit}\nMESSAGE\n",
            7
        );
        text.extend(head.into_bytes());
        text.extend((message.len() as u64).to_le_bytes());
        text.extend_from_slice(message);
        text.extend(b"\n\n");
    }
    let mut child = Command::new(IMPORTER)
        .args(["-o", dir.join("system.journal").to_str().unwrap(), "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-journal-remote is installed by cargo xtask setup");
    child.stdin.take().unwrap().write_all(&text).unwrap();
    assert!(child.wait().unwrap().success());
}

fn both(dir: &Path) -> [SystemJournal; 2] {
    let children = Children::default();
    let library = SystemJournal::of_directory(dir, children.clone());
    assert!(library.has_library(), "libsystemd.so.0 is part of the base system here");
    [library, SystemJournal::of_directory(dir, children).without_library()]
}

async fn told(follow: &mut JournalFollow) -> JournalTold {
    tokio::time::timeout(Duration::from_secs(60), follow.told.recv()).await.unwrap().unwrap()
}

async fn entry(follow: &mut JournalFollow) -> JournalEntry {
    match told(follow).await {
        JournalTold::Entry(e) => e,
        other => panic!("{other:?}"),
    }
}

async fn message(follow: &mut JournalFollow) -> Vec<u8> {
    entry(follow).await.fields["MESSAGE"].clone()
}

fn ask(units: &[&str], from: JournalPlace) -> JournalAsk {
    let units = units.iter().map(|u| (*u).to_owned()).collect();
    JournalAsk { units, from, find: Vec::new(), within: 100 }
}

const BEGUN: JournalTold = JournalTold::Begun { gone: false, found: Vec::new() };

#[tokio::test]
async fn entries_come_in_order_whole_and_as_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let long = vec![b'y'; 48 << 10];
    add(
        dir.path(),
        1,
        &[("a.service", b"one"), ("b.service", b"\xff\0 two\nlines"), ("a.service", &long)],
    );
    for journal in both(dir.path()) {
        let mut follow = journal.follow(ask(&[], JournalPlace::default()));
        assert_eq!(told(&mut follow).await, BEGUN);
        let first = entry(&mut follow).await;
        assert_eq!(first.fields["MESSAGE"], b"one");
        assert_eq!(first.fields["_SYSTEMD_UNIT"], b"a.service");
        assert_eq!(first.fields["_SYSTEMD_CGROUP"], b"/system.slice/a.service");
        assert_eq!(first.realtime_us, 1_795_000_000_000_001);
        assert_eq!(message(&mut follow).await, b"\xff\0 two\nlines");
        assert_eq!(message(&mut follow).await, long);
    }
    // And what comes while they are followed.
    let [a, b] = both(dir.path());
    for (i, journal) in [(10, a), (20, b)] {
        let from = JournalPlace { cursor: None, realtime_us: 1_795_000_000_000_000 + i };
        let mut follow = journal.follow(ask(&[], from));
        assert_eq!(told(&mut follow).await, BEGUN);
        add(dir.path(), i, &[("a.service", b"live")]);
        assert_eq!(message(&mut follow).await, b"live");
    }
}

#[tokio::test]
async fn reading_goes_on_after_a_cursor_also_of_an_entry_that_the_filter_hides() {
    let dir = tempfile::tempdir().unwrap();
    add(
        dir.path(),
        1,
        &[("a.service", b"a1"), ("b.service", b"b2"), ("a.service", b"a3"), ("b.service", b"b4")],
    );
    for journal in both(dir.path()) {
        let mut follow = journal.follow(ask(&[], JournalPlace::default()));
        assert_eq!(told(&mut follow).await, BEGUN);
        let (first, second) = (entry(&mut follow).await, entry(&mut follow).await);
        let after = |e: &JournalEntry| JournalPlace {
            cursor: Some(e.cursor.clone()),
            realtime_us: e.realtime_us,
        };
        for (units, from, want) in [
            (&[][..], &first, ["b2", "a3"]),
            (&["b.service"], &first, ["b2", "b4"]),
            (&["b.service", "a.service"], &second, ["a3", "b4"]),
        ] {
            let mut again = journal.follow(ask(units, after(from)));
            assert_eq!(told(&mut again).await, BEGUN);
            let got = [message(&mut again).await, message(&mut again).await];
            assert_eq!(got.map(|m| String::from_utf8(m).unwrap()), want);
        }
        // What was asked for by hash is found among what comes, and only there.
        let last = entry(&mut follow).await;
        let mut ask = ask(&["a.service"], after(&first));
        ask.find = vec![cursor_hash(&first.cursor), cursor_hash(&last.cursor)];
        let mut again = journal.follow(ask);
        let found = vec![cursor_hash(&last.cursor)];
        assert_eq!(told(&mut again).await, JournalTold::Begun { gone: false, found });
    }
}

#[tokio::test]
async fn a_cursor_that_is_gone_is_told_and_reading_goes_on_by_time() {
    let dir = tempfile::tempdir().unwrap();
    add(dir.path(), 1, &[("a.service", b"old"), ("a.service", b"last read")]);
    let [first, _] = both(dir.path());
    let mut follow = first.follow(ask(&[], JournalPlace::default()));
    assert_eq!(told(&mut follow).await, BEGUN);
    entry(&mut follow).await;
    let last = entry(&mut follow).await;
    drop(follow);
    // Vacuumed: another file, with later entries.
    std::fs::remove_file(dir.path().join("system.journal")).unwrap();
    add(dir.path(), 1, &[("a.service", b"before that time")]);
    add(dir.path(), 50, &[("a.service", b"later")]);
    for journal in both(dir.path()) {
        for cursor in [last.cursor.clone(), "nonsense".to_owned()] {
            let from = JournalPlace { cursor: Some(cursor), realtime_us: last.realtime_us };
            let mut follow = journal.follow(ask(&["a.service"], from));
            assert_eq!(
                told(&mut follow).await,
                JournalTold::Begun { gone: true, found: Vec::new() }
            );
            assert_eq!(message(&mut follow).await, b"later");
        }
    }
}

#[tokio::test]
async fn the_thread_ends_with_whoever_follows_and_a_killed_journalctl_is_told() {
    let dir = tempfile::tempdir().unwrap();
    add(dir.path(), 1, &[("a.service", b"one")]);
    let threads = || {
        let all = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |e: io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(e.ok()?.path().join("comm")).ok()
        };
        all.filter_map(name).filter(|n| n.trim() == "journal").count()
    };
    for journal in both(dir.path()) {
        let mut follow = journal.follow(ask(&[], JournalPlace::default()));
        assert_eq!(told(&mut follow).await, BEGUN);
        entry(&mut follow).await;
        assert!(threads() > 0);
        drop(follow);
    }
    // Other tests have threads of the same name: only theirs may be left, and those end too.
    for _ in 0..6000 {
        if threads() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(threads(), 0);
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let [library, ctl] = both(&absent);
    let mut follow = library.follow(ask(&[], JournalPlace::default()));
    assert!(
        matches!(told(&mut follow).await, JournalTold::Failed(why) if why.contains("libsystemd"))
    );
    let mut follow = ctl.follow(ask(&[], JournalPlace::default()));
    assert_eq!(told(&mut follow).await, BEGUN);
    assert!(
        matches!(told(&mut follow).await, JournalTold::Failed(why) if why.contains("journalctl"))
    );
}

#[test]
fn the_unit_is_read_from_the_path_as_systemd_does() {
    for (path, unit) in [
        ("system.slice/palisade.service", Some("palisade.service")),
        ("system.slice/palisade.service/programs/web", Some("palisade.service")),
        ("user.slice/user-0.slice/session-3.scope", Some("session-3.scope")),
        ("", None),
    ] {
        assert_eq!(unit_of(Path::new(path)).as_deref(), unit);
    }
}
