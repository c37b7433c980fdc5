//! Verbs that change the firewall's settings without locking anybody out.

use std::process::ExitCode;

use palisade_agent::firewall::{
    Explanation, Probed,
    safety::{Applied, CutSession, KeptBack, Proposal, SafetyStatus, TestResult, Tested, Verdict},
};
use palisade_types::{Span, control::FirewallApply};

use super::{Client, print_plan};
use crate::{
    exit::Failed,
    printer::{Printer, Tone},
};

pub(super) async fn plan(
    client: &Client,
    printer: &Printer,
    json: bool,
) -> Result<ExitCode, Failed> {
    let proposal: Proposal = client.work_out("/firewall/plan").await?;
    if json {
        printer.json(&proposal);
    } else {
        print_proposal(printer, &proposal);
        for why in &proposal.refused {
            printer.line(printer.paint(Tone::Bad, format_args!("refused   {why}")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn apply(
    client: &Client,
    printer: &Printer,
    confirm: Option<&str>,
    force: bool,
    json: bool,
) -> Result<ExitCode, Failed> {
    let confirm = confirm.map(str::parse::<Span>).transpose();
    let confirm = confirm.map_err(|e| Failed::Usage(format!("--confirm: {e}")))?;
    let confirm_ms = confirm.map(|Span(d)| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let applied: Applied =
        client.post("/firewall/apply", &FirewallApply { confirm_ms, force }).await?;
    if json {
        printer.json(&applied);
        return Ok(ExitCode::SUCCESS);
    }
    print_proposal(printer, &applied.proposal);
    for why in &applied.proposal.refused {
        printer.line(printer.paint(Tone::Bad, format_args!("by force  {why}")));
    }
    match applied.until {
        Some(until) => {
            printer.line(format_args!("in force, rolled back at {until} unless confirmed"));
            printer.line("hint: palisade firewall confirm");
        }
        None if applied.proposal.settings_differ => printer.line("in force"),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn decide(
    client: &Client,
    printer: &Printer,
    what: &str,
) -> Result<ExitCode, Failed> {
    let () = client.post(&format!("/firewall/{what}"), &()).await?;
    printer.line(match what {
        "confirm" => "confirmed: the new settings stay in force",
        _ => "rolled back: the settings before are in force",
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn test(
    client: &Client,
    printer: &Printer,
    json: bool,
) -> Result<ExitCode, Failed> {
    let tested: Tested = client.post("/firewall/test", &()).await?;
    if json {
        printer.json(&tested);
    } else if tested.0.is_empty() {
        printer.line("no tests: firewall.tests is empty");
    }
    let (results, not_probed) = &tested;
    if !json {
        print_tests(printer, results, not_probed.as_deref());
    }
    Ok(if results.iter().all(|t| t.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_tests(printer: &Printer, tests: &[TestResult], not_probed: Option<&str>) {
    for TestResult { test, passed, packets, wrong } in tests {
        if *passed {
            printer.line(format_args!("passed    {test} ({packets} packets)"));
        } else {
            let text = format!("failed    {test}: {}", wrong.join(", "));
            printer.line(printer.paint(Tone::Bad, text));
        }
    }
    if let Some(why) = not_probed {
        printer.line(printer.paint(
            Tone::Busy,
            format_args!("note      no packet was sent, the rules were read instead: {why}"),
        ));
    }
}

fn print_proposal(printer: &Printer, proposal: &Proposal) {
    print_plan(printer, &proposal.plan);
    if proposal.settings_differ && !proposal.plan.differs {
        printer.line("other settings, the same rules");
    }
    for CutSession { from, port, ssh, own } in &proposal.cut {
        let what = match (own, ssh) {
            (true, _) => "your own SSH session",
            (false, true) => "SSH session",
            (false, false) => "connection",
        };
        let text = format!("cut       {what} from {from} to port {port}");
        printer.line(printer.paint(Tone::Bad, text));
    }
    print_tests(printer, &proposal.tests, proposal.not_probed.as_deref());
}

pub(super) fn print_status(printer: &Printer, status: Option<&SafetyStatus>) {
    let Some(SafetyStatus { trial, kept_back, trouble }) = status else { return };
    if let Some(trial) = trial {
        let text = format!("rolled back at {} unless confirmed, by {}", trial.until, trial.by);
        printer.line(format_args!("trial     {}", printer.paint(Tone::Busy, text)));
        printer.line("hint      palisade firewall confirm");
    }
    if let Some(kept_back) = kept_back {
        let text = format!("settings of the file, since {}: {}", kept_back.since, kept_back.why);
        printer.line(format_args!("kept back {}", printer.paint(Tone::Bad, text)));
        printer.line(format_args!("hint      {}", KeptBack::HINT));
    }
    if let Some(trouble) = trouble {
        printer.line(format_args!("settings  {}", printer.paint(Tone::Bad, trouble)));
    }
}

pub(super) fn print_explanation(printer: &Printer, explanation: &Explanation) {
    printer.line(&explanation.text);
    for note in &explanation.foreign {
        printer.line(printer.paint(Tone::Busy, format_args!("note: {note}")));
    }
    match &explanation.probe {
        Some(Probed::Sent(verdict)) => {
            let said = match verdict {
                Verdict::Accepted => "let in",
                Verdict::Rejected => "refused with a reset",
                Verdict::Dropped => "dropped",
            };
            printer.line(format_args!("a real packet is {said}"));
        }
        Some(Probed::NotSent(why)) => printer.line(format_args!("no packet was sent: {why}")),
        None => {}
    }
}
