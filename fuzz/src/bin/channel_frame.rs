//! One message of the data channel: anything is a frame or an error, and a frame reads back as what was
//! written.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use palisade_channel::frame::{self, MAX_FRAME};

fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    frame::decode(&bytes).err();
    // The digest would stop nearly everything else from getting any further.
    let Some(whole) = frame::with_payload(&bytes, b"palisade") else { return };
    let (first, second) = (frame::decode(&bytes), frame::decode(&whole));
    let (first, second) = (first.expect("it was read"), second.expect("it was written"));
    assert_eq!((first.kind, first.sequence, first.id), (second.kind, second.sequence, second.id));
    assert!(first.payload.len() <= MAX_FRAME && second.payload == "palisade");
});
