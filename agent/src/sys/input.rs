//! The pipe to a process's standard input: a named FIFO that the process holds open for writing too.
//!
//! So a process never meets the end of its input while it lives, and what an agent put in is there for
//! it whatever becomes of that agent. Bytes go in by one system call, whole or not at all.

use std::{
    fs,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        stat::{Mode, futimens},
        time::TimeSpec,
    },
    unistd::{Gid, SysconfVar, Uid, fchown, mkfifo, sysconf},
};

use super::fifo::open_both_ways;
use crate::supervise::{InputPipe, WrittenTo};

/// The most that a pipe is made to hold: an event with a long communication in it.
const MOST: usize = 16 << 20;

/// When a pipe was written to that is marked as not written to.
const NEVER: TimeSpec = TimeSpec::new(0, 0);

/// The agent's end of a FIFO to a process.
#[derive(Debug)]
pub struct Input {
    path: PathBuf,
    file: fs::File,
}

impl Input {
    /// Makes the FIFO at `path` anew, for a reader that runs as `owner`.
    pub(super) fn make(path: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let made = Self::open(path)?;
        if let Some((uid, gid)) = owner {
            // The process may open /dev/stdin, which is this FIFO, anew.
            fchown(made.file.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok(made)
    }

    /// Opens the FIFO that is at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open_both_ways(path, OFlag::O_NONBLOCK)?.into();
        Ok(Self { path: path.to_owned(), file })
    }

    /// Bytes that were not read yet.
    fn held(&self) -> io::Result<usize> {
        let mut held: libc::c_int = 0;
        #[expect(unsafe_code, reason = "no safe wrapper in nix")]
        // SAFETY: FIONREAD writes one int, for which there is room.
        let asked = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::FIONREAD, &raw mut held) };
        nix::errno::Errno::result(asked)?;
        Ok(usize::try_from(held).unwrap_or(0))
    }

    /// Whether there is room for all of it in any case.
    fn make_room(&self, len: usize) -> io::Result<()> {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page = page.and_then(|p| usize::try_from(p).ok()).unwrap_or(4096);
        let size = || -> io::Result<usize> {
            Ok(usize::try_from(fcntl(&self.file, FcntlArg::F_GETPIPE_SZ)?).unwrap_or(0))
        };
        let held = self.held()?;
        // Two neighbouring pages always hold more than one page together, but for the first and the
        // last.
        let taken = if held == 0 { 0 } else { 2 * held / page + 2 };
        let needed = len.div_ceil(page);
        if taken + needed <= size()? / page {
            return Ok(());
        }
        if held > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let wanted = len.checked_next_power_of_two().filter(|w| *w <= MOST);
        let grown = wanted
            .and_then(|w| i32::try_from(w).ok())
            .and_then(|w| fcntl(&self.file, FcntlArg::F_SETPIPE_SZ(w)).ok());
        match grown {
            Some(_) if needed <= size()? / page => Ok(()),
            Some(_) | None => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn is_marked(&self) -> io::Result<bool> {
        let m = self.file.metadata()?;
        Ok((m.mtime(), m.mtime_nsec()) == (NEVER.tv_sec(), NEVER.tv_nsec()))
    }

    /// Whether the file system beside this FIFO notes when a FIFO was written to. An overlay does not.
    fn are_times_kept(&self) -> io::Result<bool> {
        let path = self.path.with_extension("probe");
        let probe = Self::make(&path, None)?;
        let kept = probe.mark().and_then(|()| {
            (&probe.file).write_all(b"x")?;
            probe.is_marked()
        });
        fs::remove_file(&path)?;
        kept.map(|is_still_marked| !is_still_marked)
    }
}

impl InputPipe for Input {
    fn reader(&self) -> io::Result<OwnedFd> {
        open_both_ways(&self.path, OFlag::empty())
    }

    fn offer(&self, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len())?;
        loop {
            match (&self.file).write(bytes) {
                Ok(n) if n == bytes.len() => return Ok(()),
                // There was room a moment ago, and nobody else of ours writes here.
                Ok(_) => return Err(io::Error::other("somebody else writes to its input")),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn mark(&self) -> io::Result<()> {
        Ok(futimens(&self.file, &TimeSpec::UTIME_OMIT, &NEVER)?)
    }

    fn written(&self) -> WrittenTo {
        match self.is_marked() {
            Ok(false) => WrittenTo::Yes,
            Ok(true) if self.are_times_kept().is_ok_and(|kept| kept) => WrittenTo::No,
            Ok(true) | Err(_) => WrittenTo::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn make(dir: &tempfile::TempDir) -> Input {
        Input::make(&dir.path().join("web.stdin"), None).unwrap()
    }

    #[test]
    fn what_was_put_in_is_there_for_the_process_after_the_agent_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let input = make(&dir);
        let mut process = fs::File::from(input.reader().unwrap());
        input.offer(b"one\n").unwrap();
        drop(input);
        Input::open(&dir.path().join("web.stdin")).unwrap().offer(b"two\n").unwrap();
        let mut got = [0; 8];
        process.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"one\ntwo\n");
    }

    #[test]
    fn a_new_pipe_has_nothing_of_the_old_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let old = make(&dir);
        old.offer(b"stale").unwrap();
        assert_eq!(make(&dir).held().unwrap(), 0);
        assert_eq!(old.held().unwrap(), 5);
    }

    #[test]
    fn bytes_go_in_whole_or_not_at_all_and_nobody_waits() {
        let dir = tempfile::tempdir().unwrap();
        let input = make(&dir);
        let mut process = fs::File::from(input.reader().unwrap());
        let mut sent = 0;
        // Sizes that leave pages half empty.
        let refused = (0..10_000).find_map(|i| {
            let len = 1 + (i * 2049) % 9000;
            match input.offer(&vec![b'x'; len]) {
                Ok(()) => {
                    sent += len;
                    None
                }
                Err(e) => Some(e.kind()),
            }
        });
        assert_eq!(refused, Some(io::ErrorKind::WouldBlock));
        assert_eq!(input.held().unwrap(), sent);
        assert!(sent > 16 << 10, "{sent}");
        process.read_exact(&mut vec![0; sent]).unwrap();
        input.offer(b"again").unwrap();
    }

    #[test]
    fn an_empty_pipe_grows_for_what_is_long() {
        let dir = tempfile::tempdir().unwrap();
        let input = make(&dir);
        match input.offer(&vec![b'x'; 900 << 10]) {
            Ok(()) => assert_eq!(input.held().unwrap(), 900 << 10),
            // Only root may have a pipe of this size everywhere.
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::FileTooLarge),
        }
        let input = make(&dir);
        let never = input.offer(&vec![b'x'; MOST + 1]).unwrap_err();
        assert_eq!((never.kind(), input.held().unwrap()), (io::ErrorKind::FileTooLarge, 0));
    }

    #[test]
    fn a_pipe_remembers_whether_it_was_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let input = make(&dir);
        input.mark().unwrap();
        if !input.are_times_kept().unwrap() {
            assert_eq!(input.written(), WrittenTo::Unknown);
            return;
        }
        assert_eq!(input.written(), WrittenTo::No);
        input.offer(b"x").unwrap();
        assert_eq!(input.written(), WrittenTo::Yes);
        let later = Input::open(&dir.path().join("web.stdin")).unwrap();
        assert_eq!(later.written(), WrittenTo::Yes);
        later.mark().unwrap();
        assert_eq!(later.written(), WrittenTo::No);
    }
}
