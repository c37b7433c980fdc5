//! Keeps entries, and reads them back.

use std::{collections::VecDeque, future::Future, io};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Book, Entry, decode, encode};
use crate::firewall::Gone;

/// Entries and questions that wait at once. A further entry is dropped and counted, since rules do
/// not wait for their record.
const QUEUE: usize = 64;
/// Entries that wait in memory for a disk that takes none; the oldest make room and are counted.
const UNWRITTEN: usize = 64;

/// Where lines are kept. An append returns when the line survives a power cut.
pub trait HistoryFile: Send + 'static {
    /// Appends one line, which ends in a newline.
    fn append(&mut self, line: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send;
    /// All lines that are kept, oldest first.
    fn read(&mut self) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
}

#[derive(Debug)]
pub(super) enum Message {
    Record(Box<Entry>),
    Last(usize, oneshot::Sender<Listed>),
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The last entries, oldest first.
    pub entries: Vec<Entry>,
    /// Lines that could not be read.
    pub damaged: usize,
    /// Why entries are not kept on disk, or not read from it, where that is so.
    pub error: Option<String>,
}

/// Asks for entries. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ask(mpsc::Sender<Message>);

impl Ask {
    /// The last `n` entries.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn last(&self, n: usize) -> Result<Listed, Gone> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Message::Last(n, reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

/// The other end of an [`Ask`] and of a [`Book`]: to be given to [`run`].
#[derive(Debug)]
pub struct Pending(mpsc::Receiver<Message>);

#[cfg(test)]
impl Pending {
    /// The next entry that waits.
    pub(super) fn try_take(&mut self) -> Option<Entry> {
        match self.0.try_recv().ok()? {
            Message::Record(entry) => Some(*entry),
            Message::Last(..) => None,
        }
    }
}

/// A record: to write in, to ask, and to run.
#[must_use]
pub fn new() -> (Book, Ask, Pending) {
    let (to, from) = mpsc::channel(QUEUE);
    (Book::new(to.clone()), Ask(to), Pending(from))
}

/// Keeps entries until told to stop, and then those that still wait.
pub async fn run(mut pending: Pending, file: impl HistoryFile, stop: CancellationToken) {
    let mut keeper = Keeper { file, unwritten: VecDeque::new(), lost: 0, error: None };
    loop {
        // Both arms only wait, so losing the race drops nothing.
        let message = tokio::select! {
            biased;
            m = pending.0.recv() => m,
            () = stop.cancelled() => pending.0.try_recv().ok(),
        };
        match message {
            None => return,
            Some(Message::Record(entry)) => keeper.keep(*entry).await,
            Some(Message::Last(n, reply)) => {
                // Whoever asked may have gone away.
                reply.send(keeper.last(n).await).unwrap_or_default();
            }
        }
    }
}

struct Keeper<F> {
    file: F,
    unwritten: VecDeque<Entry>,
    lost: u64,
    error: Option<String>,
}

impl<F: HistoryFile> Keeper<F> {
    async fn keep(&mut self, mut entry: Entry) {
        if self.unwritten.len() == UNWRITTEN {
            self.lost += 1 + self.unwritten.pop_front().map_or(0, |e| e.lost);
        }
        if self.unwritten.is_empty() {
            entry.lost += std::mem::take(&mut self.lost);
        }
        self.unwritten.push_back(entry);
        self.write().await;
    }

    /// Tries to write what is not written yet.
    async fn write(&mut self) {
        while let Some(entry) = self.unwritten.front_mut() {
            entry.lost += std::mem::take(&mut self.lost);
            if let Err(e) = self.file.append(encode(entry)).await {
                let why = format!("keep the record of firewall changes: {e}");
                if self.error.as_ref() != Some(&why) {
                    tracing::error!(why, "firewall changes are not recorded on disk");
                }
                self.error = Some(why);
                return;
            }
            self.unwritten.pop_front();
        }
        self.error = None;
    }

    async fn last(&mut self, n: usize) -> Listed {
        self.write().await;
        let (mut entries, damaged, unread) = match self.file.read().await {
            Ok(bytes) => {
                let (entries, damaged) = decode(&bytes, n);
                (entries, damaged, None)
            }
            Err(e) => (Vec::new(), 0, Some(format!("read the record of firewall changes: {e}"))),
        };
        entries.extend(self.unwritten.iter().cloned());
        let entries = entries.split_off(entries.len().saturating_sub(n));
        Listed { entries, damaged, error: unread.or_else(|| self.error.clone()) }
    }
}
