//! What the session does with the client's messages. What goes to the destination is acknowledged
//! when it is there; all else at once.

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    actor::{Actor, Phase},
    checks,
    faults::Faults,
    frame::{BadFrame, Frame, kind, payload},
    port::{Input, What},
    reliable::{self, Taken},
    session::Out,
};
use crate::clock;

impl Actor {
    pub(super) fn frame(&mut self, bytes: &Bytes, faults: &Faults) {
        self.me.stats(|s| s.frames_in += 1);
        self.order_broken |=
            faults.to_agent.data.breaks_order() || faults.max_frame > 0 || self.sockets > 1;
        match Frame::parse(bytes) {
            Err(BadFrame::Header(what)) => self.wrong(format!("frame: {what}")),
            Err(BadFrame::Digest(_)) if faults.to_agent.data.corrupt > 0.0 => {}
            Err(BadFrame::Digest(f))
                if f.kind == kind::ACK && faults.to_agent.ack.corrupt > 0.0 => {}
            Err(BadFrame::Digest(f)) => self.wrong(format!("digest of {} {}", f.kind, f.seq)),
            Ok(frame) if frame.kind == kind::ACK => self.ack(&frame),
            Ok(frame) if frame.kind == kind::INPUT => self.input(frame, faults),
            Ok(frame) => self.wrong(format!("a client sends no {}", frame.kind)),
        }
    }

    fn ack(&mut self, frame: &Frame) {
        match checks::ack(frame) {
            Err(what) => self.wrong(what),
            Ok((seq, id)) => {
                if let Err(what) = self.sender.acked(Instant::now(), seq, id) {
                    self.wrong(what);
                }
            }
        }
    }

    fn input(&mut self, frame: Frame, faults: &Faults) {
        if let Err(what) = checks::input(&frame, clock::now_ms()) {
            self.wrong(what);
        }
        let (seq, id, size) = (frame.seq, frame.id, frame.payload.len());
        self.me.stats(|s| {
            s.data_frames_in += 1;
            s.largest_in = s.largest_in.max(size);
        });
        let (taken, wrong) = self.receiver.take(frame, !self.order_broken);
        if let Some(wrong) = wrong {
            self.wrong(wrong);
        }
        match taken {
            Taken::Now(frames) => {
                for (frame, acked) in frames {
                    self.process(frame, acked, faults);
                }
            }
            Taken::Held => self.acknowledge(seq, id),
            Taken::Again => {
                self.me.stats(|s| s.duplicates_in += 1);
                if seq < self.processed || self.receiver.holds(seq) {
                    self.acknowledge(seq, id);
                }
            }
            Taken::Full => {}
        }
    }

    pub(super) fn acknowledge(&self, seq: i64, id: Uuid) {
        self.send(Out::Frame(reliable::ack(clock::now_ms(), seq, id)));
    }

    /// One message in its turn. What goes to the destination is acknowledged when it is there.
    fn process(&mut self, frame: Frame, acked: bool, faults: &Faults) {
        let what = match (&self.phase, frame.payload_type) {
            (Phase::Live | Phase::Draining { .. }, payload::OUTPUT) => What::Data(frame.payload),
            (Phase::Live | Phase::Draining { .. }, payload::FLAG) => match flag(&frame.payload) {
                Some(1) => What::Disconnect,
                Some(2) => What::Terminate,
                other => return self.wrong(format!("flag {other:?}")),
            },
            (Phase::Asked { .. }, payload::HANDSHAKE_RESPONSE) => {
                self.processed = frame.seq + 1;
                if !acked {
                    self.acknowledge(frame.seq, frame.id);
                }
                return self.response(&frame.payload, faults);
            }
            (Phase::Live | Phase::Draining { .. }, payload::SIZE) => What::Data(Bytes::new()),
            (_, kind) => {
                self.wrong(format!("payload of type {kind} in phase {:?}", self.phase));
                What::Data(Bytes::new())
            }
        };
        self.waiting_bytes += what.len();
        let most = self.waiting_bytes;
        self.me.stats(|s| s.most_waiting = s.most_waiting.max(most));
        if faults.pause_above > 0 && most > faults.pause_above && !self.client_paused {
            self.client_paused = true;
            self.publication(true);
        }
        self.waiting.push_back(Input { seq: frame.seq, id: frame.id, acked, what });
        self.feed();
    }
}

fn flag(payload: &Bytes) -> Option<u32> {
    payload[..].try_into().ok().map(u32::from_be_bytes)
}
