//! The audit log on a real disk: torn ends, full files, cut ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::access::{Boot, Event, Moment};

fn now() -> Moment {
    Moment { wall: crate::clock::Timestamp::from_secs(0), boot: Boot(0) }
}

async fn write(log: &mut AuditFile, head: &mut Head, n: u64) {
    for count in 0..n {
        let (mut line, next) = head.next(Event::Lost { count }, now()).unwrap();
        line.push(b'\n');
        log.append(line, next.clone()).await.unwrap();
        *head = next;
    }
}

fn verdict(dir: &Path) -> AuditVerdict {
    read_audit(dir, 0).unwrap().0
}

#[tokio::test]
async fn the_chain_goes_on_over_full_files_and_old_ones_are_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditFile { max: 2000, ..AuditFile::new(dir.path()) };
    let mut head = Head::default();
    write(&mut log, &mut head, 100).await;
    let all = verdict(dir.path());
    assert!(all.ok && all.lines == 100, "{all:?}");
    assert!(numbered(dir.path(), 2).exists());
    let tail = log.open().await.unwrap();
    assert_eq!((tail.last, tail.head), (Some(head.clone()), Some(head.clone())));
    write(&mut log, &mut head, 400).await;
    let all = verdict(dir.path());
    assert!(all.ok && all.first > 1 && all.last == 500, "{all:?}");
    assert!(fs::read_dir(dir.path()).unwrap().count() <= KEPT + 2);
}

#[tokio::test]
async fn a_torn_line_is_cut_off_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditFile::new(dir.path());
    let mut head = Head::default();
    write(&mut log, &mut head, 3).await;
    let mut file = OpenOptions::new().append(true).open(log.current()).unwrap();
    file.write_all(b"{\"v\":1,\"seq\":4").unwrap();
    let tail = log.open().await.unwrap();
    assert_eq!(tail.last, Some(head.clone()));
    write(&mut log, &mut head, 2).await;
    assert!(verdict(dir.path()).ok);
}

#[tokio::test]
async fn a_line_that_was_taken_away_at_the_end_shows_and_one_ahead_of_the_head_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditFile::new(dir.path());
    let mut head = Head::default();
    write(&mut log, &mut head, 5).await;
    let whole = fs::read(log.current()).unwrap();
    let cut = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap();
    files::write_atomic(&log.current(), &whole[..=cut], 0o600).unwrap();
    let found = verdict(dir.path());
    assert!(!found.ok && found.faults[0].contains("cut off"), "{found:?}");
    // The agent died after the line and before the head.
    let (line, _) = head.next(Event::Lost { count: 9 }, now()).unwrap();
    files::write_atomic(&log.current(), &[&whole[..], &line, b"\n"].concat(), 0o600).unwrap();
    assert!(verdict(dir.path()).ok);
    assert_eq!(log.open().await.unwrap().last.unwrap().seq, 6);
}

#[tokio::test]
async fn lines_whose_head_could_not_be_written_are_there_once_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditFile::new(dir.path());
    let mut head = Head::default();
    write(&mut log, &mut head, 3).await;
    let before = fs::read(log.current()).unwrap();
    // Nothing can take the place of a directory that is not empty.
    fs::remove_file(log.head()).unwrap();
    fs::create_dir_all(log.head().join("full")).unwrap();
    let (mut line, next) = head.next(Event::Lost { count: 9 }, now()).unwrap();
    line.push(b'\n');
    for _ in 0..3 {
        log.append(line.clone(), next.clone()).await.unwrap_err();
        assert_eq!(fs::read(log.current()).unwrap(), before);
    }
    fs::remove_dir_all(log.head()).unwrap();
    log.append(line, next.clone()).await.unwrap();
    head = next;
    write(&mut log, &mut head, 2).await;
    let all = verdict(dir.path());
    assert!(all.ok && all.lines == 6, "{all:?}");
}

#[tokio::test]
async fn a_log_that_is_being_written_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditFile::new(dir.path());
    let mut head = Head::default();
    write(&mut log, &mut head, 1).await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            for _ in 0..60 {
                let mut lines = Vec::new();
                for count in 0..64 {
                    let (mut line, next) = head.next(Event::Lost { count }, now()).unwrap();
                    line.push(b'\n');
                    lines.extend(line);
                    head = next;
                }
                // In two parts, as a reader may see it.
                let (a, b) = lines.split_at(lines.len() / 2);
                let mut file = OpenOptions::new().append(true).open(log.current()).unwrap();
                file.write_all(a).unwrap();
                file.write_all(b).unwrap();
                log.write_head(&head).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    let mut reads = 0;
    while !done.load(Ordering::SeqCst) {
        let found = verdict(dir.path());
        assert!(found.ok, "{found:?}");
        reads += 1;
    }
    writer.join().unwrap();
    assert!(reads > 0);
    let (found, lines) = read_audit(dir.path(), 3).unwrap();
    assert!(found.ok && found.last == 1 + 60 * 64, "{found:?}");
    assert_eq!(lines.iter().map(|l| l.seq).collect::<Vec<_>>(), [3839, 3840, 3841]);
}

#[tokio::test]
async fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditFile::new(&dir.path().join("access"));
    log.open().await.unwrap();
    let mut head = Head::default();
    write(&mut log, &mut head, 1).await;
    let mode = |p: PathBuf| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(log.dir.clone()), mode(log.current()), mode(log.head())),
        (0o700, 0o600, 0o600)
    );
}
