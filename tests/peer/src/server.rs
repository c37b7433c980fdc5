//! The HTTP side: which service a request is for, whose it is, and the upgrade to a data channel.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    ApiError, Signer, api,
    channel::{self, session::Session},
    peer::Shared,
    sigv4,
};

mod control;

/// Longest body that is read.
const MAX_BODY: usize = 4 << 20;
/// Largest message of a data channel.
const MAX_MESSAGE: usize = 64 << 20;
const CHANNEL: &str = "/v1/data-channel/";

type Answer = Response<Full<Bytes>>;

/// Accepts until the runtime ends.
pub(crate) async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Acknowledgements are small and must not wait for each other.
        socket.set_nodelay(true).unwrap_or_default();
        let on = shared.clone();
        shared.spawn(async move {
            let service = service_fn(|request| one(request, on.clone()));
            // An error is a client that went away.
            http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades()
                .await
                .unwrap_or_default();
        });
    }
}

async fn one(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, Infallible> {
    if request.uri().path().starts_with(CHANNEL) {
        return Ok(upgrade(request, &shared));
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return Ok(respond(413, "application/json", "{}".to_owned()));
    };
    Ok(answer(&shared, &head, &body.to_bytes()).await)
}

/// Answers anything but an upgrade.
pub(crate) async fn answer(shared: &Arc<Shared>, head: &request::Parts, body: &Bytes) -> Answer {
    if head.uri.path().starts_with("/_peer/") {
        return control::answer(shared, head, body);
    }
    let faults = shared.faults();
    time::sleep(Duration::from_millis(faults.call_delay_ms)).await;
    let target = text(head, "x-amz-target");
    if let Some(op) = target.strip_prefix("AmazonSSM.") {
        let outcome = json_call(shared, head, body, op).await;
        return json_answer(&outcome);
    }
    let form = sigv4::pairs(&String::from_utf8_lossy(body));
    let service = if text(head, "authorization").contains("/sts/") { "sts" } else { "ec2" };
    api::query::answer(shared, service, &form, || signer(shared, head, body, service))
}

async fn json_call(
    shared: &Arc<Shared>,
    head: &request::Parts,
    body: &Bytes,
    op: &str,
) -> Result<Value, ApiError> {
    if head.method != http::Method::POST || head.uri.path() != "/" {
        shared.violation("", format!("{} {} with a target", head.method, head.uri.path()));
    }
    if text(head, "content-type") != "application/x-amz-json-1.1" {
        shared.violation("", format!("{op} with content type {:?}", text(head, "content-type")));
    }
    let signer = signer(shared, head, body, "ssm").map_err(|e| e.json())?;
    let broken = |e| ApiError::new("SerializationException", format!("{e}"));
    let body: Value = serde_json::from_slice(body).map_err(broken)?;
    api::call(shared, op, &body, &signer).await
}

fn signer(
    shared: &Shared,
    head: &request::Parts,
    body: &[u8],
    service: &str,
) -> Result<Signer, crate::keys::Unknown> {
    let headers = sigv4::headers(head);
    let parts = sigv4::Parts::of(head, &headers, body);
    let signer = shared.keys.signer(&parts, service, shared.now_s())?;
    if shared.faults().expired_token {
        return Err(crate::keys::Unknown::Expired);
    }
    Ok(signer)
}

fn upgrade(mut request: Request<Incoming>, shared: &Arc<Shared>) -> Answer {
    let on = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    match admit(shared, &head) {
        Err((status, what)) => json_status(status, &json!({ "message": what })),
        Ok(session) => {
            let key = head.headers.get(header::SEC_WEBSOCKET_KEY);
            let accept = derive_accept_key(key.map_or(b"", |k| k.as_bytes()));
            let task = shared.clone();
            shared.spawn(async move {
                let Ok(upgraded) = on.await else { return };
                let limits = WebSocketConfig::default()
                    .max_message_size(Some(MAX_MESSAGE))
                    .max_frame_size(Some(MAX_MESSAGE));
                let socket = WebSocketStream::from_raw_socket(
                    TokioIo::new(upgraded),
                    Role::Server,
                    Some(limits),
                );
                channel::serve(task, session, socket.await).await;
            });
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = answer.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            if let Ok(accept) = HeaderValue::from_str(&accept) {
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
            answer
        }
    }
}

/// Which session a client may have, or why not.
fn admit(shared: &Shared, head: &request::Parts) -> Result<Arc<Session>, (u16, String)> {
    let id = head.uri.path().strip_prefix(CHANNEL).unwrap_or("");
    let wrong = |what: &str| {
        shared.violation(id, format!("upgrade: {what}"));
        (400, what.to_owned())
    };
    let has = |name: &str, word: &str| {
        text(head, name).split(',').any(|p| p.trim().eq_ignore_ascii_case(word))
    };
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return Err(wrong("not to websocket"));
    }
    if text(head, "sec-websocket-version") != "13" || text(head, "sec-websocket-key").is_empty() {
        return Err(wrong("not of version 13"));
    }
    if !text(head, "sec-websocket-protocol").is_empty() {
        return Err(wrong("with a subprotocol"));
    }
    let query = sigv4::pairs(head.uri.query().unwrap_or(""));
    if !query.iter().any(|(n, v)| n == "role" && v == "publish_subscribe") {
        return Err(wrong("without role=publish_subscribe"));
    }
    let signer = signer(shared, head, b"", "ssmmessages").map_err(|e| {
        // A clock and credentials can be wrong without a fault of the client.
        let e_ = e.json();
        if matches!(e, crate::keys::Unknown::Signature(ref r)
            if !matches!(r, sigv4::Refusal::Skew(_)))
        {
            shared.violation(id, format!("upgrade: {}", e_.message));
        }
        (403, e_.message)
    })?;
    let config = &shared.config;
    let arn = format!("arn:aws:ssm:{}:{}:session/{id}", config.region, config.account);
    shared
        .keys
        .allow(&signer, "ssmmessages:OpenDataChannel", &arn)
        .map_err(|e| (403, e.message))?;
    shared.session(id).ok_or_else(|| (404, format!("session {id} does not exist")))
}

fn text<'a>(head: &'a request::Parts, name: &str) -> &'a str {
    head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

fn json_answer(outcome: &Result<Value, ApiError>) -> Answer {
    match outcome {
        Ok(value) => json_status(200, value),
        Err(e) => json_status(e.status, &json!({ "__type": e.kind, "message": e.message })),
    }
}

fn json_status(status: u16, body: &Value) -> Answer {
    respond(status, "application/x-amz-json-1.1", body.to_string())
}

/// An answer, with an id as all services have it.
pub(crate) fn respond(status: u16, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        headers.insert("x-amzn-requestid", id);
    }
    answer
}
