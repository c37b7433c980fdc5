//! Supervisor's events, and the listeners that hear them.
//!
//! ```text
//! Owner: steps of processes, groups --+                      +--> stdin of a listener (one event)
//! pumps: output, communications ------+--> Publisher -> task +
//! clock: ticks, remote interface -----+      (bounded)  pools +<-- stdout of a listener (READY, RESULT)
//! ```
//! One task owns the pools and never waits for a listener: an event goes into a listener's pipe whole
//! or not at all, and what nobody takes waits in its pool until newer events push it out. So a
//! listener that hangs or dies slows nobody.
//!
//! A listener does not notice when the agent changes. Whether it waits for an event is read from its
//! pipe, where its `READY` stays until an event was sent; the event that it has to answer is noted in
//! a file before it is sent, and that note goes when the answer came. An agent that dies between note
//! and pipe (two system calls) leaves a note of an event that may not have been sent; the next one asks
//! the pipe, which remembers when it was last written to.

mod event;
mod pool;
mod protocol;
mod saved;
mod story;
mod talk;
mod task;
#[cfg(test)]
mod task_tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use palisade_types::{GroupName, ProcessName};
use tokio::sync::{mpsc, oneshot};

pub use event::EventName;
pub(super) use event::{About, BusEvent, log_name};
pub(super) use story::{Step, events as events_of, replaced};
pub(super) use task::{End, run};

use super::{InputPipe, Listener, OutputPipe, WrittenTo};

/// Messages that may wait for the task.
const QUEUE: usize = 8192;

/// Of these, so many are kept for what must not be lost: listeners that come and go. Events beyond are
/// dropped and counted.
const RESERVED: usize = QUEUE / 2;

/// The most that the events in the queue may hold together; those beyond are dropped and counted.
const QUEUE_BYTES: usize = 4 << 20;

/// What the task is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Something happened.
    Happened(BusEvent),
    /// These are the pools.
    Pools(BTreeMap<GroupName, Listener>),
    /// A listener is there.
    Join(Join),
    /// A listener counts as up, or no longer.
    Up(ProcessName, bool),
    /// A listener has written something. Answered once it was read.
    Look(ProcessName, i32, oneshot::Sender<()>),
    /// A listener is gone.
    Leave(ProcessName, i32),
    /// A listener of an earlier agent is not there any more.
    Lost(ProcessName, GroupName),
}

/// A listener that is there.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) name: ProcessName,
    pub(super) group: GroupName,
    pub(super) pid: i32,
    /// It was there before this task.
    pub(super) is_adopted: bool,
    pub(super) is_up: bool,
    pub(super) line: Box<dyn Line>,
}

/// The two pipes of a listener.
pub(super) trait Line: fmt::Debug + Send {
    /// Replaces `into` by what it said and was not taken out yet.
    fn peek(&self, into: &mut Vec<u8>) -> io::Result<()>;
    /// Takes so many bytes out.
    fn consume(&self, bytes: usize) -> io::Result<()>;
    /// Sends it something, whole or not at all.
    fn offer(&self, bytes: &[u8]) -> io::Result<()>;
    /// Marks its pipe as not written to.
    fn mark(&self) -> io::Result<()>;
    /// Whether its pipe was written to since it was marked.
    fn written(&self) -> WrittenTo;
}

/// The pipes of a process as a line to it.
#[derive(Debug)]
pub(super) struct Wire<P, I> {
    pub(super) stdout: Arc<P>,
    pub(super) stdin: Arc<I>,
}

impl<P: OutputPipe, I: InputPipe> Line for Wire<P, I> {
    fn peek(&self, into: &mut Vec<u8>) -> io::Result<()> {
        self.stdout.peek(into)
    }

    fn consume(&self, bytes: usize) -> io::Result<()> {
        if bytes == 0 { Ok(()) } else { self.stdout.consume(bytes) }
    }

    fn offer(&self, bytes: &[u8]) -> io::Result<()> {
        self.stdin.offer(bytes)
    }

    fn mark(&self) -> io::Result<()> {
        self.stdin.mark()
    }

    fn written(&self) -> WrittenTo {
        self.stdin.written()
    }
}

/// Where events are told. Cheap to clone, and never waits.
#[derive(Clone, Debug)]
pub(super) struct Publisher {
    queue: mpsc::Sender<Message>,
    counts: Arc<Counts>,
}

/// What the publishers and the task share.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// One bit for each event that some pool wants.
    wanted: AtomicU32,
    /// Held by the events in the queue.
    bytes: AtomicUsize,
    /// Events that the queue did not take.
    dropped: AtomicU64,
}

/// The other end of a publisher: to be given to [`run`].
#[derive(Debug)]
pub(super) struct Pending {
    queue: mpsc::Receiver<Message>,
    counts: Arc<Counts>,
}

/// A new publisher and its end.
pub(super) fn channel() -> (Publisher, Pending) {
    let (tx, rx) = mpsc::channel(QUEUE);
    let counts = Arc::new(Counts::default());
    (Publisher { queue: tx, counts: Arc::clone(&counts) }, Pending { queue: rx, counts })
}

fn bit(name: EventName) -> u32 {
    1 << (name as u32)
}

impl Publisher {
    /// Whether anybody hears of such events. Ask before making one that is large.
    pub(super) fn wants(&self, name: EventName) -> bool {
        self.counts.wanted.load(Ordering::Relaxed) & bit(name) != 0
    }

    /// Whether anybody hears of anything.
    pub(super) fn is_heard(&self) -> bool {
        self.counts.wanted.load(Ordering::Relaxed) != 0
    }

    /// Tells that something happened.
    pub(super) fn publish(&self, event: BusEvent) {
        if !self.wants(event.name) {
            return;
        }
        let size = event.payload.len();
        let held = self.counts.bytes.fetch_add(size, Ordering::Relaxed);
        let has_room = held.saturating_add(size) <= QUEUE_BYTES && self.queue.capacity() > RESERVED;
        if !has_room || self.queue.try_send(Message::Happened(event)).is_err() {
            self.counts.bytes.fetch_sub(size, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells what must not be lost.
    pub(super) fn tell(&self, message: Message) {
        if let Message::Pools(pools) = &message {
            let is_wanted = |n: &EventName| {
                pools.values().flat_map(|p| &p.events).any(|asked| n.is_meant_by(asked))
            };
            let wanted = EventName::ALL.into_iter().filter(is_wanted).map(bit).sum();
            self.counts.wanted.store(wanted, Ordering::Relaxed);
        }
        if self.queue.try_send(message).is_err() {
            tracing::error!("the queue of events is full of listeners that come and go");
        }
    }

    /// Tells that a listener has written something, and waits until it was read. False at the end.
    pub(super) async fn look(&self, name: &ProcessName, pid: i32) -> bool {
        let (tx, read) = oneshot::channel();
        let message = Message::Look(name.clone(), pid, tx);
        self.queue.send(message).await.is_ok() && read.await.is_ok()
    }
}
