//! The peer against clients over real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::string_slice,
    reason = "tests and their helpers: what fails here fails the test, in real time"
)]

mod api;
mod channel;
mod client;
mod commands;
mod faults;
mod mux;
mod rules;
mod support;
mod worker;
