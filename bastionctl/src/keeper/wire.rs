//! What `proxy` and the keeper say to each other: one JSON object a line.

use std::io;

use palisade_types::{
    Ed25519Key,
    grant::{GrantId, GrantReply, UserName},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

/// Longest line.
const MAX_LINE: u64 = 64 << 10;

/// The first line of `proxy`: for whom a key is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Want {
    pub(super) v: u32,
    pub(super) user: UserName,
    /// As typed, which names the files.
    pub(super) host: String,
    /// Which host that is: account, region, instance. Another one needs another grant.
    pub(super) identity: String,
}

/// The first line of `revoke`: this grant lives no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forget {
    pub(super) v: u32,
    pub(super) forget: GrantId,
}

/// A client's first line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum First {
    Want(Want),
    Forget(Forget),
}

/// The keeper's answer to [`Forget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forgotten {
    /// It had that grant.
    pub(super) forgotten: bool,
}

/// The keeper's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// A grant for the key lives.
    Have(Box<GrantReply>),
    /// Ask the host for a grant for this key, and send its reply; others wait meanwhile.
    Make(Ed25519Key),
}

/// Half of a connection, line by line.
#[derive(Debug)]
pub(super) struct Lines {
    stream: BufReader<UnixStream>,
}

impl Lines {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub(super) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).await
    }

    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}
