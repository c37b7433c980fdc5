//! `palisade doctor`: what this host lacks for what the configuration wants, and what to do about it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use palisade_agent::{
    config::{self, Settings},
    control::Overview,
    doctor::{Asked, Finding, Level, Wanted, findings},
    errors::Chain,
    origin::{self, SiteFault},
    supervise,
    sys::{
        children::Children,
        doctor::{self, Look},
        nginx::LocalNginx,
    },
};
use palisade_agent_aws::{self as aws, HostIdentity};
use tokio::time;

use crate::{
    cli::{JsonArgs, Place},
    ctl,
    exit::Failed,
    printer::{Printer, Tone},
    ssh_setup, wiring,
};

/// How long credentials are looked for: the metadata service may be far or not there.
const AWS_WITHIN: Duration = Duration::from_secs(10);

/// Looks, prints what was found, and fails if something that is wanted does not work.
pub(crate) fn run(place: &Place, json: JsonArgs, printer: &Printer) -> Result<ExitCode, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let found = runtime.block_on(look(place));
    if json.json {
        printer.json(&found);
    } else {
        found.iter().for_each(|f| print(printer, f));
    }
    let is_bad = found.iter().any(|f| f.level == Level::Bad);
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn look(place: &Place) -> Vec<Finding> {
    let loaded = config::load(&place.config);
    let settings = loaded.as_ref().ok();
    let usual = supervise::Settings {
        run_dir: "/run/palisade".into(),
        log_dir: "/var/lib/palisade/programs".into(),
        cgroup: supervise::Cgroup::Auto,
        processes: Vec::new(),
    };
    let access = settings.and_then(|s| s.access.as_ref());
    let users: Vec<String> =
        access.into_iter().flat_map(|a| a.users.keys()).map(ToString::to_string).collect();
    let state_dir = settings.map_or(Path::new("/var/lib/palisade"), |s| &s.host.state_dir);
    let at = Look {
        agent: agent(place).await,
        supervise: settings.map_or(&usual, |s| &s.supervise),
        state_dir,
        sshd: &ssh_setup::sshd_of(access),
        users: &users,
    };
    let mut facts = doctor::look(&Children::default(), &at).await;
    if let Err(mistakes) = &loaded {
        let all = mistakes.all();
        let first = all.first().map(ToString::to_string).unwrap_or_default();
        let more = all.len().saturating_sub(1);
        facts.mistakes =
            Some(if more == 0 { first } else { format!("{first}, and {more} more mistakes") });
    }
    if let Some(guard) = settings.and_then(|s| s.origin.as_ref()) {
        facts.origin = Some(site(guard).await);
    }
    if let Some(aws) = settings.and_then(|s| s.aws.as_ref()) {
        facts.credentials = Some(credentials(aws, state_dir).await);
    }
    findings(&facts, &settings.map(wanted).unwrap_or_default())
}

/// The agent's process, if one answers.
async fn agent(place: &Place) -> Option<i32> {
    let overview: Overview = ctl::overview(place).await.ok()?;
    i32::try_from(overview.agent.pid).ok()
}

async fn credentials(settings: &config::Aws, state_dir: &Path) -> Asked {
    let host = HostIdentity::kept_in(state_dir);
    let loading = aws::Clients::load(wiring::region(settings), &host);
    match time::timeout(AWS_WITHIN, loading).await {
        Ok(Ok(_)) => Asked::Yes("there are credentials and a region".to_owned()),
        Ok(Err(e)) => Asked::No(format!("{}; {}", Chain(&e), e.hint())),
        Err(_) => Asked::No(format!("no answer within {} s", AWS_WITHIN.as_secs())),
    }
}

/// How nginx's configuration uses the guard: each fault, and what to do.
async fn site(guard: &origin::Settings) -> Vec<(String, String)> {
    let dir = guard.nginx.map.parent().unwrap_or(Path::new("/")).display().to_string();
    let mut found = Vec::new();
    if let Some(why) = map_fault(guard) {
        found.push(why);
    }
    let nginx = LocalNginx::new(Children::default(), &guard.nginx, &guard.state_dir);
    match nginx.printed().await {
        Ok(text) => {
            found.extend(origin::faults(&text, guard).iter().map(|f| site_fault(f, &dir)));
        }
        Err(e) => {
            let hint = "run this as root; nginx -t says more";
            found.push((
                format!("its configuration cannot be looked at: {}", Chain(&e)),
                hint.to_owned(),
            ));
        }
    }
    found
}

/// The map must be there, and for nginx and us alone.
fn map_fault(guard: &origin::Settings) -> Option<(String, String)> {
    let map = &guard.nginx.map;
    match fs::metadata(map) {
        Ok(meta) if meta.permissions().mode() & 0o007 != 0 => Some((
            format!("everybody may use {}, which has the secrets", map.display()),
            format!("chmod o= {}, and change the secret", map.display()),
        )),
        Ok(_) => None,
        Err(e) => Some((
            format!("{}: {e}", map.display()),
            "start the agent, which makes it, before nginx includes it".to_owned(),
        )),
    }
}

fn site_fault(fault: &SiteFault, dir: &str) -> (String, String) {
    match fault {
        SiteFault::NotIncluded => (
            "nginx does not ask for the secret at all".to_owned(),
            format!(
                "in http {{ }}: include {dir}/http.conf; in each server {{ }}: include {dir}/server.conf;"
            ),
        ),
        SiteFault::Unguarded(place) => (
            format!("the server at {place} answers requests without the secret"),
            format!("include {dir}/server.conf; in it, first"),
        ),
        SiteFault::Leaks(place) => (
            format!("the application behind {place} is sent the secret"),
            format!(
                "include {dir}/strip-proxy.conf (or strip-fastcgi.conf, strip-uwsgi.conf) beside that block's own lines"
            ),
        ),
        SiteFault::Uses(place) => (
            format!("the secret is used at {place}"),
            "take it out: a log or a header that has it tells it to others".to_owned(),
        ),
        SiteFault::Debugs(place) => (
            format!("the error log of debugging at {place} writes the secret"),
            "take the word debug out of it".to_owned(),
        ),
    }
}

fn wanted(settings: &Settings) -> Wanted {
    let processes = &settings.supervise.processes;
    let mut limited: Vec<(String, BTreeSet<&'static str>)> = Vec::new();
    for p in processes {
        let limits = [
            ("memory", p.limits.memory.is_some()),
            ("cpu", p.limits.cpu_percent.is_some()),
            ("pids", p.limits.pids.is_some()),
        ];
        let needs: BTreeSet<_> =
            limits.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
        let entry = (p.program.to_string(), needs);
        if !entry.1.is_empty() && !limited.contains(&entry) {
            limited.push(entry);
        }
    }
    let is_nginx = |p: &supervise::ProcessSpec| {
        p.argv.first().is_some_and(|c| PathBuf::from(c).ends_with("nginx"))
    };
    Wanted {
        firewall: settings.firewall.is_some(),
        access: settings.access.is_some(),
        aws: settings.aws.is_some(),
        no_cgroups: settings.supervise.cgroup == supervise::Cgroup::Off,
        limited,
        other_users: processes.iter().any(|p| p.user.is_some()),
        nginx: processes.iter().any(is_nginx),
        origin: settings.origin.is_some(),
    }
}

fn print(printer: &Printer, f: &Finding) {
    let (tone, word) = match f.level {
        Level::Good => (Tone::Good, "ok  "),
        Level::Note => (Tone::Busy, "note"),
        Level::Bad => (Tone::Bad, "BAD "),
    };
    printer.line(format_args!("{} {:9} {}", printer.paint(tone, word), f.area, f.what));
    if let Some(hint) = &f.hint {
        printer.line(format_args!("               {hint}"));
    }
}
