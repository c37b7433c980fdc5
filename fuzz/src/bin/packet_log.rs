//! What the kernel's packet log hands over: any bytes are read to their end, each message once, and what
//! a rule writes into its word stays a word.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../agent/src/sys/nflog/wire.rs"]
#[expect(dead_code, reason = "only what reads is tried here")]
mod wire;

fuzz_target!(|datagram: &[u8]| {
    let mut messages = 0;
    for message in wire::messages(datagram) {
        messages += 1;
        if let wire::Message::Packet(p) = message {
            assert!(p.prefix.len() <= 64 && !p.prefix.contains(|c: char| c.is_control()));
            assert!(p.port.is_none() || matches!(p.protocol, 6 | 17 | 33 | 132 | 136));
        }
    }
    assert!(messages <= datagram.len() / 16);
});
