//! The file behind the record of events: appended to, and moved aside when it is large.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::events::EventSink;

/// The file is moved aside once it is this large.
const MAX_BYTES: u64 = 16 << 20;
/// Files moved aside that are kept: `.1` is the newest.
const KEPT: u32 = 3;

/// A file of events.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    open: Option<(File, u64)>,
    max_bytes: u64,
}

impl EventFile {
    /// The file at this path; it is opened with the first event.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: None, max_bytes: MAX_BYTES }
    }

    fn rotate(&self) -> io::Result<()> {
        let numbered = |n: u32| {
            let mut name = OsString::from(&self.path);
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..KEPT).rev() {
            rename_if_there(&numbered(n), &numbered(n + 1))?;
        }
        rename_if_there(&self.path, &numbered(1))
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

impl EventSink for EventFile {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let (mut file, size) = match self.open.take() {
            Some(open) => open,
            None => {
                let file =
                    OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
                let size = file.metadata()?.len();
                (file, size)
            }
        };
        // One write, so that a reader never meets half an event of a living agent. After an error
        // the file is opened anew: it may have been moved or removed.
        file.write_all(line)?;
        let size = size + line.len() as u64;
        if size >= self.max_bytes {
            return self.rotate();
        }
        self.open = Some((file, size));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_events_are_moved_aside_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.ndjson");
        let mut file = EventFile { max_bytes: 10, ..EventFile::new(path.clone()) };
        for i in 0..12 {
            file.append(format!("line{i}\n").as_bytes()).unwrap();
        }
        let read = |suffix: &str| {
            fs::read_to_string(dir.path().join(format!("events.ndjson{suffix}"))).unwrap()
        };
        assert_eq!(read(".1"), "line10\nline11\n");
        assert_eq!(read(".3"), "line6\nline7\n");
        assert!(!path.exists() && fs::read_dir(dir.path()).unwrap().count() == 3);
    }
}
