//! Services that run code which is gone, found in `/proc`, and restarted through systemd or the agent.

use std::{collections::BTreeMap, fs, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{self, Instant},
};

use super::{
    super::{children::Children, proc},
    cmd, run_well,
};
use crate::{
    errors::Chain,
    patch::{
        HostError, Programs, Running, Services,
        services::{Action, Done, Stale, deleted_code},
    },
};

const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// Between two looks at a unit that starts.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a unit must stay up before it counts as up.
const SETTLE: Duration = Duration::from_secs(2);
/// A process's parents are followed no further than this.
const MAX_DEPTH: usize = 64;

/// What runs on this host.
#[derive(Debug)]
pub struct HostServices<P> {
    children: Children,
    programs: P,
    is_reloaded: bool,
}

impl<P: Programs> HostServices<P> {
    /// Through systemd, and for the agent's own programs through `programs`.
    pub fn new(children: Children, programs: P) -> Self {
        Self { children, programs, is_reloaded: false }
    }

    /// New unit files take effect before anything is restarted by them.
    async fn reload_units(&mut self) {
        if !self.is_reloaded {
            let reload = cmd(SYSTEMCTL).args(["daemon-reload"]);
            if let Err(e) = run_well(&self.children, "reload unit files", reload).await {
                tracing::warn!(error = %Chain(&e), "systemd did not reload its units");
            }
            self.is_reloaded = true;
        }
    }

    /// Why a unit is not to be restarted just now: one that does a job and ends would begin it anew, and
    /// one that has ended meanwhile needs nothing.
    async fn leave_be(&self, unit: &str) -> Option<String> {
        let show = cmd(SYSTEMCTL).args(["show", "-p", "Type,ActiveState", unit]);
        let text = run_well(&self.children, &format!("ask about {unit}"), show).await.ok()?;
        if text.lines().any(|l| l == "Type=oneshot") {
            return Some("it does its job to the end and is not begun anew".to_owned());
        }
        let is_up = text.lines().any(|l| l == "ActiveState=active");
        (!is_up).then(|| "it is not up any more".to_owned())
    }

    async fn unit(&mut self, verb: &str, unit: &str, within: Duration) -> Result<(), HostError> {
        self.reload_units().await;
        let act = cmd(SYSTEMCTL).args(["--no-ask-password", verb, unit]).deadline(within);
        run_well(&self.children, &format!("{verb} {unit}"), act).await?;
        self.stays_up(unit, within).await
    }

    /// Waits until a unit is up and stays up for a while, without a restart of its own in between.
    async fn stays_up(&self, unit: &str, within: Duration) -> Result<(), HostError> {
        let deadline = Instant::now() + within;
        let mut up: Option<(Instant, String)> = None;
        loop {
            let show = cmd(SYSTEMCTL).args([
                "show",
                "-p",
                "ActiveState,SubState,Result,NRestarts,MainPID",
                unit,
            ]);
            let text = run_well(&self.children, &format!("ask about {unit}"), show).await?;
            let state = UnitState::parse(&text);
            if state.active == "active" {
                match &up {
                    Some((since, marks)) if *marks == state.marks => {
                        if since.elapsed() >= SETTLE {
                            return Ok(());
                        }
                    }
                    _ => up = Some((Instant::now(), state.marks.clone())),
                }
            } else {
                up = None;
            }
            let is_over = state.active == "failed" || Instant::now() >= deadline;
            if is_over {
                let UnitState { active, sub, result, .. } = state;
                let what = format!("it is not up: {active} ({sub}), result {result}");
                return Err(HostError::new(what));
            }
            time::sleep(LOOK_EVERY).await;
        }
    }
}

/// What `systemctl show` says of a unit.
#[derive(Debug, Default)]
struct UnitState {
    active: String,
    sub: String,
    result: String,
    /// What changes when it is started anew.
    marks: String,
}

impl UnitState {
    fn parse(text: &str) -> Self {
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
        let field = |key: &str| fields.get(key).copied().unwrap_or_default().to_owned();
        Self {
            active: field("ActiveState"),
            sub: field("SubState"),
            result: field("Result"),
            marks: format!("{} {}", field("NRestarts"), field("MainPID")),
        }
    }
}

impl<P: Programs> Services for HostServices<P> {
    async fn stale(&mut self) -> Vec<Stale> {
        let running = self.programs.list().await.unwrap_or_default();
        spawn_blocking(move || scan(&running)).await.unwrap_or_default()
    }

    async fn act(&mut self, action: &Action, within: Duration) -> Done {
        let (result, done) = match action {
            Action::RestartProgram(name) => {
                (self.programs.restart(name, within).await, Done::Restarted)
            }
            Action::RestartUnit(unit) => match self.leave_be(unit).await {
                Some(why) => return Done::Left { why },
                None => (self.unit("try-restart", unit, within).await, Done::Restarted),
            },
            Action::ReloadUnit(unit) => (self.unit("reload", unit, within).await, Done::Reloaded),
            Action::UpgradeAgent => (self.programs.upgrade(within).await, Done::Upgraded),
            Action::Leave { why, .. } => return Done::Left { why: why.clone() },
        };
        match result {
            Ok(()) => done,
            Err(e) => Done::Failed { why: Chain(&e).to_string() },
        }
    }
}

/// Every process that runs code of a file that is gone. One that ends meanwhile is not counted.
fn scan(running: &Running) -> Vec<Stale> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut found = Vec::new();
    for pid in proc::pids() {
        if pid == own {
            continue;
        }
        let Ok(maps) = fs::read(format!("/proc/{pid}/maps")) else { continue };
        let maps = String::from_utf8_lossy(&maps);
        let Some(file) = deleted_code(&maps) else { continue };
        let Some(cgroup) = proc::cgroup_of(pid) else { continue };
        found.push(Stale {
            pid,
            cgroup: cgroup.display().to_string(),
            file: file.to_owned(),
            program: program_of(pid, running),
            is_agent: pid == running.agent && pid != 0,
        });
    }
    found
}

/// The program that a process, or one of its parents, is the first process of.
fn program_of(pid: i32, running: &Running) -> Option<String> {
    let mut at = pid;
    for _ in 0..MAX_DEPTH {
        if let Some(name) = running.programs.get(&at) {
            return Some(name.clone());
        }
        at = proc::stat(at).ok()?.parent;
        if at <= 1 {
            return None;
        }
    }
    None
}
