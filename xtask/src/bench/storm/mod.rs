//! `cargo xtask bench storm`: whether anybody notices. A site is asked all the time, at a fixed rate
//! and by new connections, while it is replaced, while the agent is upgraded in place, and
//! while the agent is killed and started anew. No request may fail and no line of its log be lost.

pub(crate) mod site;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::{
    cmd::Cmd,
    demo::lines::Seen,
    host,
    net::LoadResult,
    process::{command_line, signal},
    say,
};

/// Let pass between two blows, so that each falls on a site at work.
const BETWEEN: Duration = Duration::from_millis(200);
/// How long any of it may take.
const CAP: Duration = Duration::from_secs(30);

/// How strong the storm is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strength {
    /// Requests a second.
    pub(crate) rate: u32,
    /// How many of them come on one connection.
    pub(crate) each: u32,
    /// Rolling restarts, upgrades of the agent, and kills of the agent: so many of each.
    pub(crate) blows: u32,
}

/// Raises the storm and prints what came of it.
pub(crate) fn run(palisade: &Path, strength: Strength) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("palisade-storm-{}", std::process::id()));
    let done = storm(palisade, &dir, strength);
    std::fs::remove_dir_all(&dir).ok();
    done
}

fn storm(palisade: &Path, dir: &Path, strength: Strength) -> Result<()> {
    let mut agent = Agent::new(palisade, dir)?;
    agent.start()?;
    let load = agent.load(strength)?;
    let told = [
        ("rolling restarts", agent.blows(strength.blows, Agent::replace)?),
        ("upgrades of the agent", agent.blows(strength.blows, Agent::upgrade)?),
        ("kills of the agent", agent.blows(strength.blows, Agent::kill)?),
    ];
    signal(i32::try_from(load.id())?, Signal::SIGTERM)?;
    let result = load.wait_with_output().context("wait for the load")?;
    let result: LoadResult = serde_json::from_slice(&result.stdout).context("read the load")?;
    ensure!(
        result.failed == 0,
        "{} of {} requests failed: {}",
        result.failed,
        result.sent,
        result.reasons.join("; ")
    );
    let tally = host::wait_until("the last line", CAP, || {
        let seen = Seen::in_text(&host::read(&dir.join("site.log"))?, "s-", ".");
        let tally = seen.tally(seen.highest());
        ensure!(seen.highest() >= result.sent, "{} of {}", seen.highest(), result.sent);
        Ok(tally)
    })?;
    for (what, took) in told {
        say::line(&format!("{} {what}, {took:.0} ms each", strength.blows));
    }
    say::line(&format!(
        "{} requests at {} a second, {} on each connection: {} failed; p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms",
        result.sent,
        strength.rate,
        strength.each,
        result.failed,
        result.p50_ms,
        result.p99_ms,
        result.max_ms
    ));
    say::line(&tally.none_lost("the site's log")?);
    Ok(())
}

/// The agent with its one program.
struct Agent {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    site: SocketAddr,
    child: Option<Child>,
}

impl Agent {
    fn new(palisade: &Path, dir: &Path) -> Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
        let site = free.local_addr().context("find a free port")?;
        let own = host::own_program()?;
        let (shown, own) = (dir.display(), own.display());
        let config = dir.join("palisade.yaml");
        host::write(
            &config,
            format!(
                "version: 1\nhost: {{ state_dir: {shown}/state, run_dir: {shown}/run }}\n\
                 control: {{ socket: {shown}/sock }}\nprograms:\n  site:\n    \
                 command: [{own}, __site]\n    sockets: [{{ name: http, listen: \"{site}\" }}]\n    \
                 ready: notify\n    startsecs: 0s\n    rolling: {{ overlap: true }}\n    \
                 stdout_logfile: {shown}/site.log\n    stdout_logfile_maxbytes: 0\n"
            ),
        )?;
        let binary = palisade.to_path_buf();
        Ok(Self { binary, config, log: dir.join("agent.log"), site, child: None })
    }

    fn cli(&self, args: &[&str]) -> Cmd {
        Cmd::new(&self.binary).arg("-c").arg(&self.config).args(args)
    }

    fn start(&mut self) -> Result<()> {
        let run = Cmd::new(&self.binary).args(["run", "-c"]).arg(&self.config).bare_env();
        self.child = Some(run.daemon(&self.log)?);
        host::wait_until("the site", CAP, || self.cli(&["status"]).run().map(drop))
    }

    /// Starts to ask; SIGTERM ends it with a count.
    fn load(&self, Strength { rate, each, .. }: Strength) -> Result<Child> {
        let to = self.site.to_string();
        let (rate, each) = (rate.to_string(), each.to_string());
        Cmd::new(host::own_program()?)
            .args(["__load", "--to", &to, "--rate", &rate, "--each", &each])
            .args(["--seconds", "3600", "--tag", "s"])
            .piped()
    }

    /// Strikes so often; milliseconds each took.
    fn blows(&mut self, count: u32, blow: fn(&mut Self) -> Result<()>) -> Result<f64> {
        let mut took = Duration::ZERO;
        for _ in 0..count {
            let began = host::now();
            blow(self)?;
            took += began.elapsed();
            host::pause(BETWEEN);
        }
        Ok(took.as_secs_f64() * 1000.0 / f64::from(count.max(1)))
    }

    fn replace(&mut self) -> Result<()> {
        self.cli(&["restart", "--rolling", "site"]).run().map(drop)
    }

    fn upgrade(&mut self) -> Result<()> {
        self.cli(&["upgrade"]).run().map(drop)
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("kill the agent")?;
            child.wait().context("kill the agent")?;
        }
        self.start()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = i32::try_from(child.id()).unwrap_or_default();
            if pid > 0 && command_line(pid).contains(" run ") {
                drop(signal(pid, Signal::SIGTERM));
            }
            let ended = host::wait_until("end of the agent", CAP, || {
                child.try_wait()?.context("it still runs")
            });
            if ended.is_err() {
                drop(child.kill());
                drop(child.wait());
            }
        }
    }
}
