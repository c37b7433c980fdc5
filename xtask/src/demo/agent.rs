//! The agent under show: started, asked, upgraded and killed as a person or systemd would.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;

use super::{
    site::{Sink, Site},
    world::{Host, World},
};
use crate::{
    cmd::{Cmd, Said},
    host,
    process::signal,
};

/// How long the agent may take to answer after a start.
const ANSWERS: Duration = Duration::from_secs(20);
/// How long all programs may take to be ready, on a busy machine.
pub(crate) const ALL_READY: Duration = Duration::from_secs(90);

/// One program as `palisade status --json` tells it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) pid: i32,
    pub(crate) ready: bool,
}

/// The running agent.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    world: &'a World,
    site: &'a Site,
    sink: Sink,
    binary: PathBuf,
    child: Option<Child>,
}

impl<'a> Agent<'a> {
    /// Installs the binary on the origin and starts it.
    pub(crate) fn start(
        world: &'a World,
        site: &'a Site,
        sink: Sink,
        built: &Path,
    ) -> Result<Self> {
        let binary = site.dir.join("bin/palisade");
        fs::copy(built, &binary).with_context(|| format!("copy {}", built.display()))?;
        let mut agent = Self { world, site, sink, binary, child: None };
        agent.start_again()?;
        Ok(agent)
    }

    /// Starts the agent, as systemd does after a crash.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the agent runs already");
        let mut cmd = self.world.on(Host::Origin, &self.binary).bare_env();
        if self.sink == Sink::CloudWatch {
            cmd = super::cloudwatch::environment(cmd);
        }
        let log = self.site.dir.join("logs/agent.log");
        self.child = Some(cmd.args(["run", "-c"]).arg(&self.site.config).daemon(&log)?);
        host::wait_until("the agent's first answer", ANSWERS, || {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                return Ok(Err(anyhow::anyhow!("the agent ended with {status}: {}", tail(&log))));
            }
            programs(&self.binary, &self.site.socket).map(|_| Ok(()))
        })?
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Result<i32> {
        let child = self.child.as_ref().context("the agent does not run")?;
        i32::try_from(child.id()).context("a process id is a positive number")
    }

    /// `palisade VERB ...` on the origin.
    pub(crate) fn cli(&self, args: &[&str]) -> Cmd {
        self.world
            .on(Host::Origin, &self.binary)
            .bare_env()
            .arg("--socket")
            .arg(&self.site.socket)
            .args(args)
            .within(Duration::from_secs(120))
    }

    /// What it says of its programs.
    pub(crate) fn programs(&self) -> Result<Vec<Program>> {
        programs(&self.binary, &self.site.socket)
    }

    /// The process id of each program.
    pub(crate) fn pids(&self) -> Result<BTreeMap<String, i32>> {
        Ok(self.programs()?.into_iter().map(|p| (p.name, p.pid)).collect())
    }

    /// The process id of one program.
    pub(crate) fn pid_of(&self, name: &str) -> Result<i32> {
        let pid = self.pids()?.get(name).copied().unwrap_or_default();
        ensure!(pid > 0, "{name} does not run");
        Ok(pid)
    }

    /// Waits until all programs run and are ready.
    pub(crate) fn all_ready(&self, cap: Duration) -> Result<Vec<Program>> {
        host::wait_until("all programs ready", cap, || {
            let programs = self.programs()?;
            let late: Vec<_> = programs
                .iter()
                .filter(|p| p.state != "RUNNING" || !p.ready)
                .map(|p| format!("{} is {}", p.name, p.state))
                .collect();
            ensure!(late.is_empty(), "{}", late.join(", "));
            Ok(programs)
        })
    }

    /// `palisade status` as a person reads it.
    pub(crate) fn status_text(&self) -> Result<Said> {
        self.cli(&["status"]).said()
    }

    /// Puts another file in the place of the binary, as a package upgrade does, and asks the agent to
    /// go on with it. Returns how long it took until the new program answered.
    pub(crate) fn upgrade(&self) -> Result<Duration> {
        let new = self.binary.with_extension("new");
        fs::copy(&self.binary, &new).context("copy the agent")?;
        fs::rename(&new, &self.binary).context("put the new agent in place")?;
        let wanted = fs::metadata(&self.binary).context("look at the new agent")?.ino();
        let pid = self.pid()?;
        let start = host::now();
        signal(pid, Signal::SIGUSR2)?;
        host::wait_until("the new agent runs", ANSWERS, || {
            let runs = fs::metadata(format!("/proc/{pid}/exe")).context("the agent is gone")?.ino();
            ensure!(runs == wanted, "process {pid} still runs the old file");
            Ok(())
        })?;
        host::wait_until("the new agent answers", ANSWERS, || self.programs())?;
        Ok(start.elapsed())
    }

    /// Kills the agent outright.
    pub(crate) fn kill(&mut self) -> Result<Instant> {
        let pid = self.pid()?;
        let at = host::now();
        signal(pid, Signal::SIGKILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait().context("reap the agent")?;
        }
        Ok(at)
    }

    /// Asks it to read its configuration again.
    pub(crate) fn reload(&self) -> Result<()> {
        signal(self.pid()?, Signal::SIGHUP)
    }

    /// Asks it to stop and waits for it.
    pub(crate) fn stop(&mut self, cap: Duration) -> Result<()> {
        signal(self.pid()?, Signal::SIGTERM)?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = host::wait_until("end of the agent", cap, || {
            child.try_wait()?.context("the agent still runs")
        })?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }

    /// The last lines of its own log.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.site.dir.join("logs/agent.log"))
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // The world ends every process in it; this only avoids a zombie until then.
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn programs(binary: &Path, socket: &Path) -> Result<Vec<Program>> {
    let said = Cmd::new(binary)
        .bare_env()
        .arg("--socket")
        .arg(socket)
        .args(["status", "--json"])
        .within(Duration::from_secs(5))
        .said()?;
    // 3 says that some program is down, which is an answer too.
    if !matches!(said.status.code(), Some(0 | 3)) {
        bail!("`palisade status` ended with {}: {}", said.status, said.all().trim());
    }
    serde_json::from_str(&said.stdout).context("read `palisade status --json`")
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(6)..).unwrap_or_default().join("\n")
}
