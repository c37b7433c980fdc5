//! A real `palisade run` in a directory of its own, and its command line.
#![expect(clippy::unwrap_used, reason = "a harness for tests: what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_types::{ProcessState, ProcessStatus};
use tempfile::TempDir;

use crate::wait::{wait_for, wait_until};

/// How long anything here may take on a loaded machine.
pub const CAP: Duration = Duration::from_secs(60);

/// A directory with a configuration and, most of the time, an agent that runs it.
#[derive(Debug)]
pub struct Agent {
    dir: TempDir,
    binary: PathBuf,
    child: Option<Child>,
    env: Vec<(String, String)>,
}

impl Agent {
    /// Writes the configuration (`@DIR@` stands for the directory) and copies the binary, so that a
    /// test can replace it; starts nothing.
    #[must_use]
    pub fn new(binary: &str, config: &str) -> Self {
        Self::new_in(&std::env::temp_dir(), binary, config)
    }

    /// The same in a directory below `parent`.
    #[must_use]
    pub fn new_in(parent: &Path, binary: &str, config: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("palisade-test-").tempdir_in(parent).unwrap();
        let copy = dir.path().join("palisade");
        copy_program(Path::new(binary), &copy);
        let agent = Self { dir, binary: copy, child: None, env: Vec::new() };
        agent.configure(config);
        agent
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The agent's own copy of the binary.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A variable for the agent.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Writes a configuration. What each has in common is put in front: `version`, `host`, `control`.
    pub fn configure(&self, config: &str) {
        let head = "version: 1\nhost: { run_dir: @DIR@/run, state_dir: @DIR@/state, cgroup: off }\n\
                    control: { group: root }\n";
        let text = format!("{head}{config}").replace("@DIR@", self.dir.path().to_str().unwrap());
        fs::write(self.config(), text).unwrap();
    }

    /// Path of the configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("palisade.yaml")
    }

    /// Starts the agent and waits until it answers.
    pub fn start(&mut self) {
        let binary = self.binary.clone();
        self.start_as(&binary);
    }

    /// Starts another binary as the agent and waits until it answers.
    pub fn start_as(&mut self, binary: &Path) {
        let log = self.dir.path().join("agent.log");
        let log = fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        let child = Command::new(binary)
            .args(["run", "--log", "text", "-c"])
            .arg(self.config())
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_until("the agent to answer", CAP, || {
            self.check_alive();
            self.by(binary, &["status"]).status.code() != Some(4)
        });
    }

    /// Waits until the agent has ended by itself.
    pub fn wait_gone(&mut self) {
        let mut child = self.child.take().unwrap();
        wait_for("the agent to end", CAP, || child.try_wait().unwrap());
    }

    #[expect(clippy::panic, reason = "the test failed")]
    fn check_alive(&self) {
        let pid = self.pid();
        if !Path::new(&format!("/proc/{pid}/exe")).exists() {
            panic!("the agent ended:\n{}", self.log());
        }
    }

    /// What the agent logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    /// The agent's pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Kills the agent and waits until it is gone. What it started runs on.
    pub fn kill_agent(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends the agent by SIGTERM and returns its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().unwrap();
        wait_for("the agent to end", CAP, || child.try_wait().unwrap()).code()
    }

    /// Runs a verb of the command line against this agent.
    #[must_use]
    pub fn ctl(&self, args: &[&str]) -> Output {
        self.by(&self.binary, args)
    }

    /// What `status` prints, asked by another binary than the one at the agent's path.
    #[must_use]
    pub fn status_by(&self, binary: &Path) -> String {
        String::from_utf8_lossy(&self.by(binary, &["status"]).stdout).into_owned()
    }

    fn by(&self, binary: &Path, args: &[&str]) -> Output {
        Command::new(binary)
            .args(["-c".as_ref(), self.config().as_os_str()])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a verb that must succeed and returns what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.ctl(args);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {text}{errors}\nlog:\n{}", self.log());
        text
    }

    /// Every process.
    #[must_use]
    pub fn programs(&self) -> Vec<ProcessStatus> {
        serde_json::from_slice(&self.ctl(&["status", "--json"]).stdout).unwrap_or_default()
    }

    /// One process, if it is there.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<ProcessStatus> {
        self.programs().into_iter().find(|p| p.name.as_str() == name)
    }

    /// Waits until a process is in this state.
    pub fn wait_state(&self, name: &str, state: ProcessState) -> ProcessStatus {
        wait_for(&format!("{name} to be {state}"), CAP, || {
            self.program(name).filter(|p| p.state == state)
        })
    }

    /// Waits until a process runs and returns its pid.
    pub fn wait_running(&self, name: &str) -> i32 {
        self.wait_state(name, ProcessState::Running).pid
    }

    /// Reads a file of the directory; empty if it is not there.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

/// Copies a program by another process: were it written by this one, a child that another test starts
/// meanwhile would hold it open for writing for a moment, and the kernel would not execute it.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("/bin/cp").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cp {} {}", from.display(), to.display());
}

/// Writes a script that can be executed at once, by another process as [`copy_program`] does.
pub fn write_program(path: &Path, text: &str) {
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success(), "write {}", path.display());
}

impl Drop for Agent {
    /// Stops the agent, and whatever it started that outlived it, by pid.
    fn drop(&mut self) {
        let pids: Vec<i32> = self.programs().iter().map(|p| p.pid).filter(|p| *p > 0).collect();
        if let Some(mut child) = self.child.take() {
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).ok();
            for _ in 0..400 {
                if !matches!(child.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            child.kill().ok();
            child.wait().ok();
        }
        for pid in pids {
            // Only what was ours: the mark is in its environment.
            let env = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if String::from_utf8_lossy(&env).contains(self.dir.path().to_str().unwrap()) {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
    }
}
