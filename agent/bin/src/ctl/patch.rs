//! Verbs about patching.

use std::{process::ExitCode, time::Duration};

use palisade_agent::patch::{
    Ended, KeptBack, Phase, Planned, Record, Status, Told, Update, Verdict,
};
use palisade_types::control::PatchRun;
use tokio::time::{self, Instant};

use super::client::Client;
use crate::{
    cli::PatchVerb,
    exit::{self, Failed},
    printer::{Printer, Tone},
};

/// Between two looks at a run.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the agent may be away during a run: it may be replaced by it.
const AWAY: Duration = Duration::from_secs(60);

pub(super) async fn run(
    client: &Client,
    printer: &Printer,
    verb: PatchVerb,
) -> Result<ExitCode, Failed> {
    match verb {
        PatchVerb::Status(args) => {
            let status: Status = client.get("/patch").await?;
            if args.json {
                printer.json(&status);
            } else {
                print_status(printer, &status);
            }
            Ok(ExitCode::SUCCESS)
        }
        PatchVerb::Plan { json, exit_code } => {
            let planned: Planned = client.work_out("/patch/plan").await?;
            if json.json {
                printer.json(&planned);
            } else {
                print_plan(printer, &planned);
            }
            let code = if exit_code { plan_code(&planned) } else { 0 };
            Ok(ExitCode::from(code))
        }
        PatchVerb::Run { now, no_wait, json } => {
            let record: Record = client.post("/patch/run", &PatchRun { now }).await?;
            if no_wait {
                printer.line(format_args!("run {} has begun", record.id));
                return Ok(ExitCode::SUCCESS);
            }
            let over = follow(client, printer, &record.id).await?;
            if json.json {
                printer.json(&over);
            } else {
                print_record(printer, &over);
            }
            Ok(match over.outcome {
                Some(Ended::Done) => ExitCode::SUCCESS,
                Some(Ended::Partly { .. } | Ended::Deferred { .. } | Ended::Failed { .. })
                | None => ExitCode::FAILURE,
            })
        }
        PatchVerb::History { last, json } => {
            let past: Vec<Record> = client.get(&format!("/patch/history?last={last}")).await?;
            if json.json {
                printer.json(&past);
            } else {
                past.iter().for_each(|r| print_record(printer, r));
            }
            Ok(ExitCode::SUCCESS)
        }
        PatchVerb::Work { .. } => {
            Err(Failed::Usage("patch work is started by the agent".to_owned()))
        }
    }
}

/// 0: nothing to do; 6: something would be done; 7: nobody can tell.
fn plan_code(planned: &Planned) -> u8 {
    match &planned.plan.verdict {
        Verdict::Unknown { .. } => exit::UNKNOWN,
        Verdict::Compliant | Verdict::NonCompliant if planned.plan.is_empty() => 0,
        Verdict::Compliant | Verdict::NonCompliant => exit::WOULD_CHANGE,
    }
}

/// Waits until a run is over, telling what it is at.
async fn follow(client: &Client, printer: &Printer, id: &str) -> Result<Record, Failed> {
    let mut phase = None;
    let mut away: Option<Instant> = None;
    loop {
        match client.get::<Status>("/patch").await {
            Ok(status) => {
                away = None;
                if let Some(last) = status.last.filter(|r| r.id == id) {
                    return Ok(last);
                }
                if let Some(now) = status.running.filter(|r| r.id == id).map(|r| r.phase)
                    && phase.replace(now) != Some(now)
                {
                    printer.note(format_args!("{}", doing(now)));
                }
            }
            Err(e) => {
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY {
                    return Err(e);
                }
            }
        }
        time::sleep(LOOK_EVERY).await;
    }
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Lock => "waiting for the package manager",
        Phase::Lists => "fetching package lists",
        Phase::Install => "installing",
        Phase::Services => "restarting services",
        Phase::Reboot => "looking whether the host must be restarted",
        Phase::Done => "done",
    }
}

/// One line for `palisade status`.
pub(super) fn summary(printer: &Printer, status: &Status) -> String {
    if let Some(run) = &status.running {
        return format!(
            "{}: run {}, {}",
            printer.paint(Tone::Busy, "running"),
            run.id,
            doing(run.phase)
        );
    }
    let stands = match (&status.error, &status.report) {
        (Some(e), _) => printer.paint(Tone::Bad, e),
        (None, None) => printer.paint(Tone::Busy, "not looked yet"),
        (None, Some(report)) => verdict(printer, &report.verdict),
    };
    let due = status.due.map_or_else(String::new, |t| format!(", next run {t}"));
    format!("{stands}, {} waiting{due}", count(status.waiting, "update"))
}

fn verdict(printer: &Printer, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Compliant => printer.paint(Tone::Good, "compliant"),
        Verdict::NonCompliant => printer.paint(Tone::Bad, "not compliant"),
        Verdict::Unknown { why } => {
            format!("{}: {why}", printer.paint(Tone::Bad, "nobody can tell"))
        }
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn print_status(printer: &Printer, status: &Status) {
    printer.line(format_args!("state     {}", summary(printer, status)));
    if let Some(open) = &status.open {
        printer.line(format_args!("window    open until {}", open.end));
    } else if let Some(next) = &status.next {
        printer.line(format_args!("window    opens {} until {}", next.start, next.end));
    }
    if let Some(report) = &status.report {
        for item in report.items.iter().filter(|i| !i.state.is_compliant()) {
            let have = item.installed.as_deref().unwrap_or("-");
            let want = item.available.as_deref().unwrap_or("-");
            printer.line(format_args!("package   {} {have} -> {want}: {}", item.name, item.why));
        }
    }
    match &status.told {
        Told::Off => {}
        Told::UpToDate { at } => printer.line(format_args!("told      SSM has it since {at}")),
        Told::Waiting { error, tries } => {
            let error = error.as_deref().unwrap_or("not told yet");
            let text = format!("{error} ({tries} tries)");
            printer.line(format_args!("told      {}", printer.paint(Tone::Bad, text)));
        }
        Told::Refused { error } => {
            printer.line(format_args!("told      {}", printer.paint(Tone::Bad, error)));
        }
    }
    if let Some(last) = &status.last {
        print_record(printer, last);
    }
}

fn arrow(u: &Update) -> String {
    let worst = match u.cves.is_empty() {
        true => String::new(),
        false => format!(" [{}]", u.cves.join(" ")),
    };
    match &u.from {
        Some(from) => format!("{} {from} -> {}{worst}", u.name, u.to),
        None => format!("{} {} (new){worst}", u.name, u.to),
    }
}

fn print_plan(printer: &Printer, planned: &Planned) {
    let plan = &planned.plan;
    printer.line(format_args!("verdict   {}", verdict(printer, &plan.verdict)));
    for b in &plan.broken {
        printer.line(printer.paint(Tone::Bad, format_args!("repair    {}: {}", b.name, b.what)));
    }
    for u in &plan.updates {
        printer.line(
            printer.paint(Tone::Good, format_args!("install   {} from {}", arrow(u), u.origin)),
        );
    }
    for KeptBack { update, why } in &plan.kept_back {
        printer.line(printer.paint(Tone::Busy, format_args!("keep      {}: {why}", arrow(update))));
    }
    for reason in &plan.reboot.reasons {
        let what = if planned.may_restart { "restart  " } else { "pending  " };
        printer.line(format_args!("{what} the host: {reason}"));
    }
    if plan.is_empty() {
        printer.line("nothing to do");
    }
    match planned.due {
        Some(due) => printer.line(format_args!("due       {due}")),
        None => printer.line("due       never: no window opens"),
    }
}

fn print_record(printer: &Printer, r: &Record) {
    let outcome = match &r.outcome {
        Some(Ended::Done) => printer.paint(Tone::Good, "done"),
        Some(Ended::Partly { .. }) => printer.paint(Tone::Bad, "partly done"),
        Some(Ended::Deferred { why }) => printer.paint(Tone::Busy, format_args!("deferred: {why}")),
        Some(Ended::Failed { why }) => printer.paint(Tone::Bad, format_args!("failed: {why}")),
        None => printer.paint(Tone::Busy, doing(r.phase)),
    };
    let by = if r.by.is_empty() { String::new() } else { format!(" [{}]", r.by) };
    printer.line(format_args!("run       {} {outcome}{by}", r.id));
    for u in &r.installed {
        printer.line(format_args!("          {}", arrow(u)));
    }
    for f in &r.failed {
        let text = format!("{}: {}", arrow(&f.update), f.why);
        printer.line(format_args!("          {}", printer.paint(Tone::Bad, text)));
    }
    for s in &r.services {
        let tone = if s.is_bad() { Tone::Bad } else { Tone::Plain };
        printer.line(format_args!("          {}", printer.paint(tone, s)));
    }
    for c in &r.conffiles {
        printer.line(format_args!("          kept as edited, the new one is {c}"));
    }
    if r.rebooted {
        printer.line("          the host was restarted");
    }
    for note in &r.notes {
        printer.line(format_args!("          {note}"));
    }
}
