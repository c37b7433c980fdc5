//! See `palisade_agent::logs::fuzzing::time`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| palisade_agent::logs::fuzzing::time(data));
