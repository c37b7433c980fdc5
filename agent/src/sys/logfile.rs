//! A program's own log file, with Supervisor's rotation: once it is as large as `maxbytes` *after* a
//! write, `x` becomes `x.1`, `x.1` becomes `x.2`, and what would be beyond `backups` is removed.
//!
//! A link is followed where `log_place` finds that safe. A file that was moved or removed under us is
//! opened anew. What the disk does not take is dropped and counted, so that a full disk stops the log
//! and not the program. Writes go to the page cache from the agent's own thread.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use crate::{
    log_place::find_file,
    supervise::{LogFile, LogOutcome, ProgramLog},
};

/// The longest line that is shown before its end: what a pipe holds.
const LONGEST_SHOWN: u64 = 64 << 10;

/// A log file that rotates.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    maxbytes: u64,
    backups: u32,
    file: Option<fs::File>,
    dropped: u64,
    /// The last time that it was to be rotated, it could not be.
    is_not_rotated: bool,
}

impl RotatingLog {
    /// Opens nothing until the first write.
    #[must_use]
    pub fn new(path: &Path, settings: &LogFile) -> Self {
        Self {
            path: path.to_owned(),
            maxbytes: settings.maxbytes.bytes(),
            backups: settings.backups,
            file: None,
            dropped: 0,
            is_not_rotated: false,
        }
    }

    /// Rotates from now on as these settings say.
    pub(super) fn adjust(&mut self, settings: &LogFile) {
        self.maxbytes = settings.maxbytes.bytes();
        self.backups = settings.backups;
    }

    fn file(&mut self) -> io::Result<&mut fs::File> {
        // One look at the path for each batch of lines: whoever rotates it by hand need not tell us.
        let is_there = match (&self.file, fs::metadata(&self.path)) {
            (Some(file), Ok(there)) => {
                let ours = file.metadata()?;
                (ours.dev(), ours.ino()) == (there.dev(), there.ino())
            }
            _ => false,
        };
        if !is_there {
            self.file = None;
        }
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                if let Some(dir) = self.path.parent() {
                    super::files::ensure_dir(dir, 0o755)?;
                }
                let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
                Ok(none.insert(find_file(&self.path)?.open(flags)?))
            }
        }
    }

    /// The line at its end that has no end yet, as far back as a line may reach.
    pub(super) fn unfinished(&self) -> Vec<u8> {
        let Ok(mut end) = tail(&self.path, LONGEST_SHOWN) else { return Vec::new() };
        match memchr::memrchr(b'\n', &end) {
            Some(at) => end.split_off(at + 1),
            None => end,
        }
    }

    /// Writes the beginning of a line, or nothing. Whether it is there.
    pub(super) fn show(&mut self, bytes: &[u8]) -> bool {
        let (written, result) = self.write(bytes);
        if result.is_err() {
            self.take_back_a_cut_line(bytes, written);
            return false;
        }
        // Where it cannot be rotated, the next whole line tells.
        drop(self.rotate_if_large());
        true
    }

    /// How many of the bytes were written, and what went wrong after them.
    fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let file = match self.file() {
            Ok(file) => file,
            Err(e) => return (0, Err(e)),
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return (bytes.len() - rest.len(), Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return (bytes.len() - rest.len(), Err(e)),
            }
        }
        (bytes.len(), Ok(()))
    }

    /// Takes back the beginning of a line that did not fit: what comes once there is room would go on with
    /// it. How many of the `written` bytes stay.
    fn take_back_a_cut_line(&self, bytes: &[u8], written: usize) -> usize {
        let whole =
            bytes.get(..written).and_then(|b| memchr::memrchr(b'\n', b)).map_or(0, |at| at + 1);
        let cut = u64::try_from(written - whole).unwrap_or(0);
        let taken_back = self.file.as_ref().filter(|_| cut > 0).map(|file| {
            let m = file.metadata()?;
            if m.is_file() { file.set_len(m.len().saturating_sub(cut)) } else { Ok(()) }
        });
        if matches!(taken_back, Some(Ok(()))) { whole } else { written }
    }

    fn rotate_if_large(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let m = file.metadata()?;
        if self.maxbytes == 0 || m.len() < self.maxbytes || !m.is_file() {
            return Ok(());
        }
        if self.backups == 0 {
            return file.set_len(0);
        }
        // Where the path is a link, the backups are beside the file and the link stays.
        let place = find_file(&self.path)?;
        for n in (1..self.backups).rev() {
            match place.renumber(Some(n), n + 1) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        place.renumber(None, 1)?;
        self.file = None;
        Ok(())
    }
}

impl ProgramLog for RotatingLog {
    fn append(&mut self, bytes: &[u8]) -> LogOutcome {
        let (mut written, result) = self.write(bytes);
        let was_failing = self.dropped > 0;
        if let Err(e) = result {
            written = self.take_back_a_cut_line(bytes, written);
            self.dropped += u64::try_from(bytes.len() - written).unwrap_or(u64::MAX);
            return if was_failing { LogOutcome::StillFailing } else { LogOutcome::Failed(e) };
        }
        let rotated = self.rotate_if_large();
        let is_told = std::mem::replace(&mut self.is_not_rotated, rotated.is_err());
        match rotated {
            _ if was_failing => {
                LogOutcome::Recovered { dropped: std::mem::take(&mut self.dropped) }
            }
            Err(e) if !is_told => LogOutcome::NotRotated(e),
            Ok(()) | Err(_) => LogOutcome::Written,
        }
    }

    fn show(&mut self, _: &[u8]) {}
}

/// The last `bytes` of a file; all of it if it is smaller, nothing if it is not there.
///
/// # Errors
/// What the file system says.
pub fn tail(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    /// More is asked of nobody: it all goes into memory.
    const MOST: u64 = 16 << 20;
    let mut file = match find_file(path).and_then(|place| place.open(OFlag::O_RDONLY)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let bytes = bytes.min(MOST);
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(bytes)))?;
    let mut out = Vec::new();
    file.take(bytes).read_to_end(&mut out)?;
    Ok(out)
}

/// Empties a file; fine if it is not there.
///
/// # Errors
/// What the file system says.
pub fn clear(path: &Path) -> io::Result<()> {
    match find_file(path).and_then(|place| place.open(OFlag::O_WRONLY)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        // A device or a pipe cannot be emptied and need not be.
        Ok(file) if !file.metadata()?.is_file() => Ok(()),
        Ok(file) => file.set_len(0),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use palisade_types::ByteSize;

    use super::*;
    use crate::supervise::LogPath;

    fn log(path: &Path, maxbytes: u64, backups: u32) -> RotatingLog {
        let path_setting = LogPath::At(path.to_owned());
        let maxbytes = ByteSize::new(maxbytes);
        RotatingLog::new(
            path,
            &LogFile { path: path_setting, maxbytes, backups, ..LogFile::default() },
        )
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|_| "-".to_owned())
    }

    fn numbered(path: &Path, n: u32) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        name.into()
    }

    #[test]
    fn it_rotates_after_the_write_that_reaches_the_size_and_keeps_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = log(&path, 4, 2);
        for line in ["a\n", "bb\n", "cccc\n", "dddd\n", "e\n"] {
            assert!(matches!(log.append(line.as_bytes()), LogOutcome::Written));
        }
        let files: Vec<_> = (1..4).map(|n| read(&numbered(&path, n))).collect();
        assert_eq!((read(&path).as_str(), files.join("|").as_str()), ("e\n", "dddd\n|cccc\n|-"));
    }

    #[test]
    fn no_backups_means_truncate_and_no_size_means_never() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut short = log(&path, 4, 0);
        short.append(b"12345\n");
        assert_eq!(read(&path), "");
        short.append(b"1\n");
        assert_eq!(read(&path), "1\n");
        let mut endless = log(&path, 0, 10);
        endless.append(b"2\n");
        assert_eq!(read(&path), "1\n2\n");
    }

    #[test]
    fn a_file_moved_or_removed_under_us_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = log(&path, 0, 0);
        log.append(b"1\n");
        fs::remove_file(&path).unwrap();
        log.append(b"2\n");
        assert_eq!(read(&path), "2\n");
        fs::rename(&path, dir.path().join("moved")).unwrap();
        log.append(b"3\n");
        assert_eq!(read(&path), "3\n");
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_and_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        // A device that is always full.
        let mut log = log(Path::new("/dev/full"), 0, 0);
        assert!(matches!(log.append(b"12345\n"), LogOutcome::Failed(_)));
        assert!(matches!(log.append(b"123\n"), LogOutcome::StillFailing));
        log.path.clone_from(&path);
        assert!(matches!(log.append(b"ok\n"), LogOutcome::Recovered { dropped: 10 }));
        assert_eq!(read(&path), "ok\n");
    }

    #[test]
    fn a_link_of_ones_own_is_followed_and_stays_while_its_file_rotates() {
        let dir = tempfile::tempdir().unwrap();
        let (real, path) = (dir.path().join("real"), dir.path().join("x.log"));
        std::os::unix::fs::symlink("real", &path).unwrap();
        let mut log = log(&path, 4, 1);
        for line in ["aaaa\n", "b\n"] {
            assert!(matches!(log.append(line.as_bytes()), LogOutcome::Written));
        }
        assert!(path.is_symlink());
        assert_eq!((read(&real).as_str(), read(&numbered(&real, 1)).as_str()), ("b\n", "aaaa\n"));
        assert_eq!(tail(&path, 10).unwrap(), b"b\n");
        clear(&path).unwrap();
        assert_eq!(read(&real), "");
    }

    #[test]
    fn a_link_that_a_program_may_have_made_is_not_followed_and_a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let (secret, path) = (dir.path().join("secret"), dir.path().join("x.log"));
        super::super::files::write_atomic(&secret, b"secret\n", 0o600).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        assert!(matches!(log(&path, 0, 0).append(b"mine\n"), LogOutcome::Failed(_)));
        assert!(tail(&path, 10).is_err() && clear(&path).is_err());
        assert_eq!(read(&secret), "secret\n");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(tail(&path, 10).is_err());
    }

    #[test]
    fn tail_and_clear() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        assert!(tail(&path, 10).unwrap().is_empty());
        clear(&path).unwrap();
        let mut log = log(&path, 0, 0);
        log.append(b"one\ntwo\n");
        assert_eq!(tail(&path, 4).unwrap(), b"two\n");
        assert_eq!(tail(&path, u64::MAX).unwrap(), b"one\ntwo\n");
        clear(&path).unwrap();
        log.append(b"3\n");
        assert_eq!(read(&path), "3\n");
    }
}
