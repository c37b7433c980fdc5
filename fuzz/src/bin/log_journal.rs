//! See `palisade_agent::sys::journal::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| palisade_agent::sys::journal::fuzz(data));
