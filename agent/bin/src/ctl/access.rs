//! Verbs about access.

use std::{io::Read as _, process::ExitCode};

use anyhow::Context as _;
use palisade_agent::{access::Status, clock::Timestamp, config, sys};
use palisade_types::{
    control::Revoke,
    grant::{GrantReply, GrantRow, MAX_REQUEST, Revoked, Source},
};

use super::client::Client;
use crate::{
    cli::{AccessVerb, Place},
    exit::Failed,
    printer::{Printer, Tone},
    ssh_setup,
};

pub(super) async fn run(
    place: &Place,
    client: &Client,
    printer: &Printer,
    verb: AccessVerb,
) -> Result<ExitCode, Failed> {
    match verb {
        AccessVerb::Grant(_) => {
            let mut request = Vec::new();
            // One byte more than there may be, so that the agent refuses what is longer.
            std::io::stdin()
                .take(MAX_REQUEST as u64 + 1)
                .read_to_end(&mut request)
                .context("read the request from standard input")?;
            let reply: GrantReply = client.post_bytes("/access/grants", request.into()).await?;
            printer.line(serde_json::to_string(&reply).context("print as JSON")?);
            Ok(ExitCode::SUCCESS)
        }
        AccessVerb::List(args) => {
            let rows: Vec<GrantRow> = client.get("/access/grants").await?;
            if args.json {
                printer.json(&rows);
            } else {
                print_rows(printer, &rows);
            }
            Ok(ExitCode::SUCCESS)
        }
        AccessVerb::Revoke { id, json } => {
            let id = id.parse().map_err(|e| Failed::Usage(format!("{e}")))?;
            let revoked: Revoked = client.post("/access/revoke", &Revoke { id }).await?;
            if json.json {
                printer.line(serde_json::to_string(&revoked).context("print as JSON")?);
            } else {
                let n = revoked.sessions_ended;
                printer.line(format_args!("{} revoked, {n} logins ended", revoked.id));
            }
            Ok(ExitCode::SUCCESS)
        }
        AccessVerb::Audit { last, verify, json } => audit(place, printer, last, verify, json.json),
        AccessVerb::Setup => ssh_setup::setup(place, printer).await,
        AccessVerb::Remove => ssh_setup::remove(place, printer).await,
    }
}

fn print_rows(printer: &Printer, rows: &[GrantRow]) {
    if rows.is_empty() {
        printer.line("no live grants");
    }
    for r in rows {
        let end = Timestamp::from_secs(r.expires_at);
        let from = match r.source {
            Source::Session => "through SSM".to_owned(),
            Source::Net(net) => format!("from {net}"),
        };
        let target = r.target.as_ref().map(|t| format!(" to {t}")).unwrap_or_default();
        printer.line(format_args!(
            "{}  {} {}{target} {from}, until {end}, {} logins  {}  {}",
            r.id,
            r.user,
            r.only.as_str(),
            r.sessions.len(),
            r.owner,
            r.reason
        ));
        for s in &r.sessions {
            let since = Timestamp::from_secs(s.since);
            printer.line(format_args!("    sshd {} since {since} {}", s.pid, s.session_id));
        }
    }
}

fn audit(
    place: &Place,
    printer: &Printer,
    last: usize,
    verify: bool,
    json: bool,
) -> Result<ExitCode, Failed> {
    let settings = config::load(&place.config)
        .map_err(|mistakes| Failed::Usage(format!("read the configuration: {mistakes}")))?;
    let dir = settings.host.state_dir.join("access");
    let (verdict, lines) = sys::access::read_audit(&dir, last)
        .with_context(|| format!("read the audit log in {}", dir.display()))?;
    if !verify {
        for line in &lines {
            let text = serde_json::to_string(line).context("print as JSON")?;
            printer.line(text);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if json {
        printer.json(&verdict);
    } else if verdict.ok {
        printer.line(format_args!(
            "the audit log is whole: {} lines, number {} to {}, last hash {}",
            verdict.lines, verdict.first, verdict.last, verdict.hash
        ));
    } else {
        for fault in &verdict.faults {
            printer.line(printer.paint(Tone::Bad, fault));
        }
    }
    Ok(if verdict.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// For `palisade status`.
pub(super) fn summary(status: &Status) -> String {
    let logins: usize = status.grants.iter().map(|g| g.sessions.len()).sum();
    let c = status.counts;
    format!(
        "{} live grants, {logins} logins; granted {}, refused {}, logins refused {}",
        status.grants.len(),
        c.granted,
        c.refused,
        c.logins_refused
    )
}
