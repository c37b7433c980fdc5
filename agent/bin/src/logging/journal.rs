//! The agent's own log in systemd's journal, by its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! Nothing here waits, as the crate tracing-journald does while the socket's queue is full: a journald
//! that stands still must not keep the agent from minding programs. What it does not take is kept, at
//! most [`KEPT`] lines, and sent in order before the next line or within a second. Lines beyond that are
//! dropped and counted, and the journal is told how many.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time};
use tokio_util::sync::CancellationToken;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};

/// Most lines that wait for journald.
const KEPT: usize = 512;
/// Longest line in bytes, which is well below what a datagram holds. The rest is cut off.
const LONGEST: usize = 32 << 10;
/// How long after it was full the journal is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The way to journald.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    late: Mutex<Late>,
    is_late: Notify,
}

/// What journald did not take yet.
#[derive(Debug, Default)]
struct Late {
    lines: VecDeque<Vec<u8>>,
    dropped: u64,
}

impl Journal {
    /// # Errors
    /// When nobody listens there.
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // Without a field it is no entry.
        if let Err(e) = socket.send_to(&[], &path)
            && e.kind() != io::ErrorKind::WouldBlock
        {
            return Err(e);
        }
        Ok(Self { socket, path, late: Mutex::default(), is_late: Notify::new() })
    }

    fn say(&self, entry: Vec<u8>) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if late.lines.len() < KEPT {
            late.lines.push_back(entry);
        } else {
            late.dropped += 1;
        }
        if !self.send(&mut late) {
            self.is_late.notify_one();
        }
    }

    /// Sends what waits. Whether nothing is left.
    fn send(&self, late: &mut Late) -> bool {
        loop {
            while let Some(entry) = late.lines.front() {
                // It is slow, or is started again.
                if self.socket.send_to(entry, &self.path).is_err() {
                    return false;
                }
                late.lines.pop_front();
            }
            let dropped = std::mem::take(&mut late.dropped);
            if dropped == 0 {
                return true;
            }
            let text = format!("{dropped} lines of this log were dropped: the journal took none");
            late.lines.push_back(entry(&head(&Level::WARN, module_path!(), None), &text));
        }
    }

    /// Sends what waits as soon as it can be sent.
    pub(super) async fn catch_up(&self, stop: CancellationToken) {
        // Both arms only wait.
        while stop.run_until_cancelled(self.is_late.notified()).await.is_some() {
            while !self.send(&mut self.late.lock().unwrap_or_else(PoisonError::into_inner)) {
                if stop.run_until_cancelled(time::sleep(AGAIN)).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// Writes the message of an event and its fields: the journal knows time, level and program by itself.
#[derive(Debug)]
pub(super) struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        context.format_fields(writer, event)
    }
}

impl<'a> MakeWriter<'a> for &'static Journal {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { journal: self, head: head(&Level::INFO, module_path!(), None) }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        let place = meta.file().zip(meta.line());
        Line { journal: self, head: head(meta.level(), meta.target(), place) }
    }
}

/// Takes the text of one event, whole.
#[derive(Debug)]
pub(super) struct Line {
    journal: &'static Journal,
    head: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.journal.say(entry(&self.head, &String::from_utf8_lossy(text)));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All fields but the message. None of their values has a line break.
fn head(level: &Level, target: &str, place: Option<(&str, u32)>) -> Vec<u8> {
    // Of syslog(3). What is informational is a notice there, so that all five differ.
    let priority = match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 5,
        Level::DEBUG => 6,
        Level::TRACE => 7,
    };
    let mut head = format!("SYSLOG_IDENTIFIER=palisade\nPRIORITY={priority}\nTARGET={target}\n");
    if let Some((file, line)) = place {
        head.push_str(&format!("CODE_FILE={file}\nCODE_LINE={line}\n"));
    }
    head.into_bytes()
}

/// A datagram of journald's: the message in the form that may have line breaks.
fn entry(head: &[u8], message: &str) -> Vec<u8> {
    let cut = message.floor_char_boundary(LONGEST);
    let message = &message.as_bytes()[..cut];
    let length = u64::try_from(message.len()).unwrap_or_default().to_le_bytes();
    [head, b"MESSAGE\n", &length, message, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    struct Journald {
        _dir: tempfile::TempDir,
        socket: UnixDatagram,
        journal: &'static Journal,
    }

    fn journald() -> Journald {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let journal: &'static Journal = Box::leak(Box::new(Journal::new(path).unwrap()));
        assert_eq!(socket.recv(&mut [0]).unwrap(), 0);
        Journald { _dir: dir, socket, journal }
    }

    impl Journald {
        fn take(&self) -> Option<Vec<u8>> {
            let mut buffer = vec![0; 2 * LONGEST];
            let n = self.socket.recv(&mut buffer).ok()?;
            buffer.truncate(n);
            Some(buffer)
        }

        /// The messages that are there.
        fn messages(&self) -> Vec<String> {
            let message = |entry: Vec<u8>| {
                let name = b"\nMESSAGE\n";
                let at = entry.windows(name.len()).position(|w| w == name).unwrap() + name.len();
                let (length, text) = entry[at..].split_at(8);
                let text = text.strip_suffix(b"\n").unwrap();
                assert_eq!(usize::from_le_bytes(length.try_into().unwrap()), text.len());
                String::from_utf8(text.to_vec()).unwrap()
            };
            std::iter::from_fn(|| self.take()).map(message).collect()
        }

        fn say(&self, text: &str) {
            self.journal.say(entry(&head(&Level::INFO, "t", None), text));
        }
    }

    #[test]
    fn an_event_is_an_entry_with_its_fields_in_the_message() {
        let journald = journald();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Plain)
            .with_ansi(false)
            .with_writer(journald.journal);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::error!(error = "two\nlines", "it went wrong");
        });
        let said = String::from_utf8(journald.take().unwrap()).unwrap();
        let head = "SYSLOG_IDENTIFIER=palisade\nPRIORITY=3\nTARGET=";
        assert!(said.starts_with(head) && said.contains("\nCODE_LINE="), "{said}");
        let text = r#"it went wrong error="two\nlines""#;
        let length = u8::try_from(text.len()).unwrap();
        let end = format!("\nMESSAGE\n{}\0\0\0\0\0\0\0{text}\n", char::from(length));
        assert!(said.ends_with(&end), "{said:?}");
    }

    #[test]
    fn what_is_not_taken_is_sent_later_in_order_and_what_is_too_much_is_counted() {
        let journald = journald();
        let all = KEPT * 4;
        for n in 0..all {
            journald.say(&n.to_string());
        }
        // The socket's own queue, and then as much again as comes free.
        let mut seen = Vec::new();
        loop {
            let some = journald.messages();
            let empty = journald.journal.send(&mut journald.journal.late.lock().unwrap());
            if some.is_empty() && empty {
                break;
            }
            seen.extend(some);
        }
        let last = seen.pop().unwrap();
        let in_order: Vec<_> = (0..seen.len()).map(|n| n.to_string()).collect();
        assert_eq!(seen, in_order);
        let dropped = all - seen.len();
        assert!(dropped > 0 && seen.len() > KEPT);
        assert_eq!(
            last,
            format!("{dropped} lines of this log were dropped: the journal took none")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_journal_that_takes_again_gets_the_rest_without_another_line() {
        let journald = journald();
        let stop = CancellationToken::new();
        let journal = journald.journal;
        let task = async { journal.catch_up(stop.clone()).await };
        let reader = async {
            let mut said = 0;
            while !journal.late.lock().unwrap().lines.len().eq(&3) {
                journald.say(&said.to_string());
                said += 1;
            }
            let mut seen = journald.messages().len();
            while seen < said {
                time::sleep(AGAIN).await;
                seen += journald.messages().len();
            }
            stop.cancel();
        };
        time::timeout(AGAIN * 60, async { tokio::join!(task, reader) }).await.unwrap();
    }

    #[test]
    fn a_line_of_any_length_is_sent() {
        let journald = journald();
        journald.say(&"ü".repeat(LONGEST));
        assert_eq!(journald.messages()[0].len(), LONGEST);
    }
}
