//! How `proxy` asks the keeper, and starts it where there is none.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, process::Stdio, time::Duration};

use nix::fcntl::{Flock, FlockArg};
use palisade_types::{
    Ed25519Key,
    grant::{GrantId, GrantReply, UserName},
};
use tokio::{
    net::UnixStream,
    time::{Instant, timeout},
};

use super::{
    Places,
    wire::{Forget, Forgotten, Lines, Reply, Want},
};
use crate::{dirs, program};

/// For a new keeper to listen.
const START: Duration = Duration::from_secs(5);
/// For the keeper's answer, which comes after another client's turn.
const ANSWER: Duration = Duration::from_secs(120);

/// The keeper's answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A grant lives.
    Have(Box<GrantReply>),
    /// Make one.
    Make(Lease),
}

/// The right to make a grant for a key while others wait. Dropped without a reply, it goes to the
/// next.
#[derive(Debug)]
pub(crate) struct Lease {
    lines: Lines,
    pub(crate) key: Ed25519Key,
}

impl Lease {
    /// Here is the host's reply.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub(crate) async fn made(mut self, reply: &GrantReply) -> io::Result<()> {
        self.lines.send(reply).await
    }
}

impl Places {
    /// Asks for a key for `user` on `host`, which is `identity`.
    ///
    /// # Errors
    /// When no keeper can be started, or it does not answer.
    pub(crate) async fn ask(
        &self,
        user: &UserName,
        host: &str,
        identity: String,
    ) -> io::Result<Answer> {
        let mut lines = Lines::new(self.connect().await?);
        lines.send(&Want { v: 1, user: user.clone(), host: host.to_owned(), identity }).await?;
        let reply = timeout(ANSWER, lines.receive()).await.map_err(io::Error::other)??;
        Ok(match reply {
            Reply::Have(reply) => Answer::Have(reply),
            Reply::Make(key) => Answer::Make(Lease { lines, key }),
        })
    }

    /// Tells the keeper, if there is one, that a grant lives no more; says whether it had it.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn forget(&self, id: &GrantId) -> io::Result<bool> {
        let Ok(stream) = UnixStream::connect(self.socket()).await else { return Ok(false) };
        let mut lines = Lines::new(stream);
        lines.send(&Forget { v: 1, forget: id.clone() }).await?;
        let answer = timeout(START, lines.receive()).await.map_err(io::Error::other)?;
        answer.map(|Forgotten { forgotten }| forgotten)
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        if let Ok(stream) = UnixStream::connect(self.socket()).await {
            return Ok(stream);
        }
        dirs::private(self.directory())?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(self.lock())?;
        // Many connections begin together; one of them starts it.
        let lock = tokio::task::spawn_blocking(|| Flock::lock(lock, FlockArg::LockExclusive))
            .await
            .map_err(io::Error::other)?
            .map_err(|(_, e)| io::Error::from(e))?;
        if UnixStream::connect(self.socket()).await.is_err() {
            program::command(program::myself()?)
                .arg("internal-keeper")
                .arg(self.directory())
                .current_dir("/")
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
        }
        let deadline = Instant::now() + START;
        let stream = loop {
            match UnixStream::connect(self.socket()).await {
                Ok(stream) => break stream,
                Err(e) if Instant::now() >= deadline => return Err(e),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        drop(lock);
        Ok(stream)
    }
}
