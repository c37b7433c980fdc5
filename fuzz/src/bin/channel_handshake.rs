//! What the agent says of a session: any bytes get an answer in JSON, and no text of it can move a cursor.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_channel::handshake;

fuzz_target!(|input: &[u8]| {
    let answer = handshake::answer(input);
    assert!(serde_json::from_slice::<serde_json::Value>(&answer.response).is_ok());
    let mut texts = vec![handshake::customer_message(input), handshake::closed_output(input)];
    texts.extend(answer.outcome.err().map(|why| why.to_string()));
    assert!(texts.iter().all(|t| !t.contains(|c: char| c.is_control()) && t.len() < 1 << 16));
});
