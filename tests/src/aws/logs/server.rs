//! The HTTP side: a thread with its own runtime, so that synchronous tests can use it too.

use std::{
    convert::Infallible,
    io::{self, Read as _},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet, time};

use super::{
    rules::{self, Put},
    state::{ApiError, Faults, State, Stats, Stream},
};

/// Longest body that is read. The service's own limit for a request is below this.
const MAX_BODY: usize = 16 << 20;

/// A running fake. It stops when dropped.
#[derive(Debug)]
pub struct Fake {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(faults: Faults) -> io::Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), faults, false)
    }

    /// Listens on `addr`; `keep` holds all events in memory, to be read back.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn listen(addr: SocketAddr, faults: Faults, keep: bool) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::new(faults, keep)));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = serve(listener, shared) => {}
                    // Sent, or the sender is gone: an end either way.
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { addr, state, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes what goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    /// What arrived so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.state).stats()
    }

    /// Deletes a group, as somebody at the console might.
    pub fn delete_group(&self, group: &str) {
        lock(&self.state).groups.remove(group);
    }

    /// Deletes all streams of all groups.
    pub fn delete_streams(&self) {
        for g in lock(&self.state).groups.values_mut() {
            g.streams.clear();
        }
    }

    /// Waits for the end of the server, which comes only by a signal to the process.
    pub fn wait(mut self) {
        if let Some(t) = self.thread.take() {
            // A panic of the server has been printed by then.
            t.join().unwrap_or_default();
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            // It may have ended by itself.
            stop.send(()).unwrap_or_default();
            thread.join().unwrap_or_default();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if lock(&state).faults.refuse {
            continue;
        }
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(|r| answer(r, state.clone()));
            // An error is a client that went away, or a fault of ours.
            http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await
                .unwrap_or_default();
        });
    }
}

/// The connection is closed without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

impl From<Infallible> for Closed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Closed> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| Closed)?.to_bytes();
    if head.uri.path().starts_with("/_fake/") {
        return Ok(control(&head, &body, &state));
    }
    let faults = lock(&state).faults.clone();
    if faults.refuse {
        return Err(Closed);
    }
    if faults.hang {
        std::future::pending::<()>().await;
    }
    if faults.delay_ms > 0 {
        time::sleep(Duration::from_millis(faults.delay_ms)).await;
    }
    let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    lock(&state).count_request(body.len());
    let op = header("x-amz-target").strip_prefix("Logs_20140328.").unwrap_or("").to_owned();
    let signed = header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=")
        && !header("x-amz-date").is_empty();
    if !signed {
        lock(&state).violation("unsigned request");
        return Ok(error(&(403, "MissingAuthenticationTokenException", "not signed".into())));
    }
    if header("content-type") != "application/x-amz-json-1.1" {
        lock(&state).violation("wrong content type");
    }
    let plain = match header("content-encoding") {
        "gzip" => {
            let mut out = Vec::new();
            if GzDecoder::new(body.as_ref()).take(MAX_BODY as u64).read_to_end(&mut out).is_err() {
                return Ok(error(&(400, "SerializationException", "bad gzip".into())));
            }
            Bytes::from(out)
        }
        _ => body,
    };
    if faults.denied {
        let what = "not authorized to perform this".to_owned();
        return Ok(error(&(400, "AccessDeniedException", what)));
    }
    if faults.expired {
        return Ok(error(&(400, "ExpiredTokenException", "the token is expired".into())));
    }
    if op != "PutLogEvents" {
        return Ok(reply(call(&op, &plain, &state)));
    }
    {
        let mut s = lock(&state);
        if s.hits("throttle", faults.throttle) {
            return Ok(error(&(400, "ThrottlingException", "Rate exceeded".into())));
        }
        if s.hits("error", faults.error) {
            return Ok(error(&(500, "InternalFailure", "internal error".into())));
        }
    }
    let outcome = match serde_json::from_slice::<Put<'_>>(&plain) {
        Ok(put) => lock(&state).put(&put, now_ms()),
        Err(e) => {
            lock(&state).violation("body that does not parse");
            Err((400, "SerializationException", e.to_string()))
        }
    };
    if outcome.is_ok() && lock(&state).hits("drop_ack", faults.drop_ack) {
        return Err(Closed);
    }
    Ok(reply(outcome))
}

/// The calls other than PutLogEvents.
fn call(op: &str, body: &[u8], state: &Mutex<State>) -> Result<Value, ApiError> {
    let v: Value =
        serde_json::from_slice(body).map_err(|e| (400, "SerializationException", e.to_string()))?;
    let text = |name: &str| v.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (group, stream) = (text("logGroupName"), text("logStreamName"));
    let invalid = |what: &str| (400, "InvalidParameterException", what.to_owned());
    let missing = || (400, "ResourceNotFoundException", "it does not exist".to_owned());
    let exists = || (400, "ResourceAlreadyExistsException", "it exists already".to_owned());
    let mut s = lock(state);
    match op {
        "CreateLogGroup" => {
            if !rules::group_name_is_good(&group) {
                s.violation("bad group name");
                return Err(invalid("logGroupName"));
            }
            if s.groups.contains_key(&group) {
                return Err(exists());
            }
            s.groups.entry(group).or_default();
        }
        "CreateLogStream" => {
            if !rules::stream_name_is_good(&stream) {
                s.violation("bad stream name");
                return Err(invalid("logStreamName"));
            }
            let g = s.groups.get_mut(&group).ok_or_else(missing)?;
            if g.streams.contains_key(&stream) {
                return Err(exists());
            }
            g.streams.insert(stream, Stream::default());
        }
        "PutRetentionPolicy" => {
            let days = v.get("retentionInDays").and_then(Value::as_u64).unwrap_or(0);
            let days = u32::try_from(days).unwrap_or(0);
            if !rules::retention_is_good(days) {
                s.violation("bad retention");
                return Err(invalid("retentionInDays"));
            }
            s.groups.get_mut(&group).ok_or_else(missing)?.retention_days = Some(days);
        }
        "DescribeLogStreams" => {
            let g = s.groups.get(&group).ok_or_else(missing)?;
            let streams: Vec<Value> =
                g.streams.keys().map(|name| json!({ "logStreamName": name })).collect();
            return Ok(json!({ "logStreams": streams }));
        }
        "GetLogEvents" => {
            let g = s.groups.get(&group).ok_or_else(missing)?;
            let stream = g.streams.get(&stream).ok_or_else(missing)?;
            let from = text("nextToken").strip_prefix("f/").and_then(|n| n.parse().ok());
            let from: usize = from.unwrap_or(0);
            let page = stream.kept.iter().skip(from).take(10_000);
            let events: Vec<Value> =
                page.map(|(t, m)| json!({ "timestamp": t, "message": m })).collect();
            let next = format!("f/{}", from + events.len());
            return Ok(json!({ "events": events, "nextForwardToken": next }));
        }
        _ => {
            return Err((400, "UnknownOperationException", format!("{op} is not known here")));
        }
    }
    drop(s);
    Ok(json!({}))
}

/// What tests and people ask of the fake itself.
fn control(
    head: &hyper::http::request::Parts,
    body: &[u8],
    state: &Mutex<State>,
) -> Response<Full<Bytes>> {
    let good = |v: &Value| respond(200, v);
    match (head.method.as_str(), head.uri.path()) {
        ("GET", "/_fake/stats") => good(&json!(lock(state).stats())),
        ("POST", "/_fake/faults") => match serde_json::from_slice::<Faults>(body) {
            Ok(f) => {
                lock(state).faults = f;
                good(&json!({}))
            }
            Err(e) => respond(400, &json!({ "error": e.to_string() })),
        },
        ("POST", "/_fake/reset") => {
            lock(state).reset();
            good(&json!({}))
        }
        ("POST", "/_fake/delete-streams") => {
            for g in lock(state).groups.values_mut() {
                g.streams.clear();
            }
            good(&json!({}))
        }
        _ => respond(404, &json!({ "error": "see the fake's source for its paths" })),
    }
}

fn reply(outcome: Result<Value, ApiError>) -> Response<Full<Bytes>> {
    match outcome {
        Ok(v) => respond(200, &v),
        Err(e) => error(&e),
    }
}

fn error((status, kind, message): &ApiError) -> Response<Full<Bytes>> {
    respond(*status, &json!({ "__type": kind, "message": message }))
}

fn respond(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let kind = hyper::header::HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

#[expect(clippy::disallowed_methods, reason = "the fake has the real time, as the service has")]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
