//! What sort of process it is in Supervisor's terms, and what its standard input is.

use std::collections::BTreeSet;

use super::ListenAddr;

/// What sort of process it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary program.
    #[default]
    Program,
    /// One that speaks the event protocol: its standard output is the protocol, never a log.
    Listener(Listener),
    /// One that gets a listening socket as its standard input.
    FastCgi,
}

/// What a pool of listeners hears of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Names of events as Supervisor spells them; a name stands for all below it, `EVENT` for all.
    pub events: BTreeSet<String>,
    /// Events that may wait for a listener that is not ready; the oldest is dropped beyond.
    pub buffer_size: u32,
    /// What stands as `server` in the header of an event: Supervisor's `identifier`.
    pub server: String,
}

impl Listener {
    /// A pool that hears of these events from a server called as Supervisor is by default.
    #[must_use]
    pub fn new(events: BTreeSet<String>, buffer_size: u32) -> Self {
        Self { events, buffer_size, server: "supervisor".to_owned() }
    }
}

/// What a process has as its standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe that stays open: what is sent to the process arrives there.
    Pipe,
    /// A listening socket that its group shares, open while any of the group runs.
    Socket(SharedSocket),
}

/// The socket of a FastCGI program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSocket {
    /// Where it listens.
    pub listen: ListenAddr,
    /// Length of its queue; the system's maximum if not given.
    pub backlog: Option<u32>,
    /// Mode of a UNIX socket's file.
    pub mode: u32,
    /// Owner of a UNIX socket's file: `user` or `user:group`.
    pub owner: Option<String>,
}
