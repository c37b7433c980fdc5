//! The disk under the log spool, with a lock so that two agents never share one.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use nix::sys::statvfs::statvfs;

use crate::logs::{Room, SpoolFile, SpoolFs};

/// The disk, and the lock on the directory of the log path.
#[derive(Debug)]
pub struct DiskFs {
    /// Held until this is dropped or the process ends or executes another program.
    _lock: File,
}

#[derive(Debug)]
struct DiskFile(File);

impl DiskFs {
    /// Makes the directory if need be and locks it.
    ///
    /// # Errors
    /// When the directory cannot be made, or another process holds the lock.
    pub fn lock(dir: &Path) -> io::Result<Self> {
        make_dir(dir)?;
        let path = dir.join("lock");
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{} is locked: another agent uses this directory", path.display()),
            )),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

impl SpoolFs for DiskFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SpoolFile>> {
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)
        };
        let file = match (open(), path.parent()) {
            (Err(e), Some(dir)) if e.kind() == io::ErrorKind::NotFound => {
                make_dir(dir)?;
                open()?
            }
            (opened, _) => opened?,
        };
        Ok(Arc::new(DiskFile(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            // A file where a directory could be holds no names.
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                return Ok(Vec::new());
            }
            entries => entries?,
        };
        // Our names are ASCII; others are not ours.
        entries.filter_map(|e| e.map(|e| e.file_name().into_string().ok()).transpose()).collect()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir) {
            // Nothing was ever written there.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            dir => dir?.sync_all(),
        }
    }

    fn room(&self, dir: &Path) -> io::Result<Room> {
        let disk = statvfs(dir)?;
        let block = disk.fragment_size();
        Ok(Room { free: disk.blocks_available() * block, all: disk.blocks() * block })
    }
}

impl SpoolFile for DiskFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::testing::once_closed;

    #[test]
    fn two_agents_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DiskFs::lock(dir.path()).unwrap();
        let e = DiskFs::lock(dir.path()).unwrap_err();
        assert!(e.to_string().contains("another agent"), "{e}");
        drop(first);
        once_closed(|| DiskFs::lock(dir.path()));
    }

    #[test]
    fn files_are_for_the_agent_alone_and_directories_come_by_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let disk = DiskFs::lock(dir.path()).unwrap();
        let path = dir.path().join("a/b/c");
        disk.open(&path).unwrap().write_all_at(b"xyz", 2).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\0\0xyz");
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(disk.list(&dir.path().join("a/b")).unwrap(), ["c"]);
        assert!(disk.list(&path).unwrap().is_empty());
        disk.remove(&path).unwrap();
        disk.remove(&path).unwrap();
    }
}
