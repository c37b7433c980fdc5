//! `cargo xtask bench supervise`: supervision alone, in one run beside Supervisor, circus and Debian's
//! s6 and runit. Each figure is the median of some runs in which the peers take turns; what is promised
//! of them is said beside them, kept or not.

mod capture;
mod churn;
mod flood;
mod table;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

pub(crate) use self::flood::{FloodArgs, flood, tick};
use super::{
    measure::{self, Plan},
    peers::{Peer, Tools},
};
use crate::{host, say, setup};

/// What `supervise` takes beside the options of every benchmark.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Supervision {
    /// With supervise: restarts of 100 programs that end at once; a slow peer gets a minute
    #[arg(long, default_value_t = 10_000)]
    restarts: usize,
    /// With supervise: how often each figure is taken
    #[arg(long, default_value_t = 3)]
    repeat: u32,
    /// With supervise: seconds for which one program writes 200 MB/s
    #[arg(long, default_value_t = 10)]
    flood: u64,
    /// With supervise: measure these alone
    #[arg(long, value_delimiter = ',', default_values_t = Peer::ALL, value_enum)]
    peer: Vec<Peer>,
    /// With supervise: put the figures here too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One figure of one peer: the median of what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) peer: Peer,
    pub(crate) median: f64,
    pub(crate) all: Vec<f64>,
}

/// What was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// Adds one more measurement.
    fn add(&mut self, what: &str, unit: &'static str, peer: Peer, value: f64) {
        let known = self.0.iter_mut().find(|f| f.what == what && f.peer == peer);
        match known {
            Some(figure) => figure.all.push(value),
            None => {
                let (what, all) = (what.to_owned(), vec![value]);
                self.0.push(Figure { what, unit, peer, median: value, all });
            }
        }
    }

    fn settle(&mut self) {
        for figure in &mut self.0 {
            let mut sorted = figure.all.clone();
            sorted.sort_by(f64::total_cmp);
            figure.median = crate::net::percentile(&sorted, 50);
        }
    }

    fn of(&self, what: &str, peer: Peer) -> Option<f64> {
        self.0.iter().find(|f| f.what == what && f.peer == peer).map(|f| f.median)
    }
}

/// Measures, prints and writes down.
pub(crate) fn run(
    options: &Supervision,
    common: &super::Options,
    palisade: PathBuf,
) -> Result<bool> {
    ensure!(!common.programs.contains(&0), "a supervisor of 0 programs has nothing to measure");
    ensure!(options.repeat > 0, "a median takes one measurement at least");
    let ready = setup::run()?;
    let tools = Tools {
        supervisord: ready.venv.join("bin/supervisord"),
        palisade,
        circusd: setup::bench_peers()?,
    };
    let (here, absent): (Vec<_>, Vec<_>) =
        options.peer.iter().copied().partition(|p| p.is_there(&tools));
    for peer in absent {
        say::line(&format!("skipped: {} is not installed", peer.name()));
    }
    let dir = std::env::temp_dir().join(format!("palisade-bench-{}", std::process::id()));
    let mut figures = Figures::default();
    let mut is_whole = true;
    for round in 1..=options.repeat {
        for &peer in &here {
            say::progress(&format!("bench: {}, round {round}", peer.name()));
            let measured = one_round(peer, &tools, &dir, options, common, &mut figures);
            std::fs::remove_dir_all(&dir).ok();
            // What the others showed took minutes, and stands.
            if let Err(e) = measured {
                is_whole = false;
                say::line(&format!("{}, round {round}: {e:#}", peer.name()));
            }
        }
    }
    figures.settle();
    let text = table::all(&figures, &here, &tools)?;
    say::line(&text);
    if let Some(file) = &options.json {
        let document = serde_json::to_string_pretty(&figures.0).context("write the figures")?;
        host::write(file, document + "\n")?;
    }
    Ok(is_whole)
}

fn one_round(
    peer: Peer,
    tools: &Tools,
    dir: &Path,
    options: &Supervision,
    common: &super::Options,
    figures: &mut Figures,
) -> Result<()> {
    let clean = |name: &str| -> Result<PathBuf> {
        let dir = dir.join(format!("{}-{name}", peer.name()));
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir)
    };
    for &programs in &common.programs {
        let plan = Plan { rounds: common.rounds, idle: Duration::from_secs(common.idle) };
        let found = measure::figures(peer, tools, &clean(&programs.to_string())?, programs, plan)?;
        let mut add = |what: &str, unit, value| {
            figures.add(&format!("{what}, n={programs}"), unit, peer, value);
        };
        if !found.back_ms.is_empty() {
            add(table::BACK, "ms", found.back_median());
            add("restart after kill -9, worst", "ms", found.back_worst());
        }
        add(table::START, "ms", found.started_ms);
        add(table::RSS, "MiB", found.rss_kib / 1024.0);
        add("its own share of memory (PSS)", "MiB", found.pss_kib / 1024.0);
        add(table::IDLE, "%", found.idle_cpu);
    }
    if options.restarts > 0 {
        churn::measure(peer, tools, &clean("churn")?, options.restarts, figures)?;
    }
    if common.lines > 0 {
        for each in [false, true] {
            let dir = clean(if each { "each" } else { "large" })?;
            capture::measure(peer, tools, &dir, common.lines, each, figures)?;
        }
    }
    if options.flood > 0 {
        flood::measure(peer, tools, &clean("flood")?, options.flood, figures)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_of_its_rounds() {
        let mut figures = Figures::default();
        for value in [9.0, 1.0, 4.0] {
            figures.add("x", "ms", Peer::Palisade, value);
        }
        figures.add("x", "ms", Peer::Runit, 7.0);
        figures.settle();
        assert_eq!(figures.of("x", Peer::Palisade), Some(4.0));
        assert_eq!(figures.of("x", Peer::Runit), Some(7.0));
        assert_eq!(figures.of("x", Peer::S6), None);
    }
}
