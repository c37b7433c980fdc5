//! The task of one session. It outlives sockets: what the client has not acknowledged is resent
//! when it comes back.
//!
//! ```text
//! Fresh -> Asked -> Completing -> Live -> Draining -> over
//! ```
//! It never waits for the client: what does not fit into the socket's queue is dropped, and the
//! resending brings it. It takes output of the destination only while there is room.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};
use uuid::Uuid;

use super::{
    faults::Faults,
    frame::{Frame, kind, payload},
    hostile,
    port::{Done, Input, Port},
    reliable::{Receiver, Sender},
    session::{Event, Out, Session, State},
};
use crate::{clock, lock, peer::Shared};

/// The session's clock: delays end and overdue frames are looked at on its ticks.
const TICK: Duration = Duration::from_millis(10);
/// Ticks between two looks at the oldest unacknowledged frame.
const LOOK: u32 = 10;
/// Output that is taken from the destination ahead of the frames.
const AHEAD: usize = 64 << 10;
/// Room that acknowledgements keep in the socket's queue.
const SPARE: usize = 64;

pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) me: Arc<Session>,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    socket: Option<mpsc::Sender<Out>>,
    pub(super) sockets: u64,
    pub(super) phase: Phase,
    pub(super) port: Option<Port>,
    pub(super) waiting: VecDeque<Input>,
    pub(super) waiting_bytes: usize,
    /// Messages below this number have been processed.
    pub(super) processed: i64,
    pub(super) client_paused: bool,
    pub(super) order_broken: bool,
    output: BytesMut,
    next_output: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Fresh,
    /// The request goes out then.
    Greeting(Instant),
    /// The request is out; actions that it named.
    Asked {
        actions: Vec<String>,
        since: Instant,
    },
    /// The response is good; the completion goes out then.
    Completing {
        at: Instant,
        since: Instant,
    },
    Live,
    /// The destination is done; the rest waits for acknowledgements until then.
    Draining {
        until: Instant,
        output: String,
    },
    Over,
}

/// Runs a session to its end.
pub(crate) async fn run(shared: Arc<Shared>, me: Arc<Session>, mut events: mpsc::Receiver<Event>) {
    let mut actor = Actor::new(shared, me);
    let mut tick = time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0_u32;
    while actor.phase != Phase::Over {
        let faults = actor.shared.faults();
        let room = actor.has_room(&faults);
        // Losing an arm loses nothing: queues keep what was not taken, the interval its moment.
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => actor.event(event, &faults),
                None => return,
            },
            from = next(&mut actor.port, room && actor.output.len() < AHEAD) => match from {
                From::Done(done) => actor.done(done, &faults),
                From::Output(output) => actor.output.extend_from_slice(&output),
            },
            () = time::sleep_until(actor.next_output), if room && !actor.output.is_empty() => {}
            _ = tick.tick() => {
                ticks = ticks.wrapping_add(1);
                actor.tick(ticks.is_multiple_of(LOOK), &faults);
            }
        }
        actor.pump(&faults);
    }
}

enum From {
    Done(Done),
    Output(Bytes),
}

/// What comes from the destination next; output only if it is wanted.
async fn next(port: &mut Option<Port>, wanted: bool) -> From {
    let Some(port) = port else { return std::future::pending().await };
    // Both receive without loss when the other wins; a closed queue never wins.
    tokio::select! {
        Some(done) = port.done.recv() => From::Done(done),
        Some(output) = port.output.recv(), if wanted => From::Output(output),
        else => std::future::pending().await,
    }
}

impl Actor {
    fn new(shared: Arc<Shared>, me: Arc<Session>) -> Self {
        Self {
            shared,
            me,
            sender: Sender::new(),
            receiver: Receiver::default(),
            socket: None,
            sockets: 0,
            phase: Phase::Fresh,
            port: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            processed: 0,
            client_paused: false,
            order_broken: false,
            output: BytesMut::new(),
            next_output: Instant::now(),
        }
    }

    pub(super) fn wrong(&self, what: impl Into<String>) {
        self.shared.violation(&self.me.id, what.into());
    }

    /// Sends if there is a client with room; drops otherwise.
    pub(super) fn send(&self, out: Out) {
        if let Some(socket) = &self.socket {
            // Full or gone: as a lost frame.
            socket.try_send(out).unwrap_or_default();
        }
    }

    /// Sends all of `frames`, waiting for room, beside the session.
    pub(super) fn flood(&self, frames: impl Iterator<Item = Bytes> + Send + 'static) {
        let Some(socket) = self.socket.clone() else { return };
        self.shared.spawn(async move {
            for frame in frames {
                if socket.send(Out::Frame(frame)).await.is_err() {
                    return;
                }
            }
        });
    }

    pub(super) fn send_data(&mut self, payload_type: u32, payload: Bytes) {
        let bytes = self.sender.frame(Instant::now(), clock::now_ms(), payload_type, payload);
        self.me.stats(|s| s.frames_out += 1);
        self.send(Out::Frame(bytes));
    }

    fn has_room(&self, faults: &Faults) -> bool {
        let socket = self.socket.as_ref().is_some_and(|s| s.capacity() > SPARE);
        socket && self.sender.outstanding() < faults.window.max(1)
    }

    /// Sends as much output as pace and window allow.
    fn pump(&mut self, faults: &Faults) {
        while !self.output.is_empty() && self.has_room(faults) {
            let now = Instant::now();
            if now < self.next_output {
                return;
            }
            let size = self.output.len().min(faults.frame_size.max(1));
            let data = self.output.split_to(size).freeze();
            self.me.stats(|s| s.bytes_out += clock::as_u64(data.len()));
            self.send_data(payload::OUTPUT, data);
            if faults.pace_us > 0 {
                self.next_output = now + Duration::from_micros(faults.pace_us);
            }
        }
    }

    fn event(&mut self, event: Event, faults: &Faults) {
        match event {
            Event::Attach(socket) => {
                self.socket = Some(socket);
                self.sockets += 1;
                if self.phase == Phase::Fresh {
                    let delay = Duration::from_millis(faults.handshake.request_delay_ms);
                    self.phase = Phase::Greeting(Instant::now() + delay);
                    self.tick(false, faults);
                }
            }
            Event::Detach(number) if number == self.sockets => self.socket = None,
            Event::Detach(_) => {}
            Event::Frame(bytes) => self.frame(&bytes, faults),
            Event::End { how, output } => self.end(&how, &output),
            Event::Hostile(what) => hostile::send(self, what),
            Event::Pause(on) => self.publication(on),
        }
    }

    pub(super) fn publication(&self, pause: bool) {
        let name = if pause { kind::PAUSE } else { kind::START };
        self.send(Out::Frame(plain(name, Bytes::new())));
    }

    /// Hands to the destination what it has room for.
    pub(super) fn feed(&mut self) {
        let Some(port) = &self.port else {
            // Too early: the agent acknowledges and discards.
            while let Some(input) = self.waiting.pop_front() {
                self.waiting_bytes -= input.what.len();
                self.processed = input.seq + 1;
                if !input.acked {
                    self.acknowledge(input.seq, input.id);
                }
            }
            return;
        };
        while let Some(input) = self.waiting.pop_front() {
            if let Err(e) = port.input.try_send(input) {
                match e {
                    mpsc::error::TrySendError::Full(input) => self.waiting.push_front(input),
                    // The destination is gone, and the end of the session on its way.
                    mpsc::error::TrySendError::Closed(_) => {}
                }
                return;
            }
        }
    }

    fn done(&mut self, done: Done, faults: &Faults) {
        match done {
            Done::Written { seq, id, acked, size } => {
                self.waiting_bytes = self.waiting_bytes.saturating_sub(size);
                self.me.stats(|s| s.bytes_in += clock::as_u64(size));
                self.processed = self.processed.max(seq + 1);
                if !acked {
                    self.acknowledge(seq, id);
                }
                if self.client_paused && self.waiting_bytes <= faults.pause_above / 2 {
                    self.client_paused = false;
                    self.publication(false);
                }
                self.feed();
            }
            Done::Flag(number) => {
                self.send_data(payload::FLAG, Bytes::copy_from_slice(&number.to_be_bytes()));
            }
            Done::Wrong(what) => self.wrong(what),
            Done::End(output) => {
                // What the destination said last has been queued before its end.
                while let Some(bytes) = self.port.as_mut().and_then(|p| p.output.try_recv().ok()) {
                    self.output.extend_from_slice(&bytes);
                }
                let until = Instant::now() + self.shared.config.timing.tail();
                self.phase = Phase::Draining { until, output };
            }
            Done::Terminate => self.end("terminated by the client's flag", ""),
        }
    }

    pub(super) fn tick(&mut self, look: bool, faults: &Faults) {
        let now = Instant::now();
        if look {
            let most = if faults.resend_all { usize::MAX } else { 1 };
            for bytes in self.sender.all_overdue(now, most) {
                self.send(Out::Frame(bytes));
            }
            let resends = self.sender.resends;
            self.me.stats(|s| s.resends_out = resends);
            self.feed();
        }
        match self.phase.clone() {
            Phase::Greeting(at) if now >= at && !faults.handshake.never => self.greet(faults),
            Phase::Asked { since, .. }
                if now.duration_since(since) > self.shared.config.timing.handshake() =>
            {
                let output = "Handshake timed out. Please ensure that you have the latest version \
                              of the session manager plugin.";
                self.end("handshake timed out", output);
            }
            Phase::Completing { at, since } if now >= at => self.complete(now, since, faults),
            Phase::Draining { until, output }
                if now >= until || (self.output.is_empty() && self.sender.outstanding() == 0) =>
            {
                self.end("destination closed", &output);
            }
            _ => {}
        }
    }

    pub(super) fn end(&mut self, how: &str, output: &str) {
        if self.phase == Phase::Over {
            return;
        }
        let closed = json!({
            "MessageType": kind::CLOSED,
            "MessageId": Uuid::new_v4().to_string(),
            "DestinationId": Uuid::new_v4().to_string(),
            "SessionId": self.me.id,
            "SchemaVersion": 1,
            "CreatedDate": clock::iso(clock::now_ms()),
            "Output": output,
        });
        self.send(Out::Frame(plain(kind::CLOSED, closed.to_string().into())));
        self.send(Out::Close);
        lock(&self.me.inner).state = State::Ended(how.to_owned());
        self.phase = Phase::Over;
    }
}

/// A message outside the sequence.
pub(super) fn plain(name: &str, payload: Bytes) -> Bytes {
    Frame {
        kind: name.to_owned(),
        created: clock::now_ms(),
        seq: 0,
        flags: 0,
        id: Uuid::new_v4(),
        payload_type: 0,
        payload,
    }
    .encode()
}
