//! The supervisors under measurement, each with the same programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{
    beacon,
    jobs::{Job, lay_out},
};
use crate::{
    cmd::{Cmd, find},
    host,
    process::{children, command_line, signal},
};

/// How long a supervisor may take to end its programs and itself.
const STOPS: Duration = Duration::from_secs(30);

/// Generations of processes below a supervisor.
const DEEP: usize = 6;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    Supervisord,
    Circus,
    S6,
    Runit,
    Palisade,
}

/// Where their programs are.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) supervisord: PathBuf,
    pub(crate) palisade: PathBuf,
    /// Only measured where it is there.
    pub(crate) circusd: Option<PathBuf>,
}

impl Peer {
    pub(crate) const BOTH: [Self; 2] = [Self::Supervisord, Self::Palisade];
    pub(crate) const ALL: [Self; 5] =
        [Self::Supervisord, Self::Circus, Self::S6, Self::Runit, Self::Palisade];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Supervisord => "supervisord",
            Self::Circus => "circus",
            Self::S6 => "s6",
            Self::Runit => "runit",
            Self::Palisade => "palisade",
        }
    }

    /// Whether it can be measured here.
    pub(crate) fn is_there(self, tools: &Tools) -> bool {
        match self {
            Self::Supervisord | Self::Palisade => true,
            Self::Circus => tools.circusd.is_some(),
            Self::S6 => find("s6-svscan").is_some() && find("s6-log").is_some(),
            Self::Runit => find("runsvdir").is_some() && find("svlogd").is_some(),
        }
    }

    /// Its version, as it tells it.
    pub(crate) fn version(self, tools: &Tools) -> Result<String> {
        let package = |name| Cmd::new("dpkg-query").args(["-W", "-f", "${Version}", name]).run();
        let said = match self {
            Self::Supervisord => Cmd::new(&tools.supervisord).arg("--version").run()?,
            Self::Palisade => Cmd::new(&tools.palisade).arg("--version").run()?,
            Self::Circus => {
                let circusd = tools.circusd.as_ref().context("circus is not installed")?;
                Cmd::new(circusd).arg("--version").run()?
            }
            Self::S6 => package("s6")?,
            Self::Runit => package("runit")?,
        };
        Ok(said.trim().rsplit(' ').next().unwrap_or_default().to_owned())
    }

    /// Starts it with so many beacons. Its files lie in `dir`.
    pub(crate) fn start(self, tools: &Tools, dir: &Path, programs: usize) -> Result<Running> {
        let record = dir.join("starts");
        let command = format!("{} __beacon {}", host::own_program()?.display(), record.display());
        self.start_jobs(tools, dir, &[Job { copies: programs, ..Job::new("beacon", command) }])
    }

    /// Starts it with these programs.
    pub(crate) fn start_jobs(self, tools: &Tools, dir: &Path, jobs: &[Job]) -> Result<Running> {
        let cmd = lay_out(self, tools, dir, jobs)?;
        self.launch(cmd, dir)
    }

    /// Starts it with a configuration, and an endpoint for its AWS calls if it makes any.
    pub(crate) fn start_with(
        self,
        tools: &Tools,
        dir: &Path,
        text: &str,
        endpoint: Option<&str>,
    ) -> Result<Running> {
        let mut cmd = lay_out(self, tools, dir, &[])?;
        host::write(
            &dir.join(if self == Self::Palisade { "palisade.yaml" } else { "supervisord.conf" }),
            text,
        )?;
        if let Some(url) = endpoint {
            cmd = cmd
                .env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
                .env("AWS_ACCESS_KEY_ID", "AKIABENCH")
                .env("AWS_SECRET_ACCESS_KEY", "bench")
                .env("AWS_EC2_METADATA_DISABLED", "true");
        }
        self.launch(cmd, dir)
    }

    fn launch(self, cmd: Cmd, dir: &Path) -> Result<Running> {
        let output = dir.join("output");
        let at = beacon::clock()?;
        let child = cmd.daemon(&output)?;
        Ok(Running { peer: self, child, at, record: dir.join("starts"), output })
    }

    /// What asks it to end with its programs.
    fn end(self) -> Signal {
        match self {
            Self::Supervisord | Self::Circus | Self::S6 | Self::Palisade => Signal::SIGTERM,
            // On TERM it ends alone.
            Self::Runit => Signal::SIGHUP,
        }
    }
}

/// A supervisor at work.
#[derive(Debug)]
pub(crate) struct Running {
    peer: Peer,
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

    /// The supervisor with all that it needs to supervise and to log, and without the programs.
    pub(crate) fn family(&self) -> Result<Vec<i32>> {
        let program = host::own_program()?.display().to_string();
        let mut all = self.descendants()?;
        all.retain(|pid| !command_line(*pid).starts_with(&program));
        Ok(all)
    }

    /// It and everything below it.
    fn descendants(&self) -> Result<Vec<i32>> {
        let mut all = vec![self.pid()?];
        let mut last = all.clone();
        for _ in 0..DEEP {
            // One that ended meanwhile has none.
            last = last.iter().flat_map(|pid| children(*pid).unwrap_or_default()).collect();
            all.extend(&last);
        }
        Ok(all)
    }

    /// What it said, for when something is wrong.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default().trim().to_owned()
    }
}

/// When a process started, in the kernel's ticks: tells it from a later one of its number.
fn born(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(str::to_owned)
}

impl Drop for Running {
    fn drop(&mut self) {
        let below: Vec<_> = self
            .descendants()
            .unwrap_or_default()
            .into_iter()
            .filter_map(|pid| Some((pid, born(pid)?)))
            .collect();
        let asked = self.pid().and_then(|pid| signal(pid, self.peer.end()));
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
        // Programs, and what minded them, may outlive their supervisor, by design or by accident.
        for (pid, since) in below {
            if born(pid) == Some(since) {
                drop(signal(pid, Signal::SIGKILL));
            }
        }
        let mark = self.record.display().to_string();
        for start in beacon::starts(&self.record).unwrap_or_default() {
            if command_line(start.pid).contains(&mark) {
                drop(signal(start.pid, Signal::SIGKILL));
            }
        }
    }
}
