//! The multiplexer: bytes mean the same however they are cut into messages.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use palisade_channel::smux::{BadPiece, Decoder, Piece};

/// The pieces, with the data of one stream joined as far as it comes in a row.
fn read(chunks: &[Bytes]) -> (Vec<Piece>, Option<BadPiece>) {
    let mut decoder = Decoder::default();
    let mut all: Vec<Piece> = Vec::new();
    for chunk in chunks {
        let took = decoder.take(chunk.clone(), |piece| match (all.last_mut(), piece) {
            (Some(Piece::Data(stream, bytes)), Piece::Data(same, more)) if *stream == same => {
                *bytes = [bytes.as_ref(), more.as_ref()].concat().into();
            }
            (_, piece) => all.push(piece),
        });
        if let Err(bad) = took {
            return (all, Some(bad));
        }
    }
    (all, None)
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else { return };
    let whole = Bytes::copy_from_slice(bytes);
    let chunks: Vec<Bytes> =
        bytes.chunks(usize::from(*cut).max(1)).map(Bytes::copy_from_slice).collect();
    assert_eq!(read(&[whole]), read(&chunks));
});
