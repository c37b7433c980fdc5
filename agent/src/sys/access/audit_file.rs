//! The audit log on disk: `audit.jsonl`, older files beside it, and the head.
//!
//! Invariant: what [`AuditLog::append`] said was written is on the disk whole; what it said was not is
//! not there at all.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

use super::super::files;
use crate::access::{AuditLog, AuditVerdict, Head, Line, Tail, Verifier};

/// A file that is larger is put aside.
const MAX_FILE: u64 = 8 << 20;
/// Files that are put aside and kept; with the current one some ten thousand logins each.
const KEPT: usize = 16;
/// Reads of a log that changes meanwhile; the last one counts.
const MAX_READS: u32 = 5;
/// No line is longer.
const MAX_LINE: usize = 64 << 10;

/// The audit log in a directory.
#[derive(Clone, Debug)]
pub struct AuditFile {
    dir: PathBuf,
    max: u64,
}

impl AuditFile {
    /// The log in `dir`, made when needed.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), max: MAX_FILE }
    }

    fn current(&self) -> PathBuf {
        self.dir.join("audit.jsonl")
    }

    fn head(&self) -> PathBuf {
        self.dir.join("audit.head.json")
    }

    fn open_now(&self) -> io::Result<Tail> {
        files::ensure_dir(&self.dir, 0o700)?;
        let head = read_head(&self.head())?;
        let mut last = last_line(&self.current(), Cut::Yes)?;
        if last.is_none() {
            // The agent died between putting a file aside and writing into the next.
            last = last_line(&numbered(&self.dir, 1), Cut::No)?;
        }
        Ok(Tail { last: last.as_deref().and_then(Head::of_line), head })
    }

    fn append_now(&self, lines: &[u8], head: &Head) -> io::Result<()> {
        self.rotate()?;
        let path = self.current();
        let is_new = !path.exists();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        let before = file.metadata()?.len();
        let written = file
            .write_all(lines)
            .and_then(|()| file.sync_data())
            .and_then(|()| if is_new { File::open(&self.dir)?.sync_all() } else { Ok(()) })
            .and_then(|()| self.write_head(head));
        if let Err(e) = written {
            // As if it had never begun, so that the same lines can be tried again: also where only the
            // head found no room.
            file.set_len(before)?;
            return Err(e);
        }
        Ok(())
    }

    fn write_head(&self, head: &Head) -> io::Result<()> {
        files::write_atomic(&self.head(), &serde_json::to_vec(head)?, 0o600)
    }

    fn rotate(&self) -> io::Result<()> {
        match fs::metadata(self.current()) {
            Ok(meta) if meta.len() >= self.max => {}
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        }
        for n in (1..=KEPT).rev() {
            let from = numbered(&self.dir, n);
            let moved = match n {
                KEPT => fs::remove_file(&from),
                _ => fs::rename(&from, numbered(&self.dir, n + 1)),
            };
            match moved {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        fs::rename(self.current(), numbered(&self.dir, 1))
    }
}

impl AuditLog for AuditFile {
    async fn open(&mut self) -> io::Result<Tail> {
        let log = self.clone();
        spawn_blocking(move || log.open_now()).await.map_err(io::Error::other)?
    }

    async fn append(&mut self, lines: Vec<u8>, head: Head) -> io::Result<()> {
        let log = self.clone();
        let write = move || log.append_now(&lines, &head);
        spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

fn numbered(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("audit.jsonl.{n}"))
}

fn read_head(path: &Path) -> io::Result<Option<Head>> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Yes,
    No,
}

/// The last whole line of a file; a torn one behind it was never promised, and is cut off.
fn last_line(path: &Path, cut: Cut) -> io::Result<Option<Vec<u8>>> {
    let mut file = match OpenOptions::new().read(true).write(cut == Cut::Yes).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = file.metadata()?.len();
    let from = len.saturating_sub(2 * MAX_LINE as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    (&mut file).take(2 * MAX_LINE as u64).read_to_end(&mut end)?;
    let whole = end.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    if whole < end.len() && cut == Cut::Yes {
        file.set_len(from.saturating_add(whole as u64))?;
    }
    let lines = end.get(..whole).unwrap_or_default();
    let last = lines.strip_suffix(b"\n").unwrap_or_default();
    let start = last.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    Ok(last.get(start..).filter(|l| !l.is_empty()).map(<[u8]>::to_vec))
}

/// Reads the whole log, oldest line first: the last lines of it, and what the chain says. The agent may
/// write meanwhile.
///
/// # Errors
/// When a file cannot be read.
pub fn read_audit(dir: &Path, last: usize) -> io::Result<(AuditVerdict, VecDeque<Line>)> {
    let head = dir.join("audit.head.json");
    let mut before = read_head(&head)?;
    let mut tries = 0;
    loop {
        tries += 1;
        let (verifier, lines) = read_lines(dir, last)?;
        let after = read_head(&head)?;
        let verdict = verifier.verdict_between(before.as_ref(), after.as_ref());
        // A file may have been put aside meanwhile, so a fault must show twice.
        let settled = verdict.ok || (before == after && tries > 1);
        if settled || tries == MAX_READS {
            return Ok((verdict, lines));
        }
        before = after;
    }
}

fn read_lines(dir: &Path, last: usize) -> io::Result<(Verifier, VecDeque<Line>)> {
    let (mut verifier, mut lines) = (Verifier::default(), VecDeque::new());
    let current = dir.join("audit.jsonl");
    let older = (1..=KEPT).rev().map(|n| numbered(dir, n));
    for path in older.chain([current.clone()]) {
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut reader).take(MAX_LINE as u64);
            if bounded.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let Some(line) = whole(&line, path == current && reader.fill_buf()?.is_empty()) else {
                break;
            };
            verifier.line(line);
            let parsed = serde_json::from_slice::<Line>(line).ok().filter(|_| last > 0);
            if let Some(parsed) = parsed {
                if lines.len() >= last {
                    lines.pop_front();
                }
                lines.push_back(parsed);
            }
        }
    }
    Ok((verifier, lines))
}

/// A line without its newline. The end of the current file that has none is being written, or was when
/// the agent died, and was not promised yet.
fn whole(line: &[u8], at_end: bool) -> Option<&[u8]> {
    match line.strip_suffix(b"\n") {
        Some(line) => Some(line),
        None => (!at_end).then_some(line),
    }
}

#[cfg(test)]
#[path = "audit_file_tests.rs"]
mod tests;
