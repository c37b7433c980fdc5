//! The sending half: numbers frames, keeps each until it is acknowledged, sends again what is overdue.
//!
//! Invariants: a frame is in the queue before it is handed out, so no acknowledgement can come too
//! early; nothing is ever evicted (a full window stops the source); a number, once given, keeps its
//! meaning, so its frame is sent again as it was.

use std::{collections::VecDeque, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    frame::{HEAD, Head, Kind, PayloadType, encode_with},
    ids::Ids,
    probe::{FrameSize, Probe},
    rtt::Rtt,
    window::Window,
};

/// Frames under way at most, however small; the agent holds ten times as many.
const MOST_FRAMES: usize = 8192;
/// Overdue frames that one look sends again; the rest waits for the next look.
const BATCH: usize = 64;
/// The same when nothing is acknowledged.
const FEW: usize = 4;
const NEXT_LOOK: Duration = Duration::from_millis(5);
/// Messages of the client itself that wait: handshake and flags. More are never asked for.
const MOST_CONTROL: usize = 64;
/// Room for several small frames in one allocation.
const ARENA: usize = 64 << 10;
/// A pause whose end gets lost must not last.
const PAUSE: Duration = Duration::from_secs(5);
/// With everything acknowledged, whoever asked for the pause has caught up.
const PAUSE_IDLE: Duration = Duration::from_secs(1);

/// Where the stream's bytes come from.
pub trait Source {
    /// Appends up to `room` bytes; appending none means that there is nothing to send.
    fn fill(&mut self, out: &mut BytesMut, room: usize);
    /// Bytes that wait.
    fn backlog(&self) -> usize;
}

/// Figures of the sending half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutStats {
    /// Frames sent for the first time.
    pub frames: u64,
    /// Payload bytes of the stream.
    pub bytes: u64,
    /// Frames sent again.
    pub resent: u64,
}

#[derive(Debug)]
struct Sent {
    frame: Bytes,
    first: Duration,
    last: Duration,
    times: u32,
    acked: bool,
    probe: bool,
}

/// The sending half.
#[derive(Debug)]
pub struct Outbound {
    /// Number of the queue's first frame.
    base: i64,
    queue: VecDeque<Sent>,
    under_way: usize,
    resend: VecDeque<i64>,
    control: VecDeque<(PayloadType, Bytes)>,
    look_at: Option<Duration>,
    timed_out_at: Duration,
    acked_at: Duration,
    /// The latest number of which an acknowledgement came.
    acked_last: i64,
    paused_at: Option<Duration>,
    rtt: Rtt,
    window: Window,
    probe: Probe,
    arena: BytesMut,
    stats: OutStats,
}

impl Outbound {
    /// Nothing sent yet.
    #[must_use]
    pub fn new(size: FrameSize, most_under_way: usize) -> Self {
        Self {
            base: 0,
            queue: VecDeque::new(),
            under_way: 0,
            resend: VecDeque::new(),
            control: VecDeque::new(),
            look_at: None,
            timed_out_at: Duration::ZERO,
            acked_at: Duration::ZERO,
            acked_last: -1,
            paused_at: None,
            rtt: Rtt::default(),
            window: Window::new(most_under_way),
            probe: Probe::new(size),
            arena: BytesMut::new(),
            stats: OutStats::default(),
        }
    }

    /// Queues a message of the client itself. Beyond `MOST_CONTROL` it is dropped, which no caller
    /// reaches.
    pub fn control(&mut self, kind: PayloadType, payload: Bytes) -> i64 {
        let sequence = self.next_sequence() + i64::try_from(self.control.len()).unwrap_or(0);
        if self.control.len() < MOST_CONTROL {
            self.control.push_back((kind, payload));
        }
        sequence
    }

    /// Whether everything that was sent has arrived.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.control.is_empty()
    }

    /// Whether the frame of this number has arrived.
    #[must_use]
    pub fn has_arrived(&self, sequence: i64) -> bool {
        sequence < self.base || self.index(sequence).is_some_and(|i| self.queue[i].acked)
    }

    /// Bytes of frames that are not acknowledged.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// When the last acknowledgement came, and whether one is awaited.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Duration> {
        self.queue.front().map(|oldest| oldest.first.max(self.acked_at))
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> OutStats {
        self.stats
    }

    /// The smoothed round trip.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.rtt.mean()
    }

    /// Payload bytes of a full frame, as found so far.
    #[must_use]
    pub fn frame_size(&self) -> usize {
        self.probe.size()
    }

    /// Bytes that may be under way, as found so far.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window.size()
    }

    /// An acknowledgement came.
    pub fn acked(&mut self, now: Duration, sequence: i64) {
        let Some(sent) = self.index(sequence).and_then(|i| self.queue.get_mut(i)) else { return };
        if sent.acked {
            return;
        }
        self.acked_at = now;
        self.acked_last = self.acked_last.max(sequence);
        sent.acked = true;
        let length = std::mem::take(&mut sent.frame).len();
        let full = self.under_way * 2 >= self.window.size();
        self.under_way = self.under_way.saturating_sub(length);
        // Karn: which copy was acknowledged is unknown, unless the last one cannot have been.
        let since_last = now.saturating_sub(sent.last);
        let sample = if sent.times == 1 {
            Some(since_last)
        } else {
            (since_last < self.rtt.least() / 2).then(|| now.saturating_sub(sent.first))
        };
        if sent.probe {
            self.probe.arrived();
        }
        if let Some(sample) = sample {
            self.rtt.sample(sample);
            self.window.acked(now, length, sample, self.rtt.least(), full);
        }
        while self.queue.front().is_some_and(|oldest| oldest.acked) {
            self.queue.pop_front();
            self.base += 1;
        }
    }

    /// The service asks for a pause: new data waits, overdue frames are still sent again.
    pub fn pause(&mut self, now: Duration) {
        self.paused_at = Some(now);
        self.window.paused(now);
    }

    /// The pause is over.
    pub fn start(&mut self) {
        self.paused_at = None;
    }

    /// The socket is another one: all that is not acknowledged goes again, in order.
    pub fn reconnected(&mut self, now: Duration) {
        self.paused_at = None;
        self.acked_at = now;
        self.rtt.new_path();
        // A socket may die of a large frame without a word, or its word be lost with it.
        if self.queue.iter().any(|s| s.probe && !s.acked && s.times >= 2) && self.probe.failed() {
            self.shrink_probe();
        }
        self.resend =
            (self.base..).zip(&self.queue).filter(|(_, s)| !s.acked).map(|(n, _)| n).collect();
    }

    /// The socket was closed because of a frame's size.
    ///
    /// # Errors
    /// The size cannot be helped: it is that of data whose number is taken.
    pub fn too_large(&mut self) -> Result<(), usize> {
        if self.probe.failed() {
            self.shrink_probe();
            return Ok(());
        }
        Err(self.probe.size())
    }

    /// The next frame to put on the wire, if any. `data` says whether the stream may flow yet.
    pub fn poll(
        &mut self,
        now: Duration,
        data: bool,
        ids: &mut Ids,
        source: &mut impl Source,
    ) -> Option<Bytes> {
        self.look(now);
        while let Some(sequence) = self.resend.pop_front() {
            let Some(sent) = self.index(sequence).and_then(|i| self.queue.get_mut(i)) else {
                continue;
            };
            if !sent.acked {
                sent.last = now;
                sent.times += 1;
                self.stats.resent += 1;
                return Some(sent.frame.clone());
            }
        }
        if self.queue.len() >= MOST_FRAMES {
            return None;
        }
        if let Some((kind, payload)) = self.control.pop_front() {
            return self.send(now, ids, kind, true, |out| out.put_slice(&payload));
        }
        if !data || self.is_paused(now) {
            return None;
        }
        let size = self.probe.size();
        if self.under_way > 0 && self.under_way + HEAD + size > self.window.size() {
            return None;
        }
        if source.backlog() >= size
            && let Some(next) = self.probe.ask()
        {
            let frame = self.send(now, ids, PayloadType::SIZE, true, |out| Probe::pad(out, next));
            if let Some(sent) = self.queue.back_mut() {
                sent.probe = true;
            }
            return frame;
        }
        let frame =
            self.send(now, ids, PayloadType::OUTPUT, false, |out| source.fill(out, size))?;
        let length = frame.len() - HEAD;
        self.stats.bytes += u64::try_from(length).unwrap_or(0);
        self.probe.sent(length);
        Some(frame)
    }

    /// When [`Self::poll`] has something to do by the clock alone.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let pause =
            self.paused_at.map(|at| at + if self.queue.is_empty() { PAUSE_IDLE } else { PAUSE });
        let look = if self.queue.is_empty() { None } else { self.look_at };
        [look, pause].into_iter().flatten().min()
    }

    fn is_paused(&mut self, now: Duration) -> bool {
        let over = self.paused_at.is_some_and(|at| {
            now >= at + PAUSE || (self.queue.is_empty() && now >= at + PAUSE_IDLE)
        });
        if over {
            self.paused_at = None;
        }
        self.paused_at.is_some()
    }

    fn next_sequence(&self) -> i64 {
        self.base + i64::try_from(self.queue.len()).unwrap_or(0)
    }

    fn index(&self, sequence: i64) -> Option<usize> {
        let index = usize::try_from(sequence.checked_sub(self.base)?).ok()?;
        (index < self.queue.len()).then_some(index)
    }

    fn send(
        &mut self,
        now: Duration,
        ids: &mut Ids,
        payload_type: PayloadType,
        must: bool,
        fill: impl FnOnce(&mut BytesMut),
    ) -> Option<Bytes> {
        let sequence = self.next_sequence();
        let room = HEAD + self.probe.size();
        if self.arena.capacity() < room {
            self.arena = BytesMut::with_capacity(ARENA.max(room));
        }
        let head = || Head {
            kind: Kind::Input,
            sequence,
            flags: 0,
            id: ids.next(),
            payload_type,
            created_ms: ids.wall_ms(now),
        };
        let frame = encode_with(&mut self.arena, head, must, fill)?;
        self.under_way += frame.len();
        self.stats.frames += 1;
        self.queue.push_back(Sent {
            frame: frame.clone(),
            first: now,
            last: now,
            times: 1,
            acked: false,
            probe: false,
        });
        if self.look_at.is_none() {
            self.look_at = Some(now + self.rtt.limit());
        }
        Some(frame)
    }

    /// Looks for overdue frames when it is time to.
    fn look(&mut self, now: Duration) {
        if self.look_at.is_none_or(|at| now < at) || !self.resend.is_empty() {
            return;
        }
        let limit = self.rtt.limit();
        // With no answer at all since the last time, the other end is stuck or its destination is
        // slow: the oldest few will tell when that is over, the rest would only fill its queues.
        let stuck = self.acked_at < self.timed_out_at;
        let batch = if stuck { FEW } else { BATCH };
        let mut next: Option<Duration> = None;
        let mut probe_failed = false;
        for (sequence, sent) in (self.base..).zip(&self.queue).filter(|(_, sent)| !sent.acked) {
            let due = sent.last + limit * patience(sent.times);
            if due > now {
                next = Some(next.map_or(due, |at| at.min(due)));
            } else if self.resend.len() < batch {
                self.resend.push_back(sequence);
                // What was sent after it gets through, and this one does not.
                probe_failed |= sent.probe && sent.times >= 3 && self.acked_last > sequence;
            } else {
                next = Some(now + if stuck { limit } else { NEXT_LOOK });
                break;
            }
        }
        self.look_at = next.or_else(|| (!self.queue.is_empty()).then_some(now + limit));
        if !self.resend.is_empty() && now >= self.timed_out_at + limit {
            if stuck {
                self.rtt.timed_out();
            }
            self.timed_out_at = now;
        }
        if probe_failed && self.probe.failed() {
            self.shrink_probe();
        }
    }

    /// Puts a small frame in the place of a probe that does not get through. Nothing rides on a
    /// probe, so it does no harm if both arrive.
    fn shrink_probe(&mut self) {
        let Some(sent) = self.queue.iter_mut().find(|s| s.probe && !s.acked) else { return };
        let mut small = BytesMut::new();
        Probe::pad(&mut small, 0);
        if let Some(frame) = crate::frame::with_payload(&sent.frame, &small) {
            self.under_way = self.under_way.saturating_sub(sent.frame.len()) + frame.len();
            sent.frame = frame;
            sent.probe = false;
        }
    }
}

/// Longer for frames that were sent many times: somebody refuses them, and insisting does not help.
fn patience(times: u32) -> u32 {
    match times {
        0..=8 => 1,
        9..=16 => 2,
        _ => 4,
    }
}
