//! `/logtail` and `/mainlogtail`: the end of a log, and then what is added to it, for as long as somebody
//! looks. `supervisorctl tail -f`, `maintail -f` and `fg` show these.

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{Backend, logs, logs::Log, names};
use crate::{
    control::{follow, peer::Line},
    supervise::Stream,
};

/// What is shown of a log to begin with.
const HEAD_BYTES: u64 = 1024;

pub(super) async fn stdout(
    b: State<Backend>,
    line: Extension<Line>,
    Path(name): Path<String>,
) -> Response {
    channel(b, line, Path((name, "stdout".to_owned()))).await
}

pub(super) async fn channel(
    State(b): State<Backend>,
    Extension(line): Extension<Line>,
    Path((name, channel)): Path<(String, String)>,
) -> Response {
    let stream = match channel.as_str() {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return not_found(),
    };
    let Ok(all) = b.supervise.infos().await else { return not_found() };
    match names::one(&all, &name) {
        Ok(info) => follow(logs::of(info, stream), line).await,
        Err(_) => not_found(),
    }
}

pub(super) async fn main_log(
    State(b): State<Backend>,
    Extension(line): Extension<Line>,
) -> Response {
    follow(Some(Log { path: b.main_log, is_promised: false }), line).await
}

async fn follow(log: Option<Log>, line: Line) -> Response {
    let Some(log) = log else { return not_found() };
    if !log.is_there().await {
        return not_found();
    }
    // Without a length it is sent in chunks; the second header keeps a proxy from holding them back.
    let kind = (header::CONTENT_TYPE, "text/plain;charset=utf-8");
    let unbuffered = (header::HeaderName::from_static("x-accel-buffering"), "no");
    let body = Body::new(follow::last(log.path, HEAD_BYTES, line));
    ([kind, unbuffered], body).into_response()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "there is no such log").into_response()
}
