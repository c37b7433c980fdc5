//! `palisade status --watch`: on a terminal a view that follows what changes, else a line for each
//! change, until the reader goes away. An agent that ends or is replaced meanwhile is waited for.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use palisade_agent::{
    clock::{SystemClock, Timestamp, WallClock as _},
    control::Overview,
};
use palisade_types::{ProcessName, ProcessStatus, change::Change};
use serde::Serialize;
use tokio::time::{self, Instant};

use super::{
    client::{Answer, Client},
    status::{ask, row, shown, text, used, with_usage},
};
use crate::{exit::Failed, printer::Printer};

/// How often a view is drawn anew, so that its times go on.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// How often the agent is asked for what it does not tell by itself: the firewall, the logs.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The same, where what is used is shown in a view, and in a stream.
const MEASURE_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

/// How often an agent that is away is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// A line of the agent's beyond this is none.
const MAX_LINE: usize = 64 << 20;

/// Columns for a name in a stream, whose longest name nobody knows.
const NAME: usize = 33;

pub(super) async fn watch(
    client: &Client,
    printer: &Printer,
    names: Vec<String>,
    json: bool,
    usage: bool,
) -> Result<ExitCode, Failed> {
    if !json && Printer::is_on_terminal() {
        return view(client, printer, &names, usage).await;
    }
    let stream = Stream { printer, names, json, known: None };
    if usage { stream.measure(client).await } else { stream.follow(client).await }
}

/// Draws the whole status again whenever something changes.
async fn view(
    client: &Client,
    printer: &Printer,
    names: &[String],
    usage: bool,
) -> Result<ExitCode, Failed> {
    let mut changes = None;
    let mut seen: Option<Overview> = None;
    loop {
        if changes.is_none() {
            changes = changes_of(client).await.ok();
        }
        let mut away = None;
        match ask(client, usage).await {
            Ok(overview) => seen = Some(overview),
            Err(e) if seen.is_none() => return Err(e),
            Err(e) => away = Some(e),
        }
        let Some(overview) = &seen else { continue };
        let rest = match &away {
            Some(_) => TRY_EVERY,
            None if usage => MEASURE_EVERY.0,
            None => ASK_EVERY,
        };
        let again = Instant::now() + rest;
        let chosen = shown(&overview.programs, names)?;
        loop {
            let now = SystemClock.now();
            let mut lines = text(printer, overview, &chosen, names, now);
            lines.extend(away.as_ref().map(|e| format!("\nas it was before: {e}; trying again")));
            if printer.view(&lines).is_err() {
                return Ok(ExitCode::SUCCESS);
            }
            let next = again.min(Instant::now() + DRAW_EVERY);
            // Both only wait. A change that is not read yet is read in the next round.
            tokio::select! {
                line = next_piece(&mut changes) => {
                    if line.is_none() {
                        changes = None;
                    }
                    break;
                }
                () = time::sleep_until(next) => if Instant::now() >= again {
                    break;
                },
            }
        }
    }
}

async fn changes_of(client: &Client) -> Result<Answer, Failed> {
    client.send(Method::GET, "/programs/watch", Bytes::new()).await
}

/// The next bytes; none when the agent ended the answer, and never if there is no answer to read.
async fn next_piece(changes: &mut Option<Answer>) -> Option<Bytes> {
    match changes {
        Some(answer) => answer.body.frame().await?.ok()?.into_data().ok(),
        None => std::future::pending().await,
    }
}

/// One line for each change.
struct Stream<'a> {
    printer: &'a Printer,
    names: Vec<String>,
    json: bool,
    /// What was printed last of each process; none before the agent was reached.
    known: Option<Vec<ProcessStatus>>,
}

#[derive(Serialize)]
struct Gone<'a> {
    gone: &'a ProcessName,
}

impl Stream<'_> {
    async fn follow(mut self, client: &Client) -> Result<ExitCode, Failed> {
        let mut was_away = false;
        loop {
            match changes_of(client).await {
                Ok(answer) => {
                    if was_away {
                        self.printer.note("the agent is back");
                    }
                    if !self.print_all(answer).await? {
                        return Ok(ExitCode::SUCCESS);
                    }
                    was_away = false;
                }
                Err(e) if self.known.is_none() => return Err(e),
                Err(e) => {
                    if !was_away {
                        self.printer.note(format_args!("the agent is away, waiting for it: {e}"));
                    }
                    was_away = true;
                    time::sleep(TRY_EVERY).await;
                }
            }
        }
    }

    /// Prints until the agent ends the answer; false if nobody reads any more.
    async fn print_all(&mut self, mut answer: Answer) -> Result<bool, Failed> {
        let mut lines = Lines::default();
        // What the agent tells is relative to nothing in each new answer.
        let mut list = Vec::new();
        while let Some(Ok(frame)) = answer.body.frame().await {
            let Ok(bytes) = frame.into_data() else { continue };
            for line in lines.push(&bytes)? {
                let change: Change = serde_json::from_slice(&line)
                    .context("understand the agent: is it of another version?")?;
                change.apply(&mut list);
                if !self.print(&list)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Prints what is not known yet of this list. False if nobody reads any more.
    fn print(&mut self, list: &[ProcessStatus]) -> Result<bool, Failed> {
        let chosen = match (shown(list, &self.names), &self.known) {
            (Ok(chosen), _) => chosen,
            (Err(e), None) => return Err(e),
            // Those that were named are gone, or some are.
            (Err(_), Some(known)) => {
                list.iter().filter(|p| known.iter().any(|k| k.name == p.name)).cloned().collect()
            }
        };
        let change = Change::between(self.known.as_deref().unwrap_or_default(), &chosen);
        self.known = Some(chosen);
        let now = SystemClock.now();
        let mut lines = Vec::new();
        for p in &change.changed {
            lines.push(if self.json {
                json(p)?
            } else {
                format!("{now}  {}", row(self.printer, p, NAME, "", now))
            });
        }
        for gone in &change.gone {
            lines.push(if self.json {
                json(&Gone { gone })?
            } else {
                format!("{now}  {gone:NAME$}gone")
            });
        }
        Ok(self.write(&lines))
    }

    /// Prints every process with what it uses, again and again.
    async fn measure(mut self, client: &Client) -> Result<ExitCode, Failed> {
        loop {
            let overview = match (ask(client, true).await, &self.known) {
                (Ok(overview), _) => overview,
                (Err(e), None) => return Err(e),
                (Err(e), Some(_)) => {
                    self.printer.note(format_args!("the agent is away, waiting for it: {e}"));
                    time::sleep(MEASURE_EVERY.1).await;
                    continue;
                }
            };
            let chosen = shown(&overview.programs, &self.names)?;
            let lines = self.measured(&overview, &chosen, SystemClock.now())?;
            if !self.write(&lines) {
                return Ok(ExitCode::SUCCESS);
            }
            self.known = Some(chosen);
            time::sleep(MEASURE_EVERY.1).await;
        }
    }

    fn measured(
        &self,
        overview: &Overview,
        chosen: &[ProcessStatus],
        now: Timestamp,
    ) -> Result<Vec<String>, Failed> {
        let line = |p: palisade_types::ProcessWithUsage| {
            if self.json {
                return json(&p);
            }
            let used = used(p.usage);
            Ok(format!("{now}  {}", row(self.printer, &p.status, NAME, &used, now)))
        };
        with_usage(overview, chosen).into_iter().map(line).collect()
    }

    /// False if nobody reads any more.
    fn write(&self, lines: &[String]) -> bool {
        let text: String = lines.iter().flat_map(|l| [l.as_str(), "\n"]).collect();
        self.printer.bytes(text.as_bytes()).is_ok()
    }
}

fn json(value: &impl Serialize) -> Result<String, Failed> {
    Ok(serde_json::to_string(value).context("print as JSON")?)
}

/// Lines from pieces that end anywhere.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// The lines that are whole now.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Failed> {
        let mut whole = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.rest.extend_from_slice(piece);
            if self.rest.len() > MAX_LINE {
                return Err(anyhow::anyhow!("the agent sends a line without end").into());
            }
            if self.rest.ends_with(b"\n") {
                whole.push(std::mem::take(&mut self.rest));
            }
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_they_were_cut() {
        let mut lines = Lines::default();
        assert!(lines.push(b"{\"a\"").unwrap().is_empty());
        assert_eq!(lines.push(b":1}\n{}\n{").unwrap(), [b"{\"a\":1}\n".to_vec(), b"{}\n".to_vec()]);
        assert_eq!(lines.push(b"}\n").unwrap(), [b"{}\n".to_vec()]);
    }
}
