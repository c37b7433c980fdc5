//! This host, as the supervisor sees it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    poll::{PollTimeout, poll},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use palisade_types::ProcessName;
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};

use super::{
    cgroup::Cgroups,
    child::{HostChild, Nursery, inheritable},
    children::Children,
    fifo::{Fifo, Scratch},
    files, listen, logfile, memory,
    notify::NotifySocket,
    probe, proc,
    program_log::{HostLog, Logs},
    usage, users,
};
use crate::supervise::{
    HookLaunch, Identity, Inherited, Launch, ListenAddr, LogFile, Notice, Outputs, ProbeTarget,
    ProcessSpec, Processes, Reading, Settings, SharedSocket, Sockets, SpawnError, Stream, Tables,
    Usages,
};

/// The name under which the notification socket is handed over.
const NOTIFY_KEY: &str = "notify";

/// The limit of open files that the first agent was started with is handed over in the name of a
/// file, as the next one inherits the raised one.
const OPEN_FILES_KEY: &str = "open-files-";

/// The wait after the notification socket failed, so that a broken one does not spin.
const NOTIFY_PAUSE: Duration = Duration::from_secs(1);

/// This host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LinuxHost {
    nursery: Arc<Nursery>,
    notify: Arc<NotifySocket>,
    scratch: Arc<Mutex<Scratch>>,
    logs: Arc<Logs>,
    pub(super) run_dir: PathBuf,
    /// Held while any clone lives; released by the death of the agent and by exec.
    _lock: Arc<Flock<fs::File>>,
}

impl LinuxHost {
    /// Makes the directories and the notification socket, finds the cgroups, and becomes the reaper of
    /// orphans. `env` is the agent's own environment. Must be called inside the runtime.
    ///
    /// # Errors
    /// When the run directory cannot be used, or another agent uses it.
    pub fn new(
        settings: &Settings,
        children: Children,
        env: impl Iterator<Item = (OsString, OsString)>,
        inherited: &mut Inherited,
    ) -> io::Result<Self> {
        let run_dir = settings.run_dir.clone();
        files::ensure_dir(&run_dir, 0o755)?;
        files::ensure_dir(&run_dir.join("output"), 0o700)?;
        let lock = lock(&run_dir)?;
        match nix::sys::prctl::set_child_subreaper(true) {
            Ok(()) => children.reap_the_dead(),
            Err(e) => tracing::warn!(error = %e, "orphans of programs are not ours to reap"),
        }
        let notify_path = run_dir.join("notify.sock");
        let notify = NotifySocket::open(&notify_path, inherited.remove(NOTIFY_KEY))?;
        let null = fs::OpenOptions::new().read(true).open("/dev/null")?;
        let nursery = Nursery {
            children,
            cgroups: Cgroups::open(&settings.cgroup),
            run_dir: run_dir.clone(),
            notify_path,
            env: inheritable(env),
            null: null.into(),
            open_files: raise_open_files(inherited),
        };
        Ok(Self {
            nursery: Arc::new(nursery),
            notify: Arc::new(notify),
            scratch: Arc::new(Mutex::new(Scratch::new()?)),
            logs: Arc::new(Logs::new()),
            run_dir,
            _lock: Arc::new(lock),
        })
    }

    fn table(&self) -> PathBuf {
        self.run_dir.join("supervise.json")
    }

    /// The user and group that a process runs as, if they are others than ours. One that cannot be
    /// found is told when the process starts; its pipes are ours meanwhile.
    pub(super) fn owner_of(spec: &ProcessSpec) -> Option<(u32, u32)> {
        let owner = spec.user.as_deref().and_then(|u| users::identity(u).ok());
        let owner = owner.filter(|_| nix::unistd::Uid::effective().is_root());
        owner.map(|o| (o.uid, o.gid))
    }

    fn pipe_path(&self, name: &ProcessName, stream: Stream) -> PathBuf {
        self.run_dir.join("output").join(format!("{name}.{stream}"))
    }
}

/// Makes sure that no other agent minds the same processes. The last one may be dying, or a child that
/// it was making may still hold its files, so a moment is waited.
fn lock(run_dir: &Path) -> io::Result<Flock<fs::File>> {
    const TRIES: u32 = 40;
    const PAUSE_MS: u8 = 50;
    let mut open = fs::OpenOptions::new();
    open.write(true).create(true).truncate(false).mode(0o600);
    let mut file = open.open(run_dir.join("supervise.lock"))?;
    for _ in 0..TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, e)) => return Err(e.into()),
        }
        // Before anything else runs here: blocking is what is meant.
        poll(&mut [], PollTimeout::from(PAUSE_MS))?;
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("another agent uses {}", run_dir.display()),
    ))
}

/// Lets the agent open as many files as it may, three for each process and more; the soft limit is a
/// protection for programs that use select(2), which this one does not. Returns what it was.
fn raise_open_files(inherited: &mut Inherited) -> (u64, u64) {
    let key = inherited.keys().find(|k| k.starts_with(OPEN_FILES_KEY)).cloned();
    let first = key.and_then(|k| {
        inherited.remove(&k);
        k.strip_prefix(OPEN_FILES_KEY)?.parse().ok()
    });
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    if let Err(e) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        tracing::warn!(error = %e, "limit of open files not raised");
    }
    (first.unwrap_or(soft), hard)
}

impl Processes for LinuxHost {
    type Child = HostChild;

    fn spawn(&self, launch: Launch<'_>) -> Result<HostChild, SpawnError> {
        self.nursery.spawn(launch)
    }

    fn spawn_hook(&self, launch: HookLaunch<'_>) -> Result<HostChild, SpawnError> {
        self.nursery.spawn_hook(launch)
    }

    fn end_hooks(&self) {
        self.nursery.end_hooks();
    }

    fn check(&self, spec: &ProcessSpec) -> Result<(), SpawnError> {
        self.nursery.find(spec).map(drop)
    }

    fn adopt(&self, name: &ProcessName, identity: Identity) -> Option<HostChild> {
        self.nursery.adopt(name, identity)
    }

    fn marked(&self, known: &[ProcessSpec]) -> Vec<(ProcessName, Identity)> {
        self.nursery.marked(known)
    }

    fn available_memory(&self) -> Option<u64> {
        memory::available()
    }

    fn is_living(&self, identity: Identity) -> bool {
        proc::stat(identity.pid)
            .is_ok_and(|s| s.start_ticks == identity.start_ticks && s.zombie_status.is_none())
    }

    async fn notice(&self) -> Notice {
        loop {
            match self.notify.receive().await {
                Ok((pid, text)) => {
                    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)));
                    return Notice {
                        pid,
                        group: group.ok().map(nix::unistd::Pid::as_raw),
                        process: self.nursery.cgroups.process_of(pid),
                        text,
                    };
                }
                Err(e) => {
                    tracing::warn!(error = %e, "notification socket failed");
                    time::sleep(NOTIFY_PAUSE).await;
                }
            }
        }
    }

    fn notice_socket(&self) -> io::Result<(String, OwnedFd)> {
        Ok((NOTIFY_KEY.to_owned(), self.notify.duplicate()?))
    }

    fn hears_the_past(&self) -> bool {
        self.notify.is_inherited()
    }

    fn keep(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.logs.flush();
        let limit = format!("{OPEN_FILES_KEY}{}", self.nursery.open_files.0);
        Ok(vec![self.notice_socket()?, (limit, self.nursery.null.try_clone()?)])
    }

    async fn reap_orphans(&self) {
        let mut deaths = match signal(SignalKind::child()) {
            Ok(deaths) => deaths,
            Err(e) => {
                tracing::error!(error = %e, "SIGCHLD not heard; orphans stay zombies");
                return;
            }
        };
        loop {
            let reaped = self.nursery.children.reap_orphans();
            if !reaped.is_empty() {
                tracing::debug!(count = reaped.len(), "orphans reaped");
            }
            if deaths.recv().await.is_none() {
                return;
            }
        }
    }
}

impl Outputs for LinuxHost {
    type Pipe = Fifo;
    type Log = HostLog;

    fn pipe(
        &self,
        name: &ProcessName,
        spec: &ProcessSpec,
        stream: Stream,
        inherited: Option<OwnedFd>,
    ) -> io::Result<Fifo> {
        let path = self.pipe_path(name, stream);
        let fifo = Fifo::open(&path, Self::owner_of(spec), Arc::clone(&self.scratch));
        // Held until here, so that its content never was without a holder.
        drop(inherited);
        fifo
    }

    fn renew(&self, name: &ProcessName, stream: Stream) -> io::Result<()> {
        match fs::remove_file(self.pipe_path(name, stream)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn remove_pipes(&self, name: &ProcessName) {
        let outputs = [Stream::Stdout, Stream::Stderr].map(|s| self.pipe_path(name, s));
        for path in outputs.into_iter().chain([self.input_path(name)]) {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(process = %name, error = %e, "pipe not removed");
                }
                _ => {}
            }
        }
        if let Some(cgroup) = self.nursery.cgroups.of(name) {
            cgroup.remove();
        }
    }

    fn log(&self, path: Option<&Path>, file: &LogFile, label: &str) -> HostLog {
        self.logs.open(path, file, label)
    }

    fn tail(&self, path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
        logfile::tail(path, bytes)
    }

    fn clear(&self, path: &Path) -> io::Result<()> {
        logfile::clear(path)
    }
}

impl Sockets for LinuxHost {
    fn listen(&self, addr: &ListenAddr) -> io::Result<OwnedFd> {
        listen::open(addr)
    }

    fn share(
        &self,
        socket: &SharedSocket,
        user: Option<&str>,
        there: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<OwnedFd>> {
        match there {
            // Where its file was removed nobody can connect, so it is made anew.
            Some(fd) if !listen::is_gone(&socket.listen) => {
                listen::adjust(socket, user, fd).map(|()| None)
            }
            Some(_) | None => listen::share(socket, user).map(Some),
        }
    }

    fn is_listening(&self, fd: BorrowedFd<'_>, addr: &ListenAddr) -> bool {
        listen::is_listening(fd, addr)
    }

    fn clean_up(&self, addr: &ListenAddr) {
        listen::clean_up(addr);
    }

    async fn ask(&self, target: &ProbeTarget, within: Duration) -> bool {
        probe::ask(target, within).await
    }
}

impl Usages for LinuxHost {
    fn usage(&self, of: &[(ProcessName, i32)]) -> BTreeMap<ProcessName, Reading> {
        usage::read(&self.nursery.cgroups, of)
    }
}

impl Tables for LinuxHost {
    fn boot_id(&self) -> String {
        proc::boot_id()
    }

    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.table()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn save(&self, table: &[u8]) -> io::Result<()> {
        files::write_atomic_volatile(&self.table(), table, 0o600)
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(self.table()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}
