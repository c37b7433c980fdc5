//! The agent's own places on the host: its directories, its lock, its socket.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt as _, net::UnixListener},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use palisade_agent::{
    config::Settings,
    sys::{files, inherit::NamedFds, listen, socket_file},
};

/// Names of the files that go through an upgrade; the others are the supervisor's.
const LOCK: &str = "lock";
const CONTROL: &str = "control";

/// What must be ours before anything starts.
#[derive(Debug)]
pub(crate) struct Places {
    lock: File,
    control: UnixListener,
    socket: PathBuf,
    /// What works less than fully.
    pub(crate) degraded: Vec<String>,
}

impl Places {
    /// Takes the places, from the files of an earlier program under this pid where there are any.
    pub(crate) fn take(settings: &Settings, inherited: &mut NamedFds) -> anyhow::Result<Self> {
        let host = &settings.host;
        for dir in [&host.run_dir, &host.state_dir] {
            files::ensure_dir(dir, 0o755)
                .with_context(|| format!("make directory {}", dir.display()))?;
        }
        let lock = match inherited.remove(LOCK) {
            Some(fd) => File::from(fd),
            None => lock(&host.run_dir)?,
        };
        let mut degraded = Vec::new();
        let socket = settings.control.socket.clone();
        let control = match inherited.remove(CONTROL) {
            Some(fd) => UnixListener::from(fd),
            None => bind(&socket)?,
        };
        if let Err(e) = share(&socket, &settings.control.group) {
            let owner = "control socket is for the agent's own user only";
            degraded.push(format!("{owner}: {e:#}"));
        }
        Ok(Self { lock, control, socket, degraded })
    }

    /// The control socket, for the server.
    pub(crate) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        let listener = self.control.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }

    /// The files to hand on.
    pub(crate) fn hand_on(&self) -> io::Result<NamedFds> {
        Ok(NamedFds::from([
            (LOCK.to_owned(), OwnedFd::from(self.lock.try_clone()?)),
            (CONTROL.to_owned(), OwnedFd::from(self.control.try_clone()?)),
        ]))
    }

    /// Leaves nothing behind that could be taken for a living agent.
    pub(crate) fn leave(self) {
        if let Err(e) = fs::remove_file(&self.socket) {
            tracing::warn!(error = %e, "the control socket could not be removed");
        }
    }
}

/// Two agents on one directory would start everything twice.
fn lock(run_dir: &Path) -> anyhow::Result<File> {
    let path = run_dir.join("agent.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another agent runs with run_dir {}", run_dir.display())
        }
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("lock {}", path.display())),
    }
}

/// Binds the socket for root alone. One that a dead agent left makes room; whatever else is there stays.
pub(crate) fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    let what = || format!("listen on {}", socket.display());
    listen::make_room(socket).with_context(what)?;
    if let Some(dir) = socket.parent() {
        files::ensure_dir(dir, 0o755).with_context(what)?;
    }
    socket_file::bind_private(socket).with_context(what)
}

/// Opens the socket to the control group.
pub(crate) fn share(socket: &Path, group: &str) -> anyhow::Result<()> {
    let gid = socket_file::group_id(group)
        .with_context(|| format!("look up group {group}"))?
        .with_context(|| format!("there is no group {group}; create it or set control.group"))?;
    std::os::unix::fs::chown(socket, None, Some(gid)).context("change its group")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
    fs::set_permissions(socket, mode).context("change its mode")
}
