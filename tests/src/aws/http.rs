//! The HTTP side of the fakes: a thread with its own runtime, so that synchronous tests can use it
//! too, and AWS JSON 1.1 as far as all services have it in common.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode, body::Incoming, http::request::Parts, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet, time};

/// Longest body that is read. The services' own limits for a request are below this.
pub(crate) const MAX_BODY: usize = 16 << 20;

/// An error of a service: status, type, message.
pub(crate) type ApiError = (u16, &'static str, String);

/// An answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// The connection is closed without an answer.
#[derive(Debug)]
pub(crate) struct Closed;

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

/// What is served.
pub(crate) trait Service: Send + Sync + 'static {
    /// Whether new connections are closed at once.
    fn refuses(&self) -> bool;

    /// The answer to one request.
    fn answer(
        &self,
        head: &Parts,
        body: Bytes,
    ) -> impl Future<Output = Result<Answer, Closed>> + Send;
}

/// A running server. It stops when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `addr`; port 0 takes a free one.
    pub(crate) fn listen(addr: SocketAddr, service: impl Service) -> io::Result<Self> {
        Self::serve(std::net::TcpListener::bind(addr)?, service)
    }

    /// Answers at a socket that listens already, perhaps in another network.
    pub(crate) fn serve(
        listener: std::net::TcpListener,
        service: impl Service,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let service = Arc::new(service);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, service) => {}
                    // Sent, or the sender is gone: an end either way.
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { addr, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Waits for the end of the server, which comes only by a signal to the process.
    pub(crate) fn wait(mut self) {
        if let Some(t) = self.thread.take() {
            // A panic of the server has been printed by then.
            t.join().unwrap_or_default();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            // It may have ended by itself.
            stop.send(()).unwrap_or_default();
            thread.join().unwrap_or_default();
        }
    }
}

async fn accept(listener: TcpListener, service: Arc<impl Service>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if service.refuses() {
            continue;
        }
        let service = service.clone();
        connections.spawn(async move {
            let service = service_fn(|r| one(r, service.clone()));
            // An error is a client that went away, or a fault of ours.
            http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await
                .unwrap_or_default();
        });
    }
}

async fn one(request: Request<Incoming>, service: Arc<impl Service>) -> Result<Answer, Closed> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| Closed)?.to_bytes();
    service.answer(&head, body).await
}

/// A header's text; empty if there is none.
pub(crate) fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// What came of a call.
pub(crate) fn reply(outcome: Result<Value, ApiError>) -> Answer {
    match outcome {
        Ok(v) => respond(200, &v),
        Err(e) => error(&e),
    }
}

/// An error as services send it.
pub(crate) fn error((status, kind, message): &ApiError) -> Answer {
    respond(*status, &json!({ "__type": kind, "message": message }))
}

/// A JSON body.
pub(crate) fn respond(status: u16, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let kind = hyper::header::HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

/// The lock of a fake's state, also after a panic of somebody who held it.
pub(crate) fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The present moment in milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "the fakes have the real time, as the services have")]
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
