//! `cargo xtask bench`: Supervisor and palisade side by side, on the same machine in the same run.

mod access;
pub(crate) mod beacon;
pub(crate) mod chatter;
mod firewall;
mod infra;
mod jobs;
mod logs;
mod measure;
mod peers;
mod report;
pub(crate) mod storm;
pub(crate) mod supervise;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};

use self::{
    measure::Plan,
    peers::{Peer, Tools},
};
use crate::{cargo, process, say, setup};

/// A part that is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Supervision, beside Supervisor, circus, s6 and runit
    Supervise,
    /// A site that is asked all the time, replaced, and its agent upgraded and killed: what failed
    Storm,
    /// bastionctl beside the AWS CLI
    Access,
    /// Changes of address sets beside nft, and packets beside a chain written by hand
    Firewall,
    /// What shipping lines costs, beside rsyslog, and what is lost and doubled when things go wrong
    Logs,
    /// How checking of templates grows with them
    Infra,
    /// Planted faults, and who finds them: public linters and our rules
    Faults,
}

/// What `cargo xtask bench` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// One part alone, and print its figures; without, Supervisor and palisade side by side
    #[arg(value_enum)]
    part: Option<Part>,
    /// How often a program is killed, for each supervisor and number of programs
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Numbers of programs
    #[arg(long, value_delimiter = ',', default_values_t = [1, 50, 300])]
    programs: Vec<usize>,
    /// Seconds over which the CPU at rest is measured
    #[arg(long, default_value_t = 20)]
    idle: u64,
    /// Log lines that are shipped to count lines for each second of CPU
    #[arg(long, default_value_t = 500_000)]
    lines: u32,
    /// Measure this agent binary instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Use this stand-in for CloudWatch instead of building one
    #[arg(long, value_name = "FILE", hide = true)]
    fake: Option<PathBuf>,
    #[command(flatten)]
    supervision: supervise::Supervision,
    /// Requests a second of the storm
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// Requests of the storm on one connection
    #[arg(long, default_value_t = 5)]
    each: u32,
    /// How often the storm replaces, upgrades and kills
    #[arg(long, default_value_t = 50)]
    times: u32,
    /// Only print the figures, and leave docs/benchmarks.md as it is
    #[arg(long)]
    dry: bool,
}

/// Measures, prints and writes down.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if cfg!(debug_assertions) {
        // Loads and programs that are supervised are our own: as fast as what is measured with them.
        return Err(cargo::become_fast()?);
    }
    process::adopt_orphans()?;
    process::at_end(|| {
        process::kill_children();
        1
    })?;
    match options.part {
        None => side_by_side(options),
        Some(Part::Supervise) => supervise::run(&options.supervision, options, palisade(options)?),
        Some(Part::Storm) => {
            let Options { rate, each, times, .. } = *options;
            let strength = storm::Strength { rate, each, blows: times };
            storm::run(&palisade(options)?, strength).map(|()| true)
        }
        Some(Part::Access) => access::run(options.rounds).map(|()| true),
        Some(Part::Firewall) => firewall::run().map(|()| true),
        Some(Part::Logs) => {
            let lines = usize::try_from(options.lines)?;
            logs::run(&palisade(options)?, options.fake.as_deref(), lines)
        }
        Some(Part::Infra) => infra::run().map(|()| true),
        Some(Part::Faults) => faults(),
    }
}

fn palisade(options: &Options) -> Result<PathBuf> {
    cargo::given_or_built(cargo::Profile::Fast, options.binary.as_deref(), "palisade")
}

fn side_by_side(options: &Options) -> Result<bool> {
    ensure!(!options.programs.contains(&0), "a supervisor of 0 programs has nothing to measure");
    let ready = setup::run()?;
    let palisade = palisade(options)?;
    let built = match &options.binary {
        Some(_) => "a binary that was given to the benchmark",
        None => "built here in profile `fast`",
    };
    let tools = Tools { supervisord: ready.venv.join("bin/supervisord"), palisade, circusd: None };
    let plan = Plan { rounds: options.rounds, idle: Duration::from_secs(options.idle) };
    let dir = std::env::temp_dir().join(format!("palisade-bench-{}", std::process::id()));
    let mut all = Vec::new();
    for &programs in &options.programs {
        for peer in Peer::BOTH {
            say::progress(&format!("bench: {} with {programs} programs", peer.name()));
            let measured = measure::figures(peer, &tools, &dir, programs, plan);
            std::fs::remove_dir_all(&dir).ok();
            all.push(measured?);
        }
    }
    let mut lines = Vec::new();
    if options.lines > 0 {
        let fake =
            cargo::given_or_built(cargo::Profile::Fast, options.fake.as_deref(), "fake-aws")?;
        for peer in Peer::BOTH {
            say::progress(&format!("bench: {} with {} log lines", peer.name(), options.lines));
            let measured = chatter::figures(peer, &tools, &fake, &dir, options.lines);
            std::fs::remove_dir_all(&dir).ok();
            lines.push(measured?);
        }
    }
    let about = report::circumstances(&tools, built, options.rounds, options.idle)?;
    let table = report::table(&report::rows(&all, &lines)?);
    say::line(&format!("{about}\n\n{table}"));
    if !options.dry {
        report::write(&format!("{about}\n\n{table}"))?;
    }
    Ok(true)
}

/// The table of docs/infra.md, measured anew.
fn faults() -> Result<bool> {
    setup::infra_tools::run()?;
    let ended = cargo::cargo()
        .args(["test", "--quiet", "--locked", "-p", "palisade-infra-model", "--test", "opinions"])
        .args(["planted", "--", "--nocapture"])
        .show()?;
    Ok(ended.success())
}
