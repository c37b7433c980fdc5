//! The spool against a naive model, with crashes, damage and a full disk.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::{
    clock::Timestamp,
    logs::{batch::Batch, testutil::MemFs},
};

const T: Timestamp = Timestamp::from_millis(1_000);

fn key() -> LaneKey {
    LaneKey { program: "web".parse().unwrap(), process: "web_1".parse().unwrap() }
}

fn open(fs: &MemFs) -> (Spool, Arc<Lane>) {
    let spool = Spool::open(Arc::new(fs.clone()), "/s".into()).unwrap();
    let lane = spool.lane(&key()).unwrap();
    (spool, lane)
}

/// With segments of a few lines each.
fn open_small(fs: &MemFs) -> (Spool, Arc<Lane>) {
    let spool = Spool::open_with(Arc::new(fs.clone()), "/s".into(), 8 << 10).unwrap();
    let lane = spool.lane(&key()).unwrap();
    (spool, lane)
}

/// Everything after `acked`, as text, through as many batches as it takes.
fn read(lane: &Arc<Lane>, acked: u64) -> (Vec<String>, u64, u64) {
    let mut reader = Reader::new(lane.clone(), acked);
    let (mut lines, mut missing, mut upto) = (Vec::new(), 0, acked);
    loop {
        let mut batch = Batch::new(0, upto);
        let filled = reader.fill(&mut batch).unwrap();
        lines.extend(batch.events().map(|(_, t)| serde_json::from_slice::<String>(t).unwrap()));
        (missing, upto) = (missing + filled.missing, batch.upto());
        if !filled.full {
            return (lines, missing, upto);
        }
    }
}

fn segments(fs: &MemFs) -> Vec<std::path::PathBuf> {
    fs.paths().into_iter().filter(|p| p.extension().is_some_and(|e| e == "spl")).collect()
}

#[test]
fn lines_come_back_in_order_without_empty_ones_and_across_a_restart() {
    let fs = MemFs::default();
    let (_, lane) = open(&fs);
    lane.append(1, T, b"one\r\n\n\ntwo\nthree").unwrap();
    assert_eq!(read(&lane, 0), (vec!["one".into(), "two".into(), "three".into()], 0, 3));
    let (_, again) = open(&fs);
    again.append(2, T, b"four\n").unwrap();
    assert_eq!(read(&again, 2), (vec!["three".into(), "four".into()], 0, 4));
}

#[test]
fn a_line_of_three_megabytes_is_split_and_joined_it_is_the_line() {
    let fs = MemFs::default();
    let (_, lane) = open(&fs);
    let line = "é".repeat(1_500_000);
    lane.append(1, T, line.as_bytes()).unwrap();
    assert_eq!(read(&lane, 0).0.concat(), line);
    // Bytes that triple when they are replaced.
    lane.append(1, T, &[0xff; 1_000_000]).unwrap();
    let (lines, ..) = read(&lane, lane.facts().last_seq - 1);
    assert_eq!(lines.concat(), "\u{fffd}".repeat(1_000_000));
}

#[test]
fn a_flipped_bit_costs_one_line_and_says_so() {
    let fs = MemFs::default();
    let (_, lane) = open(&fs);
    lane.append(1, T, b"one\ntwo\nthree\n").unwrap();
    let path = segments(&fs).remove(0);
    fs.flip(&path, segment::HEADER + segment::OVERHEAD + 3 + segment::OVERHEAD + 1);
    for lane in [lane, open(&fs).1] {
        let (lines, missing, upto) = read(&lane, 0);
        assert_eq!((lines.len(), missing, upto), (3, 1, 3));
        assert_eq!((lines[0].as_str(), lines[2].as_str()), ("one", "three"));
        assert!(lines[1].contains("1 lines are missing"), "{}", lines[1]);
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_of_the_chunk_is_in() {
    let fs = MemFs::default();
    let (_, lane) = open(&fs);
    lane.append(1, T, b"one\n").unwrap();
    fs.set_room(Some(40));
    assert!(lane.append(1, T, b"two\nthree\n").is_err());
    fs.set_room(None);
    lane.append(1, T, b"two\nthree\n").unwrap();
    assert_eq!(read(&lane, 0).0, ["one", "two", "three"]);
    assert_eq!(read(&open(&fs).1, 0).0, ["one", "two", "three"]);
}

#[test]
fn a_full_spool_waits_or_drops_its_oldest_and_leaves_a_notice() {
    let fs = MemFs::default();
    let (spool, lane) = open_small(&fs);
    let megabyte = ["x".repeat(1023), "\n".into()].concat().repeat(1024);
    spool.limit(20 << 20, OnFull::Block);
    for _ in 0..19 {
        spool.reserve(megabyte.as_bytes()).unwrap();
        lane.append(1, T, megabyte.as_bytes()).unwrap();
    }
    assert_eq!(spool.reserve(megabyte.as_bytes()), Err(NoRoom));
    spool.limit(20 << 20, OnFull::DropOldest);
    spool.reserve(megabyte.as_bytes()).unwrap();
    assert!(spool.used() < 20 << 20);
    let dropped = lane.facts().dropped;
    assert!(dropped > 0);
    let (lines, missing, _) = read(&lane, 0);
    assert_eq!(missing, dropped);
    assert!(lines[0].contains(&format!("{dropped} lines are missing")), "{}", lines[0]);
    assert_eq!(lines.len() as u64, 19 * 1024 - dropped + 1);
}

#[test]
fn segments_go_when_delivered_and_numbers_go_on_after_a_restart() {
    let fs = MemFs::default();
    let (spool, lane) = open(&fs);
    let megabyte = ["x".repeat(1023), "\n".into()].concat().repeat(1024);
    for _ in 0..20 {
        lane.append(1, T, megabyte.as_bytes()).unwrap();
    }
    assert_eq!(segments(&fs).len(), 3);
    lane.give_back(10 * 1024).unwrap();
    assert_eq!(segments(&fs).len(), 2);
    let last = lane.facts().last_seq;
    lane.give_back(last).unwrap();
    assert_eq!((segments(&fs).len(), spool.used()), (0, 0));
    let (_, again) = open(&fs);
    again.skip_to(last);
    again.append(1, T, b"next\n").unwrap();
    assert_eq!(read(&again, last), (vec!["next".into()], 0, last + 1));
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<u8>),
    Commit,
    Ack(prop::sample::Index),
    Restart,
    PowerCut(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1_u8..6, 1_usize..3_000).prop_map(|(lines, len)| {
            Op::Append([vec![b'a' + lines; len], vec![b'\n']].concat().repeat(lines.into()))
        }),
        2 => Just(Op::Commit),
        2 => any::<prop::sample::Index>().prop_map(Op::Ack),
        1 => Just(Op::Restart),
        1 => (0_usize..2_000).prop_map(Op::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// After the agent's death nothing is missing; after a power cut, nothing that was committed.
    #[test]
    fn nothing_safe_is_ever_lost(ops in prop::collection::vec(op(), 1..40)) {
        let mut fs = MemFs::default();
        let (mut spool, mut lane) = open_small(&fs);
        let mut model: Vec<usize> = Vec::new();
        let (mut acked, mut committed) = (0_usize, 0_usize);
        for op in ops {
            match op {
                Op::Append(bytes) => {
                    lane.append(1, T, &bytes).unwrap();
                    model.extend(bytes.split(|b| *b == b'\n').map(<[u8]>::len).filter(|l| *l > 0));
                }
                Op::Commit => {
                    spool.sync().unwrap();
                    committed = model.len();
                }
                Op::Ack(i) => {
                    acked = acked.max(i.index(model.len() + 1));
                    lane.give_back(acked as u64).unwrap();
                }
                Op::Restart => (spool, lane) = open_small(&fs),
                Op::PowerCut(torn) => {
                    fs = fs.after_power_cut(torn);
                    (spool, lane) = open_small(&fs);
                    let kept = usize::try_from(lane.facts().last_seq).unwrap().max(acked);
                    prop_assert!(kept >= committed, "kept {kept} of {committed}");
                    // What was not committed may be gone, but only from the end.
                    model.truncate(kept);
                    committed = committed.min(kept);
                }
            }
            lane.skip_to(acked as u64);
            let (lines, missing, _) = read(&lane, acked as u64);
            prop_assert_eq!(missing, 0);
            let lens: Vec<usize> = lines.iter().map(String::len).collect();
            prop_assert_eq!(&lens, &model[acked..]);
        }
    }
}

#[test]
fn what_is_not_ours_in_the_directory_is_left_alone() {
    let fs = MemFs::default();
    fs.open(Path::new("/s/web/web_1/notes.txt")).unwrap();
    let (_, lane) = open(&fs);
    lane.append(1, T, b"x\n").unwrap();
    assert!(fs.paths().iter().any(|p| p.ends_with("notes.txt")));
}
