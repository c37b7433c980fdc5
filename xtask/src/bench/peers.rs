//! The two supervisors under measurement, each with the same programs and no logs of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::beacon;
use crate::{
    cmd::Cmd,
    host,
    process::{command_line, signal},
};

/// How long a supervisor may take to end its programs and itself.
const STOPS: Duration = Duration::from_secs(30);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Supervisord,
    Palisade,
}

/// Where their programs are.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) supervisord: PathBuf,
    pub(crate) palisade: PathBuf,
}

impl Peer {
    pub(crate) const BOTH: [Self; 2] = [Self::Supervisord, Self::Palisade];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Supervisord => "supervisord",
            Self::Palisade => "palisade",
        }
    }

    /// Its version, as it tells it.
    pub(crate) fn version(self, tools: &Tools) -> Result<String> {
        let said = match self {
            Self::Supervisord => Cmd::new(&tools.supervisord).arg("--version").run()?,
            Self::Palisade => Cmd::new(&tools.palisade).arg("--version").run()?,
        };
        Ok(said.trim().rsplit(' ').next().unwrap_or_default().to_owned())
    }

    /// Starts it with so many beacons. Its files lie in `dir`.
    pub(crate) fn start(self, tools: &Tools, dir: &Path, programs: usize) -> Result<Running> {
        let record = dir.join("starts");
        let beacon = format!("{} __beacon {}", host::own_program()?.display(), record.display());
        self.start_with(tools, dir, &self.config(dir, &beacon, programs), None)
    }

    /// Starts it with a configuration, and an endpoint for its AWS calls if it makes any.
    pub(crate) fn start_with(
        self,
        tools: &Tools,
        dir: &Path,
        text: &str,
        endpoint: Option<&str>,
    ) -> Result<Running> {
        let config = dir.join(match self {
            Self::Supervisord => "supervisord.conf",
            Self::Palisade => "palisade.yaml",
        });
        host::write(&config, text)?;
        let mut cmd = match self {
            Self::Supervisord => Cmd::new(&tools.supervisord).args(["-n", "-c"]),
            Self::Palisade => Cmd::new(&tools.palisade).args(["run", "-c"]),
        };
        cmd = cmd.arg(&config).bare_env();
        if let Some(url) = endpoint {
            cmd = cmd
                .env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
                .env("AWS_ACCESS_KEY_ID", "AKIABENCH")
                .env("AWS_SECRET_ACCESS_KEY", "bench")
                .env("AWS_EC2_METADATA_DISABLED", "true");
        }
        let output = dir.join("output");
        let at = beacon::clock()?;
        let child = cmd.daemon(&output)?;
        Ok(Running { child, at, record: dir.join("starts"), output })
    }

    fn config(self, dir: &Path, beacon: &str, programs: usize) -> String {
        let dir = dir.display();
        match self {
            Self::Supervisord => format!(
                "[supervisord]\nlogfile={dir}/supervisord.log\npidfile={dir}/pid\n\
                 [unix_http_server]\nfile={dir}/sock\n\
                 [rpcinterface:supervisor]\n\
                 supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
                 [program:beacon]\ncommand={beacon}\nprocess_name=%(program_name)s_%(process_num)d\n\
                 numprocs={programs}\nautorestart=true\nstartsecs=1\n\
                 stdout_logfile=NONE\nstderr_logfile=NONE\n"
            ),
            Self::Palisade => format!(
                "version: 1\nhost: {{ role: origin, state_dir: {dir}/state, run_dir: {dir}/run }}\n\
                 control: {{ socket: {dir}/sock }}\n\
                 programs:\n  beacon:\n    command: {beacon}\n    numprocs: {programs}\n    \
                 autorestart: true\n    startsecs: 1s\n    \
                 stdout_logfile: NONE\n    stderr_logfile: NONE\n"
            ),
        }
    }
}

/// A supervisor at work.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// When it was started.
    pub(crate) at: u64,
    /// What its beacons wrote down.
    pub(crate) record: PathBuf,
    output: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> Result<i32> {
        i32::try_from(self.child.id()).context("a process id is a positive number")
    }

    /// What it said, for when something is wrong.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let asked = self.pid().and_then(|pid| signal(pid, Signal::SIGTERM));
        let ended = asked.and_then(|()| {
            host::wait_until("end of the supervisor", STOPS, || {
                self.child.try_wait()?.context("it still runs")
            })
        });
        if ended.is_err() {
            // It is ours to end, whatever state it is in.
            drop(self.child.kill());
            drop(self.child.wait());
        }
        // Programs may outlive their supervisor, by design or by accident.
        let mark = self.record.display().to_string();
        for start in beacon::starts(&self.record).unwrap_or_default() {
            if command_line(start.pid).contains(&mark) {
                drop(signal(start.pid, Signal::SIGKILL));
            }
        }
    }
}
