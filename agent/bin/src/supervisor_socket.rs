//! The socket for Supervisor's own tools, and the log that they read: where they are configured.
//!
//! They come, move and go with the configuration, and no program notices. What is wrong with them is told
//! by `status`; the rest of the agent works without.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt as _, net::UnixListener},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use palisade_agent::{
    clock::SystemClock,
    config::Settings,
    control::{
        AppHandle, Patience, own_url, serve,
        supervisor::{self, Backend, MainLog, keep_main_log},
    },
    events::Events,
    supervise::{self, LogFile},
    sys::{inherit::NamedFds, logfile::RotatingLog, users},
    task::Scope,
};
use tokio_util::sync::CancellationToken;

use crate::{modules::Trouble, place};

/// The name under which the listening socket goes through an upgrade.
const NAME: &str = "supervisor";
/// How long requests may go on once they are no longer taken.
const WITHIN: Duration = Duration::from_secs(3);

/// What requests are answered from.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) app: AppHandle,
    pub(crate) supervise: supervise::Handle,
    pub(crate) events: Events<SystemClock>,
}

/// The socket, served if it is configured.
pub(crate) struct SupervisorSocket {
    root: CancellationToken,
    sources: Sources,
    trouble: Trouble,
    running: Option<Running>,
}

struct Running {
    path: PathBuf,
    /// Its file, which somebody may remove or put another in the place of.
    file: Option<FileId>,
    identifier: String,
    listener: UnixListener,
    scope: Scope,
}

/// Device and inode.
type FileId = (u64, u64);

fn file_at(path: &Path) -> Option<FileId> {
    fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Takes the socket of the program before out of what it handed on.
pub(crate) fn inherited(files: &mut NamedFds) -> Option<UnixListener> {
    files.remove(NAME).map(UnixListener::from)
}

impl SupervisorSocket {
    pub(crate) fn new(root: &CancellationToken, sources: Sources, trouble: Trouble) -> Self {
        Self { root: root.clone(), sources, trouble, running: None }
    }

    /// Serves where the settings say, or nowhere.
    pub(crate) async fn apply(&mut self, settings: &Settings, held: Option<UnixListener>) {
        let wanted = settings.control.supervisor_socket.as_deref();
        let identifier = settings.control.identifier.as_str();
        if let Some(running) = &self.running
            && wanted == Some(running.path.as_path())
            && identifier == running.identifier
            && running.is_there()
        {
            // The group may have come meanwhile.
            return self.trouble.is(share(&running.path, settings));
        }
        self.close().await;
        let Some(path) = wanted else {
            if let Some(old) = held {
                forget(&old);
            }
            return self.trouble.is(None);
        };
        match self.open(path, settings, held) {
            Ok((running, nobody_else)) => {
                self.running = Some(running);
                self.trouble.is(nobody_else);
            }
            Err(e) => self.trouble.is(Some(format!("not served: {e:#}"))),
        }
    }

    /// Begins to serve. The second value says why only the agent's own user may connect.
    fn open(
        &self,
        path: &Path,
        settings: &Settings,
        held: Option<UnixListener>,
    ) -> anyhow::Result<(Running, Option<String>)> {
        let is_there = |l: &UnixListener| {
            l.local_addr().is_ok_and(|a| a.as_pathname() == Some(path)) && path.exists()
        };
        let listener = match held {
            Some(listener) if is_there(&listener) => listener,
            other => {
                if let Some(old) = other {
                    forget(&old);
                }
                place::bind(path)?
            }
        };
        let nobody_else = share(path, settings);
        let file = file_at(path);
        let ours = listener.try_clone().context("duplicate the socket")?;
        ours.set_nonblocking(true).context("set the socket up")?;
        let ours = tokio::net::UnixListener::from_std(ours).context("set the socket up")?;
        let Sources { app, supervise, events } = self.sources.clone();
        let main_log = settings.host.state_dir.join("supervisor.log");
        let mut scope = Scope::new(&self.root);
        let log = MainLog {
            file: RotatingLog::new(&main_log, &LogFile::default()),
            clock: SystemClock,
            events: supervise.events(),
        };
        scope.spawn("supervisor log", keep_main_log(log, scope.stop()));
        let uid = |name: &str| users::identity(name).ok().map(|i| i.uid);
        let identifier = settings.control.identifier.clone();
        let backend = Backend {
            app,
            supervise,
            events,
            main_log,
            url: own_url(path),
            identifier: identifier.clone(),
            uid,
        };
        let router = supervisor::router(backend);
        scope.spawn("supervisor socket", serve(ours, router, Patience::Long, scope.stop()));
        let running = Running { path: path.to_owned(), file, identifier, listener, scope };
        Ok((running, nobody_else))
    }

    /// Ends serving and leaves nothing behind that could be taken for a living agent.
    pub(crate) async fn close(&mut self) {
        if let Some(running) = self.running.take() {
            let is_there = running.is_there();
            let Running { path, listener, scope, .. } = running;
            scope.shut_down(WITHIN).await;
            drop(listener);
            if is_there {
                remove(&path);
            }
        }
    }

    /// Ends serving and returns the socket for the next program; who connects meanwhile waits.
    pub(crate) async fn hand_on(&mut self) -> NamedFds {
        match self.running.take() {
            Some(Running { listener, scope, .. }) => {
                scope.shut_down(WITHIN).await;
                NamedFds::from([(NAME.to_owned(), OwnedFd::from(listener))])
            }
            None => NamedFds::new(),
        }
    }
}

impl Running {
    /// Whether who connects at the path comes to us.
    fn is_there(&self) -> bool {
        self.file.is_some() && file_at(&self.path) == self.file
    }
}

/// Opens the socket to the control group, or says why only the agent's own user may connect.
fn share(path: &Path, settings: &Settings) -> Option<String> {
    let shared = place::share(path, &settings.control.group);
    shared.err().map(|e| format!("for the agent's own user only: {e:#}"))
}

/// Removes the file of a socket that is no longer wanted.
fn forget(listener: &UnixListener) {
    if let Some(path) = listener.local_addr().ok().as_ref().and_then(|a| a.as_pathname()) {
        remove(path);
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(error = %e, "the socket for Supervisor's tools could not be removed");
        }
        _ => {}
    }
}
