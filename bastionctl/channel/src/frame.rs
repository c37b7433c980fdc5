//! `AgentMessage`, the frame of the data channel: bytes to values and back, nothing else.
//!
//! Invariant: a frame is judged by its lengths before anything of it is copied, and a [`Message`]
//! has a payload whose digest was right.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What the header-length word of every known sender says: the offset of the payload's length.
const HEADER: usize = 116;
/// Bytes before the payload.
pub const HEAD: usize = HEADER + 4;
/// The largest frame that is read. Senders use 1 KiB, the largest seen anywhere is 256 KiB.
pub const MAX_FRAME: usize = 1 << 20;

const TYPE: usize = 4;
const SCHEMA: usize = 36;
const CREATED: usize = 40;
const SEQUENCE: usize = 48;
const FLAGS: usize = 56;
const ID: usize = 64;
const DIGEST: usize = 80;
const PAYLOAD_TYPE: usize = 112;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Client to agent, sequenced.
    Input,
    /// Agent to client, sequenced.
    Output,
    /// One frame has arrived.
    Acknowledge,
    /// The session is over.
    ChannelClosed,
    /// Sending is welcome again.
    Start,
    /// Please stop sending new data.
    Pause,
    /// Not of the data channel; ignored.
    Other,
}

impl Kind {
    const NAMES: [(Self, &'static str); 6] = [
        (Self::Input, "input_stream_data"),
        (Self::Output, "output_stream_data"),
        (Self::Acknowledge, "acknowledge"),
        (Self::ChannelClosed, "channel_closed"),
        (Self::Start, "start_publication"),
        (Self::Pause, "pause_publication"),
    ];

    fn of(field: &[u8]) -> Self {
        let end = field.iter().rposition(|b| !matches!(b, b' ' | 0)).map_or(0, |last| last + 1);
        let name = field.get(..end).unwrap_or_default();
        Self::NAMES
            .iter()
            .find(|(_, n)| n.as_bytes() == name)
            .map_or(Self::Other, |(kind, _)| *kind)
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, name)| name)
    }
}

/// The payload's meaning. A number, since newer agents may know more of them than this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadType(pub u32);

impl PayloadType {
    /// Of frames that carry no stream: acknowledgements and the end.
    pub const NONE: Self = Self(0);
    /// Bytes of the stream.
    pub const OUTPUT: Self = Self(1);
    /// A terminal's size. Port sessions acknowledge and ignore it.
    pub const SIZE: Self = Self(3);
    /// The agent asks.
    pub const HANDSHAKE_REQUEST: Self = Self(5);
    /// The client answers.
    pub const HANDSHAKE_RESPONSE: Self = Self(6);
    /// The session is live.
    pub const HANDSHAKE_COMPLETE: Self = Self(7);
    /// One of [`Flag`].
    pub const FLAG: Self = Self(10);
}

/// Payload of [`PayloadType::FLAG`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Client: close the connection to the port, keep the session.
    Disconnect,
    /// Client: end the session.
    Terminate,
    /// Agent: the destination did not take the connection.
    ConnectFailed,
}

impl Flag {
    /// The payload on the wire.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Disconnect => &[0, 0, 0, 1],
            Self::Terminate => &[0, 0, 0, 2],
            Self::ConnectFailed => &[0, 0, 0, 3],
        })
    }

    /// Reads a payload; `None` for a flag that this client does not know.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        [Self::Disconnect, Self::Terminate, Self::ConnectFailed]
            .into_iter()
            .find(|flag| flag.bytes() == payload)
    }
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// Its place in its direction, from 0.
    pub sequence: i64,
    /// Its identity, which its acknowledgement repeats.
    pub id: Uuid,
    /// What the payload means.
    pub payload_type: PayloadType,
    /// The payload.
    pub payload: Bytes,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Too few bytes for a header.
    #[error("frame of {0} bytes is shorter than its header")]
    Short(usize),
    /// More than [`MAX_FRAME`].
    #[error("frame of {0} bytes is longer than {MAX_FRAME}")]
    Long(usize),
    /// The header's own length is impossible.
    #[error("header length {0} does not fit the frame")]
    Header(u32),
    /// The payload's length disagrees with what is there.
    #[error("payload length {said} where {found} bytes follow")]
    Length {
        /// By the frame.
        said: u32,
        /// What follows.
        found: usize,
    },
    /// No sender writes 1970.
    #[error("creation date of zero")]
    Date,
    /// A sequence number below zero.
    #[error("sequence number {0} is negative")]
    Sequence(i64),
    /// The payload is not what was sent: drop the frame without an acknowledgement, and it comes again.
    #[error("payload digest does not match")]
    Digest,
}

fn be32(frame: &[u8], at: usize) -> u32 {
    frame.get(at..).map_or(0, |mut field| field.try_get_u32().unwrap_or(0))
}

fn be64(frame: &[u8], at: usize) -> u64 {
    frame.get(at..).map_or(0, |mut field| field.try_get_u64().unwrap_or(0))
}

/// Reads one frame. The payload shares the frame's memory.
///
/// # Errors
/// [`BadFrame`]; of these only [`BadFrame::Digest`] happens to honest peers.
pub fn decode(frame: &Bytes) -> Result<Message, BadFrame> {
    if frame.len() > MAX_FRAME {
        return Err(BadFrame::Long(frame.len()));
    }
    if frame.len() < HEAD {
        return Err(BadFrame::Short(frame.len()));
    }
    let header = be32(frame, 0);
    let start = usize::try_from(header).unwrap_or(usize::MAX).saturating_add(4);
    if start < HEAD || start > frame.len() {
        return Err(BadFrame::Header(header));
    }
    let said = be32(frame, start - 4);
    let found = frame.len() - start;
    if usize::try_from(said) != Ok(found) {
        return Err(BadFrame::Length { said, found });
    }
    let kind = Kind::of(frame.get(TYPE..SCHEMA).unwrap_or_default());
    let sequence = be64(frame, SEQUENCE).cast_signed();
    let payload = frame.slice(start..);
    // The two that tell the client to pause and start are written by the service without care.
    if !matches!(kind, Kind::Start | Kind::Pause) {
        if be64(frame, CREATED) == 0 {
            return Err(BadFrame::Date);
        }
        if sequence < 0 {
            return Err(BadFrame::Sequence(sequence));
        }
        let digest = frame.get(DIGEST..PAYLOAD_TYPE).unwrap_or_default();
        if !payload.is_empty() && Sha256::digest(&payload).as_slice() != digest {
            return Err(BadFrame::Digest);
        }
    }
    Ok(Message {
        kind,
        sequence,
        id: Uuid::from_u64_pair(be64(frame, ID + 8), be64(frame, ID)),
        payload_type: PayloadType(be32(frame, PAYLOAD_TYPE)),
        payload,
    })
}

/// What a frame's header says beside what follows from its payload.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// What it is for.
    pub kind: Kind,
    /// Its place in its direction.
    pub sequence: i64,
    /// 0 for data of a client, 3 for acknowledgements.
    pub flags: u64,
    /// Its identity.
    pub id: Uuid,
    /// What the payload means.
    pub payload_type: PayloadType,
    /// Milliseconds since 1970, not 0.
    pub created_ms: u64,
}

/// Writes a frame in place: the header's room first, then the payload by `fill`, then the header,
/// so that the payload is copied once. Nothing is written if `fill` writes nothing and `must` is
/// false.
pub fn encode_with(
    arena: &mut BytesMut,
    head: impl FnOnce() -> Head,
    must: bool,
    fill: impl FnOnce(&mut BytesMut),
) -> Option<Bytes> {
    debug_assert!(arena.is_empty());
    arena.put_bytes(0, HEAD);
    fill(arena);
    let length = arena.len() - HEAD;
    if length == 0 && !must {
        arena.clear();
        return None;
    }
    let head = head();
    let payload = arena.get(HEAD..).unwrap_or_default();
    let digest = Sha256::digest(payload);
    let mut out = arena.get_mut(..HEAD)?;
    out.put_u32(116);
    let name = head.kind.name().as_bytes();
    out.put_slice(name);
    out.put_bytes(b' ', SCHEMA - TYPE - name.len());
    out.put_u32(1);
    out.put_u64(head.created_ms.max(1));
    out.put_i64(head.sequence);
    out.put_u64(head.flags);
    let (high, low) = head.id.as_u64_pair();
    out.put_u64(low);
    out.put_u64(high);
    out.put_slice(&digest);
    out.put_u32(head.payload_type.0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    Some(arena.split().freeze())
}

/// Writes a frame around a payload.
#[must_use]
pub fn encode(head: Head, payload: &[u8]) -> Bytes {
    let mut arena = BytesMut::with_capacity(HEAD + payload.len());
    encode_with(&mut arena, || head, true, |out| out.put_slice(payload)).unwrap_or_default()
}

/// The same frame around another payload. `None` if `frame` is not one.
#[must_use]
pub fn with_payload(frame: &Bytes, payload: &[u8]) -> Option<Bytes> {
    let message = decode(frame).ok()?;
    let head = Head {
        kind: message.kind,
        sequence: message.sequence,
        flags: be64(frame, FLAGS),
        id: message.id,
        payload_type: message.payload_type,
        created_ms: be64(frame, CREATED),
    };
    Some(encode(head, payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(kind: Kind) -> Head {
        Head {
            kind,
            sequence: 7,
            flags: 0,
            id: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            payload_type: PayloadType::OUTPUT,
            created_ms: 1_700_000_000_000,
        }
    }

    fn broken(change: impl FnOnce(&mut Vec<u8>)) -> Result<Message, BadFrame> {
        let mut frame = encode(head(Kind::Output), b"payload").to_vec();
        change(&mut frame);
        decode(&Bytes::from(frame))
    }

    #[test]
    fn the_bytes_are_where_the_agent_looks_for_them() {
        let frame = encode(head(Kind::Input), b"hi");
        assert_eq!(frame.len(), 122);
        assert_eq!(frame[..4], [0, 0, 0, 116]);
        assert_eq!(&frame[4..36], b"input_stream_data               ");
        assert_eq!(frame[36..40], [0, 0, 0, 1]);
        assert_eq!(frame[48..56], [0, 0, 0, 0, 0, 0, 0, 7]);
        // The halves of the identity are swapped on the wire.
        assert_eq!(frame[64..72], [0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        assert_eq!(frame[72..80], [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
        assert_eq!(frame[80..112], Sha256::digest(b"hi")[..]);
        assert_eq!(frame[112..], [0, 0, 0, 1, 0, 0, 0, 2, b'h', b'i']);
    }

    #[test]
    fn types_padded_with_nuls_or_spaces_are_read() {
        let name = |fill: u8| {
            broken(|f| {
                f[4..36].fill(fill);
                f[4..15].copy_from_slice(b"acknowledge");
            })
        };
        assert_eq!(name(0).map(|m| m.kind), Ok(Kind::Acknowledge));
        assert_eq!(name(b' ').map(|m| m.kind), Ok(Kind::Acknowledge));
        assert_eq!(name(b'x').map(|m| m.kind), Ok(Kind::Other));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(decode(&Bytes::from_static(b"short")), Err(BadFrame::Short(5)));
        assert_eq!(broken(|f| f[0] = 0x80), Err(BadFrame::Header(0x8000_0074)));
        assert_eq!(broken(|f| f[3] = 0), Err(BadFrame::Header(0)));
        let said = |f: &mut Vec<u8>| f[116] = 0x80;
        assert_eq!(broken(said), Err(BadFrame::Length { said: 0x8000_0007, found: 7 }));
        assert_eq!(broken(|f| f.push(0)), Err(BadFrame::Length { said: 7, found: 8 }));
        assert_eq!(
            decode(&Bytes::from(vec![0; MAX_FRAME + 1])),
            Err(BadFrame::Long(MAX_FRAME + 1))
        );
    }

    #[test]
    fn a_date_of_zero_a_negative_number_and_a_wrong_digest_are_refused() {
        assert_eq!(broken(|f| f[40..48].fill(0)), Err(BadFrame::Date));
        assert_eq!(broken(|f| f[48..56].fill(0xff)), Err(BadFrame::Sequence(-1)));
        assert_eq!(broken(|f| f[121] ^= 1), Err(BadFrame::Digest));
        assert_eq!(broken(|f| f[80] ^= 1), Err(BadFrame::Digest));
    }

    #[test]
    fn pause_is_understood_without_a_date_or_a_digest() {
        let frame = Bytes::from({
            let mut f = encode(head(Kind::Pause), b"x").to_vec();
            f[40..48].fill(0);
            f[80..112].fill(0);
            f
        });
        assert_eq!(decode(&frame).map(|m| m.kind), Ok(Kind::Pause));
    }

    #[test]
    fn flags_are_read_as_written_and_others_are_unknown() {
        for flag in [Flag::Disconnect, Flag::Terminate, Flag::ConnectFailed] {
            assert_eq!(Flag::read(&flag.bytes()), Some(flag));
        }
        assert_eq!(Flag::read(&[0, 0, 0, 9]), None);
        assert_eq!(Flag::read(&[2]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(sequence in 0i64.., id: u128, kind in 0u32.., payload: Vec<u8>) {
            let head = Head {
                sequence, id: Uuid::from_u128(id), payload_type: PayloadType(kind), ..head(Kind::Input)
            };
            let message = decode(&encode(head, &payload)).unwrap();
            prop_assert_eq!(message.kind, Kind::Input);
            prop_assert_eq!(message.sequence, sequence);
            prop_assert_eq!(message.id, head.id);
            prop_assert_eq!(message.payload_type.0, kind);
            prop_assert_eq!(&message.payload[..], &payload[..]);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, pad in 0usize..200, at in 0usize..400, to: u8) {
            bytes.extend(std::iter::repeat_n(0, pad));
            drop(decode(&Bytes::from(bytes)));
            let mut frame = encode(head(Kind::Output), &[5; 40]).to_vec();
            if let Some(byte) = frame.get_mut(at) { *byte = to; }
            drop(decode(&Bytes::from(frame)));
        }
    }
}
