//! Helpers that answer, fail, hang, and leave children that hold their pipe.

use std::os::unix::process::ExitStatusExt as _;

use tokio::time::Instant;

use super::{super::super::files, *};

const LIMIT: Duration = Duration::from_millis(300);

fn run(script: &str, within: Duration) -> io::Result<(ExitStatus, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("next");
    files::write_atomic(&path, format!("#!/bin/sh\n{script}\n").as_bytes(), 0o755).unwrap();
    ask(&path, &["alice".into(), "SHA256:x".into()], within)
}

#[test]
fn what_it_says_and_how_it_ends_is_passed_on() {
    let long = Duration::from_secs(20);
    let (status, said) = run("echo \"$1 $2 $HOME\"", long).unwrap();
    assert_eq!((status.code(), said.as_slice()), (Some(0), &b"alice SHA256:x \n"[..]));
    let (status, said) = run("echo half; exit 3", long).unwrap();
    assert_eq!((status.code(), said.as_slice()), (Some(3), &b"half\n"[..]));
    assert_eq!(run("kill -9 $$", long).unwrap().0.signal(), Some(9));
    assert!(ask(Path::new("/nonexistent"), &[], long).is_err());
    let e = run("head -c 100000 /dev/zero", long).unwrap_err();
    assert!(e.to_string().contains("too much"), "{e}");
}

#[test]
fn one_that_waits_for_a_child_in_a_group_of_its_own_holds_nobody_up() {
    // As EC2 Instance Connect's does: `timeout` makes a group of its own.
    for script in ["timeout 50s sleep 100", "echo line; sleep 100 & exit 0", "exec >&-; sleep 100"]
    {
        let begun = Instant::now();
        let e = run(script, LIMIT).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut, "{script}: {e}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{script}: {:?}", begun.elapsed());
    }
}
