//! The calls of CloudWatch Logs, over the HTTP side that all fakes share.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use hyper::http::request::Parts;
use palisade_peer::sigv4::Refusal;
use serde_json::{Value, json};
use tokio::time;

use super::{
    rules::{self, Put},
    state::{Faults, State, Stats, Stream},
};
use crate::aws::{
    http::{
        Answer, ApiError, Closed, MAX_BODY, Server, Service, error, header, lock, now_ms, reply,
        respond,
    },
    signature::signer,
};

/// The service without its HTTP server. Clones are the same service.
#[derive(Clone, Debug)]
pub struct Logs {
    state: Arc<Mutex<State>>,
}

/// A running fake. It stops when dropped.
#[derive(Debug)]
pub struct Fake {
    server: Server,
    logs: Logs,
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
        let logs = Logs::new(faults, keep);
        Ok(Self { server: Server::listen(addr, logs.clone())?, logs })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Changes what goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.logs.state).faults = faults;
    }

    /// What arrived so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.logs.state).stats()
    }

    /// The messages of a group, if they are kept, stream by stream in the order in which they came.
    #[must_use]
    pub fn messages(&self, group: &str) -> Vec<String> {
        self.logs.messages(group)
    }

    /// Deletes a group, as somebody at the console might.
    pub fn delete_group(&self, group: &str) {
        lock(&self.logs.state).groups.remove(group);
    }

    /// Deletes all streams of all groups.
    pub fn delete_streams(&self) {
        for g in lock(&self.logs.state).groups.values_mut() {
            g.streams.clear();
        }
    }
}

impl Logs {
    /// The service; `keep` holds all events in memory, to be read back.
    #[must_use]
    pub fn new(faults: Faults, keep: bool) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(faults, keep))) }
    }

    /// What arrived so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.state).stats()
    }

    /// The messages of a group that it kept, stream by stream in the order in which they came.
    #[must_use]
    pub fn messages(&self, group: &str) -> Vec<String> {
        let state = lock(&self.state);
        let streams = state.groups.get(group).into_iter().flat_map(|g| g.streams.values());
        streams.flat_map(|s| s.kept.iter().map(|(_, message)| message.clone())).collect()
    }
}

impl Service for Logs {
    fn refuses(&self) -> bool {
        lock(&self.state).faults.refuse
    }

    async fn answer(&self, head: &Parts, body: Bytes) -> Result<Answer, Closed> {
        let mut answer = answer(head, body, &self.state).await?;
        // Every answer tells the service's time: clients take their correction from any of them.
        let at = service_ms(&lock(&self.state).faults);
        let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
        if let Ok(date) = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().parse() {
            answer.headers_mut().insert(hyper::header::DATE, date);
        }
        Ok(answer)
    }
}

/// The service's own time.
fn service_ms(faults: &Faults) -> i64 {
    now_ms() + faults.clock_ahead_s * 1000
}

async fn answer(head: &Parts, body: Bytes, state: &Mutex<State>) -> Result<Answer, Closed> {
    if head.uri.path().starts_with("/_fake/") {
        return Ok(control(head, &body, state));
    }
    let faults = lock(state).faults.clone();
    if faults.refuse {
        return Err(Closed);
    }
    if faults.hang {
        std::future::pending::<()>().await;
    }
    if faults.delay_ms > 0 {
        time::sleep(Duration::from_millis(faults.delay_ms)).await;
    }
    lock(state).count_request(body.len());
    let op = header(head, "x-amz-target").strip_prefix("Logs_20140328.").unwrap_or("").to_owned();
    if let Err(refusal) = signer(head, &body, "logs", service_ms(&faults) / 1000) {
        return Ok(error(&refused(refusal, &mut lock(state))));
    }
    if header(head, "content-type") != "application/x-amz-json-1.1" {
        lock(state).violation("wrong content type");
    }
    let plain = match header(head, "content-encoding") {
        "gzip" if faults.no_gzip => {
            return Ok(error(&(415, "UnsupportedMediaTypeException", "no gzip here".into())));
        }
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
        return Ok(reply(call(&op, &plain, state)));
    }
    {
        let mut s = lock(state);
        if s.hits("throttle", faults.throttle) {
            return Ok(error(&(400, "ThrottlingException", "Rate exceeded".into())));
        }
        if s.hits("cut", faults.cut) {
            return Err(Closed);
        }
        if s.hits("error", faults.error) {
            return Ok(error(&(500, "InternalFailure", "internal error".into())));
        }
    }
    let outcome = match serde_json::from_slice::<Put<'_>>(&plain) {
        Ok(put) => lock(state).put(&put, service_ms(&faults)),
        Err(e) => {
            lock(state).violation("body that does not parse");
            Err((400, "SerializationException", e.to_string()))
        }
    };
    if outcome.is_ok() && lock(state).hits("drop_ack", faults.drop_ack) {
        return Err(Closed);
    }
    Ok(reply(outcome))
}

/// The error for a bad signature. A clock that is wrong breaks no rule.
fn refused(refusal: Refusal, state: &mut State) -> ApiError {
    let (kind, what) = match refusal {
        Refusal::Skew(what) => return (403, "InvalidSignatureException", what),
        Refusal::Missing => ("MissingAuthenticationTokenException", "not signed".to_owned()),
        other => ("InvalidSignatureException", format!("{other:?}")),
    };
    state.violation("bad signature");
    (403, kind, what)
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
            let kms_key = v.get("kmsKeyId").and_then(Value::as_str).map(str::to_owned);
            if kms_key.as_ref().is_some_and(|k| !rules::key_is_good(k)) {
                s.violation("bad KMS key");
                return Err(invalid("kmsKeyId"));
            }
            s.groups.entry(group).or_default().kms_key = kms_key;
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
        "PutRetentionPolicy" if s.faults.retention_throttles > 0 => {
            s.faults.retention_throttles -= 1;
            return Err((400, "ThrottlingException", "Rate exceeded".to_owned()));
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
fn control(head: &Parts, body: &[u8], state: &Mutex<State>) -> Answer {
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
