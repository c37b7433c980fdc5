//! For tests: ready-made settings, and a host in memory that behaves like one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;
use palisade_types::{Counted, ProcessName};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

mod nothing;

use nothing::null;
pub use nothing::{NoLog, NoSink, NoStore, SilentPipe};

use super::{
    Child, Exit, HookLaunch, Identity, InputPipe, Inputs, Launch, Limits, ListenAddr, LogFile,
    LogPath, NOT_LET_GO, Notes, Notice, Outputs, ProbeTarget, ProcessSpec, Processes, Reading,
    SharedSocket, Sockets, SpawnError, Stream, Tables, Usages, Whom, WrittenTo, twin::outer,
};

/// Supervisor's defaults for a program `name` that sleeps, alone in its group, without log files.
///
/// # Panics
/// When `name` is no name.
#[must_use]
#[expect(clippy::unwrap_used, reason = "a test gives a good name")]
pub fn spec(name: &str) -> ProcessSpec {
    let log = LogFile { path: LogPath::None, ..LogFile::default() };
    ProcessSpec {
        stdout: log.clone(),
        stderr: log,
        ..ProcessSpec::new(
            name.parse::<ProcessName>().unwrap(),
            name.parse().unwrap(),
            name.parse().unwrap(),
            vec!["/bin/sleep".to_owned(), "1000".to_owned()],
        )
    }
}

/// How a process of a [`FakeHost`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Runs until it is told to stop.
    Obeys,
    /// Runs until it is killed.
    Deaf,
    /// Ends by itself so long after its start.
    Ends(Duration, i32),
    /// There is no such program.
    Missing,
    /// The kernel refuses to signal it.
    Untouchable,
}

#[derive(Debug)]
struct FakeProcess {
    name: ProcessName,
    exit: watch::Sender<Option<Exit>>,
    is_released: bool,
    /// A command around a start: it is in no table, and goes with its agent.
    is_hook: bool,
}

#[derive(Debug, Default)]
struct World {
    behaviours: BTreeMap<ProcessName, Behaviour>,
    hooks: BTreeMap<String, Behaviour>,
    hooks_run: Vec<String>,
    processes: BTreeMap<i32, FakeProcess>,
    next_pid: i32,
    table: Option<Vec<u8>>,
    is_disk_full: bool,
    is_ready: bool,
    hears_the_past: bool,
    are_all_touchable: bool,
    starts: Vec<ProcessName>,
    notes: BTreeMap<String, Vec<u8>>,
    memory: BTreeMap<ProcessName, u64>,
    free: Option<u64>,
    signals: Vec<(i32, Signal)>,
    listening: BTreeSet<ListenAddr>,
}

impl World {
    /// That of this very instance, else that of the process.
    fn behaviour(&self, key: &ProcessName) -> Behaviour {
        let of = |name: &ProcessName| self.behaviours.get(name).copied();
        of(key).or_else(|| of(&outer(key))).unwrap_or(Behaviour::Obeys)
    }
}

/// A host in memory, whose time is tokio's. It outlives the supervisors that use it, as a host does.
#[derive(Clone, Debug, Default)]
pub struct FakeHost(Arc<Mutex<World>>);

impl FakeHost {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How processes of this name behave from their next start on; without word they obey.
    pub fn behave(&self, name: &ProcessName, behaviour: Behaviour) {
        self.world().behaviours.insert(name.clone(), behaviour);
    }

    /// How hooks with this command behave; without word they end well at once.
    pub fn behave_hook(&self, command: &str, behaviour: Behaviour) {
        self.world().hooks.insert(command.to_owned(), behaviour);
    }

    /// The commands of all hooks that were begun, in order.
    #[must_use]
    pub fn hooks_run(&self) -> Vec<String> {
        self.world().hooks_run.clone()
    }

    /// How many hooks live.
    #[must_use]
    pub fn hooks_living(&self) -> usize {
        let world = self.world();
        world.processes.values().filter(|p| p.is_hook && p.exit.borrow().is_none()).count()
    }

    /// Whether tables can be saved.
    pub fn fill_disk(&self, is_full: bool) {
        self.world().is_disk_full = is_full;
    }

    /// Whether saving a table fails at present.
    #[must_use]
    pub fn fails_to_save(&self) -> bool {
        self.world().is_disk_full
    }

    /// What memory processes of this name use from now on, in bytes; a mebibyte without word.
    pub fn fill_memory(&self, name: &ProcessName, bytes: u64) {
        self.world().memory.insert(name.clone(), bytes);
    }

    /// What probes are answered from now on.
    pub fn answer_probes(&self, is_ready: bool) {
        self.world().is_ready = is_ready;
    }

    /// Whether agents from now on hear what was said before them.
    pub fn keep_notices(&self, is_kept: bool) {
        self.world().hears_the_past = is_kept;
    }

    /// The kernel lets everything be signalled from now on.
    pub fn let_all_be_signalled(&self) {
        self.world().are_all_touchable = true;
    }

    /// How much memory new processes can have.
    pub fn leave_memory(&self, bytes: u64) {
        self.world().free = Some(bytes);
    }

    /// Whether anybody listens there.
    #[must_use]
    pub fn listens(&self, addr: &ListenAddr) -> bool {
        self.world().listening.contains(addr)
    }

    /// The signals that came to a process, in order.
    #[must_use]
    pub fn signals(&self, pid: i32) -> Vec<Signal> {
        self.world().signals.iter().filter(|(p, _)| *p == pid).map(|(_, s)| *s).collect()
    }

    /// The processes that live, by name.
    #[must_use]
    pub fn living(&self) -> Vec<(ProcessName, i32)> {
        let world = self.world();
        let lives = world.processes.iter().filter(|(_, p)| !p.is_hook && p.exit.borrow().is_none());
        let mut living: Vec<_> = lives.map(|(pid, p)| (p.name.clone(), *pid)).collect();
        living.sort();
        living
    }

    /// Every start that became a program, in order.
    #[must_use]
    pub fn starts(&self) -> Vec<ProcessName> {
        self.world().starts.clone()
    }

    /// Ends a process from outside.
    pub fn end(&self, pid: i32, exit: Exit) {
        if let Some(p) = self.world().processes.get(&pid) {
            p.exit.send_replace(Some(exit));
        }
    }

    /// Makes the table as it was when no child was known to be its program yet.
    pub fn forget_execs(&self) {
        let mut world = self.world();
        let table = world.table.take().unwrap_or_default();
        let text = String::from_utf8_lossy(&table).replace("\"execed\":true", "\"execed\":false");
        world.table = Some(text.into_bytes());
    }

    fn child(&self, pid: i32, behaviour: Behaviour) -> FakeChild {
        FakeChild { host: self.clone(), pid, behaviour, started: Instant::now() }
    }
}

/// A process of a [`FakeHost`].
#[derive(Debug)]
pub struct FakeChild {
    host: FakeHost,
    pid: i32,
    behaviour: Behaviour,
    started: Instant,
}

impl Drop for FakeChild {
    /// Nobody is left to let it go: then it goes by itself.
    fn drop(&mut self) {
        let world = self.host.world();
        if let Some(p) = world.processes.get(&self.pid).filter(|p| !p.is_released || p.is_hook) {
            p.exit.send_if_modified(|exit| {
                *exit = exit.or(Some(Exit::Code(NOT_LET_GO)));
                true
            });
        }
    }
}

impl Child for FakeChild {
    fn identity(&self) -> Identity {
        Identity { pid: self.pid, start_ticks: 1 }
    }

    /// # Panics
    /// When the table does not name the child and could have been written: the next agent would start
    /// a second copy.
    fn release(&self) {
        let mut world = self.host.world();
        let table =
            String::from_utf8_lossy(world.table.as_deref().unwrap_or_default()).into_owned();
        let is_named = table.contains(&format!("\"pid\":{},", self.pid));
        let is_hook = world.processes.get(&self.pid).is_some_and(|p| p.is_hook);
        if is_hook {
            return;
        }
        assert!(is_named || world.is_disk_full, "let go before it was in the table");
        if let Some(p) = world.processes.get_mut(&self.pid) {
            p.is_released = true;
            let name = p.name.clone();
            world.starts.push(name);
        }
    }

    async fn execed(&self) -> Result<(), SpawnError> {
        Ok(())
    }

    async fn ended(&self) -> (Exit, Instant) {
        let receiver = self.host.world().processes.get(&self.pid).map(|p| p.exit.subscribe());
        let Some(mut exit) = receiver else { return (Exit::Unknown, Instant::now()) };
        let by_itself = async {
            match self.behaviour {
                Behaviour::Ends(after, code) => {
                    time::sleep_until(self.started + after).await;
                    self.host.end(self.pid, Exit::Code(code));
                }
                Behaviour::Obeys
                | Behaviour::Deaf
                | Behaviour::Missing
                | Behaviour::Untouchable => {}
            }
            std::future::pending::<()>().await;
        };
        let told = async { exit.wait_for(Option::is_some).await.ok().and_then(|e| *e) };
        // Only waits on both sides.
        let exit = tokio::select! {
            exit = told => exit,
            () = by_itself => None,
        };
        (exit.unwrap_or(Exit::Unknown), Instant::now())
    }

    fn is_alive(&self) -> bool {
        self.host.world().processes.get(&self.pid).is_some_and(|p| p.exit.borrow().is_none())
    }

    fn signal(&self, signal: Signal, _: Whom) -> io::Result<()> {
        let is_touchable = self.host.world().are_all_touchable;
        if self.behaviour == Behaviour::Untouchable && !is_touchable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.host.world().signals.push((self.pid, signal));
        let obeys = self.behaviour != Behaviour::Deaf;
        if self.is_alive() && (signal == Signal::SIGKILL || (signal == Signal::SIGTERM && obeys)) {
            self.host.end(self.pid, Exit::Signal(signal as i32));
        }
        Ok(())
    }

    fn kill(&self, whom: Whom) -> io::Result<()> {
        self.signal(Signal::SIGKILL, whom)
    }

    fn limit(&self, _: &Limits) {}

    fn take_socket(&self, _: i32, _: &ListenAddr) -> Option<OwnedFd> {
        None
    }

    fn warning(&self) -> Option<String> {
        None
    }
}

impl Processes for FakeHost {
    type Child = FakeChild;

    fn spawn(&self, launch: Launch<'_>) -> Result<FakeChild, SpawnError> {
        let name = launch.name.clone();
        let mut world = self.world();
        let behaviour = world.behaviour(&name);
        if behaviour == Behaviour::Missing {
            return Err(SpawnError::NoFile(launch.spec.argv.join(" ")));
        }
        world.next_pid += 1;
        let pid = world.next_pid;
        let exit = watch::Sender::new(None);
        world.processes.insert(pid, FakeProcess { name, exit, is_released: false, is_hook: false });
        drop(world);
        Ok(self.child(pid, behaviour))
    }

    fn spawn_hook(&self, hook: HookLaunch<'_>) -> Result<FakeChild, SpawnError> {
        let command = hook.argv.join(" ");
        let mut world = self.world();
        let well = Behaviour::Ends(Duration::ZERO, 0);
        let behaviour = world.hooks.get(&command).copied().unwrap_or(well);
        if behaviour == Behaviour::Missing {
            return Err(SpawnError::NoFile(hook.argv.first().cloned().unwrap_or_default()));
        }
        world.hooks_run.push(command);
        world.next_pid += 1;
        let (pid, name) = (world.next_pid, hook.name.clone());
        let exit = watch::Sender::new(None);
        world.processes.insert(pid, FakeProcess { name, exit, is_released: false, is_hook: true });
        drop(world);
        Ok(self.child(pid, behaviour))
    }

    fn end_hooks(&self) {}

    fn check(&self, spec: &ProcessSpec) -> Result<(), SpawnError> {
        match self.world().behaviour(&spec.name) {
            Behaviour::Missing => Err(SpawnError::NoFile(spec.argv.join(" "))),
            Behaviour::Obeys | Behaviour::Deaf | Behaviour::Ends(..) | Behaviour::Untouchable => {
                Ok(())
            }
        }
    }

    fn adopt(&self, name: &ProcessName, identity: Identity) -> Option<FakeChild> {
        let is_there = self.living().contains(&(name.clone(), identity.pid));
        is_there.then(|| {
            let behaviour = self.world().behaviour(name);
            self.child(identity.pid, behaviour)
        })
    }

    fn marked(&self, _: &[ProcessSpec]) -> Vec<(ProcessName, Identity)> {
        let named = |(name, pid)| (name, Identity { pid, start_ticks: 1 });
        self.living().into_iter().map(named).collect()
    }

    fn available_memory(&self) -> Option<u64> {
        Some(self.world().free.unwrap_or(1 << 30))
    }

    fn is_living(&self, identity: Identity) -> bool {
        self.living().iter().any(|(_, pid)| *pid == identity.pid)
    }

    async fn notice(&self) -> Notice {
        std::future::pending().await
    }

    fn notice_socket(&self) -> io::Result<(String, OwnedFd)> {
        Ok(("notify".to_owned(), null()?))
    }

    fn hears_the_past(&self) -> bool {
        self.world().hears_the_past
    }

    fn keep(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        Ok(Vec::new())
    }

    async fn reap_orphans(&self) {
        std::future::pending().await
    }
}

impl Outputs for FakeHost {
    type Pipe = SilentPipe;
    type Log = NoLog;

    fn pipe(
        &self,
        _: &ProcessName,
        _: &ProcessSpec,
        _: Stream,
        _: Option<OwnedFd>,
    ) -> io::Result<SilentPipe> {
        Ok(SilentPipe)
    }

    fn renew(&self, _: &ProcessName, _: Stream) -> io::Result<()> {
        Ok(())
    }

    fn remove_pipes(&self, _: &ProcessName) {}

    fn log(&self, _: Option<&Path>, _: &LogFile, _: &str) -> NoLog {
        NoLog
    }

    fn tail(&self, _: &Path, _: u64) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn clear(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe into which everything goes.
#[derive(Debug)]
pub struct OpenPipe;

impl InputPipe for OpenPipe {
    fn reader(&self) -> io::Result<OwnedFd> {
        null()
    }

    fn offer(&self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn mark(&self) -> io::Result<()> {
        Ok(())
    }

    fn written(&self) -> WrittenTo {
        WrittenTo::Unknown
    }
}

impl Inputs for FakeHost {
    type Input = OpenPipe;

    fn new_input(&self, _: &ProcessName, _: &ProcessSpec) -> io::Result<OpenPipe> {
        Ok(OpenPipe)
    }

    fn old_input(&self, _: &ProcessName) -> io::Result<OpenPipe> {
        Ok(OpenPipe)
    }
}

impl Notes for FakeHost {
    fn note(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.world().notes.insert(key.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn noted(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.world().notes.get(key).cloned())
    }

    fn forget(&self, key: &str) {
        self.world().notes.remove(key);
    }
}

impl Sockets for FakeHost {
    fn listen(&self, addr: &ListenAddr) -> io::Result<OwnedFd> {
        self.world().listening.insert(addr.clone());
        null()
    }

    fn share(
        &self,
        _: &SharedSocket,
        _: Option<&str>,
        there: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<OwnedFd>> {
        if there.is_some() { Ok(None) } else { null().map(Some) }
    }

    fn is_listening(&self, _: BorrowedFd<'_>, _: &ListenAddr) -> bool {
        true
    }

    fn clean_up(&self, addr: &ListenAddr) {
        self.world().listening.remove(addr);
    }

    async fn ask(&self, _: &ProbeTarget, _: Duration) -> bool {
        self.world().is_ready
    }
}

impl Tables for FakeHost {
    fn boot_id(&self) -> String {
        "this boot".to_owned()
    }

    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.world().table.clone())
    }

    fn save(&self, table: &[u8]) -> io::Result<()> {
        let mut world = self.world();
        if world.is_disk_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        world.table = Some(table.to_vec());
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        self.world().table = None;
        Ok(())
    }
}

impl Usages for FakeHost {
    fn usage(&self, of: &[(ProcessName, i32)]) -> BTreeMap<ProcessName, Reading> {
        let world = self.world();
        let living =
            |pid: &i32| world.processes.get(pid).is_some_and(|p| p.exit.borrow().is_none());
        let of = of.iter().filter(|(_, pid)| living(pid));
        of.map(|(name, _)| {
            let memory = world.memory.get(name).copied().unwrap_or(1 << 20);
            let (start_ticks, cpu, counted) = (1, Duration::ZERO, Counted::Cgroup);
            (name.clone(), Reading { start_ticks, cpu, memory, counted, processes: 1 })
        })
        .collect()
    }
}
