//! What the firewall tells of: packets that it turned away, and changes of its rules.

use std::{collections::BTreeMap, process::ExitCode};

use palisade_agent::firewall::{
    drops::{PortCount, Report, SourceCount},
    history::{Entry, Listed, SetDelta},
};

use super::client::Client;
use crate::{
    exit::Failed,
    printer::{Printer, Tone},
};

/// Sources that are printed; `--json` has more.
const SHOWN: usize = 20;
/// Characters of the ruleset's hash that tell two apart.
const SHORT_HASH: usize = 12;

pub(super) async fn drops(
    client: &Client,
    printer: &Printer,
    json: bool,
) -> Result<ExitCode, Failed> {
    let report: Report = client.get("/firewall/drops").await?;
    if json {
        printer.json(&report);
    } else {
        print_report(printer, &report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_report(printer: &Printer, report: &Report) {
    if let Some(since) = report.since {
        printer.line(format_args!("since     {since}"));
    }
    printer.line(format_args!("counted   {}", listed(&report.counted)));
    if let Some(e) = &report.error {
        printer.line(format_args!("log       {}", printer.paint(Tone::Bad, e)));
    } else if !report.logging {
        printer.line("log       off: firewall.drops.log is false");
    }
    let total = &report.total;
    let more = if total.more_sources { "at least " } else { "" };
    let lost = if total.lost > 0 { format!(", {} lost", total.lost) } else { String::new() };
    printer.line(format_args!(
        "logged    {} packets of {more}{} sources{lost}: {}",
        total.logged,
        total.sources,
        listed(&total.by_reason)
    ));
    for source in total.top.iter().take(SHOWN) {
        print_source(printer, source);
    }
    let hidden: u64 = total.top.iter().skip(SHOWN).map(|s| s.packets).sum();
    if hidden + total.others > 0 {
        printer.line(format_args!("others    {} packets", hidden + total.others));
    }
}

fn print_source(printer: &Printer, source: &SourceCount) {
    let port = |p: &PortCount| match p.port {
        Some(port) => format!("{} {port} ({})", p.protocol, p.packets),
        None => format!("{} ({})", p.protocol, p.packets),
    };
    let mut ports: Vec<String> = source.ports.iter().map(port).collect();
    if source.other_ports > 0 {
        ports.push(format!("other ports ({})", source.other_ports));
    }
    let SourceCount { source, packets, .. } = source;
    printer.line(format_args!("source    {source:39} {packets:8} packets: {}", ports.join(", ")));
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "nothing".to_owned();
    }
    let all: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
    all.join(", ")
}

pub(super) async fn history(
    client: &Client,
    printer: &Printer,
    last: usize,
    json: bool,
) -> Result<ExitCode, Failed> {
    let listed: Listed = client.get(&format!("/firewall/history?last={last}")).await?;
    if json {
        printer.json(&listed);
        return Ok(ExitCode::SUCCESS);
    }
    listed.entries.iter().for_each(|e| print_entry(printer, e));
    if listed.damaged > 0 {
        printer.line(format_args!("{} lines of the record cannot be read", listed.damaged));
    }
    if let Some(e) = &listed.error {
        printer.line(printer.paint(Tone::Bad, e));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_entry(printer: &Printer, e: &Entry) {
    let who: Vec<String> = e.who.iter().map(ToString::to_string).collect();
    let hash: String = e.ruleset.chars().take(SHORT_HASH).collect();
    let generation = e.generation.map(|g| format!(", generation {g}")).unwrap_or_default();
    let took = e.took_ms.map(|ms| format!(", back after {ms} ms")).unwrap_or_default();
    printer.line(format_args!("{} {}: rules {hash}{generation}{took}", e.at, who.join(" and ")));
    if e.lost > 0 {
        let text = format!("  {} changes before this one are not recorded", e.lost);
        printer.line(printer.paint(Tone::Bad, text));
    }
    for SetDelta { set, added, removed, plus, minus } in &e.sets {
        let prefixes = plus.iter().map(|p| format!(" +{p}"));
        let prefixes: String = prefixes.chain(minus.iter().map(|p| format!(" -{p}"))).collect();
        let cut = if plus.len() < *added || minus.len() < *removed { " ..." } else { "" };
        printer.line(format_args!("  {set} +{added} -{removed}:{prefixes}{cut}"));
    }
    e.changes.iter().for_each(|c| printer.line(format_args!("  {c}")));
}
