//! One socket's life: frames in, frames out, timers, in one poll function without a lock held across
//! a wait.
//!
//! Frames are read and written in batches and flushed once, so that the kernel is asked for many at a
//! time.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink as _, Stream as _};
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

use crate::{
    dial::Wire,
    end::End,
    frame::{BadFrame, Flag},
    handshake::Mode,
    hub::Hub,
    machine::{Event, Machine},
    outbound::Source,
    session::State,
    stream::Shared,
    text::printable,
};

/// Messages in one go, in each direction.
const BATCH: usize = 256;
/// Goes before other tasks get their turn.
const ROUNDS: usize = 16;
/// Acknowledgements that may wait for the socket before reading stops.
const ACKS: usize = 2048;
/// Middle boxes forget a silent connection after 60 s.
pub(crate) const PING: Duration = Duration::from_secs(22);
/// For the agent to hear that the session cannot be served.
const REFUSE: Duration = Duration::from_secs(3);
/// Frames that are none, in all; honest services send none.
const BAD_FRAMES: u64 = 64;
const TICK: Duration = Duration::from_millis(1);

/// What serving is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Move data.
    Run,
    /// Only get this flag across.
    Arrive { flag: i64, until: Duration },
}

/// How a socket's life ended.
#[derive(Debug)]
pub(crate) enum Out {
    End(End),
    Lost(String),
}

/// The session's protocol and what it knows of its present socket.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) machine: Machine,
    shared: Arc<Shared>,
    report: watch::Sender<State>,
    epoch: Instant,
    pub(crate) live_by: Duration,
    live: Option<(Mode, String)>,
    sockets: u32,
    frames_here: u64,
    pub(crate) heard: Duration,
    pub(crate) pinged: Duration,
    dirty: bool,
    pub(crate) refusing: Option<(End, Duration)>,
    pub(crate) closing: Option<Duration>,
    disconnect: Option<i64>,
    size_refused: bool,
}

impl Link {
    pub(crate) fn new(
        machine: Machine,
        shared: Arc<Shared>,
        report: watch::Sender<State>,
        epoch: Instant,
        live_by: Duration,
    ) -> Self {
        Self {
            machine,
            shared,
            report,
            epoch,
            live_by,
            live: None,
            sockets: 0,
            frames_here: 0,
            heard: Duration::ZERO,
            pinged: Duration::ZERO,
            dirty: false,
            refusing: None,
            closing: None,
            disconnect: None,
            size_refused: false,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Whether the agent has said anything on the present socket.
    pub(crate) fn heard_agent(&self) -> bool {
        self.frames_here > 0
    }

    /// Whether no socket has been made yet.
    pub(crate) fn is_new(&self) -> bool {
        self.sockets == 0
    }

    pub(crate) fn is_live(&self) -> bool {
        self.machine.is_live()
    }

    pub(crate) fn knows_terminate(&self) -> bool {
        self.machine.is_live() && self.machine.knows_terminate()
    }

    pub(crate) fn flag(&mut self, flag: Flag) -> i64 {
        self.machine.flag(flag)
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.machine.random()
    }

    /// A socket was made.
    pub(crate) fn connected(&mut self) {
        let now = self.now();
        if self.sockets > 0 {
            self.machine.reconnected(now);
        }
        self.sockets = self.sockets.saturating_add(1);
        self.frames_here = 0;
        self.heard = now;
        self.pinged = now;
        self.dirty = true;
        if let Some((mode, message)) = self.live.clone() {
            self.report.send_replace(State::Live { mode, message });
        }
    }

    /// Serves a socket until it or the session ends.
    pub(crate) async fn serve(
        &mut self,
        wire: &mut Wire,
        goal: Goal,
        stop: &CancellationToken,
        close: &CancellationToken,
    ) -> Out {
        let mut timer = pin!(sleep_until(self.epoch));
        let mut stop = pin!(stop.cancelled());
        let mut close = pin!(close.cancelled());
        poll_fn(|cx| {
            if matches!(goal, Goal::Run) {
                if stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Out::End(End::Cancelled));
                }
                if self.closing.is_none() && close.as_mut().poll(cx).is_ready() {
                    self.closing = Some(self.now());
                }
            }
            for _ in 0..ROUNDS {
                match self.round(cx, Pin::new(&mut *wire), goal, timer.as_mut()) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Pending,
                    Err(out) => return Poll::Ready(out),
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// Reads, writes and looks at the clock once. Says whether there may be more to do at once.
    fn round(
        &mut self,
        cx: &mut Context<'_>,
        mut wire: Pin<&mut Wire>,
        goal: Goal,
        timer: Pin<&mut Sleep>,
    ) -> Result<bool, Out> {
        let now = self.now();
        let shared = self.shared.clone();
        let mut hub = shared.hub();
        // Before anything is looked at, so that no change after it goes unnoticed.
        if hub.driver.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            hub.driver = Some(cx.waker().clone());
        }
        if hub.tick(now) {
            self.disconnect = Some(self.machine.flag(Flag::Disconnect));
        }
        let read = self.read(cx, wire.as_mut(), &mut hub, now)?;
        if self.disconnect.is_some_and(|flag| self.machine.has_arrived(flag)) {
            self.disconnect = None;
            hub.closed();
            shared.freed.notify_waiters();
        }
        let wrote = match goal {
            Goal::Run => self.write(cx, wire.as_mut(), &mut *hub, now)?,
            Goal::Arrive { .. } => self.write(cx, wire.as_mut(), &mut Nothing, now)?,
        };
        hub.stats = self.machine.stats();
        let due = self.judge(&hub, now, goal)?;
        let due = [hub.deadline(), wrote.deadline].into_iter().flatten().fold(due, Duration::min);
        drop(hub);
        let rung = arm(cx, timer, self.epoch + due.max(now + TICK));
        Ok(read || wrote.more || rung)
    }

    fn read(
        &mut self,
        cx: &mut Context<'_>,
        mut wire: Pin<&mut Wire>,
        hub: &mut Hub,
        now: Duration,
    ) -> Result<bool, Out> {
        for _ in 0..BATCH {
            if self.machine.acks_owed() > ACKS || !hub.can_receive() {
                // Silence is our own doing.
                self.heard = now;
                return Ok(false);
            }
            let message = match wire.as_mut().poll_next(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(None) => return Err(Out::Lost("the connection was closed".into())),
                Poll::Ready(Some(Err(error))) => {
                    return Err(Out::Lost(printable(&error.to_string())));
                }
                Poll::Ready(Some(Ok(message))) => message,
            };
            self.heard = now;
            match message {
                Message::Binary(bytes) => self.frame(&bytes, hub, now)?,
                Message::Close(frame) => return Err(self.closed(frame)),
                // The answer to a ping is written by the library and must be flushed.
                Message::Ping(_) => self.dirty = true,
                Message::Pong(_) | Message::Text(_) | Message::Frame(_) => {}
            }
        }
        Ok(true)
    }

    fn frame(&mut self, bytes: &Bytes, hub: &mut Hub, now: Duration) -> Result<(), Out> {
        self.frames_here += 1;
        let mut end = None;
        let mut live = None;
        let mut refuse = None;
        let received = self.machine.receive(now, bytes, |event| match event {
            Event::Data(bytes) => {
                if let Err(bad) = hub.received(bytes) {
                    end.get_or_insert(End::Protocol { why: bad.to_string() });
                }
            }
            Event::Mode(mode) => hub.begin(mode),
            Event::Live(message) => live = Some(message),
            Event::ConnectFailed if hub.mode == Some(Mode::Basic) => {
                end.get_or_insert(End::ConnectFailed);
            }
            Event::ConnectFailed => hub.connect_failed(),
            Event::Unsupported(why) => refuse = Some(End::Unsupported(why)),
            Event::NoHandshake => {
                let why = "the agent is too old to say what the session is".to_owned();
                end.get_or_insert(End::Handshake { why });
            }
            Event::Closed(output) => {
                end.get_or_insert(End::Closed { output });
            }
        });
        if let (Some(message), Some(mode)) = (live, hub.mode) {
            self.live = Some((mode, message.clone()));
            self.report.send_replace(State::Live { mode, message });
        }
        if let Some(why) = refuse {
            self.refusing = Some((why, now + REFUSE));
        }
        match (end, self.refusing.take()) {
            // The agent ends a session that is refused; the reason is ours.
            (Some(End::Closed { .. }), Some((why, _))) => return Err(Out::End(why)),
            (Some(end), _) => return Err(Out::End(end)),
            (None, refusing) => self.refusing = refusing,
        }
        match received {
            // Comes again, by the agent's own rule.
            Ok(()) | Err(BadFrame::Digest) => Ok(()),
            Err(bad) if self.machine.stats().bad_frames > BAD_FRAMES => {
                Err(Out::End(End::Protocol { why: bad.to_string() }))
            }
            Err(_) => Ok(()),
        }
    }

    fn closed(&mut self, frame: Option<CloseFrame>) -> Out {
        let Some(frame) = frame else {
            return Out::Lost("the service closed the connection".into());
        };
        if frame.code == CloseCode::Size
            && let Err(size) = self.machine.too_large()
            // Once may be another node's stricter limit; twice is a rule.
            && std::mem::replace(&mut self.size_refused, true)
        {
            return Out::End(End::FrameSize { size });
        }
        let code = u16::from(frame.code);
        Out::Lost(printable(&format!("the service closed the connection: {code} {}", frame.reason)))
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        mut wire: Pin<&mut Wire>,
        source: &mut impl Source,
        now: Duration,
    ) -> Result<Wrote, Out> {
        let lost = |error: &dyn std::fmt::Display| Out::Lost(printable(&error.to_string()));
        let mut count = 0;
        let mut blocked = false;
        while count < BATCH {
            match wire.as_mut().poll_ready(cx) {
                Poll::Pending => {
                    blocked = true;
                    if now >= self.pinged + PING {
                        // As good as a ping: the other side owes a sign of life.
                        self.pinged = now;
                    }
                    break;
                }
                Poll::Ready(ready) => ready.map_err(|e| lost(&e))?,
            }
            let message = if now >= self.pinged + PING {
                self.pinged = now;
                Message::Ping(Bytes::from_static(b"keepalive"))
            } else {
                match self.machine.poll(now, source) {
                    Some(frame) => Message::Binary(frame),
                    None => break,
                }
            };
            wire.as_mut().start_send(message).map_err(|e| lost(&e))?;
            self.dirty = true;
            count += 1;
        }
        if self.dirty && !blocked {
            match wire.as_mut().poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(flushed) => {
                    flushed.map_err(|e| lost(&e))?;
                    self.dirty = false;
                }
            }
        }
        // With a blocked socket the machine's clock has to wait; the socket wakes us.
        let deadline = if blocked { None } else { self.machine.deadline() };
        Ok(Wrote { more: count == BATCH, deadline })
    }
}

struct Wrote {
    more: bool,
    deadline: Option<Duration>,
}

/// Sets the timer, and says whether it rings now. A timer that rings too early costs one look, which is
/// cheaper than setting it anew for every frame.
fn arm(cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>, due: Instant) -> bool {
    if timer.deadline() > due || timer.is_elapsed() {
        timer.as_mut().reset(due);
    }
    timer.as_mut().poll(cx).is_ready()
}

/// No stream: only the session's own messages.
struct Nothing;

impl Source for Nothing {
    fn fill(&mut self, _: &mut BytesMut, _: usize) {}

    fn backlog(&self) -> usize {
        0
    }
}
