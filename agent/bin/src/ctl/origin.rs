//! Verbs about the origin guard.

use std::{process::ExitCode, time::Duration};

use palisade_agent::{
    clock::{SystemClock, Timestamp, WallClock as _},
    origin::{Refreshed, SecretStatus, Stage, State, Status},
};
use palisade_types::{control::DropSecret, format_duration};

use super::client::Client;
use crate::{
    cli::OriginVerb,
    exit::Failed,
    printer::{Printer, Tone},
};

pub(super) async fn run(
    client: &Client,
    printer: &Printer,
    verb: OriginVerb,
) -> Result<ExitCode, Failed> {
    let (status, json) = match verb {
        OriginVerb::Status(args) => (client.get::<Status>("/origin").await?, args.json),
        OriginVerb::Refresh(args) => {
            let brought: Refreshed = client.post("/origin/refresh", &()).await?;
            if args.json {
                printer.json(&brought);
                return Ok(code(&brought.status));
            }
            if brought.changes.is_empty() {
                printer.line("nothing new");
            }
            brought.changes.iter().for_each(|c| printer.line(c));
            (brought.status, false)
        }
        OriginVerb::Drop { id } => (client.post("/origin/drop", &DropSecret { id }).await?, false),
    };
    if json {
        printer.json(&status);
    } else {
        print_status(printer, &status, SystemClock.now());
    }
    Ok(code(&status))
}

fn code(status: &Status) -> ExitCode {
    match tone(status) {
        Tone::Bad => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// How well it is, in one word.
pub(super) fn tone(status: &Status) -> Tone {
    match status.state {
        State::Closed | State::Failed { .. } => Tone::Bad,
        _ if status.source.error.is_some() => Tone::Bad,
        State::Starting | State::Written => Tone::Busy,
        State::InForce => Tone::Good,
    }
}

/// One line for `palisade status`.
pub(super) fn summary(printer: &Printer, status: &Status, now: Timestamp) -> String {
    let mut text = match &status.state {
        State::Starting => printer.paint(Tone::Busy, "starting"),
        State::Closed => printer.paint(Tone::Bad, "no secret is known: requests are refused"),
        State::InForce => printer.paint(Tone::Good, "in force"),
        State::Written => printer.paint(Tone::Busy, "written, not read by nginx yet"),
        State::Failed { why, .. } => {
            format!("{}: {why}", printer.paint(Tone::Bad, "not in force"))
        }
    };
    let ids: Vec<_> = status.secrets.iter().map(|s| s.id.to_string()).collect();
    if !ids.is_empty() {
        text += &format!(", accepts {}", ids.join(" "));
    }
    if let Some(age) = status.secret_age_seconds {
        text += &format!(", the current one is {} old", days(Duration::from_secs(age)));
    }
    // A look at the last minutes: refusals of long ago are no news.
    if let Some(last) = status.last_refused.filter(|t| now.since(*t) < Duration::from_secs(600)) {
        text += &format!(", requests refused as late as {last}");
    }
    if let Some(error) = &status.source.error {
        text += &format!("; {}", printer.paint(Tone::Bad, error));
    }
    text
}

fn days(age: Duration) -> String {
    match age.as_secs() / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        n => format!("{n} days"),
    }
}

fn print_status(printer: &Printer, status: &Status, now: Timestamp) {
    printer.line(format_args!("state     {}", summary(printer, status, now)));
    if let State::Failed { hint: Some(hint), .. } = &status.state {
        printer.line(format_args!("hint      {hint}"));
    }
    printer.line(format_args!("header    {}", status.header));
    let checked = status.source.checked.map_or_else(
        || "not read yet".to_owned(),
        |t| format!("read {} ago", format_duration(now.since(t))),
    );
    printer.line(format_args!("source    {}, {checked}", status.source.location));
    if let Some(hint) = &status.source.hint {
        printer.line(format_args!("hint      {hint}"));
    }
    status.secrets.iter().for_each(|s| print_secret(printer, s));
    let last = |t: Option<Timestamp>| t.map_or_else(String::new, |t| format!(", last {t}"));
    let refused = status.refused;
    printer.line(format_args!("refused   about {refused} requests{}", last(status.last_refused)));
    if let Some(at) = status.last_reload {
        printer.line(format_args!("reloaded  {at}"));
    }
    for trouble in &status.troubles {
        printer.line(format_args!("trouble   {}", printer.paint(Tone::Bad, trouble)));
    }
}

fn print_secret(printer: &Printer, s: &SecretStatus) {
    let stage = match s.stage {
        Some(Stage::Current) => "current",
        Some(Stage::Pending) => "next",
        Some(Stage::Previous) | None => "old",
    };
    let hits = match s.last_hit {
        Some(at) => format!("about {} requests, last {at}", s.hits),
        None => "no requests seen".to_owned(),
    };
    printer
        .line(format_args!("secret    {} {stage:8}{} since {}: {hits}", s.id, s.version, s.since));
    if let (Some(left), Some(goes)) = (s.left, s.goes) {
        printer
            .line(format_args!("          left by its source {left}; goes when unused, or {goes}"));
    }
}
