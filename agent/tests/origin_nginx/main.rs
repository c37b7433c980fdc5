//! The origin guard with a real nginx of its own, on loopback: who is let in, and what changes cost.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests against a real server, some of it in helpers"
)]

mod broken;
mod hush;
mod matrix;
mod rig;
mod rotation;
mod visitors;
