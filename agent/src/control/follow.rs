//! The body of `tail -f`: a log file's end, and then what is added to it.
//!
//! The file is looked at again and again rather than watched: it is one file, for as long as one
//! person looks. A rotated file is read to its end before the new one is begun.

use std::{
    io::{self, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    time,
};

use super::{
    endless::{Endless, Step},
    peer::Line,
};
use crate::log_place;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const CHUNK_BYTES: usize = 64 << 10;
/// Supervisor's words for a file that was emptied.
const TRUNCATED: &[u8] = b"==> File truncated <==\n";

/// A body that begins with `seen`, the end of the file as it is, and goes on for ever.
pub(super) fn body(path: PathBuf, seen: Vec<u8>) -> Endless<Reader> {
    Endless::new(first(path, seen), more)
}

/// A body that begins with the last `bytes` of the file, says so when the file is emptied, as Supervisor's
/// does, and goes on until the other end of `line` hangs up.
pub(super) fn last(path: PathBuf, bytes: u64, line: Line) -> Endless<Reader> {
    Endless::new(ending(path, bytes, line), more)
}

#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    file: Option<File>,
    at: u64,
    /// Who looks, where they are to be told of an emptied file.
    line: Option<Line>,
}

/// Opens a log file beside the other tasks, which have better to do than to wait for a disk.
pub(super) async fn open_regular(path: &Path, is_written: bool) -> io::Result<File> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || log_place::open_regular(&path, is_written));
    Ok(File::from_std(opened.await.map_err(io::Error::other)??))
}

async fn open(path: &Path) -> Option<File> {
    open_regular(path, false).await.ok()
}

async fn first(path: PathBuf, seen: Vec<u8>) -> io::Result<(Bytes, Reader)> {
    let file = open(&path).await;
    let at = match &file {
        Some(f) => f.metadata().await?.len(),
        None => 0,
    };
    Ok((seen.into(), Reader { path, file, at, line: None }))
}

async fn ending(path: PathBuf, bytes: u64, line: Line) -> io::Result<(Bytes, Reader)> {
    let file = open(&path).await;
    let len = match &file {
        Some(f) => f.metadata().await?.len(),
        None => 0,
    };
    more_of(Reader { path, file, at: len.saturating_sub(bytes), line: Some(line) }).await
}

fn more(reader: Reader) -> Step<Reader> {
    Box::pin(more_of(reader))
}

async fn more_of(mut reader: Reader) -> io::Result<(Bytes, Reader)> {
    loop {
        if let Some(file) = &mut reader.file {
            // Emptied in place: begin again at its start.
            if file.metadata().await?.len() < reader.at {
                reader.at = 0;
                if reader.line.is_some() {
                    return Ok((Bytes::from_static(TRUNCATED), reader));
                }
            }
            file.seek(SeekFrom::Start(reader.at)).await?;
            let mut chunk = vec![0; CHUNK_BYTES];
            let n = file.read(&mut chunk).await?;
            if n > 0 {
                chunk.truncate(n);
                reader.at += n as u64;
                return Ok((chunk.into(), reader));
            }
        }
        // One that cannot be opened is looked for again after a rest.
        if let Some(now) = open(&reader.path).await {
            let same = match &reader.file {
                Some(f) => f.metadata().await?.ino() == now.metadata().await?.ino(),
                None => false,
            };
            if !same {
                reader.file = Some(now);
                reader.at = 0;
                continue;
            }
        }
        if reader.line.as_ref().is_some_and(Line::is_gone) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http_body_util::BodyExt as _;

    use super::*;

    async fn next(body: &mut Endless<Reader>) -> String {
        let frame = time::timeout(Duration::from_secs(5), body.frame()).await.unwrap();
        String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn added_lines_come_also_over_a_rotation_and_after_emptying() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let open = || std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        open().write_all(b"old\n").unwrap();
        let mut body = body(path.clone(), b"old\n".to_vec());
        assert_eq!(next(&mut body).await, "old\n");
        open().write_all(b"two\n").unwrap();
        assert_eq!(next(&mut body).await, "two\n");
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        open().write_all(b"new file\n").unwrap();
        assert_eq!(next(&mut body).await, "new file\n");
        open().set_len(0).unwrap();
        open().write_all(b"x\n").unwrap();
        assert_eq!(next(&mut body).await, "x\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_opened_is_looked_for_at_rest_and_until_nobody_looks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let mut body = last(path, 4, Line::of(&ours).unwrap());
        // Paused time passes only while everything rests.
        time::timeout(LOOK_EVERY * 10, body.frame()).await.unwrap_err();
        drop(theirs);
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_tail_begins_near_the_end_tells_of_emptying_and_ends_with_who_looks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let open = || std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        open().write_all(b"one\ntwo\n").unwrap();
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let mut body = last(path.clone(), 4, Line::of(&ours).unwrap());
        assert_eq!(next(&mut body).await, "two\n");
        open().set_len(0).unwrap();
        assert_eq!(next(&mut body).await, "==> File truncated <==\n");
        open().write_all(b"x\n").unwrap();
        assert_eq!(next(&mut body).await, "x\n");
        drop(theirs);
        let end = time::timeout(Duration::from_secs(5), body.frame()).await.unwrap();
        assert!(end.unwrap().is_err());
    }
}
