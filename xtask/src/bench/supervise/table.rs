//! The figures as a table, and what is promised of them.

use std::path::Path;

use anyhow::Result;

use super::{Figures, Peer, Tools};
use crate::{cmd::Cmd, host};

pub(super) const BACK: &str = "restart after kill -9, median";
pub(super) const START: &str = "start of all";
pub(super) const RSS: &str = "resident memory";
pub(super) const IDLE: &str = "CPU at rest";
pub(super) const CHURN: &str = "restarts a second over 100 programs";
pub(super) const GROWTH: &str = "memory grown over the restarts";
pub(super) const FILES: &str = "files more open after the restarts";
pub(super) const ZOMBIES: &str = "zombies that stay";
pub(super) const CAPTURE: &str = "lines for each CPU second, large writes";
pub(super) const CAPTURE_EACH: &str = "lines for each CPU second, a write for each";
pub(super) const LATE: &str = "another's line late in the flood, 99 of 100";
pub(super) const FLOODED: &str = "memory grown in the flood";

/// Everything that is printed.
pub(super) fn all(figures: &Figures, peers: &[Peer], tools: &Tools) -> Result<String> {
    Ok(format!("{}\n\n{}\n{}", about(peers, tools)?, table(figures, peers), promises(figures)))
}

fn about(peers: &[Peer], tools: &Tools) -> Result<String> {
    let cpu = host::read(Path::new("/proc/cpuinfo"))?;
    let cores = cpu.lines().filter(|l| l.starts_with("processor")).count();
    let load = host::read(Path::new("/proc/loadavg"))?;
    let day = Cmd::new("date").args(["-u", "+%F"]).run()?;
    let mut versions = Vec::new();
    for peer in peers {
        versions.push(format!("{} {}", peer.name(), peer.version(tools)?));
    }
    Ok(format!(
        "Measured {} on {cores} CPUs, load average {} at the end; {}. The peers take turns in one run; \
         each figure is the median of its rounds. Memory and CPU are of the supervisor and all its \
         helpers and loggers. Late is from a program's write to the line being seen in its log by a \
         reader that looks each millisecond.",
        day.trim(),
        load.split(' ').next().unwrap_or("?"),
        versions.join(", "),
    ))
}

fn table(figures: &Figures, peers: &[Peer]) -> String {
    let names: Vec<_> = peers.iter().map(|p| p.name()).collect();
    let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), "--:|".repeat(peers.len()));
    let mut done: Vec<&str> = Vec::new();
    for figure in &figures.0 {
        if done.contains(&figure.what.as_str()) {
            continue;
        }
        done.push(&figure.what);
        let cells: Vec<_> = peers
            .iter()
            .map(|p| figures.of(&figure.what, *p).map_or("-".to_owned(), |v| shown(v, figure.unit)))
            .collect();
        text += &format!("| {} | {} |\n", figure.what, cells.join(" | "));
    }
    text
}

fn shown(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => 0,
        v if v >= 1.0 => 1,
        _ => 3,
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

/// Each promise with the figures that keep it or break it. One whose peer was not measured is left out.
fn promises(figures: &Figures) -> String {
    use Peer::{Palisade, Runit, Supervisord};
    let mut text = String::new();
    let mut say = |what: &str, bar: &str, found: Option<(f64, bool)>| {
        if let Some((value, kept)) = found {
            let word = if kept { "kept" } else { "MISSED" };
            text += &format!("{word:6} {what}: {value:.2} ({bar})\n");
        }
    };
    // How many times the second goes into the first.
    let times = |what: &str, a: Peer, b: Peer| {
        let (a, b) = (figures.of(what, a)?, figures.of(what, b)?);
        (b > 0.0).then_some(a / b)
    };
    let ours = |what: &str| figures.of(what, Palisade);
    let most = |found: Option<f64>, bar: f64| found.map(|v| (v, v <= bar));
    let least = |found: Option<f64>, bar: f64| found.map(|v| (v, v >= bar));
    for n in sizes(figures) {
        let back = format!("{BACK}, n={n}");
        say(&back, "at most 2 times runit's", most(times(&back, Palisade, Runit), 2.0));
        say(
            &back,
            "Supervisor's at least 50 times",
            least(times(&back, Supervisord, Palisade), 50.0),
        );
    }
    let start = format!("{START}, n=300");
    say(&start, "Supervisor's at least 4 times", least(times(&start, Supervisord, Palisade), 4.0));
    let rss = format!("{RSS}, n=300");
    say(&rss, "at most Supervisor's", most(times(&rss, Palisade, Supervisord), 1.0));
    let idle = format!("{IDLE}, n=300");
    say(&idle, "under 0.1 %", most(ours(&idle), 0.1));
    say(CHURN, "at least 20 times Supervisor's", least(times(CHURN, Palisade, Supervisord), 20.0));
    say(GROWTH, "at most 2 MiB", most(ours(GROWTH), 2.0));
    say(FILES, "at most 2", most(ours(FILES), 2.0));
    say(ZOMBIES, "none", most(ours(ZOMBIES), 0.0));
    for what in [CAPTURE, CAPTURE_EACH] {
        say(what, "at least Supervisor's", least(times(what, Palisade, Supervisord), 1.0));
    }
    say(LATE, "at most 100 ms", most(ours(LATE), 100.0));
    say(FLOODED, "at most 4 MiB", most(ours(FLOODED), 4.0));
    text
}

/// The numbers of programs that were measured.
fn sizes(figures: &Figures) -> Vec<String> {
    let mark = format!("{BACK}, n=");
    let mut sizes: Vec<_> =
        figures.0.iter().filter_map(|f| f.what.strip_prefix(&mark).map(str::to_owned)).collect();
    sizes.dedup();
    sizes.sort();
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut figures = Figures::default();
        for (peer, back, rss) in [
            (Peer::Supervisord, 1000.0, 25.0),
            (Peer::Runit, 8.0, 300.0),
            (Peer::Palisade, 10.0, 26.0),
        ] {
            figures.add("restart after kill -9, median, n=300", "ms", peer, back);
            figures.add("resident memory, n=300", "MiB", peer, rss);
        }
        figures.add("zombies that stay", "", Peer::Palisade, 0.0);
        figures.settle();
        figures
    }

    #[test]
    fn promises_are_kept_or_missed_by_the_figures() {
        let text = promises(&figures());
        assert!(
            text.contains("kept   restart after kill -9, median, n=300: 1.25 (at most 2"),
            "{text}"
        );
        assert!(
            text.contains("kept   restart after kill -9, median, n=300: 100.00 (Sup"),
            "{text}"
        );
        assert!(text.contains("MISSED resident memory, n=300: 1.04"), "{text}");
        assert!(text.contains("kept   zombies that stay: 0.00"), "{text}");
        assert!(!text.contains("start of all"), "not measured: {text}");
    }

    #[test]
    fn a_peer_that_was_not_measured_has_a_dash() {
        let text = table(&figures(), &[Peer::Runit, Peer::S6, Peer::Palisade]);
        assert!(text.starts_with("| | runit | s6 | palisade |\n|---|--:|--:|--:|\n"), "{text}");
        assert!(
            text.contains("| restart after kill -9, median, n=300 | 8 ms | - | 10 ms |"),
            "{text}"
        );
    }
}
