//! What the supervisor needs of the host and of its neighbours, in its own words.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

use nix::sys::signal::Signal;
use palisade_types::ProcessName;
use tokio::time::Instant;

use super::{
    Exit, Identity, Limits, ListenAddr, LogFile, OutputSource, ProbeTarget, ProcessSpec, Reading,
    SharedSocket, SpawnError, Stage, Stream,
};

mod inputs;

pub use inputs::{InputPipe, Inputs, Notes, WrittenTo};

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The process alone.
    Process,
    /// Its process group.
    Group,
}

/// All that is needed to make a child.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Its name inside, for its cgroup and its mark: that of the settings, or of the instance beside it.
    pub name: &'a ProcessName,
    /// What to run, and how.
    pub spec: &'a ProcessSpec,
    /// Its standard input; nothing comes from there if there is none.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error, if that is not its standard output.
    pub stderr: Option<OwnedFd>,
    /// What it gets as file descriptor 3 and up, in the order of the settings.
    pub sockets: Vec<BorrowedFd<'a>>,
}

/// All that is needed to make a child for a command around the start of a process.
#[derive(Debug)]
pub struct HookLaunch<'a> {
    /// The process that it is for.
    pub name: &'a ProcessName,
    /// The settings of that process: user, directory, environment, limits.
    pub spec: &'a ProcessSpec,
    /// What to run; never empty.
    pub argv: &'a [String],
    /// Before or after the start.
    pub stage: Stage,
    /// Its standard output and error.
    pub output: OwnedFd,
}

/// Processes of this host.
pub trait Processes: Send + Sync + 'static {
    /// A process that this agent minds.
    type Child: Child;

    /// Makes a child that waits for [`Child::release`] before it becomes the program, and that ends
    /// if the agent ends before that: so a child is in the table before it does anything.
    ///
    /// # Errors
    /// When there is no such program or user, or the kernel refuses.
    fn spawn(&self, launch: Launch<'_>) -> Result<Self::Child, SpawnError>;

    /// Makes a child for a command around a start. It too waits for [`Child::release`], and it ends when
    /// the agent does, by whatever it has become.
    ///
    /// # Errors
    /// When there is no such program or user, or the kernel refuses.
    fn spawn_hook(&self, launch: HookLaunch<'_>) -> Result<Self::Child, SpawnError>;

    /// Kills what an earlier agent left of such commands.
    fn end_hooks(&self);

    /// Whether there is something to execute, as far as can be told without doing it.
    ///
    /// # Errors
    /// When there is no such program, or it may not be executed.
    fn check(&self, spec: &ProcessSpec) -> Result<(), SpawnError>;

    /// Takes charge of a process that an earlier agent started, if it is still that process.
    fn adopt(&self, name: &ProcessName, identity: Identity) -> Option<Self::Child>;

    /// Living processes that carry the mark of an agent with our run directory, whoever their parent
    /// is. Anybody can put on a mark: one that names a process of `known` counts only on a process of
    /// the user that the settings say.
    fn marked(&self, known: &[ProcessSpec]) -> Vec<(ProcessName, Identity)>;

    /// Bytes of memory that new processes can have, where the kernel tells.
    fn available_memory(&self) -> Option<u64>;

    /// Whether this very process still runs. Takes charge of nothing.
    fn is_living(&self, identity: Identity) -> bool;

    /// The next message of a process to its `NOTIFY_SOCKET`.
    fn notice(&self) -> impl Future<Output = Notice> + Send;

    /// The socket that `NOTIFY_SOCKET` names, and its name. The service manager keeps it, where there is
    /// one, so that what processes say while no agent lives waits in it.
    ///
    /// # Errors
    /// When there are no descriptors left.
    fn notice_socket(&self) -> io::Result<(String, OwnedFd)>;

    /// Whether it is the last agent's own: what was said since is still to be heard.
    fn hears_the_past(&self) -> bool;

    /// Open files of the host's own that the next agent needs, by name.
    ///
    /// # Errors
    /// When there are no descriptors left.
    fn keep(&self) -> io::Result<Vec<(String, OwnedFd)>>;

    /// Reaps orphans that became children of the agent, for ever.
    fn reap_orphans(&self) -> impl Future<Output = ()> + Send;
}

/// A message to `NOTIFY_SOCKET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The sender, as the kernel has it.
    pub pid: i32,
    /// The sender's process group: the pid of the process that the agent started.
    pub group: Option<i32>,
    /// The process whose cgroup the sender is in.
    pub process: Option<ProcessName>,
    /// The lines of the message.
    pub text: String,
}

/// One process that the agent minds.
pub trait Child: std::fmt::Debug + Send + Sync + 'static {
    /// Which one.
    fn identity(&self) -> Identity;

    /// Lets a newly made child become its program.
    fn release(&self);

    /// Waits until it became its program. At once for an adopted one.
    fn execed(&self) -> impl Future<Output = Result<(), SpawnError>> + Send;

    /// Waits until it ended, and until what it started is gone where there is a cgroup to tell.
    /// The moment is that of its own end.
    fn ended(&self) -> impl Future<Output = (Exit, Instant)> + Send;

    /// Whether it still runs; false from the moment of its end.
    fn is_alive(&self) -> bool;

    /// Sends a signal.
    ///
    /// # Errors
    /// What the kernel says; a process that already ended is no error.
    fn signal(&self, signal: Signal, whom: Whom) -> io::Result<()>;

    /// Kills it and all of its cgroup; where it has none, `whom`.
    ///
    /// # Errors
    /// What the kernel says; a process that already ended is no error.
    fn kill(&self, whom: Whom) -> io::Result<()>;

    /// Puts its limits in force again. While no agent lived, nothing kept them: systemd can only start
    /// the next one once the controllers are taken from the programs' cgroups.
    fn limit(&self, limits: &Limits);

    /// Takes back the listening socket that was given to it as this file descriptor, if it still
    /// holds it.
    fn take_socket(&self, place: i32, addr: &ListenAddr) -> Option<OwnedFd>;

    /// What of its settings could not be had on this host.
    fn warning(&self) -> Option<String>;
}

/// Where output goes on this host.
pub trait Outputs: Send + Sync + 'static {
    /// A pipe from a process.
    type Pipe: OutputPipe;
    /// A log file that rotates.
    type Log: ProgramLog;

    /// Opens the pipe of one stream of the process that is called `name` inside; what an earlier agent left in it is still there.
    ///
    /// # Errors
    /// What the file system says.
    fn pipe(
        &self,
        name: &ProcessName,
        spec: &ProcessSpec,
        stream: Stream,
        inherited: Option<OwnedFd>,
    ) -> io::Result<Self::Pipe>;

    /// Gives up the pipe of one stream, so that the next one that is opened is a new one. Whoever holds
    /// the old one keeps it.
    ///
    /// # Errors
    /// What the file system says.
    fn renew(&self, name: &ProcessName, stream: Stream) -> io::Result<()>;

    /// Removes the pipes of a process that is no more.
    fn remove_pipes(&self, name: &ProcessName);

    /// A writer to this log file, if there is one, and to where else `file` says, in the name of a
    /// process. All writers to one file share it. Opens nothing yet.
    fn log(&self, path: Option<&Path>, file: &LogFile, label: &str) -> Self::Log;

    /// The last `bytes` of a log file.
    ///
    /// # Errors
    /// What the file system says.
    fn tail(&self, path: &Path, bytes: u64) -> io::Result<Vec<u8>>;

    /// Empties a log file.
    ///
    /// # Errors
    /// What the file system says.
    fn clear(&self, path: &Path) -> io::Result<()>;
}

/// The agent's end of an output pipe. Bytes stay in it until they are consumed, whoever dies.
pub trait OutputPipe: std::fmt::Debug + Send + Sync + 'static {
    /// A new end for a child. It can be read too, so the child never writes to a pipe without reader.
    ///
    /// # Errors
    /// What the file system says.
    fn writer(&self) -> io::Result<OwnedFd>;

    /// A second reference to our end, to hand over.
    ///
    /// # Errors
    /// When there are no descriptors left.
    fn duplicate(&self) -> io::Result<OwnedFd>;

    /// Waits until bytes came that were not there at the last call.
    ///
    /// # Errors
    /// What the kernel says.
    fn grown(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Replaces `into` by a copy of what is in the pipe.
    ///
    /// # Errors
    /// What the kernel says.
    fn peek(&self, into: &mut Vec<u8>) -> io::Result<()>;

    /// Takes so many bytes, seen by `peek`, out of the pipe.
    ///
    /// # Errors
    /// What the kernel says.
    fn consume(&self, bytes: usize) -> io::Result<()>;
}

/// A program's own log file.
pub trait ProgramLog: Send + 'static {
    /// Appends, and rotates once the file is large. What the disk does not take is dropped and
    /// counted; the count is returned once writing works again or fails anew.
    fn append(&mut self, bytes: &[u8]) -> LogOutcome;

    /// Shows a line whose end is not there yet, where a person may be watching. What is shown of it is not
    /// written once more when [`Self::append`] has all of it.
    fn show(&mut self, line: &[u8]);
}

/// What became of an append.
#[derive(Debug)]
pub enum LogOutcome {
    /// Written.
    Written,
    /// Written, after so many bytes had been dropped.
    Recovered {
        /// Bytes.
        dropped: u64,
    },
    /// Written, but the file, which is large, could not be rotated and grows: told once until it can.
    NotRotated(io::Error),
    /// Dropped, as the bytes before these were.
    StillFailing,
    /// Dropped, the first time.
    Failed(io::Error),
}

/// Where output goes beside the log files. Returning `Ok` means: this survives the death of the agent.
pub trait OutputSink: Send + Sync + 'static {
    /// Takes whole lines, but for a line too long for the pipe or left unfinished by a process that
    /// ended. Called again with the same bytes after an error; the process waits meanwhile once its
    /// pipe is full.
    fn write(
        &self,
        from: &OutputSource,
        bytes: &[u8],
    ) -> impl Future<Output = io::Result<()>> + Send;
}

/// Sockets that listen.
pub trait Sockets: Send + Sync + 'static {
    /// Makes one.
    ///
    /// # Errors
    /// What the kernel says.
    fn listen(&self, addr: &ListenAddr) -> io::Result<OwnedFd>;

    /// Makes one that a group of FastCGI programs shares, or gives one that is there what its settings
    /// say. `user` is whom the programs run as.
    ///
    /// # Errors
    /// What the kernel says; that there is no such user or group.
    fn share(
        &self,
        socket: &SharedSocket,
        user: Option<&str>,
        there: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<OwnedFd>>;

    /// Whether `fd` is a socket that listens there.
    fn is_listening(&self, fd: BorrowedFd<'_>, addr: &ListenAddr) -> bool;

    /// Removes what a closed socket leaves behind.
    fn clean_up(&self, addr: &ListenAddr);

    /// Asks a program once whether it is ready.
    fn ask(
        &self,
        target: &ProbeTarget,
        within: std::time::Duration,
    ) -> impl Future<Output = bool> + Send;
}

/// Where the table of living processes is kept.
pub trait Tables: Send + Sync + 'static {
    /// Which boot of the host this is.
    fn boot_id(&self) -> String;

    /// The table as last saved, if there is one.
    ///
    /// # Errors
    /// What the file system says.
    fn load(&self) -> io::Result<Option<Vec<u8>>>;

    /// Saves the table whole. It must survive the death of the agent, not that of the host.
    ///
    /// # Errors
    /// What the file system says.
    fn save(&self, table: &[u8]) -> io::Result<()>;

    /// Removes the table: nothing lives.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self) -> io::Result<()>;
}

/// What processes use of the host.
pub trait Usages: Send + Sync + 'static {
    /// What these processes, each with all that it started, have used so far, in one pass for all. One
    /// that is no more is left out. Reads files: milliseconds for some hundreds of processes.
    fn usage(&self, of: &[(ProcessName, i32)]) -> BTreeMap<ProcessName, Reading>;
}

/// A host, as the supervisor sees it.
pub trait Host: Processes + Outputs + Inputs + Sockets + Tables + Notes + Usages + Clone {}

impl<T: Processes + Outputs + Inputs + Sockets + Tables + Notes + Usages + Clone> Host for T {}

/// Keeps file descriptors over the agent's death: systemd, where there is one.
pub trait FdStore: Send + Sync + 'static {
    /// Keeps a copy under a name, in place of what was kept under it.
    ///
    /// # Errors
    /// When it could not be asked.
    fn store(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Lets go of it.
    ///
    /// # Errors
    /// When it could not be asked.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Open files that came from an earlier agent, by name.
pub type Inherited = BTreeMap<String, OwnedFd>;
