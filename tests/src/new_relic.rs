//! New Relic's Log API as far as an agent uses it: the documented rules enforced, refusals on demand,
//! and what arrived.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use hyper::http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::aws::http::{Answer, Closed, Server, Service, header, lock, now_ms, respond};

/// Largest body as it comes.
const MAX_PACKED: usize = 1_000_000;
/// Most that is unpacked.
const MAX_PLAIN: u64 = 64 << 20;
const TOO_OLD_MS: i64 = 48 * 3600 * 1000;

/// A running fake. It stops when dropped.
#[derive(Debug)]
pub struct NewRelic {
    server: Server,
    state: Arc<Mutex<State>>,
}

/// What arrived.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    /// Each message, and how often it came.
    pub messages: BTreeMap<String, u32>,
    /// Bodies accepted.
    pub posts: u64,
    /// Rules broken.
    pub violations: Vec<String>,
    /// `logStream` of each body.
    pub streams: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct State {
    key: String,
    /// The status that answers everything, if not 202.
    status: Option<u16>,
    arrived: Arrived,
}

#[derive(Clone, Debug)]
struct Api(Arc<Mutex<State>>);

#[derive(Deserialize)]
struct Block {
    common: Common,
    logs: Vec<Event>,
}

#[derive(Deserialize)]
struct Common {
    attributes: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    timestamp: i64,
    message: String,
    #[serde(default)]
    attributes: BTreeMap<String, Value>,
}

impl NewRelic {
    /// Listens on a free port of loopback and takes this license key.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(key: &str) -> io::Result<Self> {
        let state = State { key: key.to_owned(), status: None, arrived: Arrived::default() };
        let state = Arc::new(Mutex::new(state));
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self { server: Server::listen(addr, Api(state.clone()))?, state })
    }

    /// Where it takes logs.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}/log/v1", self.server.url())
    }

    /// Answers everything with this status from now on; none means that all is well.
    pub fn answer(&self, status: Option<u16>) {
        lock(&self.state).status = status;
    }

    /// Takes another key from now on.
    pub fn set_key(&self, key: &str) {
        key.clone_into(&mut lock(&self.state).key);
    }

    /// What arrived so far.
    #[must_use]
    pub fn arrived(&self) -> Arrived {
        lock(&self.state).arrived.clone()
    }
}

impl Service for Api {
    fn refuses(&self) -> bool {
        false
    }

    async fn answer(&self, head: &Parts, body: Bytes) -> Result<Answer, Closed> {
        let mut state = lock(&self.0);
        let status = state.take(head, &body);
        Ok(respond(status, &json!({ "requestId": "00000000-0000-0000-0000-000000000000" })))
    }
}

impl State {
    fn take(&mut self, head: &Parts, body: &[u8]) -> u16 {
        if let Some(status) = self.status {
            return status;
        }
        if head.uri.path() != "/log/v1" || head.method != hyper::Method::POST {
            return 404;
        }
        if header(head, "api-key") != self.key {
            return 403;
        }
        if body.len() > MAX_PACKED {
            return 413;
        }
        match read(head, body) {
            Ok(blocks) => {
                self.arrived.posts += 1;
                for block in blocks {
                    self.keep(block);
                }
                202
            }
            Err(why) => {
                self.arrived.violations.push(why);
                400
            }
        }
    }

    fn keep(&mut self, block: Block) {
        let stream = block.common.attributes.get("logStream").and_then(Value::as_str);
        let stream = stream.unwrap_or_default().to_owned();
        *self.arrived.streams.entry(stream).or_default() += block.logs.len() as u64;
        for event in block.logs {
            // The service takes such an event and drops it later.
            if event.timestamp < now_ms() - TOO_OLD_MS {
                self.arrived.violations.push(format!("an event of {}", event.timestamp));
            }
            drop(event.attributes);
            *self.arrived.messages.entry(event.message).or_default() += 1;
        }
    }
}

fn read(head: &Parts, body: &[u8]) -> Result<Vec<Block>, String> {
    if header(head, "content-type") != "application/json" {
        return Err("not application/json".to_owned());
    }
    if header(head, "content-encoding") != "gzip" {
        return Err("not packed".to_owned());
    }
    let mut plain = Vec::new();
    let unpacked = GzDecoder::new(body).take(MAX_PLAIN).read_to_end(&mut plain);
    unpacked.map_err(|e| format!("not gzip: {e}"))?;
    serde_json::from_slice(&plain).map_err(|e| format!("not blocks of logs: {e}"))
}
