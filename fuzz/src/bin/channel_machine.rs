//! A session against an agent that says anything in well-formed frames: no panic, and what is held of
//! frames that came too early has a bound.
#![no_main]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use palisade_channel::{
    FrameSize,
    frame::{Head, Kind, PayloadType, encode},
    machine::{Limits, Machine},
    outbound::Source,
};
use uuid::Uuid;

/// A local side that always has a little to say.
struct Talker;

impl Source for Talker {
    fn fill(&mut self, out: &mut BytesMut, room: usize) {
        out.extend_from_slice(&b"hello"[..room.min(5)]);
    }

    fn backlog(&self) -> usize {
        5
    }
}

const KINDS: [Kind; 6] =
    [Kind::Output, Kind::Output, Kind::Acknowledge, Kind::ChannelClosed, Kind::Pause, Kind::Start];

fuzz_target!(|input: &[u8]| {
    let limits = Limits { frame: FrameSize::default(), window: 64 << 10 };
    let mut machine = Machine::new(limits, Uuid::from_u128(7), 1);
    let mut now = Duration::ZERO;
    // Kind, payload type, sequence number, how much later, length of the payload, payload.
    let mut rest = input;
    while let [kind, payload_type, sequence, later, length, tail @ ..] = rest {
        let (payload, next) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = next;
        now += Duration::from_millis(u64::from(*later));
        let head = Head {
            kind: KINDS[usize::from(*kind) % KINDS.len()],
            // Near the expected ones, and at both ends of what there is.
            sequence: match sequence {
                255 => i64::MAX,
                254 => i64::MAX - 1,
                near => i64::from(*near) % 32,
            },
            flags: 0,
            id: Uuid::from_u128(u128::from(*sequence)),
            payload_type: PayloadType(u32::from(*payload_type % 16)),
            created_ms: 1,
        };
        let frame: Bytes = encode(head, payload);
        let mut data = 0;
        machine
            .receive(now, &frame, |event| {
                if let palisade_channel::machine::Event::Data(bytes) = event {
                    data += bytes.len();
                }
            })
            .expect("the frame is well-formed");
        for _ in 0..64 {
            if machine.poll(now, &mut Talker).is_none() {
                break;
            }
        }
        assert!(data <= 32 * 256);
    }
});
