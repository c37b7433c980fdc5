//! Runs as transient units of systemd: outside of the agent's sandbox, and alive when the agent is
//! replaced.

use std::path::PathBuf;

use super::{super::children::Children, cmd, run, run_well, text};
use crate::patch::{HostError, Record, Starter, services::RUN};

/// Starts runs by `systemd-run`.
#[derive(Clone, Debug)]
pub struct SystemdRun {
    children: Children,
    binary: PathBuf,
    config: PathBuf,
}

impl SystemdRun {
    /// Runs `BINARY -c CONFIG patch work --run ID`.
    #[must_use]
    pub fn new(children: Children, binary: PathBuf, config: PathBuf) -> Self {
        Self { children, binary, config }
    }
}

impl Starter for SystemdRun {
    async fn start(&mut self, record: &Record) -> Result<(), HostError> {
        let run = cmd("/usr/bin/systemd-run")
            .args([
                "--quiet",
                "--collect",
                &format!("--unit={RUN}"),
                &format!("--description=Palisade patch run {}", record.id),
                "--property=Type=exec",
                // A stop asks the run alone; it ends when the package manager is done.
                "--property=KillMode=mixed",
                "--property=TimeoutStopSec=30min",
                "--property=Nice=5",
                "--",
            ])
            .args([&self.binary])
            .args(["-c"])
            .args([&self.config])
            .args(["patch", "work", "--run", &record.id]);
        run_well(&self.children, "start a patch run", run).await.map(drop)
    }

    async fn is_running(&mut self) -> bool {
        let ask = cmd("/usr/bin/systemctl").args(["is-active", RUN]);
        let Ok(out) = run(&self.children, "ask about the patch run", ask).await else {
            // Nobody knows; a second one is refused by the name of the first.
            return true;
        };
        !matches!(text(&out.stdout).trim(), "inactive" | "failed" | "unknown")
    }
}
