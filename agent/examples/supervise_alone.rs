//! The supervisor alone, from a small JSON file: what the tests of survival kill and re-execute.
//!
//! `supervise_alone FILE`, where FILE holds `run_dir`, `cgroup` and `programs`. Output goes to
//! `run_dir/sink/NAME.STREAM`, the status to `run_dir/status.json`. SIGTERM stops everything, SIGUSR2
//! executes the binary anew, SIGHUP reads FILE again.
#![expect(clippy::unwrap_used, reason = "a tool for tests")]

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use palisade_agent::{
    clock::SystemClock,
    supervise::{
        AutoRestart, Cgroup, Hook, Hooks, Limits, ListenAddr, ListenSocket, LogFile, LogPath,
        NotifyFrom, OutputSink, OutputSource, Probe, ProbeTarget, ProcessSpec, Ready, Rolling,
        Settings, Wiring, start,
    },
    sys::{children::Children, fdstore::SystemdStore, files, host::LinuxHost, inherit, reexec},
    task::Scope,
};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    run_dir: PathBuf,
    cgroup: Option<PathBuf>,
    programs: BTreeMap<String, Program>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Program {
    command: Vec<String>,
    numprocs: u32,
    environment: BTreeMap<String, String>,
    user: Option<String>,
    directory: Option<PathBuf>,
    autostart: bool,
    autorestart: String,
    startsecs: f64,
    startretries: u32,
    stopwaitsecs: f64,
    stopasgroup: bool,
    killasgroup: bool,
    priority: i32,
    after: Vec<String>,
    sockets: BTreeMap<String, String>,
    notify: Option<f64>,
    http: Option<String>,
    log: Option<PathBuf>,
    redirect_stderr: bool,
    pids: Option<u32>,
    oneshot: bool,
    pre_start: Vec<Vec<String>>,
    post_start: Vec<Vec<String>>,
    hook_timeout: f64,
    overlap: bool,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            command: vec![],
            numprocs: 1,
            environment: BTreeMap::new(),
            user: None,
            directory: None,
            autostart: true,
            autorestart: "unexpected".to_owned(),
            startsecs: 1.0,
            startretries: 3,
            stopwaitsecs: 10.0,
            stopasgroup: false,
            killasgroup: false,
            priority: 999,
            after: vec![],
            sockets: BTreeMap::new(),
            notify: None,
            http: None,
            log: None,
            redirect_stderr: false,
            pids: None,
            oneshot: false,
            pre_start: vec![],
            post_start: vec![],
            hook_timeout: 60.0,
            overlap: false,
        }
    }
}

fn read(path: &str) -> Settings {
    let config: Config = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut processes = Vec::new();
    for (name, p) in &config.programs {
        for n in 0..p.numprocs {
            let process = if p.numprocs == 1 { name.clone() } else { format!("{name}_{n:03}") };
            processes.push(spec(name, &process, p));
        }
    }
    Settings {
        log_dir: config.run_dir.join("log"),
        cgroup: match config.cgroup {
            None => Cgroup::Off,
            Some(auto) if auto.as_os_str() == "auto" => Cgroup::Auto,
            Some(dir) => Cgroup::At(dir),
        },
        run_dir: config.run_dir,
        processes,
    }
}

fn spec(name: &str, process: &str, p: &Program) -> ProcessSpec {
    let none = LogFile { path: LogPath::None, ..LogFile::default() };
    let log = p.log.clone().map_or(LogPath::None, LogPath::At);
    ProcessSpec {
        priority: p.priority,
        directory: p.directory.clone(),
        user: p.user.clone(),
        environment: p.environment.clone(),
        autostart: p.autostart,
        autorestart: match p.autorestart.as_str() {
            "always" => AutoRestart::Always,
            "never" => AutoRestart::Never,
            _ => AutoRestart::Unexpected,
        },
        startsecs: Duration::from_secs_f64(p.startsecs),
        startretries: p.startretries,
        stopwaitsecs: Duration::from_secs_f64(p.stopwaitsecs),
        stopasgroup: p.stopasgroup,
        killasgroup: p.killasgroup,
        sockets: p
            .sockets
            .iter()
            .map(|(name, addr)| ListenSocket {
                name: name.clone(),
                listen: match addr.strip_prefix("unix:") {
                    Some(path) => ListenAddr::Unix(path.into()),
                    None => ListenAddr::Tcp(addr.parse().unwrap()),
                },
            })
            .collect(),
        ready: match (p.notify, &p.http) {
            (Some(seconds), _) => {
                Ready::Notify { timeout: Duration::from_secs_f64(seconds), from: NotifyFrom::Any }
            }
            (None, Some(addr)) => Ready::Probe(Probe {
                target: ProbeTarget::Http {
                    addr: addr.parse().unwrap(),
                    host: "localhost".to_owned(),
                    path: "/".to_owned(),
                },
                every: Duration::from_millis(50),
                timeout: Duration::from_secs(10),
            }),
            (None, None) => Ready::Delay,
        },
        stdout: LogFile { path: log, ..none.clone() },
        stderr: none,
        redirect_stderr: p.redirect_stderr,
        limits: Limits { pids: p.pids, ..Limits::default() },
        oneshot: p.oneshot,
        hooks: Hooks { pre_start: hooks(p, &p.pre_start), post_start: hooks(p, &p.post_start) },
        rolling: Rolling { overlap: p.overlap },
        after: p.after.iter().map(|a| a.parse().unwrap()).collect(),
        ..ProcessSpec::new(
            process.parse().unwrap(),
            name.parse().unwrap(),
            name.parse().unwrap(),
            p.command.clone(),
        )
    }
}

fn hooks(p: &Program, commands: &[Vec<String>]) -> Vec<Hook> {
    let timeout = Duration::from_secs_f64(p.hook_timeout);
    commands.iter().map(|argv| Hook { argv: argv.clone(), timeout }).collect()
}

/// Files that are appended to: a write that returned survives the death of this process.
struct Files(PathBuf);

impl OutputSink for Files {
    async fn write(&self, from: &OutputSource, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.join(format!("{}.{}", from.process, from.stream));
        OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let path = std::env::args().nth(1).unwrap();
    let settings = read(&path);
    let run_dir = settings.run_dir.clone();
    let mut inherited = inherit::from_exec(std::env::var_os(inherit::FDS)).unwrap();
    let env = std::env::vars_os();
    let host = LinuxHost::new(&settings, Children::default(), env, &mut inherited).unwrap();
    let sink = run_dir.join("sink");
    files::ensure_dir(&sink, 0o755).unwrap();
    let mut scope = Scope::new(&CancellationToken::new());
    let wiring = Wiring {
        host,
        sink: Files(sink),
        store: SystemdStore::new(std::env::var_os("NOTIFY_SOCKET").as_deref()),
        clock: SystemClock,
        inherited,
    };
    let handle = start(&mut scope, settings, wiring).unwrap();
    let mut status = handle.status();
    let mut term = signal(SignalKind::terminate()).unwrap();
    let mut hup = signal(SignalKind::hangup()).unwrap();
    let mut usr2 = signal(SignalKind::user_defined2()).unwrap();
    loop {
        let rows = serde_json::to_vec(&*status.borrow_and_update()).unwrap();
        files::write_atomic_volatile(&run_dir.join("status.json"), &rows, 0o644).unwrap();
        // Every arm only waits.
        tokio::select! {
            changed = status.changed() => if changed.is_err() { break },
            _ = term.recv() => {
                handle.shut_down(Duration::from_secs(30)).await.unwrap();
                break;
            }
            _ = hup.recv() => {
                handle.update(read(&path)).await.unwrap();
            }
            _ = usr2.recv() => {
                let files = handle.prepare_handover(Duration::from_secs(5)).await.unwrap();
                let args: Vec<_> = std::env::args_os().collect();
                let binary = PathBuf::from(&args[0]);
                reexec::exec(&binary, &args, std::env::vars_os(), files).unwrap();
            }
        }
    }
    scope.shut_down(Duration::from_secs(5)).await;
}
