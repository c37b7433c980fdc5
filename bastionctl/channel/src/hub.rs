//! The streams of a session between the program that reads and writes them and the task that owns
//! the socket: buffers, their bounds, whose turn it is.
//!
//! Policy. Version 1 of the multiplexer has no flow control, so a stream that nobody reads would stop
//! all others for good. Received bytes may wait up to [`POOL`] in all ([`ALONE`] for a single stream);
//! then the socket is not read, which makes the service hold the agent back. If that lasts for
//! [`STUCK`] while other streams are open, the stream with the most waiting bytes is given up. Sending
//! streams take turns, frame by frame.

use std::{
    collections::{HashMap, VecDeque},
    task::Waker,
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use crate::{
    handshake::Mode,
    line::{Line, OUT, STUCK, StreamError},
    machine::Stats,
    outbound::Source,
    smux::{self, BadPiece, Command, Decoder, Piece},
};

/// Received bytes that may wait for readers.
const POOL: usize = 4 << 20;
/// The same while there is one stream only.
const ALONE: usize = 1 << 20;
/// Streams at a time; opening one more is an error.
const MOST_STREAMS: usize = 1024;
/// After the end was sent, how long the other side's end is awaited.
const FIN_WAIT: Duration = Duration::from_secs(10);
/// Signs of life that an old agent wants; it hangs up after 30 s.
/// The agent's word that it could not connect may come before or behind the stream's end.
const WORD: Duration = Duration::from_millis(150);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The multiplexer's first number; odd ones are the client's.
const FIRST: u32 = 3;

/// Why a stream cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A session without multiplexer has one stream at a time.
    #[error("the session's only stream is in use")]
    InUse,
    /// The bound on streams.
    #[error("{MOST_STREAMS} streams are open already")]
    TooMany,
    /// All numbers were used.
    #[error("the session has no numbers left for streams")]
    Exhausted,
}

/// All streams of a session.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) mode: Option<Mode>,
    pub(crate) lines: HashMap<u32, Line>,
    turns: VecDeque<u32>,
    closing: Vec<u32>,
    silent_ends: Vec<u32>,
    next: u32,
    /// The present stream of a session without multiplexer.
    only: u32,
    waiting_in: usize,
    waiting_out: usize,
    decoder: Decoder,
    refused: u32,
    full_since: Option<Duration>,
    nop_at: Option<Duration>,
    nop_due: bool,
    linger: Duration,
    claimed: bool,
    pub(crate) stats: Stats,
    pub(crate) now: Duration,
    pub(crate) driver: Option<Waker>,
}

impl Hub {
    pub(crate) fn new(linger: Duration) -> Self {
        Self {
            mode: None,
            lines: HashMap::new(),
            turns: VecDeque::new(),
            closing: Vec::new(),
            silent_ends: Vec::new(),
            next: FIRST,
            only: 0,
            waiting_in: 0,
            waiting_out: 0,
            decoder: Decoder::default(),
            refused: 0,
            full_since: None,
            nop_at: None,
            nop_due: false,
            linger,
            claimed: false,
            stats: Stats::default(),
            now: Duration::ZERO,
            driver: None,
        }
    }

    fn is_mux(&self) -> bool {
        matches!(self.mode, Some(Mode::Mux { .. }))
    }

    pub(crate) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// The handshake has told the layout. A basic session's stream begins here, as the host's side of
    /// it exists already and may speak first.
    pub(crate) fn begin(&mut self, mode: Mode) {
        self.mode = Some(mode);
        match mode {
            Mode::Basic => {
                self.lines.insert(self.only, Line::default());
            }
            Mode::Sequential => {}
            Mode::Mux { keep_alive } => {
                self.nop_at = keep_alive.then_some(self.now + KEEP_ALIVE);
            }
        }
    }

    /// Opens a stream. A basic session's stream is claimed by its caller, once.
    pub(crate) fn open(&mut self) -> Result<u32, OpenError> {
        if !self.is_mux() {
            if self.mode == Some(Mode::Sequential) {
                if self.lines.contains_key(&self.only) {
                    return Err(OpenError::InUse);
                }
                // Another number, so that a handle of the connection before does not reach this one.
                self.only = self.next;
                self.next = self.next.checked_add(1).ok_or(OpenError::Exhausted)?;
                self.lines.insert(self.only, Line::default());
            } else if std::mem::replace(&mut self.claimed, true) {
                return Err(OpenError::InUse);
            }
            return Ok(self.only);
        }
        if self.lines.len() >= MOST_STREAMS {
            return Err(OpenError::TooMany);
        }
        let id = self.next;
        self.next = id.checked_add(2).ok_or(OpenError::Exhausted)?;
        self.lines.insert(id, Line { queued: true, ..Line::default() });
        self.turns.push_back(id);
        self.wake_driver();
        Ok(id)
    }

    /// The program has bytes for a stream; gives how many were taken.
    pub(crate) fn write(&mut self, id: u32, bytes: &[u8]) -> usize {
        // Only many streams take turns; nobody would take the one stream's out of the queue.
        let mux = self.is_mux();
        let Some(line) = self.lines.get_mut(&id) else { return 0 };
        let count = bytes.len().min(OUT.saturating_sub(line.out.len()));
        line.out.extend(bytes.get(..count).unwrap_or_default());
        self.waiting_out += count;
        if mux && !line.queued {
            line.queued = true;
            self.turns.push_back(id);
        }
        self.wake_driver();
        count
    }

    /// The program took `count` bytes from a stream's front.
    pub(crate) fn took(&mut self, count: usize) {
        let was_full = !self.can_receive();
        self.waiting_in = self.waiting_in.saturating_sub(count);
        if was_full && self.can_receive() {
            self.full_since = None;
            self.wake_driver();
        }
    }

    /// The program writes no more to a stream, or (`gone`) has let go of it.
    pub(crate) fn done(&mut self, id: u32, gone: bool) {
        let now = self.now;
        let Some(line) = self.lines.get_mut(&id) else { return };
        if gone {
            line.dropped = true;
            let left = std::mem::take(&mut line.input).len();
            self.took(left);
        }
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.out_done.get_or_insert(now);
        if !self.closing.contains(&id) {
            self.closing.push(id);
        }
        self.wake_driver();
    }

    /// Whether the socket should be read.
    pub(crate) fn can_receive(&self) -> bool {
        self.waiting_in < if self.lines.len() > 1 { POOL } else { ALONE }
    }

    /// Bytes came from the agent.
    pub(crate) fn received(&mut self, bytes: Bytes) -> Result<(), BadPiece> {
        if !self.is_mux() {
            self.give(self.only, &bytes);
            return Ok(());
        }
        let mut decoder = std::mem::take(&mut self.decoder);
        let result = decoder.take(bytes, |piece| match piece {
            Piece::Data(id, data) => self.give(id, &data),
            Piece::Finish(id) => self.finished(id),
            // The agent opens none; what it may send on one finds no stream and is dropped.
            Piece::Open(_) | Piece::Nothing => {}
        });
        self.decoder = decoder;
        result
    }

    /// The agent could not connect; with a multiplexer, the stream's end follows and says which.
    pub(crate) fn connect_failed(&mut self) {
        if self.is_mux() {
            let ended = self.lines.values_mut().find(|line| line.silent_end.is_some());
            match ended {
                Some(line) => line.refuse(),
                None => self.refused = self.refused.saturating_add(1),
            }
        } else if let Some(line) = self.lines.get_mut(&self.only) {
            line.refuse();
        }
    }

    fn give(&mut self, id: u32, bytes: &[u8]) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.last_in = self.now;
        line.heard = true;
        if !line.dropped && !line.in_done {
            line.input.extend(bytes);
            self.waiting_in += bytes.len();
            line.wake_reader();
        }
    }

    fn finished(&mut self, id: u32) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        if line.heard || line.dropped {
            line.in_done = true;
            line.wake();
        } else if self.refused > 0 {
            self.refused -= 1;
            line.refuse();
        } else {
            line.silent_end = Some(self.now + WORD);
            self.silent_ends.push(id);
        }
    }

    /// Acts on the time. Gives true if a sequential session's connection is to be closed now: the
    /// caller sends the flag, and calls [`Self::closed`] when it has arrived.
    pub(crate) fn tick(&mut self, now: Duration) -> bool {
        self.now = now;
        if let Some(at) = self.nop_at.filter(|at| now >= *at) {
            self.nop_due = true;
            self.nop_at = Some(at.max(now) + KEEP_ALIVE);
        }
        self.unstick(now);
        let lines = &mut self.lines;
        self.silent_ends.retain(|id| {
            let Some(line) = lines.get_mut(id) else { return false };
            let Some(at) = line.silent_end else { return false };
            if now >= at {
                line.silent_end = None;
                line.in_done = true;
                line.wake();
            }
            now < at
        });
        let mut disconnect = false;
        let mux = self.is_mux();
        let mut closing = std::mem::take(&mut self.closing);
        closing.retain(|id| {
            let Some(line) = self.lines.get_mut(id) else { return false };
            if let Some(sent) = line.fin_sent {
                if now >= sent + FIN_WAIT && !line.in_done {
                    line.in_done = true;
                    line.wake();
                }
                if line.dropped && mux {
                    self.lines.remove(id);
                    return false;
                }
                return true;
            }
            if line.fin_at(self.linger).is_some_and(|at| now >= at) {
                if mux {
                    if !line.queued {
                        line.queued = true;
                        self.turns.push_back(*id);
                    }
                } else if self.mode == Some(Mode::Sequential) {
                    line.fin_sent = Some(now);
                    disconnect = true;
                }
            }
            true
        });
        self.closing.append(&mut closing);
        disconnect
    }

    /// The connection of a sequential session is closed on the host; another may follow.
    pub(crate) fn closed(&mut self) {
        if let Some(mut line) = self.lines.remove(&self.only) {
            self.waiting_in = self.waiting_in.saturating_sub(line.input.len());
            self.waiting_out = self.waiting_out.saturating_sub(line.out.len());
            line.wake();
        }
    }

    /// Since when a basic session's stream has had nothing more to send or to wait for.
    pub(crate) fn only_done(&self) -> Option<Duration> {
        if self.mode != Some(Mode::Basic) {
            return None;
        }
        self.lines.get(&self.only).and_then(|line| line.fin_at(self.linger))
    }

    /// When [`Self::tick`] has something to do by the clock alone.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let closing = self.closing.iter().filter_map(|id| {
            let line = self.lines.get(id)?;
            match line.fin_sent {
                Some(sent) => (!line.in_done).then_some(sent + FIN_WAIT),
                None if line.queued => None,
                None => line.fin_at(self.linger).filter(|at| *at > self.now),
            }
        });
        let stuck = self.full_since.filter(|_| self.lines.len() > 1).map(|at| at + STUCK);
        let silent =
            self.silent_ends.iter().filter_map(|id| self.lines.get(id).and_then(|l| l.silent_end));
        closing.chain(silent).chain(self.nop_at).chain(stuck).min()
    }

    fn unstick(&mut self, now: Duration) {
        if self.can_receive() || self.lines.len() < 2 {
            self.full_since = None;
            return;
        }
        if now < *self.full_since.get_or_insert(now) + STUCK {
            return;
        }
        self.full_since = None;
        let Some(line) = self.lines.values_mut().max_by_key(|line| line.input.len()) else {
            return;
        };
        let dropped = std::mem::take(&mut line.input).len();
        line.failed = Some(StreamError::Stuck);
        line.in_done = true;
        line.wake();
        self.waiting_in = self.waiting_in.saturating_sub(dropped);
    }
}

impl Source for Hub {
    fn fill(&mut self, out: &mut BytesMut, room: usize) {
        let end = out.len() + room;
        if !self.is_mux() {
            if let Some(line) = self.lines.get_mut(&self.only) {
                self.waiting_out = self.waiting_out.saturating_sub(line.take_out(out, room));
                line.queued = !line.out.is_empty();
            }
            return;
        }
        if std::mem::take(&mut self.nop_due) {
            smux::write(out, Command::Nothing, 0, 0);
        }
        // Every turn is taken once at most, so that nobody has two while others wait.
        for _ in 0..self.turns.len() {
            if end - out.len() <= 2 * smux::HEAD {
                return;
            }
            let Some(id) = self.turns.pop_front() else { return };
            let Some(line) = self.lines.get_mut(&id) else { continue };
            if !line.announced {
                line.announced = true;
                smux::write(out, Command::Open, id, 0);
            }
            let count = line.out.len().min(end - out.len() - smux::HEAD).min(smux::MOST);
            if count > 0 {
                smux::write(out, Command::Push, id, u16::try_from(count).unwrap_or(u16::MAX));
                self.waiting_out = self.waiting_out.saturating_sub(line.take_out(out, count));
            }
            let finish = line.fin_at(self.linger).is_some_and(|at| self.now >= at);
            if finish && end - out.len() >= smux::HEAD {
                smux::write(out, Command::Finish, id, 0);
                line.fin_sent = Some(self.now);
            }
            line.queued = !line.out.is_empty() || (finish && line.fin_sent.is_none());
            if line.queued {
                self.turns.push_back(id);
            }
        }
    }

    fn backlog(&self) -> usize {
        self.waiting_out
    }
}

#[cfg(test)]
mod tests;
