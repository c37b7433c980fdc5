//! Checks of who gets in: the edge, the bastion, the stranger, and a foreign hand on the rules.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Stage, look,
    report::{Evidence, Report, seconds},
    world::{Host, World},
};
use crate::{host, net::KnockResult};

/// How long the agent may take to put its rules back.
const REPAIRED: Duration = Duration::from_secs(5);

/// Before the agent runs: without it, everything is open.
pub(crate) fn without(world: &World, report: &mut Report) {
    report.check("without Palisade the stranger reaches the SSH port", || {
        let ssh = look::at(Host::Origin.address(), 22)?;
        let knocks = host::wait_until("sshd answers", Duration::from_secs(10), || {
            let knocks = look::knocks(world, Host::Stranger, ssh)?;
            ensure!(knocks.connected > 0, "{knocks:?}");
            Ok(knocks)
        })?;
        Ok(vec![format!("{} of {} connections let in", knocks.connected, knocks.tried)])
    });
}

/// Who gets in while the agent guards the host.
pub(crate) fn with(stage: &Stage<'_>, report: &mut Report) {
    report.check("the rules are in force in the kernel", || {
        let table = rules(stage)?;
        let said = stage.agent.cli(&["firewall", "status"]).run()?;
        // The edge's range may stand there as a prefix or merged with its neighbours.
        ensure!(table.contains("130.176.0.0"), "the edge's range is not in the kernel's table");
        ensure!(
            table.contains("policy drop"),
            "the kernel's table does not drop what is not named"
        );
        Ok(said.lines().take(4).map(str::to_owned).collect())
    });
    report.check("the edge gets the page", || {
        let page = look::page(stage.world, Host::Edge, "/")?;
        ensure!(page.body.contains("<h1>Guestbook of the origin</h1>"), "not our page");
        let server = page.header("server").unwrap_or("?");
        let title = "\"Guestbook of the origin\"";
        Ok(vec![format!("{title}, {} bytes from {server} in {:.0} ms", page.body.len(), page.ms)])
    });
    report.check("the edge gets a static file, from NGINX itself", || {
        let css = look::page(stage.world, Host::Edge, "/static/guestbook/style.css")?;
        ensure!(css.header("x-served-by") == Some("nginx"), "Django served it");
        Ok(vec![format!("style.css, {} bytes in {:.0} ms", css.body.len(), css.ms)])
    });
    report.check("the stranger gets nothing, not even a refusal", || {
        let mut evidence = silence(stage, Host::Stranger, &[80, 22])?;
        let page = look::get(stage.world, Host::Stranger, "/")?;
        let why = page.error.with_context(|| format!("got an answer: status {}", page.status))?;
        evidence.push(format!("GET / from {}: {why}", Host::Stranger.address()));
        Ok(evidence)
    });
    report.check("SSH opens from the bastion", || {
        let said = stage
            .site
            .ssh_from(stage.world, Host::Bastion, "echo \"logged in: $SSH_CONNECTION\"")
            .run()?;
        ensure!(said.contains("logged in: 10.20.0.10 "), "the login said {said:?}");
        Ok(vec![said.trim().to_owned()])
    });
    report.check("SSH stays shut for the edge and the stranger", || {
        [Host::Edge, Host::Stranger].into_iter().map(|from| ssh_is_shut(stage, from)).collect()
    });
    report.check("the bastion gets SSH and nothing else", || silence(stage, Host::Bastion, &[80]));
}

fn ssh_is_shut(stage: &Stage<'_>, from: Host) -> Result<String> {
    let said = stage.site.ssh_from(stage.world, from, "true").said()?;
    let words = said.stderr.trim().to_owned();
    ensure!(!said.status.success(), "the {} logged in", from.name());
    ensure!(words.contains("timed out"), "the {} was answered: {words}", from.name());
    Ok(format!("{}: {words}", from.name()))
}

/// No connection opens and none is refused, by IPv4 and by IPv6.
fn silence(stage: &Stage<'_>, from: Host, ports: &[u16]) -> Result<Evidence> {
    let mut evidence = Vec::new();
    for port in ports {
        let mut tried = 0;
        for address in [Host::Origin.address(), Host::Origin.address6()] {
            let knocks = look::knocks(stage.world, from, look::at(address, *port)?)?;
            if knocks.connected + knocks.refused + knocks.unsent > 0 {
                bail!("the {} at port {port} of {address}: {knocks:?}", from.name());
            }
            tried += knocks.tried;
        }
        evidence
            .push(format!("port {port}: {tried} connections tried by IPv4 and IPv6, 0 answered"));
    }
    Ok(evidence)
}

/// A foreign hand deletes all rules, while the stranger knocks.
pub(crate) fn foreign_hand(stage: &Stage<'_>, report: &mut Report) {
    let mut story: Option<Result<(Gap, [KnockResult; 2])>> = None;
    report.check("somebody runs `nft flush ruleset`: the rules stand, or come back", || {
        let before = rules(stage)?;
        let to = |port| look::at(Host::Origin.address(), port);
        let web = look::knock(stage.world, Host::Stranger, to(80)?, 4, 3.0)?;
        let ssh = look::knock(stage.world, Host::Stranger, to(22)?, 4, 3.0)?;
        host::pause(Duration::from_millis(700));
        let gap = flush(stage, &before);
        let knocks = web.result().and_then(|w| Ok([w, ssh.result()?]));
        let gap = gap?;
        story = Some(knocks.map(|k| (gap, k)));
        Ok(vec![gap.told()])
    });
    report.check("once they are back, the stranger who knocked all the while gets nothing", || {
        let (gap, [web, ssh]) = story.take().context("nobody knocked")??;
        let tried = web.tried + ssh.tried;
        let times = || web.connected_at.iter().chain(&ssh.connected_at);
        let outside = times().filter(|at| !gap.holds(**at)).count();
        ensure!(outside == 0, "let in {outside} times while the rules stood");
        let inside = times().count();
        Ok(vec![format!(
            "{tried} connections tried within 3 s: {inside} got in while there were no rules, 0 after"
        )])
    });
}

/// From the last moment when the rules surely stood to the first when they were seen again.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from: u64,
    to: u64,
}

impl Gap {
    fn holds(self, at: u64) -> bool {
        (self.from..=self.to).contains(&at)
    }

    fn told(self) -> String {
        let span = seconds(Duration::from_millis(self.to - self.from));
        format!("the same rules stood again within {span}, both runs of `nft` included")
    }
}

fn flush(stage: &Stage<'_>, before: &str) -> Result<Gap> {
    let from = host::unix_millis();
    stage.world.on(Host::Origin, "nft").args(["flush", "ruleset"]).run()?;
    host::wait_until("the same rules in the kernel again", REPAIRED, || {
        let now = rules(stage)?;
        ensure!(now == before, "other rules than before:\n{now}");
        Ok(())
    })?;
    let to = host::unix_millis();
    Ok(Gap { from, to })
}

/// The kernel's copy of our table, without counters, comments and whose it is.
fn rules(stage: &Stage<'_>) -> Result<String> {
    let text = stage
        .world
        .on(Host::Origin, "nft")
        .args(["-s", "list", "table", "inet", "palisade"])
        .run()?;
    Ok(text
        .lines()
        .filter(|l| !["comment ", "flags ", "table "].iter().any(|w| l.trim_start().starts_with(w)))
        .collect::<Vec<_>>()
        .join("\n"))
}

/// The agent ends; the rules do not.
pub(crate) fn rules_stay(stage: &mut Stage<'_>, report: &mut Report) {
    report.check("the agent is stopped: its rules stay in the kernel", || {
        let before = rules(stage)?;
        stage.agent.cli(&["stop", "nginx", "web", "worker", "redis"]).run()?;
        let start = host::now();
        stage.agent.stop(Duration::from_secs(60))?;
        let took = seconds(start.elapsed());
        ensure!(rules(stage)? == before, "the rules changed when the agent stopped");
        let mut evidence = vec![format!("the agent ended by itself within {took}")];
        evidence.extend(silence(stage, Host::Stranger, &[22])?);
        stage.site.ssh_from(stage.world, Host::Bastion, "true").run()?;
        evidence.push("the bastion still logs in".to_owned());
        Ok(evidence)
    });
}
