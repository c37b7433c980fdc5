//! Checks of the agent's own changes: upgraded in place and killed outright while the edge keeps
//! asking; and of every log line on the way through both.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    Stage,
    agent::ALL_READY,
    lines::Seen,
    look,
    report::{Evidence, Report, seconds},
    world,
};
use crate::{host, net::LoadResult, process::command_line};

/// Requests a second from the edge.
const RATE: u32 = 50;
/// For this long.
const SECONDS: u32 = 12;
/// How long a line may take to arrive once it was written.
const ARRIVES: Duration = Duration::from_secs(20);

/// What ran before and must run after.
struct Before {
    agent: i32,
    pids: std::collections::BTreeMap<String, i32>,
    processes: BTreeSet<i32>,
}

impl Before {
    fn look(stage: &Stage<'_>) -> Result<Self> {
        let programs = stage.agent.all_ready(ALL_READY)?;
        Ok(Self {
            agent: stage.agent.pid()?,
            pids: programs.into_iter().map(|p| (p.name, p.pid)).collect(),
            processes: site_processes(stage)?,
        })
    }

    fn same_programs(&self, stage: &Stage<'_>) -> Result<Evidence> {
        let programs = stage.agent.all_ready(ALL_READY)?;
        let after = programs.iter().map(|p| (p.name.clone(), p.pid)).collect();
        ensure!(self.pids == after, "process ids changed: {:?} -> {after:?}", self.pids);
        let processes = site_processes(stage)?;
        ensure!(
            self.processes == processes,
            "other processes than before: {:?}",
            self.processes
                .symmetric_difference(&processes)
                .map(|p| command_line(*p))
                .collect::<Vec<_>>()
        );
        let told: Vec<_> = after.iter().map(|(name, pid)| format!("{name} {pid}")).collect();
        Ok(vec![
            format!("same process ids: {}", told.join(", ")),
            format!("the same {} processes in all, no second copy of anything", processes.len()),
        ])
    }
}

/// Everything that the programs consist of: masters and their workers.
fn site_processes(stage: &Stage<'_>) -> Result<BTreeSet<i32>> {
    let ours = ["origin_site", "redis-server", "nginx: ", "ticker.py"];
    let all = world::processes_of(stage.world, world::Host::Origin)?;
    Ok(all
        .into_iter()
        .filter(|pid| {
            let line = command_line(*pid);
            ours.iter().any(|part| line.contains(part))
        })
        .collect())
}

/// The agent is replaced by a new file under load.
pub(crate) fn in_place(stage: &Stage<'_>, report: &mut Report) {
    let before = Before::look(stage);
    let title = format!("upgraded in place while the edge asks {RATE} times a second: 0 failed");
    report.check(&title, || {
        before.as_ref().map_err(again)?;
        let load = look::load(stage.world, RATE, SECONDS, "upgrade")?;
        host::pause(Duration::from_secs(4));
        let upgraded = stage.agent.upgrade();
        let result: LoadResult = load.result()?;
        let took = upgraded?;
        Ok(vec![
            look::no_failures(&result)?,
            format!("the new program answered {} after the signal", seconds(took)),
        ])
    });
    report.check("the agent is the same process, and so is every program", || {
        let before = before.as_ref().map_err(again)?;
        let mut evidence = before.same_programs(stage)?;
        let exe = std::fs::read_link(format!("/proc/{}/exe", before.agent))?;
        let exe = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
        evidence.insert(0, format!("agent: process {}, now the new {exe}", before.agent));
        Ok(evidence)
    });
    report.check("every log line so far arrived exactly once", || {
        let pid = stage.agent.pid_of("ticker")?;
        let now = stage.arrived.ticks(pid)?.highest();
        let seen = host::wait_until("lines written after the upgrade", ARRIVES, || {
            let seen = stage.arrived.ticks(pid)?;
            ensure!(
                seen.highest() > now + 100,
                "the newest line that arrived is {}",
                seen.highest()
            );
            Ok(seen)
        })?;
        let mut evidence = vec![seen.tally(seen.highest()).exactly_once("ticker")?];
        evidence.extend(requests(stage, "upgrade", true)?);
        Ok(evidence)
    });
}

/// The agent is killed and started again under load.
pub(crate) fn killed(stage: &mut Stage<'_>, report: &mut Report) {
    let before = Before::look(stage);
    let title = format!("the agent is killed (kill -9) at {RATE} requests a second: 0 failed");
    report.check(&title, || {
        before.as_ref().map_err(again)?;
        let load = look::load(stage.world, RATE, SECONDS, "killed")?;
        host::pause(Duration::from_secs(3));
        let killed = stage.agent.kill();
        // As long as systemd might wait before it starts the agent again.
        host::pause(Duration::from_secs(2));
        let start = host::now();
        let started = killed.and_then(|_| stage.agent.start_again());
        let took = seconds(start.elapsed());
        let result: LoadResult = load.result()?;
        started?;
        Ok(vec![
            look::no_failures(&result)?,
            format!("without an agent for 2.0 s; it answered {took} after its new start"),
        ])
    });
    report.check("it took over the living programs instead of starting others", || {
        before.as_ref().map_err(again)?.same_programs(stage)
    });
}

/// All lines of the whole run, counted at both ends.
pub(crate) fn every_line(stage: &Stage<'_>, report: &mut Report) {
    report.check("every line of the whole run arrived", || {
        let pid = stage.agent.pid_of("ticker")?;
        stage.agent.cli(&["stop", "ticker"]).run()?;
        let count = host::read(&stage.site.dir.join("logs/ticker.count"))
            .context("the ticker left no count: it did not end well")?;
        let (counted_by, sent) = count.trim().split_once(' ').context("read the ticker's count")?;
        ensure!(counted_by == pid.to_string(), "another ticker counted: {counted_by}");
        let sent: u32 = sent.parse().context("read the ticker's count")?;
        let seen = host::wait_until("the ticker's last line", ARRIVES, || {
            let seen = stage.arrived.ticks(pid)?;
            ensure!(seen.highest() >= sent, "line {} of {sent} arrived last", seen.highest());
            Ok(seen)
        })?;
        let mut evidence = vec![seen.tally(sent).none_lost("ticker")?];
        evidence.extend(requests(stage, "killed", false)?);
        Ok(evidence)
    });
}

/// Each request of a load stands once in Django's log and once in NGINX's.
fn requests(stage: &Stage<'_>, tag: &str, once: bool) -> Result<Evidence> {
    let sent = RATE * SECONDS;
    let mut evidence = Vec::new();
    for (program, word) in [("Django", "site"), ("NGINX", "proxy")] {
        let seen = host::wait_until("the last request's line", ARRIVES, || {
            let text = stage.arrived.text()?;
            let seen = Seen::in_text(&text, &format!("{word} GET /?n={tag}-"), ". 200");
            let missing = seen.tally(sent).lost;
            ensure!(missing == 0, "{program}: {missing} of {sent} requests have no line");
            Ok(seen)
        })?;
        let what = format!("requests in {program}'s log");
        let tally = seen.tally(sent);
        evidence.push(if once { tally.exactly_once(&what)? } else { tally.none_lost(&what)? });
    }
    Ok(evidence)
}

/// The same failure told to a second check.
fn again(e: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{e:#}")
}
