//! Event listeners, standard input and shared sockets, with real processes and agents that die.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests against real processes, some of it in helpers"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use palisade_agent::{
    clock::SystemClock,
    supervise::{
        AutoRestart, Cgroup, Handle, Inherited, Kind, ListenAddr, Listener, LogFile, LogPath,
        OutputSink, OutputSource, ProcessSpec, Settings, SharedSocket, Stdin, Stream, Target,
        Wiring, start,
    },
    sys::{children::Children, fdstore::SystemdStore, host::LinuxHost},
    task::Scope,
};
use palisade_types::{ByteSize, ProcessName, ProcessState, ProcessStatus};
use tokio::time;
use tokio_util::sync::CancellationToken;

const CAP: Duration = Duration::from_secs(30);

/// One registry for all agents of this test process: they reap each other's orphans, and not each
/// other's children.
static CHILDREN: LazyLock<Children> = LazyLock::new(Children::default);

/// Does what it is told by the first word that it is given, and writes down each event: its header's
/// name and numbers, and its payload on one line.
const LISTENER: &str = r"
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

fn name(s: &str) -> ProcessName {
    s.parse().unwrap()
}

fn one(s: &str) -> Vec<Target> {
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

fn shell(name: &str, code: &str) -> ProcessSpec {
    program(name, &["/bin/sh", "-c", code])
}

fn python(name: &str, code: &str, args: &[&str]) -> ProcessSpec {
    program(name, &[&["/usr/bin/python3", "-S", "-u", "-c", code], args].concat())
}

fn listener(dir: &Path, name: &str, mode: &str, events: &[&str], buffer_size: u32) -> ProcessSpec {
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
fn heard(dir: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(heard_path(dir, name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a listener has heard all of these, in this order, others in between.
async fn wait_heard(dir: &Path, listener: &str, wanted: &[&str]) -> Vec<String> {
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

struct Rig {
    handle: Handle,
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
    async fn crash(self) -> Self {
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
    async fn replace(self) -> Self {
        let files = self.handle.prepare_handover(Duration::from_secs(10)).await.unwrap();
        let next = self.crash().await;
        drop(files);
        next
    }

    async fn wait(&self, name: &str, good: impl Fn(&ProcessStatus) -> bool) -> ProcessStatus {
        let mut status = self.handle.status();
        let row = |rows: &Vec<ProcessStatus>| {
            rows.iter().find(|r| r.name.as_str() == name && good(r)).cloned()
        };
        let seen = time::timeout(CAP, status.wait_for(|rows| row(rows).is_some())).await;
        row(&seen.unwrap().unwrap()).unwrap()
    }

    async fn state(&self, name: &str, state: ProcessState) -> ProcessStatus {
        self.wait(name, |r| r.state == state).await
    }

    async fn remote(&self, data: &str) {
        self.handle.remote_communication("test".to_owned(), data.to_owned()).await.unwrap();
    }

    async fn end(self) {
        assert_eq!(self.handle.shut_down(Duration::from_secs(10)).await.unwrap(), 0);
        self.scope.shut_down(Duration::from_secs(5)).await;
    }
}

async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(time::timeout(CAP, so).await.is_ok(), "no {what}");
}

#[tokio::test]
async fn a_listener_hears_of_everything_in_supervisors_words() {
    let dir = tempfile::tempdir().unwrap();
    let web = ProcessSpec {
        autostart: false,
        autorestart: AutoRestart::Never,
        label: "web_00".to_owned(),
        ..shell("web", "exec sleep 1000")
    };
    let fails = ProcessSpec {
        autostart: false,
        startsecs: Duration::from_secs(5),
        startretries: 0,
        ..shell("fails", "exit 3")
    };
    let ears = listener(dir.path(), "ears", "ok", &["EVENT"], 1000);
    let rig = Rig::new(dir.path(), vec![ears, web.clone(), fails]);
    wait_heard(
        dir.path(),
        "ears",
        &["PROCESS_GROUP_ADDED 0 0 groupname:ears|", "SUPERVISOR_STATE_CHANGE_RUNNING 3 3 "],
    )
    .await;
    rig.handle.start(one("web")).await.unwrap();
    let pid = rig.state("web", ProcessState::Running).await.pid;
    rig.handle.stop(one("web")).await.unwrap();
    drop(rig.handle.start(one("fails")).await);
    rig.remote("hello").await;
    let mut settings = rig.settings.clone();
    settings.processes.retain(|s| s.name.as_str() != "web");
    rig.handle.update(settings).await.unwrap();
    let of_web = "processname:web_00 groupname:web from_state:";
    let lines = wait_heard(
        dir.path(),
        "ears",
        &[
            "PROCESS_STATE_RUNNING",
            &format!("{of_web}STOPPED tries:0"),
            &format!("{of_web}STARTING pid:{pid}"),
            &format!("{of_web}RUNNING pid:{pid}"),
            &format!("{of_web}STOPPING pid:{pid}"),
            "processname:fails groupname:fails from_state:STOPPED tries:0",
            "processname:fails groupname:fails from_state:STARTING tries:1",
            "processname:fails groupname:fails from_state:BACKOFF",
            "REMOTE_COMMUNICATION",
            "PROCESS_GROUP_REMOVED",
        ],
    )
    .await;
    assert!(lines.iter().any(|l| l.ends_with(" type:test|hello")), "{lines:#?}");
    let serials: Vec<u64> =
        lines.iter().map(|l| l.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(serials, (0..serials.len() as u64).collect::<Vec<_>>());
    rig.end().await;
}

#[tokio::test]
async fn an_event_that_is_refused_or_whose_listener_dies_is_sent_again_before_all_others() {
    for mode in ["refuse-once", "die-once"] {
        let dir = tempfile::tempdir().unwrap();
        let ears = listener(dir.path(), "ears", mode, &["REMOTE_COMMUNICATION"], 10);
        let rig = Rig::new(dir.path(), vec![ears]);
        rig.state("ears", ProcessState::Running).await;
        for data in ["one", "two"] {
            rig.remote(data).await;
        }
        let lines = wait_heard(dir.path(), "ears", &["one", "one", "two"]).await;
        assert_eq!(lines.len(), 3, "{mode}: {lines:#?}");
        rig.end().await;
    }
}

#[tokio::test]
async fn a_listener_that_hangs_or_babbles_slows_nobody_and_loses_its_oldest_events() {
    let dir = tempfile::tempdir().unwrap();
    let events = ["REMOTE_COMMUNICATION"];
    let specs = vec![
        listener(dir.path(), "hangs", "hang", &events, 2),
        listener(dir.path(), "babbles", "babble", &events, 2),
        listener(dir.path(), "good", "ok", &events, 100),
    ];
    let rig = Rig::new(dir.path(), specs);
    for who in ["hangs", "babbles", "good"] {
        rig.state(who, ProcessState::Running).await;
    }
    rig.remote("first").await;
    for who in ["hangs", "babbles", "good"] {
        wait_heard(dir.path(), who, &["first"]).await;
    }
    for i in 0..50 {
        rig.remote(&format!("number {i}.")).await;
    }
    let lines = wait_heard(dir.path(), "good", &["number 0.", "number 49."]).await;
    assert_eq!(lines.len(), 51);
    assert_eq!(heard(dir.path(), "hangs").len(), 1);
    // A new process in place of the one that hangs gets what it had, and then the newest two.
    rig.handle.stop(one("hangs")).await.unwrap();
    let mut settings = rig.settings.clone();
    settings.processes[0] = listener(dir.path(), "hangs", "ok", &events, 2);
    rig.handle.update(settings).await.unwrap();
    rig.handle.start(one("hangs")).await.unwrap();
    let lines = wait_heard(dir.path(), "hangs", &["first", "first", "number 49."]).await;
    assert_eq!(lines.len(), 3, "{lines:#?}");
    rig.end().await;
}

#[tokio::test]
async fn a_listener_does_not_notice_that_its_agent_is_killed_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let ears = listener(dir.path(), "ears", "ok", &["REMOTE_COMMUNICATION"], 1000);
    let mut rig = Rig::new(dir.path(), vec![ears]);
    let pid = rig.state("ears", ProcessState::Running).await.pid;
    let mut sent = 0;
    for round in 0..6 {
        for _ in 0..20 {
            rig.remote(&format!("n {sent}.")).await;
            sent += 1;
        }
        if round % 2 == 0 {
            // Nothing waits that a killed agent could take with it.
            wait_heard(dir.path(), "ears", &[&format!("n {}.", sent - 1)]).await;
            rig = rig.crash().await;
        } else {
            rig = rig.replace().await;
        }
    }
    rig.remote("the end").await;
    let lines = wait_heard(dir.path(), "ears", &["the end"]).await;
    let numbers: Vec<_> = lines.iter().filter_map(|l| l.split_once("|n ")).map(|p| p.1).collect();
    let want: Vec<_> = (0..sent).map(|n| format!("{n}.")).collect();
    assert_eq!(numbers, want);
    assert_eq!(rig.state("ears", ProcessState::Running).await.pid, pid);
    rig.end().await;
}

#[tokio::test]
async fn output_and_communications_are_events_and_communications_are_no_output() {
    let dir = tempfile::tempdir().unwrap();
    let events = ["PROCESS_LOG", "PROCESS_COMMUNICATION"];
    let ears = listener(dir.path(), "ears", "ok", &events, 1000);
    let talks = LogFile {
        path: LogPath::Auto,
        capture_maxbytes: ByteSize::new(100_000),
        events_enabled: true,
        ..LogFile::default()
    };
    let code = r"
import sys, time
say = lambda t: (sys.stdout.write(t), sys.stdout.flush())
say('before\n<!--XSUPERV')
time.sleep(0.1)
say('ISOR:BEGIN-->short\nmessage<!--XSUPERVISOR:END-->between\n')
say('<!--XSUPERVISOR:BEGIN-->' + 'x' * 300000 + 'long<!--XSUPERVISOR:END-->after\n')
time.sleep(1000)
";
    let web = ProcessSpec { autostart: false, stdout: talks, ..python("web", code, &[]) };
    let rig = Rig::new(dir.path(), vec![ears, web]);
    rig.state("ears", ProcessState::Running).await;
    rig.handle.start(one("web")).await.unwrap();
    let pid = rig.state("web", ProcessState::Running).await.pid;
    let about = format!("processname:web groupname:web pid:{pid}");
    let lines = wait_heard(
        dir.path(),
        "ears",
        &[
            &format!("{about} channel:stdout|before|"),
            &format!("{about}|short|message"),
            &format!("{about} channel:stdout|between|"),
            "long",
            &format!("{about} channel:stdout|after|"),
        ],
    )
    .await;
    let long = lines.iter().find(|l| l.ends_with("xlong")).unwrap();
    let said = long.split_once('|').unwrap().1;
    assert_eq!((said.len(), said.trim_end_matches("long").trim_matches('x')), (100_000, ""));
    let path = rig.handle.log_path(name("web"), Stream::Stdout).await.unwrap().unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "before\nbetween\nafter\n");
    rig.end().await;
}

#[tokio::test]
async fn what_is_sent_to_a_process_arrives_whichever_agent_lives() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let reads = ProcessSpec {
        stdin: Stdin::Pipe,
        ..shell("reads", &format!("while read line; do echo got $line >> {}; done", out.display()))
    };
    let deaf = ProcessSpec { stdin: Stdin::Pipe, ..shell("deaf", "exec sleep 1000") };
    let ears = listener(dir.path(), "ears", "ok", &["TICK_3600"], 10);
    let mute = shell("mute", "exec sleep 1000");
    let mut rig = Rig::new(dir.path(), vec![reads, deaf, ears, mute]);
    let pid = rig.state("reads", ProcessState::Running).await.pid;
    for (i, word) in ["one", "two", "three"].into_iter().enumerate() {
        rig.handle.send_stdin(name("reads"), format!("{word}\n").into_bytes()).await.unwrap();
        wait_until("line", || fs::read_to_string(&out).unwrap_or_default().contains(word)).await;
        rig = if i == 0 { rig.crash().await } else { rig.replace().await };
    }
    assert_eq!(fs::read_to_string(&out).unwrap(), "got one\ngot two\ngot three\n");
    assert_eq!(rig.state("reads", ProcessState::Running).await.pid, pid);
    // One that does not read has room for much, and then that is said.
    rig.state("deaf", ProcessState::Running).await;
    let mut refusal = String::new();
    for _ in 0..10_000 {
        if let Err(e) = rig.handle.send_stdin(name("deaf"), vec![b'x'; 5000]).await {
            refusal = e.to_string();
            break;
        }
    }
    assert_eq!(refusal, "its standard input is full: it does not read");
    let refused = async |who: &str, bytes: usize| {
        let sent = rig.handle.send_stdin(name(who), vec![b'x'; bytes]).await;
        sent.unwrap_err().to_string()
    };
    assert_eq!(refused("mute", 1).await, "its standard input is not a pipe");
    assert_eq!(refused("ears", 1).await, "its standard input is where its events come from");
    assert_eq!(refused("nobody", 1).await, "no such process nobody");
    assert_eq!(refused("reads", 70_000).await, "at most 65536 bytes may be sent at once");
    rig.handle.stop(one("reads")).await.unwrap();
    assert_eq!(refused("reads", 1).await, "not running");
    // What the last child did not read is not for the next.
    rig.handle.restart(one("deaf")).await.unwrap();
    rig.handle.send_stdin(name("deaf"), vec![b'x'; 5000]).await.unwrap();
    rig.end().await;
}

/// Says who it is to whoever connects to its standard input.
const ANSWERS: &str = r"
import os, socket
s = socket.socket(fileno=0)
while True:
    c, _ = s.accept()
    c.sendall(os.environ['SUPERVISOR_PROCESS_NAME'].encode())
    c.close()
";

fn ask(addr: SocketAddr) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(addr) {
        stream.write_all(b"x").unwrap_or_default();
        stream.read_to_string(&mut answer).unwrap_or_default();
    }
    answer
}

#[tokio::test]
async fn a_fastcgi_group_shares_a_socket_that_is_open_while_any_of_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let shared = |listen| SharedSocket { listen, backlog: None, mode: 0o700, owner: None };
    let member = |n: u8| ProcessSpec {
        kind: Kind::FastCgi,
        stdin: Stdin::Socket(shared(ListenAddr::Tcp(addr))),
        group: "app".parse().unwrap(),
        label: format!("worker_{n}"),
        autostart: false,
        ..python(&format!("app_{n}"), ANSWERS, &[])
    };
    let path = dir.path().join("fcgi.sock");
    let unix = ProcessSpec {
        kind: Kind::FastCgi,
        stdin: Stdin::Socket(shared(ListenAddr::Unix(path.clone()))),
        autostart: false,
        ..python("unix", ANSWERS, &[])
    };
    let mut rig = Rig::new(dir.path(), vec![member(0), member(1), unix]);
    assert!(TcpStream::connect(addr).is_err(), "listens before the first start");
    rig.handle.start(vec![Target::Group("app".parse().unwrap())]).await.unwrap();
    rig.handle.start(one("unix")).await.unwrap();
    wait_until("answer", || ask(addr).starts_with("worker_")).await;
    assert!(path.exists());
    // With one of them stopped the other answers, and an agent that is killed changes nothing.
    rig.handle.stop(one("app_0")).await.unwrap();
    assert_eq!(ask(addr), "worker_1");
    rig = rig.crash().await;
    rig.handle.start(one("app_0")).await.unwrap();
    rig.handle.stop(one("app_1")).await.unwrap();
    wait_until("answer", || ask(addr) == "worker_0").await;
    rig = rig.replace().await;
    assert_eq!(ask(addr), "worker_0");
    // With the last one the socket goes.
    rig.handle.stop(vec![Target::All]).await.unwrap();
    wait_until("end of the socket", || TcpStream::connect(addr).is_err() && !path.exists()).await;
    rig.handle.start(one("app_1")).await.unwrap();
    wait_until("answer", || ask(addr) == "worker_1").await;
    rig.end().await;
}

#[tokio::test]
async fn a_shared_socket_that_cannot_be_had_is_a_failed_start_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let listen = ListenAddr::Tcp(addr);
    let shared = SharedSocket { listen, backlog: None, mode: 0o700, owner: None };
    let app = ProcessSpec {
        kind: Kind::FastCgi,
        stdin: Stdin::Socket(shared),
        startretries: 0,
        ..python("app", ANSWERS, &[])
    };
    let rig = Rig::new(dir.path(), vec![app]);
    let row = rig.state("app", ProcessState::Fatal).await;
    let error = row.error.unwrap();
    assert!(error.starts_with(&format!("listen on tcp:{addr}: Address already in use")), "{error}");
    drop(taken);
    rig.handle.start(one("app")).await.unwrap();
    wait_until("answer", || ask(addr) == "app").await;
    rig.end().await;
}

#[tokio::test]
async fn two_streams_and_two_programs_in_one_file_lose_and_mix_no_line_when_it_rotates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("both.log");
    let log = LogFile {
        path: LogPath::At(path.clone()),
        maxbytes: ByteSize::new(20_000),
        backups: 50,
        ..LogFile::default()
    };
    let spec = |name: &str| {
        let code = format!(
            "i=0; while [ $i -lt 1500 ]; do echo {name} out $i; echo {name} err $i >&2; \
             i=$((i+1)); done; exec sleep 1000"
        );
        ProcessSpec { stdout: log.clone(), stderr: log.clone(), ..shell(name, &code) }
    };
    let rig = Rig::new(dir.path(), vec![spec("a"), spec("b")]);
    let lines = || {
        let files = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().path());
        let logs = files.filter(|p| p.to_string_lossy().contains("both.log"));
        let mut lines: Vec<String> = logs
            .flat_map(|p| {
                let text = fs::read_to_string(p).unwrap_or_default();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        lines.sort();
        lines
    };
    wait_until("lines", || lines().len() >= 6000).await;
    let mut want: Vec<String> = ["a out", "a err", "b out", "b err"]
        .iter()
        .flat_map(|w| (0..1500).map(move |i| format!("{w} {i}")))
        .collect();
    want.sort();
    assert!(lines() == want, "lines are lost, doubled or mixed");
    rig.end().await;
}

#[tokio::test]
async fn a_program_is_told_its_name_its_group_and_where_supervisors_tools_ask() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("env");
    let web = ProcessSpec {
        label: "label".to_owned(),
        group: "group".parse().unwrap(),
        serverurl: Some("unix:///run/x.sock".to_owned()),
        ..shell("web", &format!("env > {0}.new; mv {0}.new {0}; exec sleep 1000", out.display()))
    };
    let rig = Rig::new(dir.path(), vec![web]);
    wait_until("environment", || out.exists()).await;
    let env = fs::read_to_string(&out).unwrap();
    for line in [
        "SUPERVISOR_ENABLED=1",
        "SUPERVISOR_PROCESS_NAME=label",
        "SUPERVISOR_GROUP_NAME=group",
        "SUPERVISOR_SERVER_URL=unix:///run/x.sock",
    ] {
        assert!(env.lines().any(|l| l == line), "{line} is not in {env}");
    }
    rig.end().await;
}
