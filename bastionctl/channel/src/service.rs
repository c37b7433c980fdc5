//! The port to what knows AWS: signing, resuming and terminating a session.

use std::{fmt, future::Future};

use crate::end::End;

/// A session's token. It is worth the session, so it is shown to nobody.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Wraps a token.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What `StartSession` answers.
#[derive(Clone, Debug)]
pub struct Started {
    /// `SessionId`.
    pub session_id: String,
    /// `TokenValue`.
    pub token: Token,
    /// `StreamUrl`.
    pub stream_url: String,
}

/// What `ResumeSession` answers.
#[derive(Clone, Debug)]
pub enum Resumed {
    /// Go on with this.
    With {
        /// `TokenValue`.
        token: Token,
        /// `StreamUrl`.
        stream_url: String,
    },
    /// No token, or no such session: it is over.
    Gone,
}

/// The signed request of a WebSocket.
#[derive(Clone, Default)]
pub struct Signed {
    /// Replaces the address if the signature stands in its query.
    pub url: Option<String>,
    /// Headers to add: `authorization`, `x-amz-date`, `x-amz-security-token`.
    pub headers: http::HeaderMap,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("headers", &self.headers.len()).finish_non_exhaustive()
    }
}

/// Why the service's port failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It may work later: the network, a throttle, a server's error.
    #[error("{0}")]
    Later(String),
    /// It will not work by waiting: credentials expired, a permission is missing.
    #[error("{0}")]
    Never(String),
}

impl ServiceError {
    pub(crate) fn into_end(self) -> Result<String, End> {
        match self {
            Self::Later(why) => Ok(why),
            Self::Never(why) => Err(End::Denied { why }),
        }
    }
}

/// The session's control plane, by whoever has credentials.
pub trait Service: Send + Sync + 'static {
    /// Signs `GET url` for the service `ssmmessages` with an empty body; called for every socket, as
    /// signatures age. `host` is the only header of ours that is signed.
    fn sign(&self, url: &str) -> impl Future<Output = Result<Signed, ServiceError>> + Send;
    /// `ResumeSession`. Refresh credentials first if they may have expired.
    fn resume(&self) -> impl Future<Output = Result<Resumed, ServiceError>> + Send;
    /// `TerminateSession`; called once, on every way out, with a bound on its time.
    fn terminate(&self) -> impl Future<Output = Result<(), ServiceError>> + Send;
}
