//! Where probes are tried: in this process, or in one that the service manager starts outside of our
//! sandbox.

use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time};

use super::{
    super::{
        children::Children,
        exec::{self, Cmd},
    },
    run,
};
use crate::firewall::{
    Ruleset,
    safety::{Answers, Probe, Prober, SafetyError},
};

/// How long all may take.
const WITHIN: Duration = Duration::from_secs(30);
/// What says that systemd runs this host.
const SYSTEMD: &str = "/run/systemd/system";

/// Tries rules with real packets.
#[derive(Clone, Debug)]
pub struct Scratch {
    children: Children,
    program: Option<PathBuf>,
}

/// What the process outside of our sandbox is told.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    rules: Ruleset,
    probes: Vec<Probe>,
}

impl Scratch {
    /// Tries them in this process only.
    #[must_use]
    pub fn new(children: Children) -> Self {
        Self { children, program: None }
    }

    /// Where this process may not, `program firewall scratch` does as a unit of its own.
    #[must_use]
    pub fn or_by(self, program: impl Into<PathBuf>) -> Self {
        Self { program: Some(program.into()), ..self }
    }

    async fn outside(&self, program: &Path, task: &Task) -> io::Result<Answers> {
        let words = serde_json::to_vec(task)?;
        let cmd = Cmd::new("/usr/bin/systemd-run")
            .args(["--quiet", "--collect", "--pipe", "--wait", "--property=RuntimeMaxSec=30"])
            .args(["--description=Palisade tries firewall rules", "--"])
            .args([program])
            .args(["firewall", "scratch"])
            .stdin(words)
            .deadline(WITHIN);
        let out = exec::run(&self.children, cmd).await.map_err(io::Error::other)?;
        if out.code != Some(0) {
            let said: String = String::from_utf8_lossy(&out.stderr).chars().take(400).collect();
            return Err(io::Error::other(format!("try the rules in a unit: {}", said.trim())));
        }
        Ok(serde_json::from_slice(&out.stdout)?)
    }
}

impl Prober for Scratch {
    async fn probe(&mut self, rules: &Ruleset, probes: &[Probe]) -> Result<Answers, SafetyError> {
        let task = Task { rules: rules.clone(), probes: probes.to_vec() };
        let failed = |e: io::Error| SafetyError {
            what: "try the rules with packets".to_owned(),
            source: Some(Box::new(e)),
        };
        let tried = in_thread(task).await;
        match (tried, &self.program) {
            (Err(e), Some(program))
                if e.kind() == io::ErrorKind::PermissionDenied && Path::new(SYSTEMD).exists() =>
            {
                let task = Task { rules: rules.clone(), probes: probes.to_vec() };
                self.outside(program, &task).await.map_err(failed)
            }
            (tried, _) => tried.map_err(failed),
        }
    }
}

/// In a thread that ends with its network.
async fn in_thread(task: Task) -> io::Result<Answers> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("scratch network".to_owned()).spawn(move || {
        // Nobody waits any more after the deadline.
        drop(tell.send(run(&task.rules, &task.probes)));
    })?;
    match time::timeout(WITHIN, told).await {
        Ok(Ok(tried)) => tried,
        Ok(Err(_)) => Err(io::Error::other("the thread with the scratch network ended")),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The work of the process outside of the agent's sandbox: from what it is told to what came of it.
///
/// # Errors
/// When it is told nonsense or cannot make a network.
pub fn work(told: &[u8]) -> io::Result<Vec<u8>> {
    let task: Task = serde_json::from_slice(told)?;
    let answers = run(&task.rules, &task.probes)?;
    Ok(serde_json::to_vec(&answers)?)
}
