//! A supervisor in this process, its programs, and a listener that writes down what it hears.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use palisade_agent::{
    clock::SystemClock,
    supervise::{
        AutoRestart, Cgroup, Handle, Inherited, Kind, Listener, LogFile, LogPath, OutputSink,
        OutputSource, ProcessSpec, Settings, Target, Wiring, start,
    },
    sys::{children::Children, fdstore::SystemdStore, host::LinuxHost},
    task::Scope,
};
use palisade_types::{ProcessName, ProcessState, ProcessStatus};
use tokio::time;
use tokio_util::sync::CancellationToken;

pub(crate) const CAP: Duration = Duration::from_secs(30);

/// One registry for all agents of this test process: they reap each other's orphans, and not each
/// other's children.
static CHILDREN: LazyLock<Children> = LazyLock::new(Children::default);

/// Does what it is told by the first word that it is given, and writes down each event: its header's
/// name and numbers, and its payload on one line.
pub(crate) const LISTENER: &str = r"
import sys
mode, out = sys.argv[1], open(sys.argv[2], 'a', 1)
while True:
    sys.stdout.write('READY\n'); sys.stdout.flush()
    h = dict(x.split(':', 1) for x in sys.stdin.readline().split())
    data = sys.stdin.read(int(h['len'])).replace('\n', '|')
    out.write('%s %s %s %s\n' % (h['eventname'], h['serial'], h['poolserial'], data))
    if mode == 'hang':
        while True: sys.stdin.readline()
    if mode == 'babble':
        sys.stdout.write('what?\n'); sys.stdout.flush()
    if mode == 'refuse-once':
        mode = 'ok'
        sys.stdout.write('RESULT 4\nFAIL'); sys.stdout.flush()
        continue
    if mode == 'die-once':
        import os
        if not os.path.exists(sys.argv[2] + '.died'):
            open(sys.argv[2] + '.died', 'w')
            os._exit(3)
    sys.stdout.write('RESULT 2\nOK'); sys.stdout.flush()
";

struct Nowhere;

impl OutputSink for Nowhere {
    async fn write(&self, _: &OutputSource, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn name(s: &str) -> ProcessName {
    s.parse().unwrap()
}

pub(crate) fn one(s: &str) -> Vec<Target> {
    vec![Target::Process(name(s))]
}

fn program(name: &str, argv: &[&str]) -> ProcessSpec {
    let none = LogFile { path: LogPath::None, ..LogFile::default() };
    let argv = argv.iter().map(|a| (*a).to_owned()).collect();
    ProcessSpec {
        startsecs: Duration::ZERO,
        stopwaitsecs: Duration::from_secs(5),
        stdout: none.clone(),
        stderr: none,
        ..ProcessSpec::new(
            name.parse().unwrap(),
            name.parse().unwrap(),
            name.parse().unwrap(),
            argv,
        )
    }
}

pub(crate) fn shell(name: &str, code: &str) -> ProcessSpec {
    program(name, &["/bin/sh", "-c", code])
}

pub(crate) fn python(name: &str, code: &str, args: &[&str]) -> ProcessSpec {
    program(name, &[&["/usr/bin/python3", "-S", "-u", "-c", code], args].concat())
}

pub(crate) fn listener(
    dir: &Path,
    name: &str,
    mode: &str,
    events: &[&str],
    buffer_size: u32,
) -> ProcessSpec {
    let events = events.iter().map(|e| (*e).to_owned()).collect();
    ProcessSpec {
        kind: Kind::Listener(Listener::new(events, buffer_size)),
        autorestart: AutoRestart::Always,
        priority: -1,
        ..python(name, LISTENER, &[mode, heard_path(dir, name).to_str().unwrap()])
    }
}

fn heard_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.heard"))
}

/// What a listener wrote down.
pub(crate) fn heard(dir: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(heard_path(dir, name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a listener has heard all of these, in this order, others in between.
pub(crate) async fn wait_heard(dir: &Path, listener: &str, wanted: &[&str]) -> Vec<String> {
    let all = async {
        loop {
            let lines = heard(dir, listener);
            let mut rest = lines.iter();
            if wanted.iter().all(|w| rest.any(|l| l.contains(w))) {
                return lines;
            }
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    match time::timeout(CAP, all).await {
        Ok(lines) => lines,
        Err(_) => panic!("{listener} heard {:#?}, wanted {wanted:#?}", heard(dir, listener)),
    }
}

pub(crate) struct Rig {
    pub(crate) handle: Handle,
    scope: Scope,
    pub(crate) settings: Settings,
}

impl Rig {
    pub(crate) fn new(dir: &Path, processes: Vec<ProcessSpec>) -> Self {
        let settings = Settings {
            run_dir: dir.join("run"),
            log_dir: dir.join("log"),
            cgroup: Cgroup::Off,
            processes,
        };
        Self::with(settings)
    }

    fn with(settings: Settings) -> Self {
        let mut inherited = Inherited::new();
        let env = std::env::vars_os();
        let host = LinuxHost::new(&settings, CHILDREN.clone(), env, &mut inherited).unwrap();
        let mut scope = Scope::new(&CancellationToken::new());
        let store = SystemdStore::new(None);
        let wiring = Wiring { host, sink: Nowhere, store, clock: SystemClock, inherited };
        let handle = start(&mut scope, settings.clone(), wiring).unwrap();
        Self { handle, scope, settings }
    }

    /// Ends without a chance to say or write anything, and another takes over.
    pub(crate) async fn crash(self) -> Self {
        let Self { handle, scope, settings } = self;
        let mut status = handle.status();
        drop((handle, scope));
        // Aborted tasks are dropped when the runtime next looks at them; then the lock is free.
        time::timeout(CAP, async { while status.changed().await.is_ok() {} }).await.unwrap();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        Self::with(settings)
    }

    /// Hands over to another, as for a new binary.
    pub(crate) async fn replace(self) -> Self {
        let files = self.handle.prepare_handover(Duration::from_secs(10)).await.unwrap();
        let next = self.crash().await;
        drop(files);
        next
    }

    pub(crate) async fn wait(
        &self,
        name: &str,
        good: impl Fn(&ProcessStatus) -> bool,
    ) -> ProcessStatus {
        let mut status = self.handle.status();
        let row = |rows: &Vec<ProcessStatus>| {
            rows.iter().find(|r| r.name.as_str() == name && good(r)).cloned()
        };
        let seen = time::timeout(CAP, status.wait_for(|rows| row(rows).is_some())).await;
        row(&seen.unwrap().unwrap()).unwrap()
    }

    pub(crate) async fn state(&self, name: &str, state: ProcessState) -> ProcessStatus {
        self.wait(name, |r| r.state == state).await
    }

    pub(crate) async fn remote(&self, data: &str) {
        self.handle.remote_communication("test".to_owned(), data.to_owned()).await.unwrap();
    }

    pub(crate) async fn end(self) {
        assert_eq!(self.handle.shut_down(Duration::from_secs(10)).await.unwrap(), 0);
        self.scope.shut_down(Duration::from_secs(5)).await;
    }
}

pub(crate) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(time::timeout(CAP, so).await.is_ok(), "no {what}");
}
