//! The multiplexer's wire format (xtaci/smux version 1): eight bytes, then up to 64 KiB, whatever the
//! borders of the frames that carry it.
//!
//! Invariant: the decoder holds at most one header; bytes of a stream are passed on as they come.

use bytes::{Buf as _, BufMut, Bytes};

/// Bytes before the payload.
pub const HEAD: usize = 8;
/// The most that one piece carries: the default of the agent's library.
pub const MOST: usize = 32 << 10;
const VERSION: u8 = 1;

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A stream begins.
    Open,
    /// A stream ends, both ways.
    Finish,
    /// Bytes of a stream.
    Push,
    /// A sign of life.
    Nothing,
}

impl Command {
    const ALL: [Self; 4] = [Self::Open, Self::Finish, Self::Push, Self::Nothing];

    fn number(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Finish => 1,
            Self::Push => 2,
            Self::Nothing => 3,
        }
    }
}

/// Why bytes are not of the multiplexer. Nothing after them can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPiece {
    /// Not version 1.
    #[error("multiplexer version {0} where 1 was agreed")]
    Version(u8),
    /// A command of another version, or none.
    #[error("multiplexer command {0} is unknown")]
    Command(u8),
    /// A command that carries nothing came with bytes.
    #[error("multiplexer command {0} with {1} bytes of payload")]
    Payload(u8, u16),
}

/// Writes a header.
pub fn write(out: &mut impl BufMut, command: Command, stream: u32, length: u16) {
    out.put_u8(VERSION);
    out.put_u8(command.number());
    out.put_u16_le(length);
    out.put_u32_le(stream);
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The other end begins a stream.
    Open(u32),
    /// The other end is done with a stream.
    Finish(u32),
    /// Bytes of a stream, not empty.
    Data(u32, Bytes),
    /// A sign of life.
    Nothing,
}

/// Takes the byte stream apart.
#[derive(Debug, Default)]
pub struct Decoder {
    head: [u8; HEAD],
    have: usize,
    /// Stream and bytes that are still to come of a started piece.
    rest: Option<(u32, usize)>,
}

impl Decoder {
    /// Takes in bytes and passes on what they are.
    ///
    /// # Errors
    /// [`BadPiece`]; the session cannot go on.
    pub fn take(&mut self, mut bytes: Bytes, mut piece: impl FnMut(Piece)) -> Result<(), BadPiece> {
        while !bytes.is_empty() {
            if let Some((stream, left)) = self.rest {
                let now = bytes.split_to(left.min(bytes.len()));
                self.rest = (left > now.len()).then(|| (stream, left - now.len()));
                piece(Piece::Data(stream, now));
                continue;
            }
            let want = (HEAD - self.have).min(bytes.len());
            if let Some(slot) = self.head.get_mut(self.have..self.have + want) {
                bytes.copy_to_slice(slot);
            }
            self.have += want;
            if self.have == HEAD {
                self.have = 0;
                self.begin(&mut piece)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, piece: &mut impl FnMut(Piece)) -> Result<(), BadPiece> {
        let [version, number, l0, l1, s0, s1, s2, s3] = self.head;
        let length = u16::from_le_bytes([l0, l1]);
        let stream = u32::from_le_bytes([s0, s1, s2, s3]);
        if version != VERSION {
            return Err(BadPiece::Version(version));
        }
        let Some(command) = Command::ALL.into_iter().find(|c| c.number() == number) else {
            return Err(BadPiece::Command(number));
        };
        if length > 0 && command != Command::Push {
            return Err(BadPiece::Payload(number, length));
        }
        match command {
            Command::Open => piece(Piece::Open(stream)),
            Command::Finish => piece(Piece::Finish(stream)),
            Command::Nothing => piece(Piece::Nothing),
            Command::Push => {
                self.rest = (length > 0).then_some((stream, usize::from(length)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    fn taken(decoder: &mut Decoder, bytes: Bytes) -> Result<Vec<Piece>, BadPiece> {
        let mut out: Vec<Piece> = Vec::new();
        decoder.take(bytes, |piece| match (out.last_mut(), piece) {
            (Some(Piece::Data(a, had)), Piece::Data(b, more)) if *a == b => {
                *had = [had.as_ref(), &more].concat().into();
            }
            (_, piece) => out.push(piece),
        })?;
        Ok(out)
    }

    #[test]
    fn the_header_is_the_agents() {
        let mut out = BytesMut::new();
        write(&mut out, Command::Push, 3, 0x0102);
        assert_eq!(out[..], [1, 2, 0x02, 0x01, 3, 0, 0, 0]);
    }

    #[test]
    fn other_versions_commands_and_shapes_are_refused() {
        let refuse = |head: [u8; 8]| taken(&mut Decoder::default(), Bytes::copy_from_slice(&head));
        assert_eq!(refuse([2, 0, 0, 0, 3, 0, 0, 0]), Err(BadPiece::Version(2)));
        assert_eq!(refuse([1, 4, 0, 0, 3, 0, 0, 0]), Err(BadPiece::Command(4)));
        assert_eq!(refuse([1, 1, 9, 0, 3, 0, 0, 0]), Err(BadPiece::Payload(1, 9)));
    }

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let data = prop::collection::vec(any::<u8>(), 1..300);
        prop::collection::vec(
            prop_oneof![
                any::<u32>().prop_map(Piece::Open),
                any::<u32>().prop_map(Piece::Finish),
                Just(Piece::Nothing),
                (0u32..9, data).prop_map(|(s, d)| Piece::Data(s, d.into())),
            ],
            0..20,
        )
    }

    proptest! {
        #[test]
        fn pieces_survive_any_cut_of_the_stream(pieces in pieces(), cut in 1usize..50) {
            let mut wire = BytesMut::new();
            for piece in &pieces {
                match piece {
                    Piece::Open(s) => write(&mut wire, Command::Open, *s, 0),
                    Piece::Finish(s) => write(&mut wire, Command::Finish, *s, 0),
                    Piece::Nothing => write(&mut wire, Command::Nothing, 0, 0),
                    Piece::Data(s, d) => {
                        write(&mut wire, Command::Push, *s, u16::try_from(d.len()).unwrap());
                        wire.put_slice(d);
                    }
                }
            }
            let whole = taken(&mut Decoder::default(), wire.clone().freeze()).unwrap();
            let mut decoder = Decoder::default();
            let mut parts: Vec<Piece> = Vec::new();
            for part in wire.chunks(cut) {
                for piece in taken(&mut decoder, Bytes::copy_from_slice(part)).unwrap() {
                    match (parts.last_mut(), piece) {
                        (Some(Piece::Data(a, had)), Piece::Data(b, more)) if *a == b => {
                            *had = [had.as_ref(), &more].concat().into();
                        }
                        (_, piece) => parts.push(piece),
                    }
                }
            }
            prop_assert_eq!(parts, whole);
        }

        #[test]
        fn no_bytes_make_it_panic(parts: Vec<Vec<u8>>) {
            let mut decoder = Decoder::default();
            for part in parts {
                if decoder.take(part.into(), |_| {}).is_err() { break; }
            }
        }
    }
}
