//! Checks of what the agent runs: killed programs come back, tasks go through, a bad configuration
//! changes nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    Stage,
    agent::ALL_READY,
    look,
    report::{Evidence, Report, seconds},
    world::{self, Host},
};
use crate::{
    host,
    net::{Answer, HttpArgs},
    process::{children, command_line, signal},
};

/// How long a killed program may take to run again.
const BACK: Duration = Duration::from_secs(10);
/// How long a task may take.
const DONE: Duration = Duration::from_secs(30);

/// All programs are up.
pub(crate) fn up(stage: &Stage<'_>, report: &mut Report) {
    report.check("NGINX, Gunicorn, Celery, Redis and a ticker run and are ready", || {
        let programs = stage.agent.all_ready(ALL_READY)?;
        let names: Vec<_> = programs.iter().map(|p| p.name.as_str()).collect();
        for name in ["redis", "web", "worker", "nginx", "ticker"] {
            ensure!(names.contains(&name), "`palisade status` does not list {name}");
        }
        let told: Vec<_> = programs.iter().map(|p| format!("{} {}", p.name, p.pid)).collect();
        Ok(vec![format!("process ids: {}", told.join(", "))])
    });
}

/// A visitor signs the guestbook; Celery counts the words.
pub(crate) fn task(stage: &Stage<'_>, report: &mut Report, title: &str) {
    report.check(title, || {
        let start = host::now();
        let entry = sign(stage, "A visitor", "five words make a line")?;
        let row = host::wait_until("Celery's answer in the database", DONE, || {
            let row = json(&look::page(stage.world, Host::Edge, &entry)?)?;
            ensure!(row["words"] == 5, "the row has words = {}", row["words"]);
            ensure!(row["task_state"] == "SUCCESS", "the task is {}", row["task_state"]);
            Ok(row)
        })?;
        let by = row["counted_by"].as_str().unwrap_or("?");
        Ok(vec![format!(
            "form -> Gunicorn -> Redis -> Celery -> database in {}: 5 words, counted by {by}",
            seconds(start.elapsed())
        )])
    });
}

/// Fills in the form as a browser would and returns the page it leads to.
fn sign(stage: &Stage<'_>, name: &str, text: &str) -> Result<String> {
    let page = look::page(stage.world, Host::Edge, "/")?;
    let cookie =
        page.header("set-cookie").and_then(|c| c.split(';').next()).context("no cookie")?;
    let token = page
        .body
        .split_once("name=\"csrfmiddlewaretoken\" value=\"")
        .and_then(|(_, rest)| rest.split('"').next())
        .context("no form on the page")?;
    let plus = |s: &str| s.replace(' ', "+");
    let request = HttpArgs {
        to: look::web()?,
        method: "POST".to_owned(),
        path: "/sign".to_owned(),
        header: vec![
            format!("Cookie: {cookie}"),
            "Content-Type: application/x-www-form-urlencoded".to_owned(),
        ],
        body: format!("csrfmiddlewaretoken={token}&name={}&text={}", plus(name), plus(text)),
        timeout_ms: 10_000,
    };
    let answer = look::http(stage.world, Host::Edge, &request)?;
    if let Some(why) = answer.error {
        anyhow::bail!("POST /sign: {why}");
    }
    ensure!(answer.status == 302, "POST /sign: status {}: {}", answer.status, answer.body);
    Ok(answer.header("location").context("no way on after signing")?.to_owned())
}

fn json(answer: &Answer) -> Result<Value> {
    serde_json::from_str(&answer.body).context("read the site's JSON")
}

/// Killed outright, Gunicorn and Celery come back.
pub(crate) fn killed(stage: &Stage<'_>, report: &mut Report) {
    report.check("Gunicorn is killed (kill -9): it is back", || {
        let old = stage.agent.pid_of("web")?;
        let (new, restarted, at) = kill_and_see(stage, old, "origin_site.wsgi")?;
        host::wait_until("a page from the new Gunicorn", ALL_READY, || {
            let health = json(&look::page(stage.world, Host::Edge, "/health")?)?;
            ensure!(health["master"] == new, "served by {}", health["master"]);
            Ok(())
        })?;
        let serving = seconds(at.elapsed());
        stage.agent.all_ready(ALL_READY)?;
        Ok(vec![
            format!(
                "process {old} -> {new}; a new process ran {} after the kill",
                seconds(restarted)
            ),
            format!("the edge got a page from it after {serving} (Django's own start included)"),
        ])
    });
    report.check("Celery is killed (kill -9): it is back", || {
        let old = stage.agent.pid_of("worker")?;
        let (new, restarted, _) = kill_and_see(stage, old, "bin/celery")?;
        stage.agent.all_ready(ALL_READY)?;
        Ok(vec![format!(
            "process {old} -> {new}; a new process ran {} after the kill",
            seconds(restarted)
        )])
    });
    task(stage, report, "the new Celery takes the next task");
}

/// Kills a program and watches the agent's children until a new one runs it. The orphans of the
/// killed program become the agent's children too: they are known from before.
fn kill_and_see(stage: &Stage<'_>, old: i32, argv: &str) -> Result<(i32, Duration, Instant)> {
    let agent = stage.agent.pid()?;
    let known = world::processes_of(stage.world, Host::Origin)?;
    let start = host::now();
    signal(old, Signal::SIGKILL)?;
    let new = host::wait_until("a new process", BACK, || {
        children(agent)?
            .into_iter()
            .find(|pid| !known.contains(pid) && command_line(*pid).contains(argv))
            .context("the agent started none")
    })?;
    Ok((new, start.elapsed(), start))
}

/// A configuration with a mistake is refused, says so, and changes nothing.
pub(crate) fn bad_configuration(stage: &Stage<'_>, report: &mut Report) {
    report.check("a configuration with a mistake is refused and changes nothing", || {
        let good = host::read(&stage.site.config)?;
        let bad = good.replacen("    command: [redis-server", "    comand: [redis-server", 1);
        ensure!(bad != good, "no mistake was made");
        let before = stage.agent.pids()?;
        let told = spoil(stage, &bad);
        // The good file comes back whatever happened.
        host::write(&stage.site.config, &good)?;
        let mut evidence = told?;
        ensure!(stage.agent.pids()? == before, "programs were touched");
        look::page(stage.world, Host::Edge, "/")?;
        stage.agent.reload()?;
        host::wait_until("the mended configuration in force", BACK, || {
            let said = stage.agent.status_text()?;
            ensure!(!said.all().contains("comand"), "still refused: {}", said.all().trim());
            Ok(())
        })?;
        ensure!(stage.agent.pids()? == before, "programs were touched by the mended file");
        evidence
            .push("the site went on, every process the same; the mended file was taken".to_owned());
        Ok(evidence)
    });
}

fn spoil(stage: &Stage<'_>, bad: &str) -> Result<Evidence> {
    host::write(&stage.site.config, bad)?;
    let check = stage.agent.cli(&["check", "-c"]).arg(&stage.site.config).said()?;
    ensure!(check.status.code() == Some(2), "`palisade check` ended with {}", check.status);
    let words = check.all();
    let mistake =
        words.lines().find(|l| l.contains("comand")).context("`check` names no mistake")?;
    let short = mistake.replace(&format!("{}/", stage.site.dir.display()), "");
    let mut evidence = vec![format!("palisade check:  {short}")];
    stage.agent.reload()?;
    let line = host::wait_until("the refusal in `palisade status`", BACK, || {
        let said = stage.agent.status_text()?.all();
        let line = said.lines().find(|l| l.contains("comand")).map(str::to_owned);
        line.with_context(|| format!("`palisade status` does not tell:\n{said}"))
    })?;
    let short = line.replace(&format!("{}/", stage.site.dir.display()), "");
    evidence.push(format!("palisade status: {}", short.trim()));
    Ok(evidence)
}
