//! The log path with real files and a service in memory.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]
#![expect(clippy::panic, reason = "a helper that gives up waiting fails its test")]

mod common;
mod content;
mod copies;
mod delivery;
mod identity;
mod journal;
mod looks;
mod room;
mod rotation;
mod tailing;
