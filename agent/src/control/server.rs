//! HTTP over the UNIX socket: one connection, one task; few connections, small requests, no hurry.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    response::IntoResponse as _,
};
use http::{Request, StatusCode, header::CONNECTION};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    peer::{Line, Peer},
    stall::Stall,
};
use crate::task::Scope;

/// Connections at a time; a further one waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// Of those, for others than root, so that nobody can shut root out; a further one is ended.
const MAX_OTHERS: usize = 48;
/// How long a client may take to send its first request, or its next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// One request after the other: 10 seconds.
    Brief,
    /// A person may think between two: 30 minutes, as Supervisor's own server has it.
    Long,
}

impl Patience {
    fn headers_within(self) -> Duration {
        match self {
            Self::Brief => Duration::from_secs(10),
            Self::Long => Duration::from_secs(1800),
        }
    }
}

/// How long the body of a request may take, once its head is there. Those that are taken are small.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// No request has a larger body; each server says how much less it takes.
const MAX_BODY_BYTES: usize = 2 << 20;
/// How long a client may leave an answer unread: a person may have paused the terminal.
const READ_WITHIN: Duration = Duration::from_secs(1800);
/// How long open requests may go on once the server is told to stop.
const PATIENCE: Duration = Duration::from_millis(500);
/// The rest after a refused accept, usually for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves `router` until told to stop. The listener stays open in whoever else holds it.
pub async fn serve(
    listener: UnixListener,
    router: Router,
    patience: Patience,
    stop: CancellationToken,
) {
    let mut connections = Scope::new(&stop);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let others = Arc::new(Semaphore::new(MAX_OTHERS));
    loop {
        // Each arm only waits: a slot not used is given back, a connection not accepted stays in
        // the kernel's queue.
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.next_end() => {}
            accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            } => match accepted {
                (Ok(slot), Ok((stream, _))) => {
                    let (router, stop) = (router.clone(), connections.stop());
                    let others = Arc::clone(&others);
                    connections.spawn("control", async move {
                        connection(stream, router, patience, &others, stop).await;
                        drop(slot);
                    });
                }
                (_, Err(e)) => {
                    tracing::warn!(error = %e, "a control connection could not be accepted");
                    time::sleep(ACCEPT_REST).await;
                }
                (Err(_), _) => break,
            },
        }
    }
    connections.shut_down(PATIENCE).await;
}

async fn connection(
    stream: UnixStream,
    router: Router,
    patience: Patience,
    others: &Semaphore,
    stop: CancellationToken,
) {
    let (peer, line) = match (Peer::of(&stream), Line::of(&stream)) {
        (Ok(peer), Ok(line)) => (peer, line),
        (Err(e), _) => {
            tracing::warn!(error = %e, "a control connection has no credentials");
            return;
        }
        (_, Err(e)) => {
            tracing::warn!(error = %e, "there are no file descriptors for a control connection");
            return;
        }
    };
    let place = if peer.is_root() { None } else { Some(others.try_acquire()) };
    if let Some(Err(_)) = &place {
        tracing::warn!(%peer, "a control connection is ended: others than root have too many");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, line) = (router.clone(), line.clone());
        async move { Ok::<_, Infallible>(answer(router, peer, line, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.headers_within())
        .serve_connection(TokioIo::new(Stall::new(stream, READ_WITHIN)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a control connection broke off");
    }
}

async fn answer(
    mut router: Router,
    peer: Peer,
    line: Line,
    request: Request<Incoming>,
) -> axum::response::Response {
    use tower_service::Service as _;
    let (head, body) = request.into_parts();
    let body = match time::timeout(BODY_WITHIN, to_bytes(Body::new(body), MAX_BODY_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(e)) => {
            tracing::info!(%peer, error = %e, "a request at a control socket is not taken");
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        }
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, [(CONNECTION, "close")]).into_response(),
    };
    let mut request = Request::from_parts(head, Body::from(body));
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(line);
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_body_does_not_come_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let stop = CancellationToken::new();
        let router = Router::new().route("/", axum::routing::post(|body: String| async { body }));
        let served =
            serve(UnixListener::bind(&path).unwrap(), router, Patience::Long, stop.clone());
        let asked = async {
            for (body, code) in [("12", "200 OK"), ("1", "408 Request Timeout")] {
                let mut client = UnixStream::connect(&path).await.unwrap();
                let head =
                    "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n";
                client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
            }
            stop.cancel();
        };
        tokio::join!(served, asked);
    }
}
