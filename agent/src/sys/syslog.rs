//! Lines for the host's syslog: a datagram each, sent by a thread of its own, so that a syslog that is
//! slow or not there holds up nobody. What it does not take in time is dropped and counted.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// Where a host listens for them.
pub(super) const DEV_LOG: &str = "/dev/log";

/// Lines that may wait to be sent; those beyond are dropped and counted.
const QUEUE: usize = 1024;

/// The longest line; the rest of a longer one is cut off, as most syslogs do.
const MAX_LINE: usize = 8 << 10;

/// How long a syslog that is there may take for one line.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often losses are told.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Facility `user`, severity `info`.
const PRIORITY: u8 = 8 + 6;

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered once all before it was sent or dropped.
    Flush(SyncSender<()>),
}

/// Sends lines. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Syslog {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Syslog {
    /// Starts the thread that sends to the socket at `path`.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let losses = Losses { queue_full: Arc::clone(&dropped), not_taken: 0 };
        let path = path.to_owned();
        thread::Builder::new()
            .name("syslog".to_owned())
            .spawn(move || send_all(&lines, &path, losses))?;
        Ok(Self { queue, dropped })
    }

    /// Sends each line in the name of a process.
    pub(super) fn lines(&self, label: &str, bytes: &[u8]) {
        for line in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|b| *b == b'\n') {
            let mut datagram = format!("<{PRIORITY}>palisade: {label} ").into_bytes();
            datagram.extend_from_slice(line.get(..line.len().min(MAX_LINE)).unwrap_or_default());
            if self.queue.try_send(Message::Line(datagram)).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until what was given so far is sent or dropped, and no longer than that takes at most.
    pub(super) fn flush(&self) {
        let (tx, done) = sync_channel(1);
        if self.queue.try_send(Message::Flush(tx)).is_ok() {
            // Whether or not it was: nothing is done about it.
            done.recv_timeout(PATIENCE).unwrap_or_default();
        }
    }
}

struct Losses {
    queue_full: Arc<AtomicU64>,
    not_taken: u64,
}

impl Losses {
    fn tell(&mut self) {
        let count =
            self.queue_full.swap(0, Ordering::Relaxed) + std::mem::take(&mut self.not_taken);
        if count > 0 {
            tracing::warn!(count, "lines for syslog dropped: it is not there or too slow");
        }
    }
}

fn send_all(lines: &Receiver<Message>, path: &PathBuf, mut losses: Losses) {
    let socket = UnixDatagram::unbound().and_then(|s| {
        s.set_write_timeout(Some(PATIENCE))?;
        Ok(s)
    });
    loop {
        match lines.recv_timeout(TELL_EVERY) {
            Ok(Message::Line(line)) => {
                // By path each time: a syslog that was started anew is another socket.
                let sent = socket.as_ref().is_ok_and(|s| s.send_to(&line, path).is_ok());
                losses.not_taken += u64::from(!sent);
                continue;
            }
            Ok(Message::Flush(done)) => done.send(()).unwrap_or_default(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        losses.tell();
    }
    losses.tell();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(socket: &UnixDatagram) -> String {
        let mut buf = [0; MAX_LINE * 2];
        let n = socket.recv(&mut buf).unwrap();
        String::from_utf8(buf[..n].to_vec()).unwrap()
    }

    #[test]
    fn each_line_is_a_datagram_in_the_name_of_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let syslog = Syslog::start(&path).unwrap();
        syslog.lines("web_00", b"one\ntwo\n");
        syslog.lines("web_00", b"unfinished");
        syslog.lines("web_00", &[b'x'; MAX_LINE + 5]);
        let got = [(); 3].map(|()| read(&socket));
        let want = [
            "<14>palisade: web_00 one",
            "<14>palisade: web_00 two",
            "<14>palisade: web_00 unfinished",
        ];
        assert_eq!(got, want);
        assert_eq!(read(&socket).len(), MAX_LINE + "<14>palisade: web_00 ".len());
    }

    #[test]
    fn a_syslog_that_reads_nothing_costs_lines_and_no_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let syslog = Syslog::start(&path).unwrap();
        syslog.lines("web", &b"line\n".repeat(QUEUE * 3));
        let lost = syslog.dropped.load(Ordering::Relaxed);
        assert!(lost >= u64::try_from(QUEUE).unwrap(), "{lost}");
    }

    #[test]
    fn a_syslog_that_comes_later_or_anew_gets_the_lines_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let syslog = Syslog::start(&path).unwrap();
        syslog.lines("web", b"nobody hears\n");
        for round in ["first", "second"] {
            syslog.flush();
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            syslog.lines("web", round.as_bytes());
            assert_eq!(read(&socket), format!("<14>palisade: web {round}"));
            std::fs::remove_file(&path).unwrap();
        }
    }
}
