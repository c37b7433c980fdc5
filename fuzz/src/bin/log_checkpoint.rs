//! See `palisade_agent::logs::fuzzing::checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| palisade_agent::logs::fuzzing::checkpoint(data));
