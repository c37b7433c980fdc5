//! A private ssh-agent with one key, for the ssh that this tool runs.
//!
//! Invariant: it lists and signs with that key and does nothing else; nobody but this user and root
//! gets through to it.

mod server;
mod wire;

pub(crate) use server::{KeyAgent, bind, is_ours};
