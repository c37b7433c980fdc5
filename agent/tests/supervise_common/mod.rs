//! An agent that only supervises (`examples/supervise_alone.rs`), run and killed by tests.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    unreachable_pub,
    reason = "helpers of tests, which start a real agent and poll real things"
)]
#![expect(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};
use palisade_types::{ProcessState, ProcessStatus};
use serde_json::{Value, json};

/// Longest wait for anything.
pub const CAP: Duration = Duration::from_secs(60);

/// Polls until there is an answer.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + CAP;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "no {what} within {CAP:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running agent, its directory and what it was told.
pub struct Agent {
    pub dir: tempfile::TempDir,
    child: Child,
    cgroup: Option<PathBuf>,
}

impl Agent {
    pub fn start(programs: Value) -> Self {
        Self::start_in(programs, None)
    }

    /// With a cgroup of its own, if this host lets us have one.
    pub fn start_in_cgroup(programs: Value) -> Option<Self> {
        Some(Self::start_in(programs, Some(own_cgroup()?)))
    }

    /// In a cgroup that is marked as delegated, as systemd does it.
    pub fn start_delegated(programs: Value) -> Option<Self> {
        let mine = own_cgroup()?;
        let mark = format!("import os; os.setxattr({:?}, 'user.delegate', b'1')", mine);
        if !Command::new("/usr/bin/python3").args(["-c", &mark]).status().unwrap().success() {
            eprintln!("skipped: cgroup v2 without extended attributes");
            fs::remove_dir(&mine).unwrap();
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        write_config(dir.path(), Some(Path::new("auto")), &programs);
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$1\"", mine.display());
        let child = Command::new("/bin/sh")
            .args(["-c", &enter])
            .arg(binary())
            .arg(dir.path().join("config.json"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { dir, child, cgroup: Some(mine) })
    }

    pub fn cgroup(&self) -> &Path {
        self.cgroup.as_deref().unwrap()
    }

    fn start_in(programs: Value, cgroup: Option<PathBuf>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_config(dir.path(), cgroup.as_deref(), &programs);
        let child = launch(dir.path());
        Self { dir, child, cgroup }
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Ends the agent as a crash would, and starts another in its place.
    pub fn crash_and_start(&mut self) {
        self.crash();
        self.start_again();
    }

    pub fn crash(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        fs::remove_file(self.run_dir().join("status.json")).unwrap();
        self.child = launch(self.dir.path());
    }

    /// Starts another agent beside this one and waits for its end.
    pub fn second(&self) -> std::process::ExitStatus {
        launch(self.dir.path()).wait().unwrap()
    }

    /// Executes the binary anew, and waits until the new program has written its status.
    pub fn re_exec(&self) {
        fs::remove_file(self.run_dir().join("status.json")).unwrap();
        self.signal(Signal::SIGUSR2);
        wait_for("status after re-exec", || self.try_status());
    }

    pub fn update(&self, programs: &Value) {
        write_config(self.dir.path(), self.cgroup.as_deref(), programs);
        self.signal(Signal::SIGHUP);
    }

    fn try_status(&self) -> Option<BTreeMap<String, ProcessStatus>> {
        let bytes = fs::read(self.run_dir().join("status.json")).ok()?;
        let rows: Vec<ProcessStatus> = serde_json::from_slice(&bytes).unwrap();
        Some(rows.into_iter().map(|r| (r.name.to_string(), r)).collect())
    }

    pub fn status(&self) -> BTreeMap<String, ProcessStatus> {
        wait_for("status", || self.try_status())
    }

    /// Waits until a process is as wanted.
    pub fn wait(&self, name: &str, is_good: impl Fn(&ProcessStatus) -> bool) -> ProcessStatus {
        let mut last = None;
        let end = Instant::now() + CAP;
        while Instant::now() < end {
            last = self.try_status().and_then(|mut s| s.remove(name));
            if let Some(row) = last.as_ref().filter(|r| is_good(r)) {
                return row.clone();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("{name} did not get there: {last:?}");
    }

    pub fn wait_state(&self, name: &str, state: ProcessState) -> ProcessStatus {
        self.wait(name, |r| r.state == state)
    }

    /// What the sink got of a process's standard output.
    pub fn output(&self, name: &str) -> String {
        let path = self.run_dir().join("sink").join(format!("{name}.stdout"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Stops everything and waits for the end; returns whether it ended well.
    pub fn stop(mut self) -> bool {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap().success()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let up = [ProcessState::Running, ProcessState::Stopped];
            self.status()
                .values()
                .filter(|p| !up.contains(&p.state))
                .for_each(|p| eprintln!("{p:?}"));
        }
        let end = Instant::now() + Duration::from_secs(5);
        let pid = Pid::from_raw(self.pid());
        let mut is_told = false;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            if !is_told {
                is_told = nix::sys::signal::kill(pid, Signal::SIGTERM).is_ok();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().unwrap_or_default();
        self.child.wait().ok();
        // Only what this agent started, and only if it is still there.
        for (child, _) in living(&self.run_dir()) {
            nix::sys::signal::kill(Pid::from_raw(child), Signal::SIGKILL).unwrap_or_default();
        }
        if let Some(cgroup) = &self.cgroup {
            fs::write(cgroup.join("cgroup.kill"), "1").unwrap_or_default();
            for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    remove_when_empty(&entry.path());
                }
            }
            remove_when_empty(cgroup);
        }
    }
}

fn own_cgroup() -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup/unified");
    let root = if root.exists() { root } else { Path::new("/sys/fs/cgroup") };
    let mine = root.join(format!("palisade-test-{}", unique()));
    if fs::create_dir(&mine).is_err() {
        eprintln!("skipped: no cgroup v2 directory of our own at {}", root.display());
        return None;
    }
    Some(mine)
}

fn remove_when_empty(dir: &Path) {
    let end = Instant::now() + Duration::from_secs(3);
    while dir.exists() && fs::remove_dir(dir).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Living processes with the mark of the agent of this run directory: pid and process name.
pub fn living(run_dir: &Path) -> Vec<(i32, String)> {
    let mark = format!("PALISADE_SUPERVISOR={}", run_dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(environ) = fs::read(entry.path().join("environ")) else { continue };
        let environ = String::from_utf8_lossy(&environ).into_owned();
        let vars: Vec<_> = environ.split('\0').collect();
        if vars.contains(&mark.as_str()) {
            let name = vars.iter().find_map(|v| v.strip_prefix("PALISADE_PROCESS="));
            found.push((pid, name.unwrap_or_default().to_owned()));
        }
    }
    found
}

/// Whether a process is there and no zombie.
pub fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| !s.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}

fn write_config(dir: &Path, cgroup: Option<&Path>, programs: &Value) {
    let config = json!({ "run_dir": dir.join("run"), "cgroup": cgroup, "programs": programs });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

fn launch(dir: &Path) -> Child {
    let log = fs::OpenOptions::new().append(true).create(true).open(dir.join("agent.log")).unwrap();
    Command::new(binary())
        .arg(dir.join("config.json"))
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Built by `cargo test` beside the tests.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples/supervise_alone");
    assert!(path.exists(), "{} is missing: cargo build --example supervise_alone", path.display());
    path
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A TCP address that is free now.
pub fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A Python program as a command.
pub fn python(code: &str) -> Value {
    json!(["/usr/bin/python3", "-S", "-u", "-c", code])
}

/// A shell program as a command.
pub fn shell(code: &str) -> Value {
    json!(["/bin/sh", "-c", code])
}
