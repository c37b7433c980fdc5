//! A strict stand-in for Systems Manager as an administrator's tool sees it: its API with signatures
//! and permissions checked, Run Command that really runs, and the agent's end of session data
//! channels, connected to real sockets. With faults on demand, and a list of every rule that a client
//! broke.
//!
//! It shares no code with the client: a mistake in one is not repeated in the other.
#![expect(
    clippy::disallowed_methods,
    reason = "a test endpoint with the real clock and real processes, outside the agent's sys"
)]

mod api;
pub mod channel;
mod clock;
pub mod config;
mod dialer;
mod documents;
mod journal;
mod keys;
mod peer;
mod runner;
mod server;
pub mod sigv4;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use api::ApiError;
pub use channel::session::{Cut, State, Stats};
pub use keys::Signer;
pub use peer::{Handler, Peer, SessionView, Violation};

/// The lock of shared state, also after a panic of somebody who held it.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
