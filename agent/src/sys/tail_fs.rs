//! Followed log files, read from the disk.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use crate::logs::{TailEntry, TailFile, TailFs, TailStat};

/// The disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

#[derive(Debug)]
struct Followed(File);

fn stat(m: &Metadata) -> TailStat {
    let modified_ms = m.mtime().saturating_mul(1000).saturating_add(m.mtime_nsec() / 1_000_000);
    TailStat { dev: m.dev(), ino: m.ino(), size: m.size(), modified_ms }
}

impl TailFs for Disk {
    fn list(&self, dir: &Path) -> io::Result<Vec<TailEntry>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Through symbolic links: a link to a log is followed as the log.
            match fs::metadata(entry.path()) {
                Ok(m) if m.is_file() => {
                    let link = entry.file_type().is_ok_and(|t| t.is_symlink());
                    out.push(TailEntry { name, link, stat: stat(&m) });
                }
                Ok(_) => {}
                // Gone since it was listed, or a link to nothing.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                // A link that goes round in a circle or where we may not go: the others are not to suffer.
                Err(e) => tracing::debug!(error = %e, name, "not looked at"),
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn TailFile>> {
        // Not blocking, in case a FIFO has taken the place of the file since it was listed.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if file.metadata()?.is_file() {
            Ok(Arc::new(Followed(file)))
        } else {
            Err(io::Error::other("not a regular file"))
        }
    }

    fn device(&self, dir: &Path) -> io::Result<u64> {
        Ok(fs::metadata(dir)?.dev())
    }
}

impl TailFile for Followed {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }

    fn stat(&self) -> io::Result<TailStat> {
        Ok(stat(&self.0.metadata()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_and_what_is_no_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        File::create(dir.path().join("a.log")).unwrap();
        std::os::unix::fs::symlink("a.log", dir.path().join("link.log")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dead.log")).unwrap();
        let names: Vec<_> = Disk.list(dir.path()).unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["a.log", "link.log"]);
        let absent = Disk.list(&dir.path().join("absent")).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        assert!(Disk.open(&dir.path().join("sub")).is_err());
    }
}
