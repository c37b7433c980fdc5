//! The spool against a naive model, with crashes, damage and a full disk.

use std::{path::Path, sync::LazyLock};

use palisade_types::ByteSize;
use proptest::prelude::*;

use super::*;
use crate::{
    clock::Timestamp,
    logs::{
        batch::Batch,
        content::{LineRules, Multiline, Redactor},
        ports::Room,
        reading::Reading,
        redaction::Redaction,
        testutil::MemFs,
    },
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

/// Lines as they are.
fn plain() -> Reading<'static> {
    static RULES: LineRules = LineRules::plain();
    by(&RULES)
}

fn by(rules: &'static LineRules) -> Reading<'static> {
    static NOTHING: LazyLock<Redaction> = LazyLock::new(|| Redaction::new(Redactor::none()));
    Reading { now: T, rules, oldest_ms: 0, still_at: None, redaction: &NOTHING }
}

/// Everything after `acked`, as text, through as many batches as it takes.
fn read(lane: &Arc<Lane>, acked: u64) -> (Vec<String>, u64, u64) {
    let mut reader = Reader::new(lane.clone(), acked);
    let (mut lines, mut missing, mut upto) = (Vec::new(), 0, acked);
    loop {
        let mut batch = Batch::new(0, upto);
        let filled = reader.fill(&mut batch, &plain()).unwrap();
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
fn a_damaged_version_costs_nothing_and_a_segment_of_another_version_stays_as_it_is() {
    let fs = MemFs::default();
    let (_, lane) = open_small(&fs);
    let lines: Vec<String> = (0..30).map(|n| format!("{n} {}", "x".repeat(1000))).collect();
    lines.iter().for_each(|l| lane.append(1, T, l.as_bytes()).unwrap());
    drop(lane);
    let paths = segments(&fs);
    assert!(paths.len() > 2, "{paths:?}");
    // The byte of the version.
    paths.iter().for_each(|p| fs.flip(p, 7));
    let (_, lane) = open_small(&fs);
    assert_eq!(read(&lane, 0), (lines.clone(), 0, 30));
    assert_eq!(lane.foreign(), Vec::<PathBuf>::new());

    // Nothing in the last one is a record of ours.
    let last = paths.last().unwrap();
    let file = fs.open(last).unwrap();
    let len = file.len().unwrap();
    let of_others = vec![0xA5; usize::try_from(len).unwrap() - segment::HEADER];
    file.write_all_at(&of_others, segment::HEADER as u64).unwrap();
    for again in 0..2 {
        let (_, lane) = open_small(&fs);
        assert_eq!(lane.foreign(), std::slice::from_ref(last));
        lane.append(1, T, format!("later {again}").as_bytes()).unwrap();
        let (got, missing, _) = read(&lane, 0);
        let kept = got.iter().filter(|l| lines.contains(l)).count();
        assert!(kept < 30 && missing > 30 - kept as u64, "{kept} and {missing}");
        assert_eq!(got.last().unwrap(), &format!("later {again}"));
        lane.give_back(lane.facts().last_seq).unwrap();
        assert_eq!(fs.open(last).unwrap().len().unwrap(), len);
    }
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

/// 20 MiB, and a twentieth of the disk for others.
fn limits(on_full: OnFull) -> settings::Spool {
    settings::Spool { max: ByteSize::mib(20), on_full, reserve_permille: 50 }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_nothing_for_ten_seconds_costs_lines_only_where_they_may_be_dropped() {
    let fs = MemFs::default();
    let (spool, lane) = open(&fs);
    let say = |text: &str| spool.append(&key(), 1, T, text.as_bytes());
    spool.limit(limits(OnFull::Block));
    say("one").unwrap();
    fs.set_read_only(true);
    let minute = std::time::Duration::from_secs(60);
    for _ in 0..2 {
        assert_eq!(say("two").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        tokio::time::advance(minute).await;
    }
    spool.limit(limits(OnFull::DropOldest));
    assert!(say("two").is_err(), "a short trouble costs nothing");
    fs.set_read_only(false);
    say("two").unwrap();
    fs.set_read_only(true);
    tokio::time::advance(minute).await;
    assert!(say("three").is_err(), "it took some in between");
    tokio::time::advance(minute / 6).await;
    say("three\n\nfour\n").unwrap();
    say("five").unwrap();
    assert_eq!(
        spool.trouble().unwrap(),
        "new lines are dropped: read-only filesystem or storage medium"
    );
    spool.limit(limits(OnFull::Block));
    spool.refused(&say("six").unwrap_err());
    assert!(spool.trouble().unwrap().starts_with("programs wait when they print: "));
    spool.limit(limits(OnFull::DropOldest));
    // They are told, whether another line follows or not.
    let notice = "[palisade] 3 lines are missing here: the spool was full or its disk is damaged";
    assert_eq!(read(&lane, 0), (vec!["one".into(), "two".into(), notice.into()], 3, 5));
    fs.set_read_only(false);
    say("six").unwrap();
    assert_eq!(spool.trouble(), None);
    assert_eq!(read(&lane, 5), (vec!["six".into()], 0, 6));
    assert_eq!(read(&lane, 2), (vec![notice.into(), "six".into()], 3, 6));
    assert_eq!((lane.facts().dropped, lane.facts().last_seq), (3, 6));
}

#[test]
fn the_reserve_of_the_disk_is_left_to_others() {
    let fs = MemFs::default();
    let (spool, lane) = open_small(&fs);
    spool.limit(limits(OnFull::Block));
    let free = |free| fs.tell_room(Room { free, all: 1_000_000 });
    let megabyte = ["x".repeat(1023), "\n".into()].concat().repeat(1024);
    free(49_999);
    assert!(spool.look_at_disk());
    // Lines still pass through, in little room.
    for _ in 0..15 {
        spool.reserve(megabyte.as_bytes()).unwrap();
        lane.append(1, T, megabyte.as_bytes()).unwrap();
    }
    let no_room = spool.reserve(megabyte.as_bytes()).unwrap_err();
    let why = "the spool holds the 16MiB that it may while the disk has less free than its reserve";
    assert_eq!(no_room.to_string(), why);
    free(50_000);
    spool.reserve(megabyte.as_bytes()).unwrap();
    free(49_999);
    assert!(spool.look_at_disk());
    spool.limit(limits(OnFull::DropOldest));
    spool.reserve(megabyte.as_bytes()).unwrap();
    assert!(lane.facts().dropped > 0);
    // Of a large disk a gigabyte is enough.
    fs.tell_room(Room { free: 2 << 30, all: 1 << 42 });
    assert!(!spool.look_at_disk());
}

#[test]
fn a_full_spool_waits_or_drops_its_oldest_and_leaves_a_notice() {
    let fs = MemFs::default();
    let (spool, lane) = open_small(&fs);
    let megabyte = ["x".repeat(1023), "\n".into()].concat().repeat(1024);
    spool.limit(limits(OnFull::Block));
    for _ in 0..19 {
        spool.reserve(megabyte.as_bytes()).unwrap();
        lane.append(1, T, megabyte.as_bytes()).unwrap();
    }
    let no_room = spool.reserve(megabyte.as_bytes()).unwrap_err();
    assert_eq!(no_room.to_string(), "the spool holds the 20MiB that it may");
    spool.limit(limits(OnFull::DropOldest));
    spool.reserve(megabyte.as_bytes()).unwrap();
    assert!(spool.used() < 20 << 20);
    let dropped = lane.facts().dropped;
    assert!(dropped > 0);
    let (lines, missing, _) = read(&lane, 0);
    assert_eq!(missing, dropped);
    assert!(lines[0].contains(&format!("{dropped} lines are missing")), "{}", lines[0]);
    assert_eq!(lines.len() as u64, 19 * 1024 - dropped + 1);
}

/// Its program is quiet or has ended: no later line will tell what is missing.
#[test]
fn a_lane_that_was_dropped_whole_says_so_at_once_and_after_restarts() {
    for restarts in 0..3 {
        let fs = MemFs::default();
        let (_, mut lane) = open_small(&fs);
        lane.append(1, T, b"one\ntwo\nthree\n").unwrap();
        assert!(lane.drop_oldest());
        assert!(!lane.drop_oldest(), "there is nothing left to drop");
        for _ in 0..restarts {
            (_, lane) = open_small(&fs);
            lane.skip_to(1);
        }
        let (lines, missing, upto) = read(&lane, 1);
        assert_eq!((missing, upto), (2, 3), "{restarts}");
        assert!(lines[0].contains("2 lines are missing"), "{lines:?}");
        lane.append(1, T, b"four\n").unwrap();
        assert_eq!(read(&lane, 3), (vec!["four".to_owned()], 0, 4));
    }
}

#[test]
fn a_line_from_a_clock_that_was_ahead_gets_the_present_time() {
    let fs = MemFs::default();
    let (_, lane) = open(&fs);
    lane.append(1, Timestamp::from_secs(100_000), b"ahead\n").unwrap();
    let mut batch = Batch::new(0, 0);
    Reader::new(lane, 0).fill(&mut batch, &plain()).unwrap();
    assert_eq!(batch.first_time(), Some(T));
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

static PYTHON: LineRules = LineRules { multiline: Multiline::Python, timestamps: None };

fn texts(batch: &Batch) -> Vec<String> {
    batch.events().map(|(_, t)| serde_json::from_slice(t).unwrap()).collect()
}

#[test]
fn an_event_is_put_together_from_the_spool_over_a_restart_and_segments() {
    let fs = MemFs::default();
    let (_, lane) = open_small(&fs);
    let filler = ["x".repeat(1000), "\n".into()].concat().repeat(7);
    lane.append(1, T, filler.as_bytes()).unwrap();
    lane.append(2, T, b"ERROR boom\nTraceback (most recent call last):\n").unwrap();
    let mut reader = Reader::new(lane.clone(), 0);
    let mut batch = Batch::new(0, 0);
    let filled = reader.fill(&mut batch, &by(&PYTHON)).unwrap();
    // The last line of each stream may go on.
    assert_eq!((batch.len(), batch.upto(), filled.held), (6, 6, Some(9)));
    lane.append(1, T, filler.as_bytes()).unwrap();
    lane.append(2, T, b"  File a\n").unwrap();
    let (_, lane) = open_small(&fs);
    lane.append(2, T, b"KeyError: 1\nINFO on\n").unwrap();
    assert!(segments(&fs).len() > 1);
    let mut reader = Reader::new(lane.clone(), 6);
    let mut batch = Batch::new(0, 6);
    let how = Reading { still_at: Some(lane.facts().last_seq), ..by(&PYTHON) };
    let filled = reader.fill(&mut batch, &how).unwrap();
    assert_eq!((filled.held, batch.upto()), (None, lane.facts().last_seq));
    let texts = texts(&batch);
    assert_eq!(texts.len(), 8 + 2);
    let whole = "ERROR boom\nTraceback (most recent call last):\n  File a\nKeyError: 1";
    assert!(texts.iter().any(|t| t == whole), "{texts:?}");
}

#[test]
fn what_is_held_is_read_again_from_where_it_begins() {
    let fs = MemFs::default();
    let (_, lane) = open(&fs);
    let mut reader = Reader::new(lane.clone(), 0);
    let mut all = Vec::new();
    for i in 0..50 {
        lane.append(1, T, format!("INFO {i}\n  more\n").as_bytes()).unwrap();
        let mut batch = Batch::new(0, reader.position());
        reader.fill(&mut batch, &by(&PYTHON)).unwrap();
        assert_eq!(batch.upto(), reader.position());
        all.extend(texts(&batch));
    }
    let want: Vec<_> = (0..49).map(|i| format!("INFO {i}\n  more")).collect();
    assert_eq!(all, want);
}

#[test]
fn a_flood_on_one_stream_gets_on_though_an_event_of_the_other_is_open() {
    let fs = MemFs::default();
    let (_, lane) = open(&fs);
    lane.append(2, T, b"ERROR boom\nTraceback (most recent call last):\n").unwrap();
    let flood: String = (0..25_000).map(|i| format!("{i}\n")).collect();
    lane.append(1, T, flood.as_bytes()).unwrap();
    lane.append(2, T, b"  File a\n").unwrap();
    let last = lane.facts().last_seq;
    let (mut reader, mut lines) = (Reader::new(lane, 0), Vec::new());
    while reader.position() < last {
        let mut batch = Batch::new(0, reader.position());
        let how = Reading { still_at: Some(last), ..by(&PYTHON) };
        reader.fill(&mut batch, &how).unwrap();
        assert!(!batch.is_empty());
        lines.extend(texts(&batch).iter().flat_map(|t| t.split('\n').map(str::to_owned)));
    }
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 25_003);
}
