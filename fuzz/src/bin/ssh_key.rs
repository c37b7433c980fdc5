//! The text of a public key: what is taken prints as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_types::Ed25519Key;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(key) = text.parse::<Ed25519Key>() {
        assert_eq!(key.to_string(), text);
        assert_eq!(key.blob().len(), 51);
    }
});
