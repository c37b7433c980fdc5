//! The session's protocol without its IO: frames and the time go in, frames and events come out.
//!
//! ```text
//!  Asking --HandshakeRequest--> Asked --HandshakeComplete--> Live      channel_closed ends any of them
//! ```
//! Invariants: no data goes out before Live; acknowledgements go before everything else and are never
//! acknowledged; a new socket changes neither numbers nor buffers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::{
    ack,
    frame::{self, BadFrame, Flag, Head, Kind, Message, PayloadType, encode_with},
    handshake::{self, Mode, Unsupported},
    ids::Ids,
    inbound::{InStats, Inbound},
    outbound::{OutStats, Outbound, Source},
    probe::FrameSize,
    version::Version,
};

/// What the machine needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Payload bytes of a frame.
    pub frame: FrameSize,
    /// Bytes under way at most.
    pub window: usize,
}

/// Something that the session has to act on, in the order of the agent's frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The layout of the data, which comes next.
    Mode(Mode),
    /// Data may flow; with the account's message to its people, often empty.
    Live(String),
    /// Bytes of the stream.
    Data(Bytes),
    /// The destination did not take the connection.
    ConnectFailed,
    /// The session cannot be served.
    Unsupported(Unsupported),
    /// Data came where the handshake was due.
    NoHandshake,
    /// The session is over; with the reason given, often empty.
    Closed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Asking,
    Asked,
    Live,
}

/// Figures of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Towards the agent.
    pub sent: OutStats,
    /// From the agent.
    pub received: InStats,
    /// Frames that were no frames, or whose digest was wrong.
    pub bad_frames: u64,
    /// Smoothed time from a frame to its acknowledgement.
    pub round_trip: Duration,
    /// Payload bytes of a full frame.
    pub frame_size: usize,
    /// Bytes that may be under way.
    pub window: usize,
}

/// The protocol of one session.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    agent: Version,
    inbound: Inbound,
    outbound: Outbound,
    ids: Ids,
    acks: BytesMut,
    bad_frames: u64,
}

/// Room for some hundred acknowledgements.
const ARENA: usize = 64 << 10;
const ACK_ROOM: usize = 400;

impl Machine {
    /// A session that has not said anything. `wall_ms` is the wall clock at the time that all other
    /// calls count from.
    #[must_use]
    pub fn new(limits: Limits, seed: Uuid, wall_ms: u64) -> Self {
        Self {
            phase: Phase::Asking,
            agent: Version::default(),
            inbound: Inbound::default(),
            outbound: Outbound::new(limits.frame, limits.window),
            ids: Ids::new(seed, wall_ms),
            acks: BytesMut::new(),
            bad_frames: 0,
        }
    }

    /// A binary message came from the socket.
    ///
    /// # Errors
    /// It is not a frame. The caller drops it, and gives up on a peer that sends many of them.
    pub fn receive(
        &mut self,
        now: Duration,
        bytes: &Bytes,
        mut event: impl FnMut(Event),
    ) -> Result<(), BadFrame> {
        let message = match frame::decode(bytes) {
            Ok(message) => message,
            Err(bad) => {
                self.bad_frames += 1;
                return Err(bad);
            }
        };
        match message.kind {
            Kind::Acknowledge => {
                if let Some(sequence) = ack::read(&message.payload) {
                    self.outbound.acked(now, sequence);
                }
            }
            Kind::Output => self.output(message, &mut event),
            Kind::ChannelClosed => event(Event::Closed(handshake::closed_output(&message.payload))),
            Kind::Start => self.outbound.start(),
            Kind::Pause => self.outbound.pause(now),
            Kind::Input | Kind::Other => {}
        }
        Ok(())
    }

    fn output(&mut self, message: Message, event: &mut impl FnMut(Event)) {
        let Self { inbound, outbound, phase, agent, .. } = self;
        inbound.received(message, |kind, payload| match (kind, *phase) {
            (PayloadType::HANDSHAKE_REQUEST, Phase::Asking) => {
                let answer = handshake::answer(&payload);
                *agent = answer.agent;
                *phase = Phase::Asked;
                outbound.control(PayloadType::HANDSHAKE_RESPONSE, answer.response);
                event(match answer.outcome {
                    Ok(mode) => Event::Mode(mode),
                    Err(why) => Event::Unsupported(why),
                });
            }
            (PayloadType::HANDSHAKE_COMPLETE, Phase::Asked) => {
                *phase = Phase::Live;
                event(Event::Live(handshake::customer_message(&payload)));
            }
            (PayloadType::OUTPUT, Phase::Asking) => event(Event::NoHandshake),
            (PayloadType::OUTPUT, Phase::Asked | Phase::Live) => event(Event::Data(payload)),
            (PayloadType::FLAG, _) if Flag::read(&payload) == Some(Flag::ConnectFailed) => {
                event(Event::ConnectFailed);
            }
            // Types of shells and of the future: acknowledged, ignored.
            _ => {}
        });
    }

    /// The next frame for the socket, if any.
    pub fn poll(&mut self, now: Duration, source: &mut impl Source) -> Option<Bytes> {
        if let Some(ack) = self.inbound.next_ack() {
            if self.acks.capacity() < ACK_ROOM {
                self.acks = BytesMut::with_capacity(ARENA);
            }
            let ids = &mut self.ids;
            let head = || Head {
                kind: Kind::Acknowledge,
                sequence: 0,
                flags: 3,
                id: ids.next(),
                payload_type: PayloadType::NONE,
                created_ms: ids.wall_ms(now),
            };
            return encode_with(&mut self.acks, head, true, |out| ack.write(out));
        }
        self.outbound.poll(now, self.phase == Phase::Live, &mut self.ids, source)
    }

    /// Queues a flag; gives its number, for [`Self::has_arrived`].
    pub fn flag(&mut self, flag: Flag) -> i64 {
        self.outbound.control(PayloadType::FLAG, flag.bytes())
    }

    /// Whether the agent has acknowledged this number.
    #[must_use]
    pub fn has_arrived(&self, sequence: i64) -> bool {
        self.outbound.has_arrived(sequence)
    }

    /// Whether all that was sent is acknowledged.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.outbound.is_settled()
    }

    /// Whether data may flow.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the agent can be told to end the session; it cannot before it has said who it is.
    #[must_use]
    pub fn knows_terminate(&self) -> bool {
        self.agent.knows_terminate()
    }

    /// Since when an acknowledgement has been awaited in vain.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Duration> {
        self.outbound.waiting_since()
    }

    /// When [`Self::poll`] must be called again even if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.outbound.deadline()
    }

    /// Acknowledgements that wait for the socket; while they are many, do not read on.
    #[must_use]
    pub fn acks_owed(&self) -> usize {
        self.inbound.acks_owed()
    }

    /// A new socket took the old one's place.
    pub fn reconnected(&mut self, now: Duration) {
        self.inbound.reconnected();
        self.outbound.reconnected(now);
    }

    /// The old socket was closed because of a frame's size.
    ///
    /// # Errors
    /// The size in force, when no smaller frame can help.
    pub fn too_large(&mut self) -> Result<(), usize> {
        self.outbound.too_large()
    }

    /// A number without meaning, for jitter.
    pub fn random(&mut self) -> u64 {
        self.ids.random()
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            sent: self.outbound.stats(),
            received: self.inbound.stats(),
            bad_frames: self.bad_frames,
            round_trip: self.outbound.round_trip(),
            frame_size: self.outbound.frame_size(),
            window: self.outbound.window(),
        }
    }
}

#[cfg(test)]
mod tests;
