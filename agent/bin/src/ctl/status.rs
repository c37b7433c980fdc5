//! `palisade status`.

use std::{process::ExitCode, time::Duration};

use palisade_agent::{
    clock::{SystemClock, Timestamp, WallClock as _},
    control::{Overview, select},
};
use palisade_types::{
    LastRun, ProcessState, ProcessStatus, ScheduleStatus,
    control::{AgentStatus, ConfigState, Failure, FailureKind, Phase},
};
use tokio::time;

use super::{access, client::Client, firewall, logs, patch};
use crate::{
    exit::{self, Failed},
    printer::{Printer, Tone, tone},
};

const WATCH_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn status(
    client: &Client,
    printer: &Printer,
    names: Vec<String>,
    json: bool,
    watch: bool,
) -> Result<ExitCode, Failed> {
    loop {
        let overview: Overview = client.get("/status").await?;
        let shown = shown(&overview.programs, &names)?;
        if watch {
            printer.clear();
        }
        if json {
            printer.json(&shown);
        } else {
            let now = SystemClock.now();
            if names.is_empty() {
                print_agent(printer, &overview, now);
            }
            print_programs(printer, &shown, now);
        }
        if !watch {
            let up = shown.iter().all(ProcessStatus::is_well);
            return Ok(if up { ExitCode::SUCCESS } else { ExitCode::from(exit::NOT_RUNNING) });
        }
        time::sleep(WATCH_EVERY).await;
    }
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

fn print_agent(printer: &Printer, overview: &Overview, now: Timestamp) {
    let AgentStatus { version, pid, since, upgrades, phase, config, degraded, not_upgraded } =
        &overview.agent;
    let phase = match phase {
        Phase::Starting => printer.paint(Tone::Busy, "starting"),
        Phase::Running => printer.paint(Tone::Good, "running"),
        Phase::Stopping => printer.paint(Tone::Busy, "stopping"),
    };
    let up = uptime(now.since(Timestamp::from_millis(*since)));
    printer.line(format_args!(
        "agent     {phase}: palisade {version}, pid {pid}, uptime {up}, upgraded in place {upgrades} times"
    ));
    match config {
        ConfigState::Current { path, since } => {
            let at = Timestamp::from_millis(*since);
            printer.line(format_args!("config    {path} as read at {at}"));
        }
        ConfigState::Stale { path, since, mistakes } => {
            let at = Timestamp::from_millis(*since);
            let text =
                format!("{path} has mistakes (read at {at}); the settings before are in force");
            printer.line(format_args!("config    {}", printer.paint(Tone::Bad, text)));
            for mistake in mistakes {
                printer.line(format_args!("          {mistake}"));
            }
        }
    }
    if let Some(status) = &overview.firewall {
        printer.line(format_args!("firewall  {}", firewall::summary(printer, status)));
    }
    if let Some(status) = &overview.logs {
        printer.line(format_args!("logs      {}", logs::summary(printer, status)));
    }
    if let Some(status) = &overview.patch {
        printer.line(format_args!("patches   {}", patch::summary(printer, status)));
    }
    if let Some(status) = &overview.access {
        printer.line(format_args!("access    {}", access::summary(status)));
    }
    if let Some(why) = not_upgraded {
        printer.line(format_args!("upgrade   {}", printer.paint(Tone::Bad, why)));
    }
    for what in degraded {
        printer.line(format_args!("degraded  {}", printer.paint(Tone::Bad, what)));
    }
    printer.line("");
}

fn print_programs(printer: &Printer, programs: &[ProcessStatus], now: Timestamp) {
    let full_name = |p: &ProcessStatus| {
        if p.name.as_str() == p.group.as_str() {
            p.name.to_string()
        } else {
            format!("{}:{}", p.group, p.name)
        }
    };
    let width = programs.iter().map(|p| full_name(p).len()).max().unwrap_or(0).max(30) + 3;
    for p in programs {
        let state = printer.paint(tone(p.state), format_args!("{:10}", p.state));
        let description = describe(p, now);
        printer.line(format_args!("{:width$}{state}{description}", full_name(p)));
    }
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
            format!("pid {}, uptime {}{restarts}", p.pid, uptime(now.since(since)))
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
