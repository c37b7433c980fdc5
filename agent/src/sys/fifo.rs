//! The pipe of one output stream: a named FIFO that its writer holds open for reading too.
//!
//! So there is always a reader, and nobody meets SIGPIPE while no agent runs; and a new agent finds
//! by its path what the old one has not yet taken out. To look without taking, the content is
//! duplicated by tee(2) into a scratch pipe and read from there.

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice, tee},
    sys::stat::Mode,
    unistd::{Gid, Uid, fchown, mkfifo, pipe2},
};
use tokio::io::unix::AsyncFd;

use crate::supervise::OutputPipe;

/// What a pipe is to hold. Less where the kernel's limit for the user is reached.
const PIPE_BYTES: usize = 256 << 10;

/// The scratch pipe, and where consumed bytes go. One for all FIFOs: it is empty between calls.
#[derive(Debug)]
pub(super) struct Scratch {
    inlet: OwnedFd,
    outlet: fs::File,
    sink: OwnedFd,
}

impl Scratch {
    pub(super) fn new() -> io::Result<Self> {
        let (outlet, inlet) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        enlarge(&inlet);
        let sink = fs::OpenOptions::new().write(true).open("/dev/null")?;
        Ok(Self { inlet, outlet: outlet.into(), sink: sink.into() })
    }
}

/// A smaller pipe works too.
fn enlarge(fd: &OwnedFd) {
    let size = i32::try_from(PIPE_BYTES).unwrap_or(i32::MAX);
    if let Err(e) = fcntl(fd, FcntlArg::F_SETPIPE_SZ(size)) {
        tracing::debug!(error = %e, "pipe keeps its size");
    }
}

/// The agent's end of a FIFO.
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
    fd: AsyncFd<OwnedFd>,
    scratch: Arc<Mutex<Scratch>>,
}

impl Fifo {
    /// Opens the FIFO at `path`, made if it is not there, for a writer that runs as `owner`.
    pub(super) fn open(
        path: &Path,
        owner: Option<(u32, u32)>,
        scratch: Arc<Mutex<Scratch>>,
    ) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(m) if m.file_type().is_fifo() => {}
            Ok(_) => {
                fs::remove_file(path)?;
                mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            }
            Err(_) => mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?,
        }
        let fd = open_both_ways(path, OFlag::O_NONBLOCK)?;
        if let Some((uid, gid)) = owner {
            // The process may open /dev/stdout, which is this FIFO, anew.
            let m = fs::metadata(path)?;
            if (m.uid(), m.gid()) != (uid, gid) {
                fchown(fd.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
        }
        enlarge(&fd);
        let fd = super::watched::readable(fd)?;
        Ok(Self { path: path.to_owned(), fd, scratch })
    }
}

pub(super) fn open_both_ways(path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((flags | OFlag::O_NOFOLLOW).bits())
        .open(path)?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other(format!("{} is not a FIFO", path.display())));
    }
    Ok(file.into())
}

impl OutputPipe for Fifo {
    fn writer(&self) -> io::Result<OwnedFd> {
        open_both_ways(&self.path, OFlag::empty())
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        self.fd.get_ref().try_clone()
    }

    async fn grown(&self) -> io::Result<()> {
        // Cleared before the content is looked at, so bytes that come later show again.
        self.fd.readable().await?.clear_ready();
        Ok(())
    }

    fn peek(&self, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let copied = loop {
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
            match tee(self.fd.get_ref(), &scratch.inlet, PIPE_BYTES, flags) {
                Ok(n) => break n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        };
        into.resize(copied, 0);
        (&scratch.outlet).read_exact(into)
    }

    fn consume(&self, bytes: usize) -> io::Result<()> {
        let scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = bytes;
        while left > 0 {
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
            match splice(self.fd.get_ref(), None, &scratch.sink, None, left, flags) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => left = left.saturating_sub(n),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn open(path: &Path) -> Fifo {
        Fifo::open(path, None, Arc::new(Mutex::new(Scratch::new().unwrap()))).unwrap()
    }

    #[tokio::test]
    async fn what_was_looked_at_stays_until_it_is_consumed() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = open(&dir.path().join("f"));
        let mut writer = fs::File::from(fifo.writer().unwrap());
        let mut seen = vec![9];
        fifo.peek(&mut seen).unwrap();
        assert!(seen.is_empty());
        for part in ["one\n", "two\nth"] {
            writer.write_all(part.as_bytes()).unwrap();
        }
        fifo.grown().await.unwrap();
        for _ in 0..2 {
            fifo.peek(&mut seen).unwrap();
            assert_eq!(seen, b"one\ntwo\nth");
        }
        fifo.consume(8).unwrap();
        writer.write_all(b"ree\n").unwrap();
        fifo.peek(&mut seen).unwrap();
        assert_eq!(seen, b"three\n");
    }

    #[tokio::test]
    async fn content_outlives_the_reader_as_long_as_a_writer_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let first = open(&path);
        let mut writer = fs::File::from(first.writer().unwrap());
        drop(first);
        // No reader but the writer itself: no SIGPIPE, no error.
        writer.write_all(b"alone\n").unwrap();
        let mut seen = Vec::new();
        open(&path).peek(&mut seen).unwrap();
        assert_eq!(seen, b"alone\n");
    }

    #[tokio::test]
    async fn a_full_pipe_is_seen_whole() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = open(&dir.path().join("f"));
        let mut writer = fs::File::from(open_both_ways(&fifo.path, OFlag::O_NONBLOCK).unwrap());
        let mut written = 0;
        while let Ok(n) = writer.write(&[b'x'; 100]) {
            written += n;
        }
        let mut seen = Vec::new();
        fifo.peek(&mut seen).unwrap();
        assert_eq!(seen.len(), written);
        assert!(written >= 64 << 10, "{written}");
        fifo.consume(written).unwrap();
        fifo.peek(&mut seen).unwrap();
        assert!(seen.is_empty());
    }

    #[tokio::test]
    async fn another_kind_of_file_in_its_place_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::File::create(&path).unwrap();
        assert!(open(&path).writer().is_ok());
    }
}
