//! The figures as a table, on the terminal and in `docs/benchmarks.md` between two marks.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{
    chatter,
    measure::Figures,
    peers::{Peer, Tools},
};
use crate::{cmd::Cmd, host};

const FILE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- bench: written by `cargo xtask bench` -->";
const END: &str = "<!-- bench: end -->";

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    what: String,
    peer: String,
    ours: String,
    ratio: String,
}

/// The machine, the versions, the day.
pub(crate) fn circumstances(
    tools: &Tools,
    built: &str,
    rounds: u32,
    idle_seconds: u64,
) -> Result<String> {
    let cpu = host::read(Path::new("/proc/cpuinfo"))?;
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let cores = cpu.lines().filter(|l| l.starts_with("processor")).count();
    let kernel = host::read(Path::new("/proc/sys/kernel/osrelease"))?;
    let load = host::read(Path::new("/proc/loadavg"))?;
    let day = Cmd::new("date").args(["-u", "+%F"]).run()?;
    Ok(format!(
        "Measured {} on {} CPUs ({}), Linux {}, load average {} at the end; supervisord {}, palisade \
         {} ({built}), one after the other in the same run. Programs are beacons that write \
         down CLOCK_MONOTONIC when their `main` begins; their output goes to no file and no log. \
         Restart: `kill -9`, {rounds} rounds, to the successor's `main`. Memory and CPU: the \
         supervisor's own process, at rest, CPU over {idle_seconds} s by the scheduler's count. Wall \
         times hang on the machine and its load: the ratios are what counts.",
        day.trim(),
        cores,
        model.map_or("unknown", |(_, m)| m),
        kernel.trim(),
        load.split(' ').next().unwrap_or("?"),
        Peer::Supervisord.version(tools)?,
        Peer::Palisade.version(tools)?,
    ))
}

/// Supervisor's figure, ours, and how many times ours goes into it.
pub(crate) fn rows(all: &[Figures], lines: &[chatter::Figures]) -> Result<Vec<Row>> {
    let of = |peer: Peer, programs: usize| {
        all.iter()
            .find(|f| f.peer == peer && f.programs == programs)
            .with_context(|| format!("{} with {programs} programs was not measured", peer.name()))
    };
    let mut sizes: Vec<_> = all.iter().map(|f| f.programs).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut rows = Vec::new();
    let mut add = |what: String, unit: &str, digits: usize, peer: f64, ours: f64| {
        let shown = |v: f64| format!("{v:.digits$} {unit}");
        let ratio = if ours > 0.0 { format!("{:.1}", peer / ours) } else { "-".to_owned() };
        rows.push(Row { what, peer: shown(peer), ours: shown(ours), ratio });
    };
    for n in sizes {
        let (s, p) = (of(Peer::Supervisord, n)?, of(Peer::Palisade, n)?);
        let programs = if n == 1 { "1 program".to_owned() } else { format!("{n} programs") };
        if !s.back_ms.is_empty() {
            let name = format!("restart after kill -9, median, {programs}");
            add(name, "ms", 1, s.back_median(), p.back_median());
            let name = format!("restart after kill -9, worst, {programs}");
            add(name, "ms", 1, s.back_worst(), p.back_worst());
        }
        add(format!("start of {programs}"), "ms", 0, s.started_ms, p.started_ms);
        add(format!("resident memory, {programs}"), "KiB", 0, s.rss_kib, p.rss_kib);
        add(format!("its own share of memory (PSS), {programs}"), "KiB", 0, s.pss_kib, p.pss_kib);
        add(format!("CPU at rest, {programs}"), "%", 3, s.idle_cpu, p.idle_cpu);
    }
    if let [s, p] = lines {
        ensure!(s.peer == Peer::Supervisord && p.peer == Peer::Palisade, "peers are mixed up");
        let (peer, ours) = (s.lines_per_cpu_second(), p.lines_per_cpu_second());
        rows.push(Row {
            what:
                "log lines of 100 bytes for each CPU second of the supervisor (supervisord: into \
                   a file; palisade: spooled, compressed, signed, acknowledged by the CloudWatch \
                   stand-in)"
                    .to_owned(),
            peer: format!("{peer:.0}"),
            ours: format!("{ours:.0}"),
            ratio: format!("{:.2} as many", ours / peer),
        });
    }
    Ok(rows)
}

/// The table in Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = "| | supervisord | palisade | times |\n|---|--:|--:|--:|\n".to_owned();
    for Row { what, peer, ours, ratio } in rows {
        text += &format!("| {what} | {peer} | {ours} | {ratio} |\n");
    }
    text
}

/// Puts the text between the marks of the file; both are added where they are missing.
pub(crate) fn write(text: &str) -> Result<()> {
    let path = host::workspace().join(FILE);
    let old = if path.exists() { host::read(&path)? } else { "# Benchmarks\n".to_owned() };
    host::write(&path, between_marks(&old, text))
}

fn between_marks(old: &str, text: &str) -> String {
    let (before, after) = match old.split_once(BEGIN) {
        Some((before, rest)) => (before, rest.split_once(END).map_or("", |(_, after)| after)),
        None => (old, "\n"),
    };
    let gap = if old.contains(BEGIN) { "" } else { "\n" };
    format!("{before}{gap}{BEGIN}\n\n{text}\n{END}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(peer: Peer, back: f64) -> Figures {
        Figures {
            peer,
            programs: 1,
            started_ms: 10.0,
            rss_kib: 100.0,
            pss_kib: 50.0,
            idle_cpu: 0.0,
            back_ms: vec![back, back],
        }
    }

    #[test]
    fn ratios_are_the_peers_figure_over_ours() {
        let all = [figures(Peer::Supervisord, 1_040.0), figures(Peer::Palisade, 5.2)];
        let rows = rows(&all, &[]).unwrap();
        assert_eq!(rows[0].ratio, "200.0");
        assert_eq!(rows.last().unwrap().ratio, "-");
        assert!(table(&rows).contains("| 1040.0 ms | 5.2 ms | 200.0 |"));
    }

    #[test]
    fn a_figure_without_its_peer_is_an_error() {
        assert!(rows(&[figures(Peer::Palisade, 5.0)], &[]).is_err());
    }

    #[test]
    fn new_figures_take_the_place_of_old_ones() {
        let first = between_marks("# Benchmarks\n", "one");
        assert_eq!(first, format!("# Benchmarks\n\n{BEGIN}\n\none\n{END}\n"));
        let second = between_marks(&format!("{first}\nwords\n"), "two");
        assert_eq!(second, format!("# Benchmarks\n\n{BEGIN}\n\ntwo\n{END}\n\nwords\n"));
    }
}
