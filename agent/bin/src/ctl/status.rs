//! `palisade status`.

use std::{process::ExitCode, time::Duration};

use palisade_agent::{
    clock::{SystemClock, Timestamp, WallClock as _},
    control::{Overview, select},
};
use palisade_types::{
    LastRun, ProcessState, ProcessStatus, ProcessWithUsage, ScheduleStatus, Usage,
    control::{AgentStatus, ConfigState, Failure, FailureKind, Phase},
};

use super::{access, client::Client, firewall, logs, origin, patch};
use crate::{
    exit::{self, Failed},
    printer::{Printer, Tone, tone},
};

pub(super) async fn status(
    client: &Client,
    printer: &Printer,
    names: &[String],
    json: bool,
    usage: bool,
) -> Result<ExitCode, Failed> {
    let overview = ask(client, usage).await?;
    let shown = shown(&overview.programs, names)?;
    match &overview.usage {
        Some(_) if json => printer.json(&with_usage(&overview, &shown)),
        None if json => printer.json(&shown),
        Some(_) | None => {
            let now = SystemClock.now();
            text(printer, &overview, &shown, names, now).iter().for_each(|l| printer.line(l));
        }
    }
    let up = shown.iter().all(ProcessStatus::is_well);
    Ok(if up { ExitCode::SUCCESS } else { ExitCode::from(exit::NOT_RUNNING) })
}

/// Asks for everything, and if wanted for what is used.
pub(super) async fn ask(client: &Client, usage: bool) -> Result<Overview, Failed> {
    client.get(if usage { "/status?usage=true" } else { "/status" }).await
}

/// The rows with what each uses.
pub(super) fn with_usage(overview: &Overview, rows: &[ProcessStatus]) -> Vec<ProcessWithUsage> {
    let used = |p: &ProcessStatus| overview.usage.as_ref().and_then(|u| u.get(&p.name).copied());
    rows.iter().map(|p| ProcessWithUsage { usage: used(p), status: p.clone() }).collect()
}

/// The lines of `status`: first the agent, if nothing was named, then these programs.
pub(super) fn text(
    printer: &Printer,
    overview: &Overview,
    shown: &[ProcessStatus],
    names: &[String],
    now: Timestamp,
) -> Vec<String> {
    let mut lines = Vec::new();
    if names.is_empty() {
        lines.extend(agent_lines(printer, overview, now));
        lines.push(String::new());
    }
    lines.extend(program_lines(
        printer,
        &with_usage(overview, shown),
        overview.usage.is_some(),
        now,
    ));
    lines
}

/// Those that are named, in order; all if none is.
pub(super) fn shown(all: &[ProcessStatus], names: &[String]) -> Result<Vec<ProcessStatus>, Failed> {
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let chosen = select(all, names).map_err(|unknown| {
        let list: Vec<_> = unknown.iter().map(|u| format!("{}: {}", u.name, u.what)).collect();
        Failed::Agent(Failure::new(FailureKind::NotFound, list.join(", ")))
    })?;
    Ok(all.iter().filter(|p| chosen.contains(&p.name)).cloned().collect())
}

/// One line about each part of the agent.
fn agent_lines(printer: &Printer, overview: &Overview, now: Timestamp) -> Vec<String> {
    facts(printer, overview, now)
        .into_iter()
        .map(|(about, text, tone)| match about {
            // Its parts have their own colours.
            "agent" | "firewall" | "origin" | "logs" | "patches" => format!("{about:10}{text}"),
            _ => format!("{about:10}{}", printer.paint(tone, text)),
        })
        .collect()
}

/// What there is to say of each part of the agent, and how well it is.
pub(super) fn facts(
    printer: &Printer,
    overview: &Overview,
    now: Timestamp,
) -> Vec<(&'static str, String, Tone)> {
    let mut facts = Vec::new();
    let AgentStatus { version, pid, since, upgrades, phase, config, degraded, not_upgraded } =
        &overview.agent;
    let whole = match phase {
        Phase::Running => Tone::Good,
        Phase::Starting | Phase::Stopping => Tone::Busy,
    };
    let phase = match phase {
        Phase::Starting => printer.paint(Tone::Busy, "starting"),
        Phase::Running => printer.paint(Tone::Good, "running"),
        Phase::Stopping => printer.paint(Tone::Busy, "stopping"),
    };
    let up = uptime(now.since(Timestamp::from_millis(*since)));
    let text = format!(
        "{phase}: palisade {version}, pid {pid}, uptime {up}, upgraded in place {upgrades} times"
    );
    facts.push(("agent", text, whole));
    match config {
        ConfigState::Current { path, since } => {
            let at = Timestamp::from_millis(*since);
            facts.push(("config", format!("{path} as read at {at}"), Tone::Plain));
        }
        ConfigState::Stale { path, since, mistakes } => {
            let at = Timestamp::from_millis(*since);
            let text =
                format!("{path} has mistakes (read at {at}); the settings before are in force");
            facts.push(("config", text, Tone::Bad));
            facts.extend(mistakes.iter().map(|m| ("", m.clone(), Tone::Plain)));
        }
    }
    if let Some(status) = &overview.firewall {
        facts.push(("firewall", firewall::summary(printer, status), firewall::tone(status)));
    }
    if let Some(status) = &overview.origin {
        facts.push(("origin", origin::summary(printer, status, now), origin::tone(status)));
    }
    if let Some(status) = &overview.logs {
        facts.push(("logs", logs::summary(printer, status), logs::tone(status)));
    }
    if let Some(status) = &overview.patch {
        facts.push(("patches", patch::summary(printer, status), Tone::Plain));
    }
    if let Some(status) = &overview.access {
        facts.push(("access", access::summary(status), Tone::Plain));
    }
    if let Some(why) = not_upgraded {
        facts.push(("upgrade", why.clone(), Tone::Bad));
    }
    facts.extend(degraded.iter().map(|what| ("degraded", what.clone(), Tone::Bad)));
    facts
}

/// `GROUP:NAME`, or the name alone where both are the same.
pub(super) fn full_name(p: &ProcessStatus) -> String {
    if p.name.as_str() == p.group.as_str() {
        p.name.to_string()
    } else {
        format!("{}:{}", p.group, p.name)
    }
}

fn program_lines(
    printer: &Printer,
    programs: &[ProcessWithUsage],
    is_measured: bool,
    now: Timestamp,
) -> Vec<String> {
    let longest = programs.iter().map(|p| full_name(&p.status).len()).max().unwrap_or(0);
    let width = longest.max(30) + 3;
    let mut lines = Vec::new();
    if is_measured {
        lines.push(format!("{:width$}{:10}{:>6}  {:>6}", "NAME", "STATE", "CPU%", "MEM"));
    }
    lines.extend(programs.iter().map(|p| {
        let used = if is_measured { used(p.usage) } else { String::new() };
        row(printer, &p.status, width, &used, now)
    }));
    lines
}

/// One line about one process.
pub(super) fn row(
    printer: &Printer,
    p: &ProcessStatus,
    width: usize,
    used: &str,
    now: Timestamp,
) -> String {
    let state = printer.paint(tone(p.state), format_args!("{:10}", p.state));
    format!("{:width$}{state}{used}{}", full_name(p), describe(p, now))
}

/// The two columns of `--usage`.
pub(super) fn used(usage: Option<Usage>) -> String {
    let cpu = usage.and_then(|u| u.cpu_percent).map_or("-".to_owned(), |c| format!("{c:.1}"));
    let memory = usage.map_or("-".to_owned(), |u| palisade_top::bytes(u.memory_bytes));
    format!("{cpu:>6}  {memory:>6}  ")
}

fn describe(p: &ProcessStatus, now: Timestamp) -> String {
    let since = Timestamp::from_millis(p.since);
    let restarts = match p.restarts {
        0 => String::new(),
        1 => ", 1 restart".to_owned(),
        n => format!(", {n} restarts"),
    };
    let is_at_rest =
        matches!(p.state, ProcessState::Stopped | ProcessState::Exited | ProcessState::Fatal);
    if let Some(schedule) = p.schedule.as_ref().filter(|_| is_at_rest) {
        return scheduled(schedule);
    }
    match p.state {
        ProcessState::Running | ProcessState::Stopping => {
            // It runs, and not as it should: an old release, bad answers, limits not in force.
            let but = p.error.as_ref().map_or_else(String::new, |why| format!("; {why}"));
            format!("pid {}, uptime {}{restarts}{but}", p.pid, uptime(now.since(since)))
        }
        ProcessState::Exited if p.ready => format!("done (since {since})"),
        ProcessState::Starting if p.pid > 0 => format!("pid {}, not ready yet{restarts}", p.pid),
        ProcessState::Stopped if p.exit.is_none() => "Not started".to_owned(),
        ProcessState::Starting
        | ProcessState::Stopped
        | ProcessState::Exited
        | ProcessState::Backoff
        | ProcessState::Fatal
        | ProcessState::Unknown => {
            let why = p.error.as_ref().or(p.exit.as_ref()).map_or("", String::as_str);
            format!("{why}{restarts} (since {since})")
        }
    }
}

/// When it runs next, and how the last run ended.
fn scheduled(s: &ScheduleStatus) -> String {
    let at = |ms: i64| Timestamp::from_secs(ms / 1000);
    let next = s.next.map_or_else(|| "never runs again".to_owned(), |t| format!("next {}", at(t)));
    match &s.last {
        None => next,
        Some(LastRun { ok: true, ended, .. }) => format!("{next}; last ended well {}", at(*ended)),
        Some(LastRun { ended, result, .. }) => {
            format!("{next}; last failed {}: {result}", at(*ended))
        }
    }
}

/// `H:MM:SS`, with days in front where there are any.
fn uptime(d: Duration) -> String {
    let s = d.as_secs();
    let clock = format!("{}:{:02}:{:02}", s / 3600 % 24, s / 60 % 60, s % 60);
    match s / 86_400 {
        0 => clock,
        1 => format!("1 day, {clock}"),
        n => format!("{n} days, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_read_like_supervisors() {
        assert_eq!(uptime(Duration::from_secs(3661)), "1:01:01");
        assert_eq!(uptime(Duration::from_secs(2 * 86_400 + 5)), "2 days, 0:00:05");
    }
}
