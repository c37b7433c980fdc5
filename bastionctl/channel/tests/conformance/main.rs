//! The client against a strict peer: the cases of the list, and TLS.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "tests and their helpers: what fails here fails the test, in real time"
)]

mod delivery;
mod sessions;
mod support;
mod tls;
