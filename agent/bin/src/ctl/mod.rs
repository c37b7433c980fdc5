//! The command line's verbs that ask a running agent.

mod access;
mod agent_programs;
mod client;
mod firewall;
mod firewall_told;
mod logs;
mod metrics;
mod origin;
mod patch;
mod programs;
mod status;
mod top;
mod upgrade;
mod watch;
mod work;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use client::Client;
use palisade_agent::{config, control::Overview, events::Event};

use crate::{
    cli::{ClientVerb, PatchVerb, Place},
    exit::Failed,
    printer::Printer,
};

/// Asks the agent and prints its answer.
pub(crate) fn run(place: &Place, verb: ClientVerb, printer: &Printer) -> Result<ExitCode, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let client = Client::new(socket(place));
    match verb {
        ClientVerb::Patch(PatchVerb::Work { run }) => {
            runtime.block_on(work::work(place, client, &run))
        }
        verb => runtime.block_on(ask(place, &client, verb, printer)),
    }
}

/// What a running agent says of itself.
pub(crate) async fn overview(place: &Place) -> Result<Overview, Failed> {
    Client::new(socket(place)).get("/status").await
}

/// The socket that was named, or the configuration's, or the usual one.
fn socket(place: &Place) -> PathBuf {
    let named = place.socket.clone().or_else(|| config::control_socket(&place.config));
    named.unwrap_or_else(|| PathBuf::from("/run/palisade/control.sock"))
}

async fn ask(
    place: &Place,
    client: &Client,
    verb: ClientVerb,
    printer: &Printer,
) -> Result<ExitCode, Failed> {
    match verb {
        ClientVerb::Status { names, json, watch: false, usage } => {
            status::status(client, printer, &names, json, usage).await
        }
        ClientVerb::Status { names, json, watch: true, usage } => {
            watch::watch(client, printer, names, json, usage).await
        }
        ClientVerb::Top => top::top(client, printer).await,
        ClientVerb::Start(a) => programs::act(client, printer, "start", a.names).await,
        ClientVerb::Stop(a) => programs::act(client, printer, "stop", a.names).await,
        ClientVerb::Restart { names, rolling: false } => {
            programs::act(client, printer, "restart", names.names).await
        }
        ClientVerb::Restart { names, rolling: true } => {
            programs::roll(client, printer, &names.names).await
        }
        ClientVerb::Clear(a) => programs::act(client, printer, "clear", a.names).await,
        ClientVerb::Signal { signal, names } => {
            programs::signal(client, printer, signal, names.names).await
        }
        ClientVerb::Tail { name, stream, follow, bytes } => {
            programs::tail(client, printer, &name, stream, bytes, follow).await
        }
        ClientVerb::Update => programs::update(client, printer).await,
        ClientVerb::Upgrade => upgrade::upgrade(client, printer).await,
        ClientVerb::Events { last, json } => {
            let events: Vec<Event> = client.get(&format!("/events?last={last}")).await?;
            print_events(printer, &events, json)?;
            Ok(ExitCode::SUCCESS)
        }
        ClientVerb::Firewall(verb) => firewall::run(place, client, printer, verb).await,
        ClientVerb::Origin(verb) => origin::run(client, printer, verb).await,
        ClientVerb::Logs(verb) => logs::run(client, printer, verb).await,
        ClientVerb::Metrics => metrics::print(client, printer).await,
        ClientVerb::Access(verb) => access::run(place, client, printer, verb).await,
        ClientVerb::Patch(verb) => patch::run(client, printer, verb).await,
    }
}

fn print_events(printer: &Printer, events: &[Event], json: bool) -> Result<(), Failed> {
    for e in events {
        if json {
            printer.line(serde_json::to_string(e).context("print as JSON")?);
            continue;
        }
        let why = if e.why.is_empty() { String::new() } else { format!(": {}", e.why) };
        let by = if e.by.is_empty() { String::new() } else { format!(" [{}]", e.by) };
        printer.line(format_args!("{} {:9} {} {}{why}{by}", e.ts, e.area, e.what, e.subject));
    }
    Ok(())
}
