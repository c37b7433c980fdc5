//! Event listeners, standard input and shared sockets, with real processes and agents that die.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests against real processes, some of it in helpers"
)]

mod listeners;
mod rig;
mod shared_socket;
mod streams;
