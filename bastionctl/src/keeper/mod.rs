//! Keys for the ssh that others start: VS Code, Ansible, rsync, git.
//!
//! A ProxyCommand cannot give ssh a key, and it ends with its connection. So a small process in the
//! background holds, for each user and host, one key in memory, serves it as an ssh-agent, and
//! remembers until when the host's grant for it lives. `proxy` asks it first: many connections share
//! one grant, and one of them makes it while the others wait. It knows no AWS credentials, and ends
//! when its last grant has.

mod client;
mod server;
mod wire;

use std::path::{Path, PathBuf};

use palisade_types::grant::UserName;

pub(crate) use client::Answer;
pub(crate) use server::serve;

/// Where its files are, under the runtime directory.
#[derive(Clone, Debug)]
pub(crate) struct Places(PathBuf);

impl Places {
    pub(crate) fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    fn socket(&self) -> PathBuf {
        self.0.join("keeper.sock")
    }

    fn lock(&self) -> PathBuf {
        self.0.join("keeper.lock")
    }

    /// The agent for this user and host, as `IdentityAgent` names it.
    pub(crate) fn agent(&self, user: &UserName, host: &str) -> PathBuf {
        self.0.join("agents").join(format!("{user}@{host}"))
    }

    /// The host's keys, as `UserKnownHostsFile` names them.
    pub(crate) fn known_hosts(&self, host: &str) -> PathBuf {
        self.0.join("hosts").join(host)
    }
}
