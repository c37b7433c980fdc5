//! The two supervisors that every case is put to: Supervisor itself, to prove that a case says what
//! Supervisor does, and the agent with the very same file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_e2e::{
    agent::CAP,
    wait::{wait_for, wait_until},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::xmlrpc;

/// Which supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Supervisor 4.3 from the Python Package Index.
    Supervisord,
    /// The agent, with `supervisor_conf:`.
    Palisade,
}

/// A directory with a configuration, and a supervisor that runs it.
pub(crate) struct Subject {
    kind: Kind,
    dir: TempDir,
    child: Option<Child>,
}

/// The virtual environment with Supervisor.
pub(crate) fn venv() -> PathBuf {
    let mut dir = PathBuf::from(env!("CARGO_BIN_EXE_palisade-under-test"));
    while dir.pop() {
        let venv = dir.join("demo-venv");
        if venv.join("bin/supervisord").exists() {
            return venv;
        }
    }
    PathBuf::new()
}

impl Subject {
    /// Runs these sections; `@DIR@` stands for the directory.
    pub(crate) fn start(kind: Kind, sections: &str) -> Self {
        let mut subject = Self::prepare(kind, sections);
        subject.launch();
        subject
    }

    /// Writes all files and starts nothing.
    pub(crate) fn prepare(kind: Kind, sections: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("palisade-sup-").tempdir().unwrap();
        let subject = Self { kind, dir, child: None };
        fs::create_dir(subject.path("childlog")).unwrap();
        subject.configure(sections);
        let yaml = "version: 1\n\
                    host: { run_dir: @DIR@/run, state_dir: @DIR@/state, cgroup: off }\n\
                    control: { group: root, supervisor_socket: @DIR@/sup.sock }\n\
                    supervisor_conf: [@DIR@/supervisord.conf]\n";
        subject.write("palisade.yaml", yaml);
        subject
    }

    /// Starts the supervisor and waits until it answers.
    pub(crate) fn launch(&mut self) {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.path("err")).unwrap();
        let mut command = self.command();
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(started.unwrap());
        wait_until("the supervisor to answer", CAP, || {
            let pid = self.pid();
            assert!(
                Path::new(&format!("/proc/{pid}/exe")).exists(),
                "it ended: {}",
                self.read("err")
            );
            let socket = self.path("sup.sock");
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
                && xmlrpc::call(&socket, "supervisor.getState", &[]).is_ok()
        });
    }

    /// What runs the configuration in the foreground.
    pub(crate) fn command(&self) -> Command {
        let mut command = match self.kind {
            Kind::Supervisord => {
                let mut c = Command::new(venv().join("bin/supervisord"));
                c.arg("-n").arg("-c").arg(self.path("supervisord.conf"));
                c
            }
            Kind::Palisade => {
                let mut c = Command::new(env!("CARGO_BIN_EXE_palisade-under-test"));
                c.args(["run", "--log", "text", "-c"]).arg(self.path("palisade.yaml"));
                c
            }
        };
        command.current_dir(self.dir.path()).env("FROM_OUTSIDE", "outer");
        command
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, sections: &str) {
        let head = "[unix_http_server]\nfile=@DIR@/sup.sock\n\
             [supervisord]\nlogfile=@DIR@/main.log\npidfile=@DIR@/sup.pid\n\
             childlogdir=@DIR@/childlog\nidentifier=test\n\
             [rpcinterface:supervisor]\n\
             supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
             [supervisorctl]\nserverurl=unix://@DIR@/sup.sock\n";
        self.write("supervisord.conf", &format!("{head}{sections}"));
    }

    /// Writes a file of the directory.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let text = text.replace("@DIR@", self.dir.path().to_str().unwrap());
        fs::write(self.path(name), text).unwrap();
    }

    /// Reads a file of the directory; empty if it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lines of a file of the directory.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().map(str::to_owned).collect()
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The supervisor's pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// Sends the supervisor a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Kills the supervisor; what it started runs on.
    pub(crate) fn kill_it(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the supervisor has ended, and returns its exit code.
    pub(crate) fn wait_gone(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        wait_for("the supervisor to end", CAP, || child.try_wait().unwrap()).code()
    }

    /// Calls a method that must succeed.
    pub(crate) fn rpc(&self, method: &str, params: &[Value]) -> Value {
        let answer = self.try_rpc(method, params);
        assert!(answer.is_ok(), "{method} {params:?}: {answer:?}\n{}", self.read("err"));
        answer.unwrap()
    }

    /// Calls a method of `supervisor.*`.
    pub(crate) fn try_rpc(&self, method: &str, params: &[Value]) -> Result<Value, (i64, String)> {
        let method =
            if method.contains('.') { method.to_owned() } else { format!("supervisor.{method}") };
        xmlrpc::call(&self.path("sup.sock"), &method, params)
    }

    /// Everything about a process.
    pub(crate) fn info(&self, name: &str) -> Value {
        self.rpc("getProcessInfo", &[json!(name)])
    }

    /// The state of a process.
    pub(crate) fn state(&self, name: &str) -> String {
        self.info(name)["statename"].as_str().unwrap().to_owned()
    }

    /// Waits until a process is in this state.
    pub(crate) fn wait(&self, name: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let what = format!("{name} to be {state}");
        wait_for(&what, CAP, || {
            last = self.info(name);
            (last["statename"] == json!(state)).then(|| last.clone())
        })
    }

    /// Waits until a process runs, and returns its pid.
    pub(crate) fn running(&self, name: &str) -> i64 {
        self.wait(name, "RUNNING")["pid"].as_i64().unwrap()
    }

    /// Waits until a file has so many lines.
    pub(crate) fn wait_lines(&self, file: &str, count: usize) -> Vec<String> {
        wait_for(&format!("{count} lines in {file}"), CAP, || {
            Some(self.lines(file)).filter(|l| l.len() >= count)
        })
    }

    /// The times, in seconds, at which a program wrote that it started.
    pub(crate) fn times(&self, file: &str) -> Vec<f64> {
        self.lines(file).iter().filter_map(|l| l.parse().ok()).collect()
    }
}

/// A moment in which nothing may happen.
pub(crate) fn rest(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).ok();
            for _ in 0..1500 {
                if !matches!(child.try_wait(), Ok(None)) {
                    break;
                }
                rest(10);
            }
            child.kill().ok();
            child.wait().ok();
        }
        // Whatever outlived it and was ours: the directory is on its command line or in its environment.
        let dir = self.dir.path().to_str().unwrap().as_bytes();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            if pid == i32::try_from(std::process::id()).unwrap() {
                continue;
            }
            let holds = |what: &str| {
                let text = fs::read(entry.path().join(what)).unwrap_or_default();
                text.windows(dir.len()).any(|w| w == dir)
            };
            if holds("cmdline") || holds("environ") {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
    }
}
