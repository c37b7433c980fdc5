//! `cargo xtask demo`: the real thing on one machine. Builds a little internet, runs the agent on a
//! host in it, and shows what it promises, each promise as a check that can fail.

mod agent;
mod cloudwatch;
mod feed;
mod gate;
pub(crate) mod lines;
mod look;
mod programs;
pub(crate) mod report;
mod site;
mod upgrade;
pub(crate) mod world;

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use anyhow::Result;

use self::{
    agent::Agent,
    lines::Arrived,
    report::Report,
    site::{Sink, Site},
    world::{Host, World},
};
use crate::{
    cargo::{self, Profile},
    host,
    process::{self, signal},
    say,
    setup::{self, Ready},
};

/// What `cargo xtask demo` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Ship log lines to a CloudWatch-compatible endpoint instead of local files
    #[arg(long)]
    cloudwatch: bool,
    /// Leave everything running afterwards, with a view of its status
    #[arg(long)]
    keep: bool,
    /// Stop demos that are still running, and remove what they left
    #[arg(long)]
    stop: bool,
    /// Show this agent binary instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Use this stand-in for CloudWatch instead of building one
    #[arg(long, value_name = "FILE", hide = true)]
    fake: Option<PathBuf>,
}

/// What the checks work on.
#[derive(Debug)]
struct Stage<'a> {
    world: &'a World,
    site: &'a Site,
    agent: Agent<'a>,
    arrived: Arrived<'a>,
}

/// Exit code when a signal ends us: 130 until the demo is through.
static AT_SIGNAL: AtomicI32 = AtomicI32::new(130);

/// Runs the demo. Whether every check passed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    host::need_root("the demo")?;
    let dir = site::run_dir(&cargo::target_dir()?);
    if options.stop {
        stop_all(&dir);
        return Ok(true);
    }
    let ready = setup::run()?;
    let binary = cargo::given_or_built(Profile::Quick, options.binary.as_deref(), "palisade")?;
    let fake = options
        .cloudwatch
        .then(|| cargo::given_or_built(Profile::Quick, options.fake.as_deref(), "fake-aws"))
        .transpose()?;
    clean_up_at_signals(dir.clone())?;
    let world = World::new(dir)?;
    let mut report = Report::default();
    introduce(&world);
    show(&world, &ready, &binary, fake.as_deref(), options, &mut report)?;
    Ok(report.passed_all())
}

fn show(
    world: &World,
    ready: &Ready,
    binary: &Path,
    fake: Option<&Path>,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let sink = if fake.is_some() { Sink::CloudWatch } else { Sink::Local };
    let site = site::build(world, &ready.venv, sink)?;
    site.start_sshd(world)?;
    let arrived = match fake {
        Some(binary) => {
            cloudwatch::start(world, binary)?;
            Arrived::CloudWatch(world)
        }
        None => Arrived::Files(site.dir.join("state/logs/local")),
    };
    report.part("Before", "The network works, and nothing guards the origin yet.");
    gate::without(world, report);

    report.part("Palisade starts", "One agent runs the site's programs and guards the host.");
    let mut agent = None;
    report.check("the agent starts and answers", || {
        agent = Some(Agent::start(world, &site, sink, binary)?);
        Ok(Vec::new())
    });
    if let Some(agent) = agent {
        let mut stage = Stage { world, site: &site, agent, arrived };
        checks(&mut stage, report);
        if options.keep {
            report.close();
            AT_SIGNAL.store(i32::from(!report.passed_all()), Ordering::Relaxed);
            stay(&stage);
        }
        report.part("The end", "Programs are stopped in order; the guard outlives the agent.");
        gate::rules_stay(&mut stage, report);
        if !report.passed_all() {
            say::line(&format!("\nthe agent's last words:\n{}", stage.agent.log_tail()));
            keep_logs(&site)?;
        }
    }
    report.close();
    Ok(())
}

/// A demo that failed leaves its logs behind, for who wants to know why.
fn keep_logs(site: &Site) -> Result<()> {
    let kept = cargo::target_dir()?.join("demo-failed");
    host::copy_tree(&site.dir.join("logs"), &kept)?;
    say::line(&format!("all logs: {}", kept.display()));
    Ok(())
}

fn checks(stage: &mut Stage<'_>, report: &mut Report) {
    programs::up(stage, report);

    report.part(
        "Who gets in",
        "Port 80 is for CloudFront's published addresses, SSH for the bastion.",
    );
    gate::with(stage, report);

    report.part("A foreign hand", "Another program on the origin deletes every firewall rule.");
    gate::foreign_hand(stage, report);

    report.part("Programs", "Somebody signs the guestbook. Then programs are killed.");
    programs::task(stage, report, "a task goes through Celery");
    programs::killed(stage, report);

    report.part("Upgrade", "The agent's file is replaced, and it goes on as the new program.");
    upgrade::in_place(stage, report);

    report.part("Crash", "The agent dies. Programs, sockets and output pipes live on without it.");
    upgrade::killed(stage, report);

    report.part("A typing error", "Somebody saves a broken configuration and reloads.");
    programs::bad_configuration(stage, report);

    report.part(
        "Logs",
        "Lines were numbered where they were written and are counted where they arrived.",
    );
    upgrade::every_line(stage, report);
    if let Arrived::CloudWatch(world) = stage.arrived {
        cloudwatch::rules(world, report);
    }
}

fn introduce(world: &World) {
    say::line(&say::ink("Palisade demo", say::Ink::Bold));
    say::line("  Four hosts on one machine, each in a network of its own:");
    for (host, what) in [
        (Host::Origin, "runs NGINX, Gunicorn with a Django site, Celery, Redis, sshd"),
        (Host::Edge, "a CloudFront address: may reach port 80"),
        (Host::Bastion, "may reach SSH"),
        (Host::Stranger, "anybody else on the internet"),
    ] {
        say::line(&format!("    {:<9} {:<14} {what}", host.name(), host.address()));
    }
    say::line(&format!(
        "  The origin's firewall reads {} real CloudFront ranges. Files: {}",
        feed::count(),
        world.dir.display()
    ));
}

/// Shows the status until a signal comes.
fn stay(stage: &Stage<'_>) {
    let ns = stage.world.namespace(Host::Edge);
    let binary = stage.site.dir.join("bin/palisade");
    let help = format!(
        "Still running. Try:\n  \
         nsenter --net=/run/netns/{ns} curl http://{}/\n  \
         {} --socket {} status\n\
         To stop: press Ctrl-C here, or run `cargo xtask demo --stop` elsewhere.",
        Host::Origin.address(),
        binary.display(),
        stage.site.socket.display()
    );
    let live = std::io::stdout().is_terminal();
    // It was stopped to count its lines.
    if let Err(e) = stage.agent.cli(&["start", "ticker"]).run() {
        say::progress(&format!("{e:#}"));
    }
    loop {
        let status = match stage.agent.status_text() {
            Ok(said) => said.all(),
            Err(e) => format!("no status: {e:#}\n"),
        };
        if live {
            say::line("\x1b[2J\x1b[H");
        }
        say::line(&format!("{status}\n{help}"));
        loop {
            host::pause(Duration::from_secs(2));
            if live {
                break;
            }
        }
    }
}

/// At a request to end everything goes, then we do.
fn clean_up_at_signals(dir: PathBuf) -> Result<()> {
    let owner = std::process::id();
    process::at_end(move || {
        world::remove(owner, &dir);
        AT_SIGNAL.load(Ordering::Relaxed)
    })
}

fn stop_all(dir: &Path) {
    let owners = world::owners();
    if owners.is_empty() {
        say::line("no demo runs on this machine");
    }
    for owner in owners.into_iter().filter(|owner| world::is_running(*owner)) {
        // It takes everything down by itself.
        let asked = i32::try_from(owner)
            .map_err(anyhow::Error::from)
            .and_then(|pid| signal(pid, nix::sys::signal::Signal::SIGTERM));
        let ended = asked.and_then(|()| {
            host::wait_until("its end", Duration::from_secs(15), || {
                anyhow::ensure!(!world::is_running(owner), "it still runs");
                Ok(())
            })
        });
        match ended {
            Ok(()) => say::line(&format!("stopped the demo of process {owner}")),
            Err(e) => say::line(&format!("the demo of process {owner} was not stopped: {e:#}")),
        }
    }
    world::sweep_dead(dir);
}
