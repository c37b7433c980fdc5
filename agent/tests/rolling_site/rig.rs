//! A supervisor in this process, and where its servers' programs are.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use palisade_agent::{
    clock::SystemClock,
    supervise::{
        Cgroup, Handle, Inherited, LogFile, LogPath, OutputSink, OutputSource, ProcessSpec,
        RollError, Rolled, Settings, Wiring, start,
    },
    sys::{children::Children, fdstore::SystemdStore, host::LinuxHost},
    task::Scope,
};
use palisade_types::{ProcessName, ProcessState, ProcessStatus};
use tempfile::TempDir;
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything: the machine may be busy with other tests.
pub(crate) const CAP: Duration = Duration::from_secs(120);

/// Keeps what it got.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Memory {
    async fn write(&self, _: &OutputSource, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }
}

/// A supervisor with a directory.
pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) handle: Handle,
    scope: Scope,
    sink: Memory,
}

pub(crate) fn name(s: &str) -> ProcessName {
    s.parse().unwrap()
}

/// A program of the virtual environment that `cargo xtask setup` makes; says so if it is not there.
pub(crate) fn tool(tool: &str) -> Option<PathBuf> {
    let mut dir = std::env::current_exe().unwrap();
    while dir.pop() {
        let path = dir.join("demo-venv/bin").join(tool);
        if path.exists() {
            return Some(path);
        }
    }
    println!("skipped: no {tool} in demo-venv; `cargo xtask setup` makes it");
    None
}

/// A process that logs to no file.
pub(crate) fn spec(process: &str, argv: Vec<String>, dir: &Path) -> ProcessSpec {
    let none = LogFile { path: LogPath::None, ..LogFile::default() };
    let (program, group) = (process.parse().unwrap(), process.parse().unwrap());
    ProcessSpec {
        directory: Some(dir.to_owned()),
        startsecs: Duration::from_millis(500),
        stopwaitsecs: Duration::from_secs(40),
        stdout: none,
        redirect_stderr: true,
        ..ProcessSpec::new(name(process), program, group, argv)
    }
}

impl Rig {
    /// A directory with these files in it.
    pub(crate) fn files(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::Builder::new().prefix("palisade-roll-").tempdir().unwrap();
        for (file, text) in files {
            fs::write(dir.path().join(file), text).unwrap();
        }
        dir
    }

    pub(crate) fn start(dir: TempDir, processes: Vec<ProcessSpec>) -> Self {
        let settings = Settings {
            run_dir: dir.path().join("run"),
            log_dir: dir.path().join("log"),
            cgroup: Cgroup::Off,
            processes,
        };
        let mut inherited = Inherited::new();
        let env = std::env::vars_os();
        let host = LinuxHost::new(&settings, Children::default(), env, &mut inherited).unwrap();
        let sink = Memory::default();
        let mut scope = Scope::new(&CancellationToken::new());
        let store = SystemdStore::new(None);
        let wiring = Wiring { host, sink: sink.clone(), store, clock: SystemClock, inherited };
        let handle = start(&mut scope, settings, wiring).unwrap();
        Self { dir, handle, scope, sink }
    }

    pub(crate) async fn running(&self, name: &str) -> ProcessStatus {
        let mut status = self.handle.status();
        let row = |rows: &Vec<ProcessStatus>| {
            let is_it =
                |r: &&ProcessStatus| r.name.as_str() == name && r.state == ProcessState::Running;
            rows.iter().find(is_it).cloned()
        };
        match time::timeout(CAP, status.wait_for(|rows| row(rows).is_some())).await {
            Ok(rows) => row(&rows.unwrap()).unwrap(),
            Err(_) => panic!("{name} does not run; it said:\n{}", self.output()),
        }
    }

    pub(crate) async fn roll(&self, process: &str) -> Result<Rolled, RollError> {
        time::timeout(CAP, self.handle.roll(name(process))).await.unwrap().unwrap()
    }

    /// All that the programs said.
    pub(crate) fn output(&self) -> String {
        let got = self.sink.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&got).into_owned()
    }

    /// Waits until the programs have said something so many times.
    pub(crate) async fn said(&self, what: &str, times: usize) {
        let wait = async {
            while self.output().matches(what).count() < times {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        if time::timeout(CAP, wait).await.is_err() {
            panic!("not said {times} times: {what}\n{}", self.output());
        }
    }

    pub(crate) async fn end(self) {
        self.handle.shut_down(CAP).await.unwrap();
        self.scope.shut_down(Duration::from_secs(5)).await;
    }
}
