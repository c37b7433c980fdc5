//! Verbs that act on programs.

use std::process::ExitCode;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use palisade_agent::control::to_replace;
use palisade_types::{
    ProcessStatus,
    control::{FailureKind, Names, Outcome, SignalNames, Updated},
};

use super::{client::Client, status};
use crate::{
    cli::Stream,
    exit::{self, Failed},
    printer::{Printer, Tone},
};

/// `start`, `stop`, `restart` or `clear`.
pub(super) async fn act(
    client: &Client,
    printer: &Printer,
    verb: &str,
    names: Vec<String>,
) -> Result<ExitCode, Failed> {
    let outcomes: Vec<Outcome> =
        client.post(&format!("/programs/{verb}"), &Names { names }).await?;
    Ok(print(printer, &outcomes))
}

/// Replaces one process after the other, each by the way that its settings have: with overlap, by its
/// reload signal, or by a restart. The answer comes when the process is up and ready, or is not going
/// to be; then the others are left as they are.
pub(super) async fn roll(
    client: &Client,
    printer: &Printer,
    names: &[String],
) -> Result<ExitCode, Failed> {
    let all: Vec<ProcessStatus> = client.get("/programs").await?;
    let chosen = to_replace(status::shown(&all, names)?, names);
    for (done, process) in chosen.iter().enumerate() {
        let names = vec![process.name.to_string()];
        let outcomes: Vec<Outcome> = client.post("/programs/roll", &Names { names }).await?;
        if print(printer, &outcomes) != ExitCode::SUCCESS {
            let left = chosen.len() - done - 1;
            printer.note(format_args!("stopped there: {left} not restarted, still as they were"));
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn signal(
    client: &Client,
    printer: &Printer,
    signal: String,
    names: Vec<String>,
) -> Result<ExitCode, Failed> {
    let outcomes: Vec<Outcome> =
        client.post("/programs/signal", &SignalNames { names, signal }).await?;
    Ok(print(printer, &outcomes))
}

fn print(printer: &Printer, outcomes: &[Outcome]) -> ExitCode {
    for o in outcomes {
        if o.ok {
            printer.line(format_args!("{}: {}", o.name, o.what));
        } else {
            let error = printer.paint(Tone::Bad, "ERROR");
            printer.line(format_args!("{}: {error} ({})", o.name, o.what));
        }
    }
    if outcomes.iter().all(|o| o.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows the end of a log file, and what is added to it while somebody looks.
pub(super) async fn tail(
    client: &Client,
    printer: &Printer,
    name: &str,
    stream: Stream,
    bytes: u64,
    follow: bool,
) -> Result<ExitCode, Failed> {
    let path = format!(
        "/programs/tail?name={}&stream={}&bytes={bytes}&follow={follow}",
        percent_encode(name),
        stream.as_str()
    );
    let mut answer = client.send(Method::GET, &path, Bytes::new()).await?;
    while let Some(frame) = answer.body.frame().await {
        let frame = frame.map_err(|e| anyhow::anyhow!("the agent ended the answer: {e}"))?;
        if let Some(data) = frame.data_ref()
            && printer.bytes(data).is_err()
        {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn percent_encode(s: &str) -> String {
    s.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

pub(super) async fn update(client: &Client, printer: &Printer) -> Result<ExitCode, Failed> {
    let done: Updated = client.post("/update", &()).await?;
    let lists = [("added", &done.added), ("removed", &done.removed), ("changed", &done.changed)];
    for (what, names) in lists {
        for name in names {
            printer.line(format_args!("{name}: {what}"));
        }
    }
    for section in &done.sections {
        printer.line(format_args!("{section}: applied"));
    }
    for key in &done.needs_restart {
        printer.note(format_args!("{key}: changed on disk, in force after a restart of the agent"));
    }
    for why in &done.kept_back {
        printer.note(format_args!("kept back: {why}"));
    }
    if done == Updated::default() {
        printer.line("no changes");
    }
    let good = if done.kept_back.is_empty() { ExitCode::SUCCESS } else { exit::refused() };
    if done.changed.is_empty() {
        return Ok(good);
    }
    // A release that does not come up must not look like one that did.
    let names = Names { names: done.changed };
    let told: Result<Vec<Outcome>, _> = client.post("/programs/replaced", &names).await;
    let mut outcomes = match told {
        // An agent of before this question, until it is upgraded.
        Err(Failed::Agent(failure)) if failure.kind == FailureKind::NotFound => Vec::new(),
        told => told?,
    };
    outcomes.retain(|o| !o.ok);
    if outcomes.is_empty() {
        return Ok(good);
    }
    Ok(print(printer, &outcomes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_an_address() {
        assert_eq!(percent_encode("web_01"), "web_01");
        assert_eq!(percent_encode("a&b=c%d@é"), "a%26b%3Dc%25d%40%C3%A9");
    }
}
