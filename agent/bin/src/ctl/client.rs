//! Talking to the agent over its control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use palisade_types::control::{API, Failure, FailureKind};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, task::JoinSet, time};

use crate::exit::Failed;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for a report. An agent that is being replaced answers when the next one has taken
/// over; one that hangs, or has no descriptor left to take a connection, does not.
/// What is to be done takes as long as it takes.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// One agent's control socket.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

/// The body of a good answer, and the task that reads the connection for it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Incoming,
    _driver: JoinSet<()>,
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks for a document.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        let looked = time::timeout(LOOK_WITHIN, self.work_out(path)).await;
        looked.unwrap_or_else(|_| Err(self.silent()))
    }

    /// Asks for a document that the agent may take long to work out.
    pub(super) async fn work_out<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    /// Asks for something to be done.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failed> {
        let body = serde_json::to_vec(body).context("write the request")?;
        self.json(Method::POST, path, body.into()).await
    }

    /// Asks for something by a document as it is.
    pub(super) async fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failed> {
        self.json(Method::POST, path, body).await
    }

    /// Asks for something that is no document.
    pub(super) async fn get_bytes(&self, path: &str) -> Result<Bytes, Failed> {
        let looked = time::timeout(LOOK_WITHIN, self.bytes(Method::GET, path, Bytes::new())).await;
        looked.unwrap_or_else(|_| Err(self.silent()))
    }

    fn silent(&self) -> Failed {
        unreachable(&self.socket, &io::Error::other("no answer within 30 s"))
    }

    async fn bytes(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failed> {
        let answer = self.send(method, path, body).await?;
        let body = Limited::new(answer.body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|e| anyhow::anyhow!("read the agent's answer: {e}"))?;
        Ok(body.to_bytes())
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failed> {
        let bytes = self.bytes(method, path, body).await?;
        let what = "understand the agent's answer: is the agent of another version?";
        Ok(serde_json::from_slice(&bytes).context(what)?)
    }

    /// Sends a request and returns the body of a good answer, to be read as it comes.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, Failed> {
        let stream = time::timeout(CONNECT_WITHIN, UnixStream::connect(&self.socket))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|e| unreachable(&self.socket, &e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| unreachable(&self.socket, &io::Error::other(e)))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // An error here comes out of the request or of its body as well.
            connection.await.unwrap_or_default();
        });
        let request = Request::builder()
            .method(method)
            .uri(format!("{API}{path}"))
            .header("host", "palisade")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .context("write the request")?;
        let answer = sender
            .send_request(request)
            .await
            .context("the agent ended the connection before it answered")?;
        if answer.status() == StatusCode::OK {
            return Ok(Answer { body: answer.into_body(), _driver: driver });
        }
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let bytes = bytes.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let failure = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            Failure::new(FailureKind::Failed, format!("the agent answered {status}"))
        });
        Err(Failed::Agent(failure))
    }
}

fn unreachable(socket: &Path, e: &io::Error) -> Failed {
    let hint = match e.kind() {
        io::ErrorKind::PermissionDenied => "run as root or as a member of the control group",
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is the agent running? systemctl status palisade; name another socket with --socket"
        }
        _ => "look at the agent's log: journalctl -u palisade",
    };
    let error = format!("connect to the agent at {}: {e}", socket.display());
    Failed::Unreachable { error, hint: hint.to_owned() }
}
