//! The agent's socket: mode 0600 in a directory of mode 0700, served until dropped.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::unistd::geteuid;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::timeout,
};

use super::wire;
use crate::keys::EphemeralKey;

/// Clients at a time; one more waits in the kernel's queue.
const MAX_CLIENTS: usize = 64;
/// A client that says nothing for so long is cut off. ssh asks within the login.
const IDLE: Duration = Duration::from_secs(120);

/// An agent that is served for as long as this lives. The socket goes with it.
#[derive(Debug)]
pub(crate) struct KeyAgent {
    path: PathBuf,
    tasks: JoinSet<()>,
}

impl KeyAgent {
    /// Serves `key` at `path`, which must lie in a private directory.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(crate) fn start(path: PathBuf, key: Arc<EphemeralKey>) -> io::Result<Self> {
        let listener = bind(&path)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, key));
        Ok(Self { path, tasks })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        self.tasks.abort_all();
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

/// A socket that only this user can reach; one that somebody left there is replaced.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Whether the other end is this user or root, who can do everything anyhow.
pub(crate) fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|c| c.uid() == geteuid().as_raw() || c.uid() == 0)
}

/// Answers clients until it is dropped.
async fn serve(listener: UnixListener, key: Arc<EphemeralKey>) {
    let mut clients = JoinSet::new();
    loop {
        while clients.len() >= MAX_CLIENTS {
            clients.join_next().await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: the next try is after some client has gone, or after a moment.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        while clients.try_join_next().is_some() {}
        if is_ours(&stream) {
            clients.spawn(client(stream, Arc::clone(&key)));
        }
    }
}

async fn client(mut stream: UnixStream, key: Arc<EphemeralKey>) {
    let turns = async {
        loop {
            let message = timeout(IDLE, read(&mut stream)).await.map_err(io::Error::other)??;
            let reply = wire::answer(&message, &key, "bastionctl");
            let len = u32::try_from(reply.len()).map_err(io::Error::other)?;
            stream.write_all(&[&len.to_be_bytes()[..], &reply].concat()).await?;
        }
    };
    // A client that goes away or talks nonsense only ends its own connection.
    let ended: io::Result<()> = turns.await;
    drop(ended);
}

async fn read(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let len = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if len == 0 || len > wire::MAX_MESSAGE {
        return Err(io::Error::other("a message of this length is none"));
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::print_stdout, reason = "a test says why it is skipped")]
    async fn openssh_lists_the_key_and_the_socket_goes_with_the_agent() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("agent.sock");
        let key = Arc::new(EphemeralKey::new().unwrap());
        let agent = KeyAgent::start(path.clone(), Arc::clone(&key)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let listed =
            crate::program::output("ssh-add", &["-l"], &[("SSH_AUTH_SOCK", agent.path())]).await;
        let Ok(listed) = listed else { return println!("skipped: ssh-add is not installed") };
        assert!(listed.contains(&key.public().fingerprint()), "{listed}");
        drop(agent);
        assert!(!path.exists());
    }
}
