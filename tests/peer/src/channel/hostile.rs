//! Sends what no agent would.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::json;
use uuid::Uuid;

use super::{
    actor::{Actor, plain},
    faults::Hostile,
    frame::{Frame, kind, payload},
    reliable,
    session::Out,
};
use crate::clock;

/// Sends one.
pub(super) fn send(actor: &mut Actor, what: Hostile) {
    let good = data(i64::MAX, kind::OUTPUT).encode();
    let frame = |bytes: Bytes| actor.send(Out::Frame(bytes));
    match what {
        Hostile::HugeLength => frame(patched(&good, 116, 0x8000_0000)),
        Hostile::HeaderZero => frame(patched(&good, 0, 0)),
        Hostile::HeaderPastEnd => frame(patched(&good, 0, u32::MAX - 3)),
        Hostile::Short => frame(good.slice(..10)),
        Hostile::NegativeSeq => frame(data(-1, kind::OUTPUT).encode()),
        Hostile::HugeSeq => frame(good),
        Hostile::OutOfOrder { from, count } => {
            let numbers = (0..count).map(move |n| from.saturating_add(i64::from(n)));
            actor.flood(numbers.map(|n| data(n, kind::OUTPUT).encode()));
        }
        Hostile::UnknownType => frame(data(0, "agent_task_levitate").encode()),
        Hostile::FalseAck => frame(reliable::ack(clock::now_ms(), 1 << 40, Uuid::new_v4())),
        Hostile::BadAck => frame(plain(kind::ACK, Bytes::from_static(b"{\"Acknowledged"))),
        Hostile::Text => actor.send(Out::Text("{\"MessageSchemaVersion\":\"1.0\"}".to_owned())),
        Hostile::SecondHandshake => {
            let request = json!({ "AgentVersion": "3.3.0.0", "RequestedClientActions": [] });
            actor.send_data(payload::HANDSHAKE_REQUEST, request.to_string().into());
        }
        Hostile::EscapedClose => {
            let output = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31mgoodbye\r\nroot# ";
            actor.end("hostile end", output);
        }
        Hostile::Data(bytes) => actor.send_data(payload::OUTPUT, bytes.into()),
        Hostile::Raw(bytes) => frame(bytes.into()),
    }
}

fn data(seq: i64, name: &str) -> Frame {
    Frame {
        kind: name.to_owned(),
        created: clock::now_ms(),
        seq,
        flags: 0,
        id: Uuid::new_v4(),
        payload_type: payload::OUTPUT,
        payload: Bytes::from_static(b"bad"),
    }
}

fn patched(bytes: &Bytes, at: usize, value: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len());
    out.put_slice(&bytes[..at]);
    out.put_u32(value);
    out.put_slice(&bytes[at + 4..]);
    out.freeze()
}
