//! What a caller of the supervisor gets: outcomes of starts and stops, logs, signals, events.
#![expect(clippy::unwrap_used, reason = "tests against real processes, some of it in helpers")]

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;
use palisade_agent::{
    clock::SystemClock,
    supervise::{
        AutoRestart, Cgroup, Handle, Inherited, LogFile, LogPath, OutputSink, OutputSource,
        ProcessSpec, Settings, SpawnError, StartError, StopError, Stream, SuperviseError, Target,
        UnknownName, Wiring, start,
    },
    sys::{children::Children, fdstore::SystemdStore, host::LinuxHost},
    task::Scope,
};
use palisade_types::{ByteSize, ProcessName, ProcessState, ProcessStatus};
use tokio::time;
use tokio_util::sync::CancellationToken;

const CAP: Duration = Duration::from_secs(20);

/// Keeps what it got.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Memory {
    async fn write(&self, _: &OutputSource, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }
}

impl Memory {
    fn text(&self) -> String {
        let got = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&got).into_owned()
    }
}

fn name(s: &str) -> ProcessName {
    s.parse().unwrap()
}

fn one(s: &str) -> Vec<Target> {
    vec![Target::Process(name(s))]
}

fn shell(name: &str, code: &str) -> ProcessSpec {
    let none = LogFile { path: LogPath::None, ..LogFile::default() };
    let argv = ["/bin/sh", "-c", code].map(str::to_owned).to_vec();
    ProcessSpec {
        autostart: false,
        startsecs: Duration::from_millis(100),
        startretries: 0,
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

fn sleeper(name: &str) -> ProcessSpec {
    shell(name, "exec sleep 1000")
}

struct Rig {
    handle: Handle,
    sink: Memory,
    scope: Scope,
    settings: Settings,
}

impl Rig {
    fn new(dir: &Path, processes: Vec<ProcessSpec>) -> Self {
        let settings = Settings {
            run_dir: dir.join("run"),
            log_dir: dir.join("log"),
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
        let handle = start(&mut scope, settings.clone(), wiring).unwrap();
        Self { handle, sink, scope, settings }
    }

    async fn wait(&self, name: &str, good: impl Fn(&ProcessStatus) -> bool) -> ProcessStatus {
        let mut status = self.handle.status();
        let row = |rows: &Vec<ProcessStatus>| {
            rows.iter().find(|r| r.name.as_str() == name && good(r)).cloned()
        };
        let seen = time::timeout(CAP, status.wait_for(|rows| row(rows).is_some())).await;
        row(&seen.unwrap().unwrap()).unwrap()
    }

    /// Waits for this among what programs said.
    async fn hear(&self, words: &str) {
        let heard = async {
            while !self.sink.text().contains(words) {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        time::timeout(CAP, heard).await.unwrap();
    }

    async fn state(&self, name: &str, state: ProcessState) -> ProcessStatus {
        self.wait(name, |r| r.state == state).await
    }

    async fn end(self) {
        assert_eq!(self.handle.shut_down(Duration::from_secs(5)).await.unwrap(), 0);
        self.scope.shut_down(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_start_is_answered_by_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let missing = ProcessSpec { argv: vec!["/nonexistent/x".to_owned()], ..shell("missing", "") };
    let specs = vec![sleeper("good"), shell("bad", "exit 1"), missing, shell("fast", "exit 0")];
    let specs = specs.into_iter().map(|s| match s.name.as_str() {
        "fast" => ProcessSpec { startsecs: Duration::ZERO, ..s },
        // It ends before this also where a shell takes long to start.
        "bad" => ProcessSpec { startsecs: CAP, ..s },
        _ => s,
    });
    let rig = Rig::new(dir.path(), specs.collect());
    let start = async |n: &str| rig.handle.start(one(n)).await.unwrap().remove(0).1;
    assert_eq!(start("good").await, Ok(()));
    assert_eq!(start("good").await, Err(StartError::AlreadyStarted));
    assert_eq!(start("bad").await, Err(StartError::AbnormalTermination));
    assert_eq!(
        start("missing").await,
        Err(StartError::Spawn(SpawnError::NoFile("/nonexistent/x".to_owned())))
    );
    assert_eq!(start("fast").await, Ok(()));
    assert_eq!(rig.state("fast", ProcessState::Exited).await.exit.as_deref(), Some("exit 0"));
    let unknown = rig.handle.start(one("nobody")).await.unwrap_err();
    assert!(matches!(unknown, SuperviseError::Unknown(UnknownName::Process(_))), "{unknown}");
    let unknown = rig.handle.stop(vec![Target::Group("g".parse().unwrap())]).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no such group g");
    rig.end().await;
}

#[tokio::test]
async fn a_fatal_program_is_started_again_by_request() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    let code = format!("test -e {} && exec sleep 1000; exit 1", flag.display());
    let web = ProcessSpec { startsecs: Duration::from_secs(3), ..shell("web", &code) };
    let rig = Rig::new(dir.path(), vec![web]);
    assert_eq!(
        rig.handle.start(one("web")).await.unwrap()[0].1,
        Err(StartError::AbnormalTermination)
    );
    rig.state("web", ProcessState::Fatal).await;
    fs::File::create(&flag).unwrap();
    assert_eq!(rig.handle.start(one("web")).await.unwrap()[0].1, Ok(()));
    assert_eq!(rig.state("web", ProcessState::Running).await.restarts, 0);
    rig.end().await;
}

#[tokio::test]
async fn stop_restart_and_signal_say_what_they_did() {
    let dir = tempfile::tempdir().unwrap();
    let code =
        "trap 'echo got usr1' USR1; trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let rig = Rig::new(dir.path(), vec![shell("web", code), sleeper("other")]);
    let h = &rig.handle;
    assert_eq!(h.stop(one("web")).await.unwrap()[0].1, Err(StopError::NotRunning));
    assert_eq!(
        h.signal(Signal::SIGUSR1, one("web")).await.unwrap()[0].1,
        Err(StopError::NotRunning)
    );
    assert_eq!(h.start(one("web")).await.unwrap()[0].1, Ok(()));
    rig.hear("ready").await;
    assert_eq!(h.signal(Signal::SIGUSR1, one("web")).await.unwrap()[0].1, Ok(()));
    rig.hear("got usr1").await;
    let first = rig.state("web", ProcessState::Running).await.pid;
    let (stopped, started) = h.restart(one("web")).await.unwrap();
    assert_eq!((&stopped[0].1, &started[0].1), (&Ok(()), &Ok(())));
    assert_ne!(rig.state("web", ProcessState::Running).await.pid, first);
    // A program that does not run is started by a restart too.
    let (stopped, started) = h.restart(one("other")).await.unwrap();
    assert_eq!((&stopped[0].1, &started[0].1), (&Err(StopError::NotRunning), &Ok(())));
    let all = h.stop(vec![Target::All]).await.unwrap();
    assert_eq!(all, vec![(name("other"), Ok(())), (name("web"), Ok(()))]);
    rig.state("web", ProcessState::Stopped).await;
    rig.end().await;
}

#[tokio::test]
async fn what_was_stopped_by_hand_stays_stopped_over_an_update() {
    let dir = tempfile::tempdir().unwrap();
    let auto = |s| ProcessSpec { autostart: true, ..s };
    let rig = Rig::new(dir.path(), vec![auto(sleeper("a")), auto(sleeper("b"))]);
    rig.state("a", ProcessState::Running).await;
    let b = rig.state("b", ProcessState::Running).await.pid;
    rig.handle.stop(one("a")).await.unwrap();
    let mut new = rig.settings.clone();
    new.processes = vec![
        auto(shell("a", "exec sleep 1001")),
        ProcessSpec { stopwaitsecs: Duration::from_secs(9), ..auto(sleeper("b")) },
        auto(sleeper("c")),
    ];
    let plan = rig.handle.plan(new.clone()).await.unwrap();
    let done = rig.handle.update(new.clone()).await.unwrap();
    assert_eq!(plan, done);
    assert_eq!(
        (done.added, done.changed, done.adjusted, done.removed),
        (vec![name("c")], vec![name("a")], vec![name("b")], vec![])
    );
    rig.state("c", ProcessState::Running).await;
    assert_eq!(rig.state("b", ProcessState::Running).await.pid, b);
    rig.state("a", ProcessState::Stopped).await;
    assert!(rig.handle.update(new).await.unwrap().is_empty());
    rig.end().await;
}

#[tokio::test]
async fn a_log_is_written_rotated_tailed_and_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogFile { maxbytes: ByteSize::new(4000), backups: 2, ..LogFile::default() };
    let code = "for i in 1 2 3 4 5 6 7 8 9; do printf '%0999d\\n' $i; sleep 0.05; done; echo last; exec sleep 1000";
    let spec = ProcessSpec { stdout: log, ..shell("web", code) };
    let rig = Rig::new(dir.path(), vec![spec, sleeper("mute")]);
    let h = &rig.handle;
    h.start(one("web")).await.unwrap();
    let last = async {
        loop {
            let tail = h.tail(name("web"), Stream::Stdout, 5).await.unwrap();
            if tail == b"last\n" {
                break;
            }
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(CAP, last).await.unwrap();
    let path = h.log_path(name("web"), Stream::Stdout).await.unwrap().unwrap();
    assert_eq!(path, dir.path().join("log/web.stdout.log"));
    let size = |p: &Path| fs::metadata(p).map(|m| m.len()).unwrap_or(0);
    assert!(size(&path.with_extension("log.1")) >= 4000);
    assert_eq!(rig.sink.text().lines().count(), 10);
    h.clear(name("web")).await.unwrap();
    assert_eq!(size(&path), 0);
    for (process, stream) in [("web", Stream::Stderr), ("mute", Stream::Stdout)] {
        let e = h.tail(name(process), stream, 5).await.unwrap_err();
        assert!(matches!(e, SuperviseError::NoLogFile), "{e}");
    }
    rig.end().await;
}

#[tokio::test]
async fn every_change_of_state_is_told_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path(), vec![shell("web", "sleep 0.3; exit 3")]);
    let mut events = rig.handle.events();
    rig.handle.start(one("web")).await.unwrap();
    let mut seen: Vec<(String, String, String)> = Vec::new();
    while seen.len() < 2 {
        let e = time::timeout(CAP, events.recv()).await.unwrap().unwrap();
        seen.push((e.from.to_string(), e.to.to_string(), e.why));
    }
    let told = |from: &str, to: &str, why: &str| (from.into(), to.into(), why.into());
    assert_eq!(
        seen,
        [
            told("STOPPED", "STARTING", "start requested"),
            told("STARTING", "RUNNING", "it stayed up for startsecs"),
        ]
    );
    let ended = time::timeout(CAP, events.recv()).await.unwrap().unwrap();
    assert_eq!((ended.from.to_string(), ended.why), ("RUNNING".into(), "it ended: exit 3".into()));
    rig.end().await;
}

#[tokio::test]
async fn a_hand_over_that_came_to_nothing_is_gone_back_on() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ProcessSpec {
        autorestart: AutoRestart::Always,
        ..shell("web", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done")
    };
    let rig = Rig::new(dir.path(), vec![spec]);
    rig.handle.start(one("web")).await.unwrap();
    let files = rig.handle.prepare_handover(Duration::from_secs(5)).await.unwrap();
    assert!(files.contains_key("output-web.stdout"), "{:?}", files.keys());
    drop(files);
    let before = rig.sink.text().len();
    time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.sink.text().len(), before, "output is carried although at rest");
    assert_eq!(rig.handle.start(one("web")).await.unwrap()[0].1, Err(StartError::ShuttingDown));
    rig.handle.resume().await.unwrap();
    let more = async {
        while rig.sink.text().len() < before + 100 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(CAP, more).await.unwrap();
    let numbers: Vec<usize> = rig.sink.text().lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    // What ends while nobody looks is waited for afterwards, with its status.
    let row = rig.state("web", ProcessState::Running).await;
    drop(rig.handle.prepare_handover(Duration::from_secs(5)).await.unwrap());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(row.pid), Signal::SIGKILL).unwrap();
    time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.state("web", ProcessState::Running).await.pid, row.pid);
    rig.handle.resume().await.unwrap();
    let next = rig.wait("web", |r| r.state == ProcessState::Running && r.pid != row.pid).await;
    assert_eq!(next.exit.as_deref(), Some("signal KILL"));
    rig.end().await;
}

#[tokio::test]
async fn what_does_not_stop_by_the_deadline_is_killed_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = ProcessSpec {
        stopwaitsecs: Duration::from_secs(600),
        ..shell("deaf", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    };
    let rig = Rig::new(dir.path(), vec![deaf]);
    rig.handle.start(one("deaf")).await.unwrap();
    rig.hear("ready").await;
    assert_eq!(rig.handle.shut_down(Duration::from_millis(300)).await.unwrap(), 1);
    assert!(!rig.settings.run_dir.join("supervise.json").exists());
    assert!(matches!(rig.handle.start(one("deaf")).await, Err(SuperviseError::Ended)));
}
