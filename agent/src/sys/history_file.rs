//! The file behind the record of firewall changes: appended to line by line, each on disk before the
//! next is begun, and moved aside when it is large.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

use super::files;
use crate::firewall::history::HistoryFile;

/// The file is moved aside before it would be larger than this: some thousand changes.
const MAX_BYTES: u64 = 1 << 20;

/// `history.jsonl` in a directory, and `history.1.jsonl` with what was before: 0600, at most 1 MiB
/// each.
#[derive(Clone, Debug)]
pub struct DiskHistory {
    dir: PathBuf,
    max_bytes: u64,
}

impl DiskHistory {
    /// In this directory, which is made with the first line.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), max_bytes: MAX_BYTES }
    }

    fn current(&self) -> PathBuf {
        self.dir.join("history.jsonl")
    }

    fn older(&self) -> PathBuf {
        self.dir.join("history.1.jsonl")
    }

    fn open(&self) -> io::Result<File> {
        let mut open = OpenOptions::new();
        open.read(true).append(true).create(true).mode(0o600);
        open.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(self.current())
    }

    fn append_blocking(&self, line: &[u8]) -> io::Result<()> {
        files::ensure_dir(&self.dir, 0o700)?;
        let mut file = self.open()?;
        let mut size = file.metadata()?.len();
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let mut is_new = size == 0;
        if size > 0 && size.saturating_add(length) > self.max_bytes {
            fs::rename(self.current(), self.older())?;
            file = self.open()?;
            size = 0;
            is_new = true;
        }
        // What a power cut left of a line stays a line of its own, and is passed over.
        let whole =
            if ends_whole(&mut file, size)? { line.to_vec() } else { [b"\n", line].concat() };
        let written = file.write_all(&whole).and_then(|()| file.sync_data());
        if let Err(e) = written {
            // Half a line is of no use; the first error is the one to tell.
            file.set_len(size).unwrap_or_default();
            return Err(e);
        }
        if is_new {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    fn read_blocking(&self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        for path in [self.older(), self.current()] {
            let mut open = OpenOptions::new();
            open.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            match open.open(path) {
                // A file that is larger than ours ever is is not read to its end.
                Ok(file) => {
                    file.take(self.max_bytes.saturating_mul(2)).read_to_end(&mut all)?;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            if !all.is_empty() && !all.ends_with(b"\n") {
                all.push(b'\n');
            }
        }
        Ok(all)
    }
}

fn ends_whole(file: &mut File, size: u64) -> io::Result<bool> {
    if size == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(size - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

impl HistoryFile for DiskHistory {
    async fn append(&mut self, line: Vec<u8>) -> io::Result<()> {
        let this = self.clone();
        spawn_blocking(move || this.append_blocking(&line)).await.map_err(io::Error::other)?
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let this = self.clone();
        spawn_blocking(move || this.read_blocking()).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn lines_are_kept_in_order_over_two_files_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("firewall");
        let mut history = DiskHistory { max_bytes: 30, ..DiskHistory::new(&state) };
        assert_eq!(history.read().await.unwrap(), b"");
        for n in 10..20 {
            history.append(format!("change {n}\n").into_bytes()).await.unwrap();
        }
        let kept = String::from_utf8(history.read().await.unwrap()).unwrap();
        let lines: Vec<&str> = kept.lines().collect();
        assert_eq!(lines, ["change 16", "change 17", "change 18", "change 19"]);
        for name in ["history.jsonl", "history.1.jsonl"] {
            let mode = fs::metadata(state.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::read_dir(&state).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_line_cut_by_a_power_cut_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = DiskHistory::new(dir.path());
        history.append(b"one\n".to_vec()).await.unwrap();
        let mut file = OpenOptions::new().append(true).open(history.current()).unwrap();
        file.write_all(b"tw").unwrap();
        history.append(b"three\n".to_vec()).await.unwrap();
        assert_eq!(history.read().await.unwrap(), b"one\ntw\nthree\n");
    }

    #[tokio::test]
    async fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = DiskHistory::new(dir.path());
        let other = dir.path().join("other");
        files::write_atomic(&other, b"", 0o600).unwrap();
        std::os::unix::fs::symlink(&other, history.current()).unwrap();
        assert!(history.append(b"one\n".to_vec()).await.is_err());
        assert!(history.read().await.is_err());
        assert_eq!(fs::read(&other).unwrap(), b"");
    }
}
