//! HTTP over the UNIX socket: one connection, one task; few connections, small requests, no hurry.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time,
};
use tokio_util::sync::CancellationToken;

use super::peer::Peer;
use crate::task::Scope;

/// Connections at a time; a further one waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// Of those, for others than root, so that nobody can shut root out; a further one is ended.
const MAX_OTHERS: usize = 48;
/// A client that has not sent its request by then is dropped.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// How long open requests may go on once the server is told to stop.
const PATIENCE: Duration = Duration::from_millis(500);
/// The rest after a refused accept, usually for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves `router` until told to stop. The listener stays open in whoever else holds it.
pub async fn serve(listener: UnixListener, router: Router, stop: CancellationToken) {
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
                        connection(stream, router, &others, stop).await;
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
    others: &Semaphore,
    stop: CancellationToken,
) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(e) => {
            tracing::warn!(error = %e, "a control connection has no credentials");
            return;
        }
    };
    let place = if peer.is_root() { None } else { Some(others.try_acquire()) };
    if let Some(Err(_)) = &place {
        tracing::warn!(%peer, "a control connection is ended: others than root have too many");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
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
    request: Request<Incoming>,
) -> axum::response::Response {
    use tower_service::Service as _;
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
