//! Verbs about log shipping.

use std::{process::ExitCode, time::Duration};

use palisade_agent::logs::{SourceStatus, Status};
use palisade_types::{ByteSize, Span, control::Flush, format_duration};

use super::client::Client;
use crate::{
    cli::LogsVerb,
    exit::Failed,
    printer::{Printer, Tone},
};

pub(super) async fn run(
    client: &Client,
    printer: &Printer,
    verb: LogsVerb,
) -> Result<ExitCode, Failed> {
    let status: Status = match verb {
        LogsVerb::Status(args) => {
            let status = client.get("/logs").await?;
            if args.json {
                printer.json(&status);
                return Ok(ExitCode::SUCCESS);
            }
            status
        }
        LogsVerb::Flush { timeout } => {
            let Span(within) =
                timeout.parse().map_err(|e| Failed::Usage(format!("--timeout: {e}")))?;
            let timeout_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
            let status = client.post("/logs/flush", &Flush { timeout_ms }).await?;
            // What came since may wait already, so the figures alone do not say it.
            printer.line("flushed: all that was there is delivered");
            status
        }
    };
    print_status(printer, &status);
    Ok(ExitCode::SUCCESS)
}

/// How well it is, in one word.
pub(super) fn tone(status: &Status) -> Tone {
    let is_losing = status.dropped_lines + status.dead_lettered_events > 0;
    if status.degraded.is_some() || is_losing { Tone::Bad } else { Tone::Plain }
}

/// One line for `palisade status`.
pub(super) fn summary(printer: &Printer, status: &Status) -> String {
    let backlog = ByteSize::new(status.backlog_bytes());
    let mut text = format!("{} events delivered, backlog {backlog}", status.delivered_events);
    if status.lag_ms() > 0 {
        text += &format!(", lag {}", format_duration(Duration::from_millis(status.lag_ms())));
    }
    let losses = [
        (status.dropped_lines, "lines dropped"),
        (status.dead_lettered_events, "events in the dead-letter file"),
    ];
    for (n, what) in losses {
        if n > 0 {
            text += &format!(", {}", printer.paint(Tone::Bad, format_args!("{n} {what}")));
        }
    }
    if let Some(why) = &status.degraded {
        text += &format!("; {}", printer.paint(Tone::Bad, why));
    }
    text
}

fn print_status(printer: &Printer, status: &Status) {
    printer.line(summary(printer, status));
    print_sources(printer, status);
    if let Some(second) = &status.new_relic {
        printer.line(format_args!("New Relic: {}", summary(printer, second)));
        print_sources(printer, second);
    }
}

fn print_sources(printer: &Printer, status: &Status) {
    for source in &status.sources {
        print_source(printer, source);
    }
    if !status.redacted.is_empty() {
        let kinds = status.redacted.iter().map(|(kind, n)| format!("{n} {kind}"));
        printer.line(format_args!("taken out: {}", kinds.collect::<Vec<_>>().join(", ")));
    }
    for incident in &status.incidents {
        printer.line(format_args!("incident: {incident}"));
    }
}

fn print_source(printer: &Printer, source: &SourceStatus) {
    let SourceStatus { name, group, stream, delivered_events, .. } = source;
    let backlog = ByteSize::new(source.backlog_bytes);
    let lag = format_duration(Duration::from_millis(source.lag_ms));
    let mut text = format!(
        "{name:30} {group} {stream}: {delivered_events} delivered, backlog {backlog}, lag {lag}"
    );
    let losses =
        [(source.dropped_lines, "dropped"), (source.dead_lettered_events, "dead-lettered")];
    for (n, what) in losses {
        let tone = if n > 0 { Tone::Bad } else { Tone::Plain };
        text += &format!(", {}", printer.paint(tone, format_args!("{n} {what}")));
    }
    printer.line(text);
    if let Some(e) = &source.last_error {
        printer.line(format_args!("{:30} {}", "", printer.paint(Tone::Bad, e)));
    }
}
