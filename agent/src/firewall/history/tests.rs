//! Entries as lines, and the record of a whole firewall with twins of its ports.

use std::{
    io,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        model::AddrSet,
        plan::compare,
        ruleset::{Allow, Protocol},
    },
    *,
};

fn ruleset(prefixes: &[&str]) -> Ruleset {
    Ruleset {
        sets: [("x".to_owned(), AddrSet::parse(prefixes.iter().copied()).unwrap())].into(),
        rules: vec![Allow { protocol: Protocol::Tcp, ports: [443].into(), source: "x".to_owned() }],
        ..Ruleset::default()
    }
}

fn change(prefixes: &[&str]) -> Change {
    compare(&ruleset(prefixes), &Observed::Absent).unwrap()
}

/// A file in memory that can be full.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<(Vec<u8>, bool)>>);

impl HistoryFile for Paper {
    async fn append(&mut self, line: Vec<u8>) -> io::Result<()> {
        let mut paper = self.0.lock().unwrap();
        if paper.1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        paper.0.extend(line);
        Ok(())
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().unwrap().0.clone())
    }
}

fn culprit() -> Culprit {
    Culprit {
        pid: 7,
        name: "nft".to_owned(),
        exe: Some("/usr/sbin/nft".into()),
        unit: Some("cron.service".to_owned()),
    }
}

#[tokio::test]
async fn each_change_is_an_entry_with_who_and_what_and_the_hash_of_the_rules() {
    let (mut book, ask, pending) = new();
    let (paper, stop) = (Paper::default(), CancellationToken::new());
    book.because(Who::Start);
    book.because(Who::Grants);
    book.because(Who::Grants);
    let now = Timestamp::from_secs(5);
    book.applied(&Observed::Absent, &change(&["13.0.0.0/24", "13.0.2.0/24"]), Some(9), now);
    book.because(Who::Configuration);
    book.nothing();
    book.applied(&Observed::Absent, &change(&["13.0.0.0/24"]), None, now);
    book.repaired(Some(culprit()), &Observed::Absent, &change(&["13.0.0.0/24"]), None, now, 12);
    stop.cancel();
    // What waits is kept also after the word to stop.
    let (listed, ()) = tokio::join!(ask.last(10), run(pending, paper.clone(), stop));
    let listed = listed.unwrap();
    let [first, second, third] = listed.entries.as_slice() else { panic!("{listed:?}") };
    assert_eq!((first.who.as_slice(), first.generation), (&[Who::Start, Who::Grants][..], Some(9)));
    let delta = &first.sets[0];
    assert_eq!((delta.set.as_str(), delta.added, delta.removed), ("x_v4", 2, 0));
    assert_eq!(delta.plus, ["13.0.0.0/24", "13.0.2.0/24"]);
    assert_eq!(first.changes, ["the table is not there"]);
    assert_eq!(second.who, [Who::Agent], "a word that changed nothing is no reason later");
    assert_ne!(first.ruleset, second.ruleset);
    assert_eq!(second.ruleset, third.ruleset);
    assert_eq!(
        (third.took_ms, &third.who[0]),
        (Some(12), &Who::Repair { culprit: Some(culprit()) })
    );
    assert_eq!(
        third.who[0].to_string(),
        "repair of a change by nft (pid 7, /usr/sbin/nft, cron.service)"
    );
    let (kept, damaged) = decode(&paper.0.lock().unwrap().0, 2);
    assert_eq!((kept.as_slice(), damaged), (&listed.entries[1..], 0));
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_fits_in_memory_and_the_rest_is_counted() {
    let (mut book, ask, pending) = new();
    let (paper, stop) = (Paper::default(), CancellationToken::new());
    paper.0.lock().unwrap().1 = true;
    #[expect(clippy::disallowed_methods, reason = "the test waits for it itself")]
    let task = tokio::spawn(run(pending, paper.clone(), stop.clone()));
    for n in 0..100 {
        book.applied(&Observed::Absent, &change(&[]), Some(n), Timestamp::from_secs(0));
        // An answer means that what came before it was taken.
        let listed = ask.last(1).await.unwrap();
        assert!(listed.error.is_some_and(|e| e.contains("record of firewall changes")));
        assert_eq!(listed.entries[0].generation, Some(n));
    }
    paper.0.lock().unwrap().1 = false;
    let listed = ask.last(1000).await.unwrap();
    assert_eq!((listed.error, listed.entries.len()), (None, 64));
    assert_eq!((listed.entries[0].generation, listed.entries[0].lost), (Some(36), 36));
    assert_eq!(listed.entries.iter().map(|e| e.lost).sum::<u64>(), 36);
    stop.cancel();
    task.await.unwrap();
}

#[test]
fn a_full_queue_is_counted_in_the_next_entry() {
    let (mut book, _ask, mut pending) = new();
    for _ in 0..70 {
        book.applied(&Observed::Absent, &change(&[]), None, Timestamp::from_secs(0));
    }
    while pending.try_take().is_some() {}
    book.applied(&Observed::Absent, &change(&[]), None, Timestamp::from_secs(0));
    assert_eq!(pending.try_take().unwrap().lost, 6);
}

#[test]
fn what_is_torn_or_of_another_version_is_counted_and_passed_over() {
    let (mut book, _ask, mut pending) = new();
    book.applied(&Observed::Absent, &change(&["13.0.0.0/24"]), None, Timestamp::from_secs(0));
    let entry = pending.try_take().unwrap();
    let line = encode(&entry);
    let newer = String::from_utf8(line.clone()).unwrap().replacen("\"v\":1", "\"v\":2", 1);
    let all = [&line[..], newer.as_bytes(), &line[..20], b"\n", &line, &line[..40]].concat();
    assert_eq!(decode(&all, 10), (vec![entry.clone(), entry], 3));
}

#[test]
fn an_entry_has_a_bound_whatever_changed() {
    let many: Vec<String> =
        (0..5000_u32).map(|n| format!("13.{}.{}.0/32", n / 250, n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut change = change(&many);
    change.differences = vec!["x".repeat(10_000); 1000];
    let (mut book, _ask, mut pending) = new();
    book.applied(&Observed::Absent, &change, None, Timestamp::from_secs(0));
    let entry = pending.try_take().unwrap();
    assert_eq!((entry.sets[0].added, entry.sets[0].plus.len()), (5000, 32));
    assert!(encode(&entry).len() < 16_000);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_fail(bytes in any::<Vec<u8>>(), n in 0..5_usize) {
        let (entries, _) = decode(&bytes, n);
        prop_assert!(entries.len() <= n);
    }
}
