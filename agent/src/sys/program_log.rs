//! Where a stream of a process is written beside what is shipped: a file, one of the agent's own
//! streams, syslog. All who write to one file do it through one writer, which rotates it.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    logfile::RotatingLog,
    syslog::{DEV_LOG, Syslog},
};
use crate::{
    log_place::{Found, OwnStream, find},
    supervise::{LogFile, LogOutcome, ProgramLog},
};

/// So much can be written to a pipe that polls as writable without waiting.
const PART: usize = 4096;

/// The writers of this host.
#[derive(Debug)]
pub(super) struct Logs {
    files: Mutex<BTreeMap<PathBuf, Weak<Mutex<RotatingLog>>>>,
    syslog_at: PathBuf,
    syslog: Mutex<Option<Syslog>>,
}

impl Logs {
    pub(super) fn new() -> Self {
        Self::with_syslog(Path::new(DEV_LOG))
    }

    fn with_syslog(path: &Path) -> Self {
        Self { files: Mutex::default(), syslog_at: path.to_owned(), syslog: Mutex::default() }
    }

    /// A writer as the settings say, in the name of a process.
    pub(super) fn open(&self, path: Option<&Path>, file: &LogFile, label: &str) -> HostLog {
        let target = path.map(|path| match find(path) {
            Ok(Found::Own(stream)) => Target::Own(Own { stream, dropped: 0 }),
            // What is wrong with it is told at the first write.
            Ok(Found::File(_)) | Err(_) => Target::File(self.file(path, file)),
        });
        let syslog = file.syslog.then(|| self.syslog()).flatten();
        HostLog { target, syslog: syslog.map(|s| (s, label.to_owned())), shown: None }
    }

    fn file(&self, path: &Path, settings: &LogFile) -> Arc<Mutex<RotatingLog>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|_, log| log.strong_count() > 0);
        if let Some(log) = files.get(path).and_then(Weak::upgrade) {
            // Who came last says when it is rotated: after an update, that is the new setting.
            log.lock().unwrap_or_else(PoisonError::into_inner).adjust(settings);
            return log;
        }
        let log = Arc::new(Mutex::new(RotatingLog::new(path, settings)));
        files.insert(path.to_owned(), Arc::downgrade(&log));
        log
    }

    fn syslog(&self) -> Option<Syslog> {
        let mut syslog = self.syslog.lock().unwrap_or_else(PoisonError::into_inner);
        if syslog.is_none() {
            match Syslog::start(&self.syslog_at) {
                Ok(started) => *syslog = Some(started),
                Err(e) => tracing::error!(error = %e, "no thread for syslog: nothing goes there"),
            }
        }
        syslog.clone()
    }

    /// Waits a moment until lines on their way to syslog are there.
    pub(super) fn flush(&self) {
        let syslog = self.syslog.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(syslog) = syslog {
            syslog.flush();
        }
    }
}

/// Where one stream is written.
#[derive(Debug)]
pub struct HostLog {
    target: Option<Target>,
    syslog: Option<(Syslog, String)>,
    /// How much of the line that is to come the file shows already; none before the file was looked at,
    /// which a writer before this one may have left with the beginning of a line.
    shown: Option<usize>,
}

#[derive(Debug)]
enum Target {
    File(Arc<Mutex<RotatingLog>>),
    Own(Own),
}

impl ProgramLog for HostLog {
    fn append(&mut self, bytes: &[u8]) -> LogOutcome {
        if let Some((syslog, label)) = &self.syslog {
            syslog.lines(label, bytes);
        }
        match &mut self.target {
            None => LogOutcome::Written,
            Some(Target::File(log)) => {
                let shown = shown_of(&mut self.shown, log, bytes);
                let there = (*shown).min(bytes.len());
                *shown -= there;
                match bytes.get(there..).unwrap_or_default() {
                    [] => LogOutcome::Written,
                    rest => log.lock().unwrap_or_else(PoisonError::into_inner).append(rest),
                }
            }
            Some(Target::Own(own)) => own.append(bytes),
        }
    }

    /// Only in a file that nobody else writes to, whose lines would come between. Syslog has lines only.
    fn show(&mut self, line: &[u8]) {
        let Some(Target::File(log)) = &self.target else { return };
        if Arc::strong_count(log) > 1 {
            return;
        }
        let shown = shown_of(&mut self.shown, log, line);
        let more = line.get(*shown..).unwrap_or_default();
        // What is not shown now is told and counted once the line is whole.
        if !more.is_empty() && log.lock().unwrap_or_else(PoisonError::into_inner).show(more) {
            *shown = line.len();
        }
    }
}

/// How much of a line the file shows. Asked for the first time, the file tells: it ends with what an agent
/// before this one had shown when it died.
fn shown_of<'a>(
    shown: &'a mut Option<usize>,
    log: &Mutex<RotatingLog>,
    line: &[u8],
) -> &'a mut usize {
    shown.get_or_insert_with(|| {
        let there = log.lock().unwrap_or_else(PoisonError::into_inner).unfinished();
        if line.starts_with(&there) { there.len() } else { 0 }
    })
}

/// One of the agent's own streams, as programs in containers are logged. It may be a pipe that nobody
/// reads: what it does not take at once is dropped and counted.
#[derive(Debug)]
struct Own {
    stream: OwnStream,
    dropped: u64,
}

impl Own {
    fn append(&mut self, bytes: &[u8]) -> LogOutcome {
        let (written, result) = match self.stream {
            OwnStream::Stdout => write_at_once(io::stdout().as_fd(), bytes),
            OwnStream::Stderr => write_at_once(io::stderr().as_fd(), bytes),
        };
        let was_failing = self.dropped > 0;
        match result {
            Ok(()) if was_failing => {
                LogOutcome::Recovered { dropped: std::mem::take(&mut self.dropped) }
            }
            Ok(()) => LogOutcome::Written,
            Err(e) => {
                self.dropped += u64::try_from(bytes.len() - written).unwrap_or(u64::MAX);
                if was_failing { LogOutcome::StillFailing } else { LogOutcome::Failed(e) }
            }
        }
    }
}

/// Writes what can be written without waiting; how much that was, and why it was not all.
fn write_at_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|r| !r.is_empty()) {
        let mut asked = [PollFd::new(fd, PollFlags::POLLOUT)];
        let is_writable = poll(&mut asked, PollTimeout::ZERO).is_ok_and(|n| n > 0);
        if !is_writable {
            return (written, Err(io::ErrorKind::WouldBlock.into()));
        }
        match nix::unistd::write(fd, rest.get(..rest.len().min(PART)).unwrap_or_default()) {
            Ok(n) => written += n,
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return (written, Err(e.into())),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixDatagram, time::Duration};

    use nix::unistd::pipe;
    use palisade_types::ByteSize;

    use super::*;
    use crate::supervise::LogPath;

    #[test]
    fn an_unfinished_line_is_shown_once_also_over_the_death_of_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        let settings = LogFile { path: LogPath::At(path.clone()), ..LogFile::default() };
        let read = || fs::read_to_string(&path).unwrap();
        let open =
            || Logs::with_syslog(Path::new("/nonexistent")).open(Some(&path), &settings, "a");
        let mut log = open();
        log.append(b"one\n");
        log.show(b"sure? ");
        assert_eq!(read(), "one\nsure? ");
        drop(log);
        // The next agent finds the same line in the pipe.
        let mut log = open();
        log.show(b"sure? ");
        log.show(b"sure? y");
        assert_eq!(read(), "one\nsure? y");
        log.append(b"sure? yes\ntwo\n");
        assert_eq!(read(), "one\nsure? yes\ntwo\n");
        log.append(b"three\n");
        assert_eq!(read(), "one\nsure? yes\ntwo\nthree\n");
    }

    #[test]
    fn where_two_write_nobody_shows_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("both.log");
        let settings = LogFile { path: LogPath::At(path.clone()), ..LogFile::default() };
        let logs = Logs::with_syslog(Path::new("/nonexistent"));
        let mut a = logs.open(Some(&path), &settings, "a");
        let mut b = logs.open(Some(&path), &settings, "b");
        a.show(b"half");
        b.append(b"whole\n");
        a.append(b"half a line\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nhalf a line\n");
    }

    #[test]
    fn two_streams_into_one_file_share_one_writer_and_lose_nothing_when_it_rotates() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("both.log");
        let settings = LogFile {
            path: LogPath::At(path.clone()),
            maxbytes: ByteSize::new(1000),
            backups: 100,
            ..LogFile::default()
        };
        let logs = Logs::with_syslog(Path::new("/nonexistent"));
        let mut writers =
            [logs.open(Some(&path), &settings, "a"), logs.open(Some(&path), &settings, "b")];
        for i in 0..300 {
            for (writer, who) in writers.iter_mut().zip(["a", "b"]) {
                let outcome = writer.append(format!("{who} {i:03}\n").as_bytes());
                assert!(matches!(outcome, LogOutcome::Written), "{outcome:?}");
            }
        }
        let mut lines: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .flat_map(|f| {
                let text = fs::read_to_string(f.unwrap().path()).unwrap();
                assert!(text.len() <= 1000 + 6);
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        lines.sort();
        let want: Vec<String> =
            ["a", "b"].iter().flat_map(|w| (0..300).map(move |i| format!("{w} {i:03}"))).collect();
        assert_eq!(lines, want);
    }

    #[test]
    fn a_file_is_written_and_syslog_told_of_each_line() {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("log")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let logs = Logs::with_syslog(&dir.path().join("log"));
        let path = dir.path().join("web.log");
        let settings = LogFile { syslog: true, ..LogFile::default() };
        logs.open(Some(&path), &settings, "web").append(b"hello\n");
        logs.open(None, &settings, "web").append(b"there\n");
        let mut buf = [0; 100];
        for want in [&b"<14>palisade: web hello"[..], b"<14>palisade: web there"] {
            let n = socket.recv(&mut buf).unwrap();
            assert_eq!(&buf[..n], want);
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "hello\n");
    }

    #[test]
    fn a_pipe_that_nobody_reads_takes_what_it_holds_and_nobody_waits() {
        let (_outlet, inlet) = pipe().unwrap();
        let much = vec![b'x'; 1 << 20];
        let (written, result) = write_at_once(inlet.as_fd(), &much);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!((PART..much.len()).contains(&written), "{written}");
    }
}
