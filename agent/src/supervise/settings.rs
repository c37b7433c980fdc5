//! What the supervisor is told to run: validated, and expanded to single processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use palisade_types::{ByteSize, GroupName, ProcessName, ProgramName};

pub(super) mod ending;
mod errand;
mod kind;
mod upkeep;

pub use errand::{Hook, Hooks, Missed, Overlap, Schedule, Scheduled};
pub use kind::{Kind, Listener, SharedSocket, Stdin};
pub use upkeep::{Health, RESTARTS_PER_MINUTE, Reload, Rolling, StopStep, Upkeep};

/// Everything the supervisor needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where sockets, output pipes and the table of living processes are kept: `/run/palisade`.
    pub run_dir: PathBuf,
    /// Where log files named `AUTO` go.
    pub log_dir: PathBuf,
    /// Where the programs' cgroups go.
    pub cgroup: Cgroup,
    /// One entry for each process to be; names are unique.
    pub processes: Vec<ProcessSpec>,
}

/// Where the programs' cgroups go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroup {
    /// Below our own cgroup if systemd delegated it to us, nowhere otherwise.
    Auto,
    /// Below this cgroup v2 directory.
    At(PathBuf),
    /// Nowhere: process groups only.
    Off,
}

/// One process to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Unique name.
    pub name: ProcessName,
    /// The program it is a copy of.
    pub program: ProgramName,
    /// Its group.
    pub group: GroupName,
    /// What it is called within its group; unique there and nowhere else.
    pub label: String,
    /// What sort of process it is.
    pub kind: Kind,
    /// Order of its group: low starts first and stops last.
    pub group_priority: i32,
    /// Order within its group: low starts first and stops last.
    pub priority: i32,
    /// Program and arguments; never empty. A name without `/` is looked up in `PATH`.
    pub argv: Vec<String>,
    /// Working directory.
    pub directory: Option<PathBuf>,
    /// User name or number to run as.
    pub user: Option<String>,
    /// Added to the agent's own environment.
    pub environment: BTreeMap<String, String>,
    /// File mode mask.
    pub umask: Option<u32>,
    /// Its standard input.
    pub stdin: Stdin,
    /// `SUPERVISOR_SERVER_URL` in its environment, if anything is served there.
    pub serverurl: Option<String>,
    /// Started with the agent.
    pub autostart: bool,
    /// Started again when it ends.
    pub autorestart: AutoRestart,
    /// How long it must stay up to count as started.
    pub startsecs: Duration,
    /// Tries after the first before it is given up as FATAL.
    pub startretries: u32,
    /// Exit codes that are expected.
    pub exitcodes: BTreeSet<u8>,
    /// What asks it to stop.
    pub stopsignal: Signal,
    /// How long it may take to stop before it is killed.
    pub stopwaitsecs: Duration,
    /// Further steps of stopping, after `stopsignal` and its wait and before the kill.
    pub stop_then: Vec<StopStep>,
    /// Send the stop signal to its whole process group.
    pub stopasgroup: bool,
    /// Kill its whole process group, where it has no cgroup of its own.
    pub killasgroup: bool,
    /// Listening sockets that the agent holds and passes as `LISTEN_FDS`.
    pub sockets: Vec<ListenSocket>,
    /// When it counts as ready.
    pub ready: Ready,
    /// What it is asked while it runs.
    pub health: Option<Health>,
    /// How it takes up new code without ending.
    pub reload: Option<Reload>,
    /// How it is replaced while it serves.
    pub rolling: Rolling,
    /// What is done about it as it grows old or fails often.
    pub upkeep: Upkeep,
    /// It runs to its end once, and is ready when it has ended with an expected exit code.
    pub oneshot: bool,
    /// When it is started by the calendar; then it is not kept running.
    pub schedule: Option<Schedule>,
    /// Commands around its start.
    pub hooks: Hooks,
    /// Log file of its standard output.
    pub stdout: LogFile,
    /// Log file of its standard error.
    pub stderr: LogFile,
    /// Standard error goes where standard output goes.
    pub redirect_stderr: bool,
    /// Limits of its resources.
    pub limits: Limits,
    /// Programs that must be ready before this one is started.
    pub after: BTreeSet<ProgramName>,
}

impl ProcessSpec {
    /// A process with Supervisor's defaults for everything that is not given.
    #[must_use]
    pub fn new(
        name: ProcessName,
        program: ProgramName,
        group: GroupName,
        argv: Vec<String>,
    ) -> Self {
        Self {
            label: name.to_string(),
            name,
            program,
            group,
            kind: Kind::Program,
            group_priority: 999,
            priority: 999,
            argv,
            directory: None,
            user: None,
            environment: BTreeMap::new(),
            umask: None,
            stdin: Stdin::Null,
            serverurl: None,
            autostart: true,
            autorestart: AutoRestart::Unexpected,
            startsecs: Duration::from_secs(1),
            startretries: 3,
            exitcodes: BTreeSet::from([0]),
            stopsignal: Signal::SIGTERM,
            stopwaitsecs: Duration::from_secs(10),
            stop_then: Vec::new(),
            stopasgroup: false,
            killasgroup: false,
            sockets: Vec::new(),
            ready: Ready::Delay,
            health: None,
            reload: None,
            rolling: Rolling::default(),
            upkeep: Upkeep::default(),
            oneshot: false,
            schedule: None,
            hooks: Hooks::default(),
            stdout: LogFile::default(),
            stderr: LogFile::default(),
            redirect_stderr: false,
            limits: Limits::default(),
            after: BTreeSet::new(),
        }
    }

    /// Its standard input: that of a listener is where its events come from, whatever is set.
    #[must_use]
    pub fn input(&self) -> &Stdin {
        match self.kind {
            Kind::Listener(_) => &Stdin::Pipe,
            Kind::Program | Kind::FastCgi => &self.stdin,
        }
    }

    /// What it hears of, if it is a listener.
    #[must_use]
    pub fn listener(&self) -> Option<&Listener> {
        match &self.kind {
            Kind::Listener(listener) => Some(listener),
            Kind::Program | Kind::FastCgi => None,
        }
    }
}

impl ProcessSpec {
    /// What processes start by, and stop by backwards: groups by their priority and name, and within a
    /// group processes by theirs.
    #[must_use]
    pub fn order(&self) -> (i32, &GroupName, i32, &ProcessName) {
        (self.group_priority, &self.group, self.priority, &self.name)
    }
}

/// Whether a process that ended on its own is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoRestart {
    /// Always.
    Always,
    /// If its exit code is not among the expected ones.
    Unexpected,
    /// Never.
    Never,
}

/// A socket that the agent holds open for a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenSocket {
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// Where it listens.
    pub listen: ListenAddr,
}

/// Where a held socket listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenAddr {
    /// TCP.
    Tcp(SocketAddr),
    /// A UNIX stream socket.
    Unix(PathBuf),
    /// Nowhere: a start that needs it fails.
    Nowhere {
        /// What was meant.
        address: String,
        /// Why it cannot be.
        why: String,
    },
}

/// When a process counts as ready. Until then it is STARTING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Once it has stayed up for `startsecs`.
    Delay,
    /// Once it sent `READY=1` to `NOTIFY_SOCKET`.
    Notify {
        /// Given up after this.
        timeout: Duration,
        /// Whose word counts.
        from: NotifyFrom,
    },
    /// Once a probe succeeds.
    Probe(Probe),
}

/// Whose `READY=1` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotifyFrom {
    /// That of the process and of all that it started.
    #[default]
    Any,
    /// That of what it started only: gunicorn says it itself long before its workers can serve.
    Worker,
}

/// A question asked again and again until it is answered well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub target: ProbeTarget,
    /// How often.
    pub every: Duration,
    /// Given up after this: the process is stopped and the start counts as failed.
    pub timeout: Duration,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeTarget {
    /// A TCP connection is taken.
    Tcp(SocketAddr),
    /// A connection to a UNIX socket is taken.
    Unix(PathBuf),
    /// `GET` is answered by a 2xx or 3xx status. Plain HTTP to an address.
    Http {
        /// Where to connect.
        addr: SocketAddr,
        /// The `Host` header.
        host: String,
        /// Path and query, starting with `/`.
        path: String,
    },
}

/// A program's own log file, beside what is shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Where.
    pub path: LogPath,
    /// Rotated once it is at least this large; 0 for never.
    pub maxbytes: ByteSize,
    /// Rotated files kept: `.1` is the newest.
    pub backups: u32,
    /// Each line goes to syslog too.
    pub syslog: bool,
    /// The most that is kept of what stands between Supervisor's marks of a communication, which is an
    /// event and no output; 0 for no such marks.
    pub capture_maxbytes: ByteSize,
    /// Its output is told as events too.
    pub events_enabled: bool,
}

impl Default for LogFile {
    fn default() -> Self {
        Self {
            path: LogPath::Auto,
            maxbytes: ByteSize::mib(50),
            backups: 10,
            syslog: false,
            capture_maxbytes: ByteSize::new(0),
            events_enabled: false,
        }
    }
}

/// Where a log file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPath {
    /// `NAME.stdout.log` or `NAME.stderr.log` in the log directory.
    Auto,
    /// No file.
    None,
    /// Here.
    At(PathBuf),
}

/// How the name of a log file ends that nobody named, where Supervisor's files say in which directory such
/// files are.
const NAMED_BY_ITSELF: &str = "-palisade.log";

impl LogPath {
    /// The file in `dir` of a process whose settings name none, as Supervisor would name it; but always the
    /// same one, so that a log outlives its agent.
    #[must_use]
    pub fn automatic(dir: &Path, process: &str, stream: &str, server: &str) -> Self {
        let file = format!("{process}-{stream}---{server}{NAMED_BY_ITSELF}").replace('/', "_");
        Self::At(dir.join(file))
    }

    /// Whether nobody named it.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        match self {
            Self::Auto => true,
            Self::None => false,
            Self::At(path) => path.to_string_lossy().ends_with(NAMED_BY_ITSELF),
        }
    }
}

/// Limits of a process and, where it has a cgroup, of all that it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory of its cgroup (`memory.max`).
    pub memory: Option<ByteSize>,
    /// Hundredths of one CPU for its cgroup (`cpu.max`).
    pub cpu_percent: Option<u32>,
    /// Processes and threads in its cgroup (`pids.max`).
    pub pids: Option<u32>,
    /// Open files (`RLIMIT_NOFILE`).
    pub nofile: Option<u64>,
    /// The least of open files, where `nofile` says nothing: more than this stays as it is. Not part of
    /// what a process is born with, as in Supervisor: no program is restarted for it.
    pub nofile_min: Option<u64>,
}

impl Limits {
    /// Soft and hard limit of open files for a process that would inherit these.
    #[must_use]
    pub fn open_files(&self, (soft, hard): (u64, u64)) -> (u64, u64) {
        match (self.nofile, self.nofile_min) {
            (Some(limit), _) => (limit, limit),
            (None, Some(least)) => (soft.max(least), hard.max(least)),
            (None, None) => (soft, hard),
        }
    }
}
