//! `palisade top`: the agent as its view needs it, over the control socket.

use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use palisade_agent::{
    clock::{SystemClock, WallClock as _},
    control::Overview,
    firewall,
    sys::terminal,
};
use palisade_top::{Act, Agent, Fact, Output, Snapshot, Tone, TopError};
use palisade_types::{
    ProcessName,
    control::{Names, Outcome, SignalNames},
};
use tokio::sync::mpsc;

use super::{client::Client, programs::percent_encode, status};
use crate::{
    exit::Failed,
    printer::{self, Printer},
};

/// How much of a log is shown before what is added to it.
const TAIL_BYTES: u64 = 64 << 10;

pub(super) async fn top(client: &Client, printer: &Printer) -> Result<ExitCode, Failed> {
    // One that is not there from the start is a mistake rather than a reason to wait.
    status::ask(client, false).await?;
    let gone = async {
        // What cannot be watched is no terminal, which the view says itself.
        match terminal::taken_away() {
            Ok(gone) => gone.await,
            Err(_) => std::future::pending().await,
        }
    };
    match palisade_top::run(Remote(client.clone()), printer.has_colour(), gone).await {
        Ok(None) => Ok(ExitCode::SUCCESS),
        Ok(Some(signal)) => Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))),
        Err(e @ TopError::NoTerminal) => {
            Err(Failed::Usage(format!("{e}; without one use palisade status --watch")))
        }
        Err(e @ TopError::Terminal(_)) => Err(anyhow::Error::new(e).context("palisade top").into()),
    }
}

/// An agent behind a socket.
#[derive(Clone, Debug)]
struct Remote(Client);

impl Agent for Remote {
    async fn snapshot(&self) -> Result<Snapshot, String> {
        let overview = status::ask(&self.0, true).await.map_err(|e| e.to_string())?;
        let programs = status::with_usage(&overview, &overview.programs);
        Ok(Snapshot { facts: facts(&overview), programs })
    }

    async fn act(&self, act: Act, on: ProcessName) -> Result<Vec<Outcome>, String> {
        let names = vec![on.to_string()];
        let done = match act {
            Act::Start => self.0.post("/programs/start", &Names { names }).await,
            Act::Stop => self.0.post("/programs/stop", &Names { names }).await,
            Act::Roll => self.0.post("/programs/roll", &Names { names }).await,
            Act::Restart => self.0.post("/programs/restart", &Names { names }).await,
            Act::Signal(signal) => {
                let asked = SignalNames { names, signal: signal.to_owned() };
                self.0.post("/programs/signal", &asked).await
            }
        };
        done.map_err(|e: Failed| e.to_string())
    }

    async fn follow(
        &self,
        process: ProcessName,
        output: Output,
        into: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), String> {
        let path = format!(
            "/programs/tail?name={}&stream={}&bytes={TAIL_BYTES}&follow=true",
            percent_encode(process.as_str()),
            output.as_str()
        );
        let answer = self.0.send(Method::GET, &path, Bytes::new()).await;
        let mut answer = answer.map_err(|e| e.to_string())?;
        while let Some(frame) = answer.body.frame().await {
            let frame = frame.context("the agent ended it").map_err(|e| format!("{e:#}"))?;
            if let Ok(bytes) = frame.into_data()
                && into.send(bytes.to_vec()).await.is_err()
            {
                break;
            }
        }
        Ok(())
    }

    fn now(&self) -> i64 {
        SystemClock.now().as_millis()
    }
}

/// What stands above the programs: the agent, firewall and logs, and whatever somebody should look at.
fn facts(overview: &Overview) -> Vec<Fact> {
    let told = status::facts(&Printer::plain(), overview, SystemClock.now());
    let mut facts: Vec<_> = told
        .into_iter()
        .map(|(about, text, tone)| Fact { about, text, tone: shade(tone) })
        .filter(|f| f.tone == Tone::Bad || ["agent", "firewall", "logs"].contains(&f.about))
        .collect();
    if let Some(status) = &overview.firewall
        && let Some(line) = facts.iter_mut().find(|f| f.about == "firewall")
    {
        line.text += &counters(status);
    }
    facts
}

/// What the kernel counted: `, packets: 12 dropped, 3 invalid, 4567 cloudfront`.
fn counters(status: &firewall::Status) -> String {
    let all: Vec<_> = status.packets.iter().map(|(name, n)| format!("{n} {name}")).collect();
    if all.is_empty() { String::new() } else { format!("; packets: {}", all.join(", ")) }
}

fn shade(tone: printer::Tone) -> Tone {
    match tone {
        printer::Tone::Good => Tone::Good,
        printer::Tone::Busy => Tone::Busy,
        printer::Tone::Bad => Tone::Bad,
        printer::Tone::Plain => Tone::Plain,
    }
}
