//! What Supervisor's own tools talk to: XML-RPC and the tails of logs, by HTTP on a UNIX socket.
//!
//! ```text
//! /RPC2 ── read ──> Call ── dispatch ──> act, groups, logs ──> supervise, app
//!   ^                                        │
//!   └───────────────── write <── Value, Fault┘
//! /logtail/NAME[/stdout|/stderr], /mainlogtail ──> tail ──> the file, for as long as somebody looks
//! supervise events ──> main_log ──> supervisor.log, in Supervisor's words
//! ```
//!
//! Who may connect is decided by the socket's owner, group and mode, as for the control socket. A user and
//! a password that a client sends are not looked at: they could only let in who is in already. Methods are
//! found in a table by their whole names; nothing else can be reached. What changes something is recorded
//! with the uid and pid of who asked.

mod act;
mod config_info;
mod dispatch;
mod fault;
mod info;
mod logs;
mod main_log;
mod methods;
mod names;
mod params;
mod read;
mod stdin;
mod tail;
#[cfg(test)]
mod testutil;
mod value;
mod write;

use std::path::PathBuf;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};

use tokio::task;

pub use self::main_log::{MainLog, keep as keep_main_log};
use super::{AppHandle, Peer};
use crate::{clock::SystemClock, events::Events, supervise};

/// Largest body of a request: what is sent to a program's standard input is in it.
const MAX_BODY_BYTES: usize = 1 << 20;

/// A result of so many bytes is not written out by the thread that everything else waits for.
const LARGE_BYTES: u64 = 256 << 10;

/// What the calls are answered from.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The main loop.
    pub app: AppHandle,
    /// The programs.
    pub supervise: supervise::Handle,
    /// The record.
    pub events: Events<SystemClock>,
    /// The log of activity, in Supervisor's words.
    pub main_log: PathBuf,
    /// Where this is served: what `serverurl` is for programs that name none.
    pub url: String,
    /// What the supervisor is called.
    pub identifier: String,
    /// Looks a user up, by name or number.
    pub uid: fn(&str) -> Option<u32>,
}

/// The paths that Supervisor's tools use.
pub fn router(backend: Backend) -> Router {
    Router::new()
        .route("/RPC2", post(rpc))
        .route("/RPC2/", post(rpc))
        .route("/logtail/{name}", get(tail::stdout))
        .route("/logtail/{name}/{channel}", get(tail::channel))
        .route("/mainlogtail", get(tail::main_log))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(backend)
}

async fn rpc(State(b): State<Backend>, Extension(peer): Extension<Peer>, body: Bytes) -> Response {
    let call = match read::call(&body) {
        Ok(call) => call,
        Err(e) => {
            tracing::info!(%peer, error = %e, "a request at the socket for Supervisor's tools is refused");
            return (StatusCode::BAD_REQUEST, e.to_string()).into_response();
        }
    };
    drop(body);
    let result = dispatch::call(&b, &peer.to_string(), call).await;
    let is_large = result.as_ref().is_ok_and(|value| value.weight() > LARGE_BYTES);
    let text = if is_large {
        match task::spawn_blocking(move || write::answer(&result)).await {
            Ok(text) => text,
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    } else {
        write::answer(&result)
    };
    ([(header::CONTENT_TYPE, "text/xml")], text).into_response()
}
