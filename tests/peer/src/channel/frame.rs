//! The frame of the data channel: 116 bytes of header, the payload's length, the payload.
//!
//! Written from the description of the protocol alone, so that a mistake in the client's codec is
//! not repeated here. Reading is strict: what a sender must not write is an error.

use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What the header's length field says: where the payload's length stands.
const HEADER: usize = 116;
/// Where the payload begins.
const BODY: usize = HEADER + 4;
const SCHEMA: u32 = 1;

/// Types of messages.
pub mod kind {
    /// Data of the client.
    pub const INPUT: &str = "input_stream_data";
    /// Data of the agent.
    pub const OUTPUT: &str = "output_stream_data";
    /// One message has arrived.
    pub const ACK: &str = "acknowledge";
    /// The session is over.
    pub const CLOSED: &str = "channel_closed";
    /// Send again.
    pub const START: &str = "start_publication";
    /// Send nothing new.
    pub const PAUSE: &str = "pause_publication";
}

/// Types of payloads.
pub mod payload {
    /// Data.
    pub const OUTPUT: u32 = 1;
    /// The size of a terminal.
    pub const SIZE: u32 = 3;
    /// What the agent asks for.
    pub const HANDSHAKE_REQUEST: u32 = 5;
    /// What the client did.
    pub const HANDSHAKE_RESPONSE: u32 = 6;
    /// The session is live.
    pub const HANDSHAKE_COMPLETE: u32 = 7;
    /// The client's answer to a challenge.
    pub const ENC_RESPONSE: u32 = 9;
    /// One of the flags of a port session.
    pub const FLAG: u32 = 10;
}

/// SYN and FIN, which acknowledgements carry together.
pub const SYN: u64 = 1;
/// See [`SYN`].
pub const FIN: u64 = 2;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type, without the padding.
    pub kind: String,
    /// Milliseconds since the epoch.
    pub created: u64,
    /// Place in the sender's sequence.
    pub seq: i64,
    /// [`SYN`], [`FIN`].
    pub flags: u64,
    /// Its id.
    pub id: Uuid,
    /// Type of the payload.
    pub payload_type: u32,
    /// The payload.
    pub payload: Bytes,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// A rule of the header is broken; the text says which.
    Header(String),
    /// The payload is not the one that was hashed. It may come again.
    Digest(Box<Frame>),
}

impl Frame {
    /// The bytes of this message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(BODY + self.payload.len());
        out.put_u32(116);
        let name = self.kind.as_bytes();
        let name = name.get(..32).unwrap_or(name);
        out.put_slice(name);
        out.put_bytes(b' ', 32 - name.len());
        out.put_u32(SCHEMA);
        out.put_u64(self.created);
        out.put_i64(self.seq);
        out.put_u64(self.flags);
        let (first, second) = self.id.as_u64_pair();
        out.put_u64(second);
        out.put_u64(first);
        out.put_slice(&Sha256::digest(&self.payload));
        out.put_u32(self.payload_type);
        out.put_u32(u32::try_from(self.payload.len()).unwrap_or(u32::MAX));
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// Reads one message.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn parse(bytes: &Bytes) -> Result<Self, BadFrame> {
        let bad = |what: String| BadFrame::Header(what);
        if bytes.len() < BODY {
            return Err(bad(format!("{} bytes, shorter than a header", bytes.len())));
        }
        let u32_at = |at| u32::from_be_bytes(array(bytes, at));
        let u64_at = |at| u64::from_be_bytes(array(bytes, at));
        if u32_at(0) != 116 {
            return Err(bad(format!("header length {}, not 116", u32_at(0))));
        }
        let name: [u8; 32] = array(bytes, 4);
        let name = std::str::from_utf8(&name).map_err(|_| bad("type is not text".to_owned()))?;
        let kind = name.trim_end_matches(' ');
        if kind.is_empty() || !kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return Err(bad(format!("type {name:?} is not a word padded with spaces")));
        }
        if u32_at(36) != SCHEMA {
            return Err(bad(format!("schema {}, not 1", u32_at(36))));
        }
        let created = u64_at(40);
        if created == 0 {
            return Err(bad("no date of creation".to_owned()));
        }
        let payload = bytes.slice(BODY..);
        if usize::try_from(u32_at(116)) != Ok(payload.len()) {
            return Err(bad(format!("payload length {} but {} bytes", u32_at(116), payload.len())));
        }
        let digest: [u8; 32] = array(bytes, 80);
        let good = Sha256::digest(&payload)[..] == digest;
        let frame = Self {
            kind: kind.to_owned(),
            created,
            seq: i64::from_be_bytes(array(bytes, 48)),
            flags: u64_at(56),
            id: Uuid::from_u64_pair(u64_at(72), u64_at(64)),
            payload_type: u32_at(112),
            payload,
        };
        if good { Ok(frame) } else { Err(BadFrame::Digest(Box::new(frame))) }
    }

    /// Whether raw bytes are an acknowledgement, judged by the type alone.
    #[must_use]
    pub fn is_ack(bytes: &[u8]) -> bool {
        bytes.get(4..).is_some_and(|b| b.starts_with(kind::ACK.as_bytes()))
    }
}

/// `N` bytes at `at`; zeros past the end, which callers rule out by the length.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(seq: i64, payload: Vec<u8>) -> Frame {
        Frame {
            kind: kind::INPUT.to_owned(),
            created: 1_700_000_000_000,
            seq,
            flags: 0,
            id: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            payload_type: payload::OUTPUT,
            payload: payload.into(),
        }
    }

    proptest! {
        #[test]
        fn a_frame_reads_as_it_was_written(seq: i64, payload: Vec<u8>, id: u128, flags: u64) {
            let mut frame = frame(seq, payload);
            frame.id = Uuid::from_u128(id);
            frame.flags = flags;
            prop_assert_eq!(Frame::parse(&frame.encode()), Ok(frame));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            prop_assert!(Frame::parse(&bytes.into()).is_err());
        }
    }

    #[test]
    fn the_bytes_of_a_frame_are_where_the_protocol_says() {
        let bytes = frame(258, b"hi".to_vec()).encode();
        assert_eq!(bytes.len(), 122);
        assert_eq!(&bytes[..4], [0, 0, 0, 116]);
        assert_eq!(&bytes[4..36], b"input_stream_data               ");
        assert_eq!(&bytes[36..40], [0, 0, 0, 1]);
        assert_eq!(&bytes[48..56], [0, 0, 0, 0, 0, 0, 1, 2]);
        // The halves of the id are swapped.
        assert_eq!(&bytes[64..72], [0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        assert_eq!(&bytes[72..80], [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
        assert_eq!(&bytes[116..], [0, 0, 0, 2, b'h', b'i']);
    }

    #[test]
    fn each_broken_rule_is_named() {
        let good = frame(0, b"abc".to_vec()).encode().to_vec();
        let broken = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            match Frame::parse(&bytes.into()) {
                Err(BadFrame::Header(what)) => what,
                Err(BadFrame::Digest(_)) => "digest".to_owned(),
                Ok(_) => "accepted".to_owned(),
            }
        };
        assert_eq!(broken(3, 120), "header length 120, not 116");
        assert!(broken(35, 0).contains("padded with spaces"));
        assert_eq!(broken(39, 2), "schema 2, not 1");
        assert_eq!(broken(119, 4), "payload length 4 but 3 bytes");
        assert_eq!(broken(120, b'x'), "digest");
        let short = Frame::parse(&good[..119].to_vec().into());
        assert!(matches!(short, Err(BadFrame::Header(w)) if w.contains("shorter")));
    }
}
