//! Programs as children of the agent, or adopted from an earlier one: made, watched, signalled.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::{Pid, Uid, setpgid},
};
use palisade_types::ProcessName;
use tokio::{
    io::unix::AsyncFd,
    time::{self, Instant},
};

use super::{
    cgroup::{Cgroups, ProcessCgroup},
    children::{Children, Ours},
    clone::{self, Program},
    command,
    failed_step::About,
    listen, oom, pidfd, proc, users,
    watched::readable,
};
use crate::supervise::{
    Child, Exit, HookLaunch, Identity, Launch, Limits, ListenAddr, ProcessSpec, Ready, SpawnError,
    Stage, TWIN, Whom,
};

/// Variables that mark a program as ours, for an agent that finds no table.
const MARK_DIR: &str = "PALISADE_SUPERVISOR";
const MARK_NAME: &str = "PALISADE_PROCESS";
const MARK_PID: &str = "PALISADE_PID";
/// Marks a command around a start, by its stage.
const MARK_HOOK: &str = "PALISADE_HOOK";

/// How often, and how long apart, the kernel is asked how another's child ended: its parent reaps it
/// about when we hear of it.
const EXIT_INFO_TRIES: u32 = 10;
const EXIT_INFO_PAUSE: Duration = Duration::from_millis(10);

/// What is the same for all children.
#[derive(Debug)]
pub(super) struct Nursery {
    pub(super) children: Children,
    pub(super) cgroups: Cgroups,
    pub(super) run_dir: PathBuf,
    pub(super) notify_path: PathBuf,
    /// The agent's environment without what is its own business.
    pub(super) env: BTreeMap<OsString, OsString>,
    pub(super) null: OwnedFd,
    /// Soft and hard limit of open files that the agent was started with.
    pub(super) open_files: (u64, u64),
}

/// The agent's environment, without the service manager's and ours, and without what looks like a
/// credential: a program's secrets are given to it by its settings.
pub(super) fn inheritable(
    env: impl Iterator<Item = (OsString, OsString)>,
) -> BTreeMap<OsString, OsString> {
    const OWN: [&str; 9] = [
        "NOTIFY_SOCKET",
        "WATCHDOG_",
        "LISTEN_",
        "PALISADE_",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "SYSTEMD_EXEC_PID",
        "MEMORY_PRESSURE_",
        "AWS_ACCESS_KEY",
    ];
    const SECRET: [&str; 6] =
        ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "PRIVATE_KEY"];
    env.filter(|(name, _)| {
        let name = name.to_string_lossy().to_ascii_uppercase();
        !OWN.iter().any(|p| name.starts_with(p)) && !SECRET.iter().any(|s| name.contains(s))
    })
    .collect()
}

impl Nursery {
    pub(super) fn spawn(self: &Arc<Self>, launch: Launch<'_>) -> Result<HostChild, SpawnError> {
        let mut program = self.program(launch.name, launch.spec, launch.sockets.len())?;
        program.env_own_pid(MARK_PID.as_bytes());
        let cgroup = self.cgroups.of(launch.name);
        self.make(launch, program, cgroup)
    }

    /// A command around a start: not marked as a process, in a cgroup of its own, gone with the agent.
    pub(super) fn spawn_hook(
        self: &Arc<Self>,
        hook: HookLaunch<'_>,
    ) -> Result<HostChild, SpawnError> {
        let spec = ProcessSpec {
            argv: hook.argv.to_vec(),
            sockets: Vec::new(),
            ready: Ready::Delay,
            redirect_stderr: true,
            ..hook.spec.clone()
        };
        let mut program = self.program(hook.name, &spec, 0)?;
        program.env(MARK_HOOK.as_bytes(), hook.stage.to_string().as_bytes());
        if let Stage::PostStart(pid) = hook.stage {
            program.env(b"MAINPID", pid.to_string().as_bytes());
        }
        program.dies_with(i32::try_from(std::process::id()).unwrap_or(0));
        let cgroup = self.cgroups.of_hooks(hook.name);
        let launch = Launch {
            name: hook.name,
            spec: &spec,
            stdin: None,
            stdout: hook.output,
            stderr: None,
            sockets: Vec::new(),
        };
        self.make(launch, program, cgroup)
    }

    /// Kills what an earlier agent left of such commands, where it could not die with it.
    pub(super) fn end_hooks(&self) {
        self.cgroups.end_hooks();
        for pid in proc::pids() {
            let is_ours = |environ: &[u8]| {
                proc::variable(environ, MARK_HOOK).is_some()
                    && proc::variable(environ, MARK_DIR)
                        .is_some_and(|d| d == self.run_dir.as_os_str())
            };
            let environ = || fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if !is_ours(&environ()) {
                continue;
            }
            // Once more: now the descriptor holds the pid.
            if let Ok(fd) = pidfd::open(pid)
                && is_ours(&environ())
                && let Err(e) = pidfd::send_signal(fd.as_fd(), Signal::SIGKILL)
            {
                tracing::warn!(pid, error = %e, "hook of an earlier agent not killed");
            }
        }
    }

    fn make(
        self: &Arc<Self>,
        launch: Launch<'_>,
        mut program: Program,
        cgroup: Option<ProcessCgroup>,
    ) -> Result<HostChild, SpawnError> {
        let spec = launch.spec;
        let mut warning = None;
        let mut cgroup_fd = None;
        match cgroup.as_ref().map(|c| c.prepare(&spec.limits)) {
            Some(Ok((fd, missing))) => {
                cgroup_fd = Some(fd);
                warning = missing;
            }
            Some(Err(e)) => warning = Some(format!("no cgroup: {e}")),
            None if spec.limits.memory.is_some()
                || spec.limits.cpu_percent.is_some()
                || spec.limits.pids.is_some() =>
            {
                warning = Some("limits not in force: there is no cgroup for this process".into());
            }
            None => {}
        }
        let at_link = |e: io::Error| SpawnError::step("make link to child", &e);
        let (ours, theirs) = UnixStream::pair().map_err(at_link)?;
        ours.set_nonblocking(true).map_err(at_link)?;
        let stderr = launch.stderr.as_ref().unwrap_or(&launch.stdout);
        let stdin = launch.stdin.as_ref().unwrap_or(&self.null);
        let mut files = vec![stdin.as_fd(), launch.stdout.as_fd(), stderr.as_fd()];
        files.extend(&launch.sockets);
        let cgroup_ref = cgroup_fd.as_ref().map(|f| f.as_fd());
        let (cloned, guard) = self
            .children
            .start(|| {
                let cloned = clone::clone(&mut program, &files, theirs.as_fd(), cgroup_ref)?;
                let pid = cloned.pid;
                Ok((cloned, pid))
            })
            .map_err(|e| SpawnError::step("make process", &e))?;
        if let Err(e) = oom::spare_no_more_than_others(cloned.pid) {
            tracing::warn!(process = %spec.name, error = %e, "still spared when memory runs out");
        }
        // The child does it too; whoever is first, a signal to the group never comes too early.
        // Refused once the child became its program, which then has done it.
        setpgid(Pid::from_raw(cloned.pid), Pid::from_raw(cloned.pid)).unwrap_or_default();
        if let (Some(cgroup), Some(_), false) = (&cgroup, &cgroup_fd, cloned.is_in_cgroup)
            && let Err(e) = cgroup.take_in(cloned.pid)
        {
            warning = Some(format!("not in its cgroup: {e}"));
        }
        if let Some(text) = &warning {
            tracing::warn!(process = %spec.name, text, "settings not all in force");
        }
        let start_ticks = proc::stat(cloned.pid).map_or(0, |s| s.start_ticks);
        let identity = Identity { pid: cloned.pid, start_ticks };
        let link = readable(ours).map_err(at_link)?;
        let pidfd = readable(cloned.pidfd).map_err(|e| SpawnError::step("watch process", &e))?;
        Ok(HostChild {
            identity,
            pidfd,
            link: Mutex::new(Some(Arc::new(link))),
            gate: Mutex::new(true),
            guard: Mutex::new(Some(guard)),
            cgroup,
            warning,
            about: About {
                command: spec.argv.first().cloned().unwrap_or_default(),
                file: program.path(),
                directory: spec.directory.clone(),
            },
        })
    }

    fn program(
        &self,
        name: &ProcessName,
        spec: &ProcessSpec,
        sockets: usize,
    ) -> Result<Program, SpawnError> {
        let bad = |e: io::Error| SpawnError::step("prepare", &e);
        let path = self.find(spec)?;
        let mut program = Program::new(&path, &spec.argv).map_err(bad)?;
        for (name, value) in self.environment(name, spec, sockets) {
            program.env(name.as_bytes(), value.as_bytes());
        }
        if sockets > 0 {
            program.env_own_pid(b"LISTEN_PID");
        }
        if let Some(dir) = &spec.directory {
            program.directory(dir).map_err(bad)?;
        }
        program.umask(spec.umask);
        let (soft, hard) = spec.limits.open_files(self.open_files);
        program.nofile(soft, hard);
        if let Some(user) = &spec.user {
            let who = users::identity(user)
                .map_err(|e| SpawnError::step(format!("become user {user}"), &e))?;
            let own = Uid::effective();
            if own.is_root() {
                program.identity(who.uid, who.gid, who.groups);
            } else if own.as_raw() != who.uid {
                let why = io::Error::other("the agent does not run as root");
                return Err(SpawnError::step(format!("become user {user}"), &why));
            }
        }
        Ok(program)
    }

    fn environment(
        &self,
        name: &ProcessName,
        spec: &ProcessSpec,
        sockets: usize,
    ) -> BTreeMap<OsString, OsString> {
        let mut env = self.env.clone();
        let mut put = |name: &str, value: &OsStr| {
            env.insert(name.into(), value.to_owned());
        };
        // As Supervisor does; its settings may still replace them.
        put("SUPERVISOR_ENABLED", OsStr::new("1"));
        put("SUPERVISOR_PROCESS_NAME", OsStr::new(&spec.label));
        put("SUPERVISOR_GROUP_NAME", OsStr::new(spec.group.as_str()));
        // An empty one says that there is to be none.
        if let Some(url) = spec.serverurl.as_ref().filter(|url| !url.is_empty()) {
            put("SUPERVISOR_SERVER_URL", OsStr::new(url));
        }
        for (name, value) in &spec.environment {
            put(name, OsStr::new(value));
        }
        put(MARK_DIR, self.run_dir.as_os_str());
        put(MARK_NAME, OsStr::new(name.as_str()));
        if matches!(spec.ready, Ready::Notify { .. }) {
            put("NOTIFY_SOCKET", self.notify_path.as_os_str());
        }
        if sockets > 0 {
            let names: Vec<_> = spec.sockets.iter().map(|s| s.name.as_str()).collect();
            put("LISTEN_FDS", OsStr::new(&sockets.to_string()));
            put("LISTEN_FDNAMES", OsStr::new(&names.join(":")));
        }
        env
    }

    /// The file to execute: looked up in the program's own `PATH` if it has one, else in ours.
    pub(super) fn find(&self, spec: &ProcessSpec) -> Result<PathBuf, SpawnError> {
        let command = spec.argv.first().map(String::as_str).unwrap_or_default();
        command::find(command, spec, self.env.get(OsStr::new("PATH")).map(OsString::as_os_str))
    }

    pub(super) fn adopt(&self, name: &ProcessName, identity: Identity) -> Option<HostChild> {
        let is_same = |s: proc::Stat| s.start_ticks == identity.start_ticks;
        proc::stat(identity.pid).ok().filter(|s| is_same(*s))?;
        let pidfd = pidfd::open(identity.pid).ok()?;
        // Once more: now the descriptor holds the pid, so this process cannot be a later one.
        let stat = proc::stat(identity.pid).ok().filter(|s| is_same(*s))?;
        let is_ours = i32::try_from(std::process::id()).is_ok_and(|own| own == stat.parent);
        let guard = is_ours.then(|| self.children.adopt(identity.pid));
        let pidfd = readable(pidfd).ok()?;
        Some(HostChild {
            identity,
            pidfd,
            link: Mutex::new(None),
            gate: Mutex::new(false),
            guard: Mutex::new(guard),
            cgroup: self.cgroups.of(name),
            warning: None,
            about: About::default(),
        })
    }

    /// Programs that were started with our mark. Their own children inherit it with a pid that is not
    /// theirs.
    pub(super) fn marked(&self, known: &[ProcessSpec]) -> Vec<(ProcessName, Identity)> {
        let is_genuine = |name: &ProcessName, pid: i32| {
            let bare = name.as_str().strip_suffix(TWIN).unwrap_or(name.as_str());
            let is_it = |s: &&ProcessSpec| s.name == *name || s.name.as_str() == bare;
            let Some(spec) = known.iter().find(is_it) else { return true };
            let expected = match &spec.user {
                Some(user) => users::identity(user).ok().map(|who| who.uid),
                None => Some(Uid::effective().as_raw()),
            };
            expected.is_some() && proc::user_of(pid) == expected
        };
        let look = |pid: i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
            if proc::variable(&environ, MARK_DIR)? != self.run_dir.as_os_str()
                || proc::variable(&environ, MARK_PID)? != OsStr::new(&pid.to_string())
            {
                return None;
            }
            let name = proc::variable(&environ, MARK_NAME)?.to_str()?.parse().ok()?;
            if !is_genuine(&name, pid) {
                tracing::warn!(process = %name, pid, "mark on a process of another user ignored");
                return None;
            }
            let start_ticks = proc::stat(pid).ok()?.start_ticks;
            Some((name, Identity { pid, start_ticks }))
        };
        proc::pids().into_iter().filter_map(look).collect()
    }
}

/// A process of this host.
#[derive(Debug)]
pub struct HostChild {
    identity: Identity,
    pidfd: AsyncFd<OwnedFd>,
    /// Closed by the exec of the program, or carries why it failed. Gone once that is known.
    link: Mutex<Option<Arc<AsyncFd<UnixStream>>>>,
    /// Whether it still waits to be let go.
    gate: Mutex<bool>,
    /// There while it is our child and not reaped.
    guard: Mutex<Option<Ours>>,
    cgroup: Option<ProcessCgroup>,
    warning: Option<String>,
    about: About,
}

impl HostChild {
    fn ran_out_of_memory(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.oom_kills() > 0)
    }

    fn link(&self) -> Option<Arc<AsyncFd<UnixStream>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came over the link: nothing when it was closed by the exec.
    async fn report(&self, link: &AsyncFd<UnixStream>) -> Vec<u8> {
        let mut message = Vec::new();
        loop {
            let Ok(mut guard) = link.readable().await else { return message };
            let mut part = [0_u8; 16];
            match link.get_ref().read(&mut part) {
                Ok(0) => return message,
                Ok(n) => message.extend_from_slice(part.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The child died with our word unread.
                Err(_) => return message,
            }
        }
    }

    /// How another's child ended: from the zombie while its parent has not reaped it, from the kernel
    /// once it has.
    fn foreign_exit(&self) -> Option<Exit> {
        let zombie = || {
            let stat = proc::stat(self.identity.pid).ok()?;
            let is_same = stat.start_ticks == self.identity.start_ticks;
            stat.zombie_status.filter(|_| is_same).map(pidfd::from_status)
        };
        pidfd::exit_info(self.pidfd.as_fd()).or_else(zombie)
    }

    async fn reap(&self) -> Exit {
        let mut tries = 0;
        loop {
            match pidfd::reap(self.pidfd.as_fd()) {
                pidfd::Reaped::Ended(exit) => {
                    let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
                    drop(guard);
                    return exit;
                }
                pidfd::Reaped::NotOurs => {
                    if let Some(exit) = self.foreign_exit() {
                        return exit;
                    }
                }
                pidfd::Reaped::NotYet => {}
            }
            tries += 1;
            if tries > EXIT_INFO_TRIES {
                return Exit::Unknown;
            }
            time::sleep(EXIT_INFO_PAUSE).await;
        }
    }
}

impl Child for HostChild {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn release(&self) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut *gate) {
            return;
        }
        drop(gate);
        let said = self.link().map(|l| l.get_ref().write(b"g"));
        if let Some(Err(e)) = said {
            tracing::debug!(pid = self.identity.pid, error = %e, "child died before it was let go");
        }
    }

    async fn execed(&self) -> Result<(), SpawnError> {
        let Some(link) = self.link() else { return Ok(()) };
        let message = self.report(&link).await;
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = None;
        match clone::decode_failure(&message) {
            Some((step, error)) => Err(self.about.failed(step, &error)),
            None => Ok(()),
        }
    }

    async fn ended(&self) -> (Exit, Instant) {
        // An error of the descriptor's own watch cannot be waited out; the process is looked at.
        while !pidfd::has_ended(self.pidfd.as_fd()) {
            match self.pidfd.readable().await {
                Ok(mut guard) if !pidfd::has_ended(self.pidfd.as_fd()) => guard.clear_ready(),
                Ok(_) => {}
                Err(_) => time::sleep(Duration::from_secs(1)).await,
            }
        }
        let at = Instant::now();
        // What it started goes before it is reaped, so that being called again finds it as it was.
        if let Some(cgroup) = &self.cgroup {
            cgroup.empty().await;
        }
        let exit = match self.reap().await {
            // The cgroup is made anew for each start, so what it counts is of this one.
            Exit::Signal(libc::SIGKILL) if self.ran_out_of_memory() => Exit::OutOfMemory,
            exit => exit,
        };
        (exit, at)
    }

    fn is_alive(&self) -> bool {
        !pidfd::has_ended(self.pidfd.as_fd())
    }

    fn signal(&self, signal: Signal, whom: Whom) -> io::Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        let sent = match whom {
            Whom::Process => pidfd::send_signal(self.pidfd.as_fd(), signal),
            // Not reaped, or not known to be: the group cannot be another's yet.
            Whom::Group => {
                killpg(Pid::from_raw(self.identity.pid), signal).map_err(io::Error::from)
            }
        };
        match sent {
            Err(e) if e.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(()),
            sent => sent,
        }
    }

    fn kill(&self, whom: Whom) -> io::Result<()> {
        let killed = self.cgroup.as_ref().filter(|c| c.is_populated()).map(ProcessCgroup::kill);
        match killed {
            Some(Ok(())) if !self.is_alive() => Ok(()),
            // It may not be in its cgroup; killing it twice is harmless.
            _ => self.signal(Signal::SIGKILL, whom),
        }
    }

    fn limit(&self, limits: &Limits) {
        if let Some(text) = self.cgroup.as_ref().and_then(|cgroup| cgroup.limit(limits)) {
            tracing::warn!(pid = self.identity.pid, text, "settings not all in force");
        }
    }

    fn take_socket(&self, place: i32, addr: &ListenAddr) -> Option<OwnedFd> {
        let fd = pidfd::get_fd(self.pidfd.get_ref().as_fd(), place).ok()?;
        listen::is_listening(fd.as_fd(), addr).then_some(fd)
    }

    fn warning(&self) -> Option<String> {
        self.warning.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_agents_own_or_a_secret_is_not_inherited() {
        let env = [
            ("PATH", "/bin"),
            ("LANG", "C"),
            ("NOTIFY_SOCKET", "/run/x"),
            ("WATCHDOG_USEC", "1"),
            ("LISTEN_FDS", "1"),
            ("PALISADE_STATE", "x"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("aws_session_token", "x"),
            ("CREDENTIALS_DIRECTORY", "x"),
            ("AWS_REGION", "eu-central-1"),
        ];
        let kept = inheritable(env.iter().map(|(k, v)| (k.into(), v.into())));
        let names: Vec<_> = kept.keys().map(|k| k.to_string_lossy()).collect();
        assert_eq!(names, ["AWS_REGION", "LANG", "PATH"]);
    }
}
