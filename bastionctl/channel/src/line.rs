//! One stream's two buffers, and the rule for its end.

use std::{collections::VecDeque, task::Waker, time::Duration};

use bytes::{BufMut as _, BytesMut};

/// Bytes of one stream that may wait for the socket; its writer waits then.
pub(crate) const OUT: usize = 256 << 10;
/// How long one reader may hold up the others.
pub(crate) const STUCK: Duration = Duration::from_secs(15);

/// Why a stream broke while its session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The agent could not connect to the port.
    #[error("the host could not connect to the port")]
    ConnectFailed,
    /// Nobody read it while others waited.
    #[error("given up: it was not read for {} s while other streams waited", STUCK.as_secs())]
    Stuck,
}

/// One stream's buffers.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) out: VecDeque<u8>,
    /// The program writes no more; since when.
    pub(crate) out_done: Option<Duration>,
    pub(crate) input: VecDeque<u8>,
    pub(crate) in_done: bool,
    pub(crate) failed: Option<StreamError>,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    pub(crate) announced: bool,
    pub(crate) fin_sent: Option<Duration>,
    /// The program has let go of it.
    pub(crate) dropped: bool,
    pub(crate) last_in: Duration,
    pub(crate) heard: bool,
    pub(crate) queued: bool,
    /// The other side's end came before any byte: told to the reader then, or before with a reason.
    pub(crate) silent_end: Option<Duration>,
}

impl Line {
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() < OUT
    }

    pub(crate) fn refuse(&mut self) {
        self.silent_end = None;
        self.failed = Some(StreamError::ConnectFailed);
        self.in_done = true;
        self.wake();
    }

    pub(crate) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake(&mut self) {
        self.wake_reader();
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    pub(crate) fn take_out(&mut self, out: &mut BytesMut, most: usize) -> usize {
        let count = self.out.len().min(most);
        let (a, b) = self.out.as_slices();
        let first = count.min(a.len());
        out.put_slice(a.get(..first).unwrap_or_default());
        out.put_slice(b.get(..count - first).unwrap_or_default());
        self.out.drain(..count);
        if self.out.len() <= OUT / 2
            && let Some(waker) = self.writer.take()
        {
            waker.wake();
        }
        count
    }

    /// When the end is to be told to the other side: at once if nobody is left to read the answer,
    /// else after a time without bytes, as an end in one direction is an end in both for the agent.
    pub(crate) fn fin_at(&self, linger: Duration) -> Option<Duration> {
        let since = self.out_done.filter(|_| self.out.is_empty() && self.fin_sent.is_none())?;
        if self.dropped || self.in_done {
            return Some(since);
        }
        Some(since.max(self.last_in) + linger)
    }
}
