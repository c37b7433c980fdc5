//! What the API, the socket and the session's own task share of one session.
//!
//! The task (`actor`) owns the protocol's state; this holds only what others ask for.

use std::sync::Mutex;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::faults::Hostile;
use crate::{config::Instance, lock};

/// A session of a client with an instance.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) instance: Instance,
    pub(crate) document: String,
    pub(crate) reason: String,
    pub(crate) target: Target,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) inner: Mutex<Inner>,
}

/// Where the agent connects, and how it says so.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Of type `LocalPortForwarding`: many connections, by smux if both ends know it.
    pub(crate) forwards: bool,
    /// The properties in the handshake.
    pub(crate) properties: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Good for one dial.
    pub(crate) token: Option<String>,
    pub(crate) state: State,
    pub(crate) cut: Option<watch::Sender<Option<Cut>>>,
    pub(crate) stats: Stats,
}

/// Whether it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No client has come yet.
    #[default]
    Started,
    /// A client is connected, or may come back.
    Live,
    /// Over: how.
    Ended(String),
}

/// How a socket is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// The connection goes without a word.
    Abrupt,
    /// Close with code 1000 and "Bye", as the service does every hour.
    Bye,
    /// Close with code 1009.
    TooBig,
}

/// Counters of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Sockets that were opened well.
    pub sockets: u64,
    /// Messages of the client, acknowledgements too.
    pub frames_in: u64,
    /// Messages of the client with data, also those that came again.
    pub data_frames_in: u64,
    /// Bytes of data that reached the destination.
    pub bytes_in: u64,
    /// Largest payload of the client.
    pub largest_in: usize,
    /// Messages that came again.
    pub duplicates_in: u64,
    /// Messages of data of the agent, without resends.
    pub frames_out: u64,
    /// Bytes of data of the agent.
    pub bytes_out: u64,
    /// Resends of the agent.
    pub resends_out: u64,
    /// WebSocket pings of the client.
    pub pings: u64,
    /// Most bytes that waited for the destination.
    pub most_waiting: usize,
    /// NOP frames of smux.
    pub nops: u64,
    /// Streams of smux that were opened.
    pub streams: u64,
    /// Version that the client claims.
    pub client_version: String,
}

/// What the session's task is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client is connected; its frames follow, and this is where the agent's go.
    Attach(mpsc::Sender<Out>),
    /// A frame of the client.
    Frame(Bytes),
    /// The socket that came as number so much is gone.
    Detach(u64),
    /// End the session; the text goes to the client.
    End { how: String, output: String },
    /// Send something that no agent would.
    Hostile(Hostile),
    /// Send `pause_publication` (true) or `start_publication`.
    Pause(bool),
}

/// What goes to the client.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    /// A frame.
    Frame(Bytes),
    /// A text message.
    Text(String),
    /// Frames until here, then the socket is closed.
    Close,
}

impl Session {
    pub(crate) fn stats(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.inner).stats);
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(lock(&self.inner).state, State::Ended(_))
    }
}
