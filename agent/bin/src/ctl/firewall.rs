//! Verbs about the firewall.

mod safety;

use std::process::ExitCode;

use palisade_agent::firewall::{
    Explanation, FeedStatus, Outcome, Plan, Refreshed, SetChange, State, Status,
};
use palisade_types::control::Approval;

use super::{client::Client, firewall_told as told};
use crate::{
    cli::{FirewallVerb, Place},
    exit::Failed,
    firewall_load,
    printer::{Printer, Tone},
};

pub(super) async fn run(
    place: &Place,
    client: &Client,
    printer: &Printer,
    verb: FirewallVerb,
) -> Result<ExitCode, Failed> {
    match verb {
        FirewallVerb::Load => firewall_load::load(place, printer).await,
        FirewallVerb::Status(args) => {
            let status: Status = client.get("/firewall").await?;
            if args.json {
                printer.json(&status);
            } else {
                print_status(printer, &status);
            }
            Ok(match status.state {
                State::Failed { .. } => ExitCode::FAILURE,
                State::Starting | State::InForce { .. } | State::PlanOnly { .. } => {
                    ExitCode::SUCCESS
                }
            })
        }
        FirewallVerb::Plan(args) => safety::plan(client, printer, args.json).await,
        FirewallVerb::Apply { confirm, force, json } => {
            safety::apply(client, printer, confirm.as_deref(), force, json.json).await
        }
        FirewallVerb::Confirm => safety::decide(client, printer, "confirm").await,
        FirewallVerb::Rollback => safety::decide(client, printer, "rollback").await,
        FirewallVerb::Test(args) => safety::test(client, printer, args.json).await,
        FirewallVerb::Guardian | FirewallVerb::Scratch => {
            Err(Failed::Usage("the agent starts this itself".to_owned()))
        }
        FirewallVerb::Explain { ip, port, probe, json } => {
            let ip = ip.to_string().replace(':', "%3A");
            let path = format!("/firewall/explain?ip={ip}&port={port}&probe={probe}");
            let explanation: Explanation = client.get(&path).await?;
            if json.json {
                printer.json(&explanation);
            } else {
                safety::print_explanation(printer, &explanation);
            }
            Ok(ExitCode::SUCCESS)
        }
        FirewallVerb::Refresh(args) => {
            let brought: Vec<Refreshed> = client.post("/firewall/refresh", &()).await?;
            if args.json {
                printer.json(&brought);
            }
            Ok(print_refreshed(printer, &brought, args.json))
        }
        FirewallVerb::Export => {
            printer.json(&client.get::<serde_json::Value>("/firewall/export").await?);
            Ok(ExitCode::SUCCESS)
        }
        FirewallVerb::Drops(args) => told::drops(client, printer, args.json).await,
        FirewallVerb::History { last, json } => {
            told::history(client, printer, last, json.json).await
        }
        FirewallVerb::Approve { source, version } => {
            let approval = Approval { source: source.clone(), version };
            let outcome: Outcome = client.post("/firewall/approve", &approval).await?;
            let (good, text) = describe(&outcome);
            printer.line(format_args!("{source}: {text}"));
            Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// How well it is, in one word.
pub(super) fn tone(status: &Status) -> Tone {
    match status.state {
        State::InForce { .. } => Tone::Good,
        State::Starting | State::PlanOnly { .. } => Tone::Busy,
        State::Failed { .. } => Tone::Bad,
    }
}

/// One line for `palisade status`.
pub(super) fn summary(printer: &Printer, status: &Status) -> String {
    let ranges: usize = status.sets.iter().map(|s| s.ranges).sum();
    let state = match &status.state {
        State::Starting => printer.paint(Tone::Busy, "starting"),
        State::InForce { since, .. } => {
            format!("{}: {ranges} ranges since {since}", printer.paint(Tone::Good, "in force"))
        }
        State::PlanOnly { .. } => printer.paint(Tone::Busy, "planned only, nothing is enforced"),
        State::Failed { why, .. } => {
            format!("{}: {why}", printer.paint(Tone::Bad, "not in force"))
        }
    };
    let held = status.feeds.iter().filter(|f| f.held.is_some()).count();
    let held = if held > 0 {
        printer.paint(Tone::Busy, format_args!(", {held} change held for approval"))
    } else {
        String::new()
    };
    let repairs = match status.drift.repairs {
        0 => String::new(),
        n => format!(", {n} foreign changes repaired"),
    };
    format!("{state}{held}{repairs}")
}

fn print_status(printer: &Printer, status: &Status) {
    printer.line(format_args!("state     {}", summary(printer, status)));
    if let State::Failed { hint: Some(hint), .. } = &status.state {
        printer.line(format_args!("hint      {hint}"));
    }
    safety::print_status(printer, status.safety.as_ref());
    for set in &status.sets {
        let ports: Vec<_> = set.tcp.iter().map(ToString::to_string).collect();
        printer.line(format_args!(
            "set       {:16} tcp {:12} {} ranges, {} IPv4 addresses, {} IPv6 /64 networks, {} packets",
            set.source,
            ports.join(","),
            set.ranges,
            set.v4_addresses,
            set.v6_networks,
            status.packets.get(&set.source).copied().unwrap_or(0),
        ));
    }
    status.feeds.iter().for_each(|feed| print_feed(printer, feed));
    let dropped = status.packets.get("dropped").copied().unwrap_or(0);
    printer.line(format_args!("dropped   {dropped} packets"));
    if let Some(last) = &status.drift.last {
        let who = last.culprit.as_deref().unwrap_or("unknown");
        printer.line(format_args!(
            "repaired  {} at {}, changed by {who}, back after {} ms: {}",
            status.drift.repairs,
            last.at,
            last.took_ms,
            last.changes.join("; ")
        ));
    }
    if status.drift.storm {
        let storm = "too many foreign changes: repairs are down to one a minute";
        printer.line(format_args!("storm     {}", printer.paint(Tone::Bad, storm)));
    }
    if let Some(e) = &status.cache_error {
        printer.line(format_args!("cache     {}", printer.paint(Tone::Bad, e)));
    }
}

fn print_feed(printer: &Printer, feed: &FeedStatus) {
    let list = match &feed.list {
        Some(list) => format!("{} of {} ({})", list.sync_token, list.published, list.origin),
        None => "no list yet".to_owned(),
    };
    printer.line(format_args!("feed      {:16} {} {list}", feed.source, feed.service));
    if let Some(list) = &feed.list {
        for leaving in &list.leaving {
            let when = if leaving.confirmed { "closes" } else { "not confirmed, at the earliest" };
            printer.line(format_args!("leaving   {} {when} {}", leaving.prefix, leaving.due));
        }
    }
    if let Some(held) = &feed.held {
        let text = format!("{} since {}: {}", held.sync_token, held.since, held.why);
        printer.line(format_args!("held      {}", printer.paint(Tone::Busy, text)));
        printer.line(format_args!(
            "hint      palisade firewall approve {} {}",
            feed.source, held.sync_token
        ));
    }
    if feed.stale {
        let text = "the list in force is over 30 days old";
        printer.line(format_args!("stale     {}", printer.paint(Tone::Bad, text)));
    }
    if let Some(apart) = &feed.apart {
        let tone = if apart.is_alarming() { Tone::Bad } else { Tone::Good };
        let text = format!(
            "lacks {}/1000 of the published addresses, has {}/1000 others",
            apart.missing_permille, apart.extra_permille
        );
        printer.line(format_args!("apart     {}", printer.paint(tone, text)));
    }
    if let Some(e) = &feed.error {
        printer.line(format_args!(
            "error     {} ({} in a row)",
            printer.paint(Tone::Bad, e),
            feed.failures
        ));
    }
}

fn print_plan(printer: &Printer, plan: &Plan) {
    if !plan.differs {
        printer.line("no changes: the kernel has what is wanted");
    }
    for SetChange { set, added, removed, address_permille } in &plan.sets {
        if let Some(permille) = address_permille {
            let (sign, size) = (if *permille < 0 { "-" } else { "+" }, permille.unsigned_abs());
            let text = format!("{sign}{}.{}%", size / 10, size % 10);
            printer.line(format_args!("set {set}: {text} of its addresses"));
        }
        for range in added {
            printer.line(printer.paint(Tone::Good, format_args!("+ {set} {range}")));
        }
        for range in removed {
            printer.line(printer.paint(Tone::Bad, format_args!("- {set} {range}")));
        }
    }
    plan.other.iter().for_each(|change| printer.line(format_args!("~ {change}")));
    for feed in &plan.held {
        print_feed(printer, feed);
    }
}

fn print_refreshed(printer: &Printer, brought: &[Refreshed], json: bool) -> ExitCode {
    let mut all_good = true;
    for Refreshed { source, service, outcome } in brought {
        let (good, text) = describe(outcome);
        all_good &= good;
        if !json {
            printer.line(format_args!("{source} {service}: {text}"));
        }
    }
    if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn describe(outcome: &Outcome) -> (bool, String) {
    match outcome {
        Outcome::Unchanged => (true, "unchanged".to_owned()),
        Outcome::Accepted { sync_token } => (true, format!("{sync_token} is in force")),
        Outcome::Held { why } => (true, format!("held for approval: {why}")),
        Outcome::Failed { why } => (false, format!("failed: {why}")),
    }
}
