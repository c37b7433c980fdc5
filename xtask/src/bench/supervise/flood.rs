//! One program that writes 200 MB/s beside one that says the time a hundred times a second: how late the
//! time arrives in its log, how much of the flood is taken, and what that costs in memory.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Figures, Peer, Tools, table};
use crate::{
    bench::{
        beacon::clock,
        jobs::{Job, Log, log_file},
        measure::Memory,
        peers::Running,
    },
    host,
    net::percentile,
};

/// Bytes that are written each [`STEP`]: 200 MB/s.
const CHUNK: usize = 2_000_000;
const STEP: Duration = Duration::from_millis(10);
/// Between two times said.
const TICK: Duration = Duration::from_millis(10);
/// Between two looks at the memory, which cost a little.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long is listened before the flood, to compare.
const CALM: Duration = Duration::from_secs(3);

/// What `__flood` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FloodArgs {
    /// Begin once this file is there.
    after: PathBuf,
    /// End after so many seconds, and write here how many bytes were taken.
    report: PathBuf,
    seconds: u64,
}

/// The program that floods. It writes no faster than 200 MB/s, and slower where it is not read faster.
pub(crate) fn flood(args: &FloodArgs) -> Result<()> {
    host::wait_until("the word to begin", Duration::from_secs(300), || {
        ensure!(args.after.exists(), "it is not there");
        Ok(())
    })?;
    let line = [b"x".repeat(99), b"\n".to_vec()].concat();
    let chunk = line.repeat(CHUNK / line.len());
    let mut out = std::io::stdout().lock();
    let (from, mut bytes) = (host::now(), 0_u64);
    let mut next = from;
    while from.elapsed().as_secs() < args.seconds {
        out.write_all(&chunk).context("write the flood")?;
        bytes += chunk.len() as u64;
        // What was missed while nobody read is not made up for.
        next = (next + STEP).max(host::now());
        host::pause(next.saturating_duration_since(host::now()));
    }
    host::write(&args.report, bytes.to_string())?;
    loop {
        host::pause(Duration::from_secs(3_600));
    }
}

/// The program that says the time.
pub(crate) fn tick() -> Result<()> {
    let mut out = std::io::stdout().lock();
    loop {
        writeln!(out, "{}", clock()?).context("say the time")?;
        host::pause(TICK);
    }
}

pub(super) fn measure(
    peer: Peer,
    tools: &Tools,
    dir: &Path,
    seconds: u64,
    figures: &mut Figures,
) -> Result<()> {
    let program = host::own_program()?.display().to_string();
    let (word, report) = (dir.join("go"), dir.join("taken"));
    let command = format!("{program} __flood {} {} {seconds}", word.display(), report.display());
    let jobs = [
        Job { log: Log::Rotated, ..Job::new("flood", command) },
        Job { log: Log::File, ..Job::new("ticker", format!("{program} __tick")) },
    ];
    let running = peer.start_jobs(tools, dir, &jobs)?;
    let log = log_file(peer, dir, "ticker");
    host::wait_until("the first time said", PATIENCE, || {
        let there = std::fs::metadata(&log).map_or(0, |m| m.len());
        ensure!(there > 0, "nothing is in {}", log.display());
        Ok(())
    })
    .with_context(|| running.output())?;
    let mut reader = Reader { file: File::open(&log).context("open the log")?, rest: Vec::new() };
    let calm = listen(&running, &mut reader, host::now() + CALM)?;
    host::write(&word, "")?;
    let stormy = listen(&running, &mut reader, host::now() + Duration::from_secs(seconds))?;
    let taken: f64 = host::wait_until("the flood's end", PATIENCE, || {
        host::read(&report)?.trim().parse().context("it is not written yet")
    })?;
    #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
    let rate = taken / 1e6 / seconds as f64;
    figures.add("taken of 200 MB/s", "MB/s", peer, rate);
    figures.add(
        "another's line late before the flood, 99 of 100",
        "ms",
        peer,
        percentile(&calm.late, 99),
    );
    figures.add(table::LATE, "ms", peer, percentile(&stormy.late, 99));
    figures.add(
        "another's line late in the flood, worst",
        "ms",
        peer,
        percentile(&stormy.late, 100),
    );
    figures.add(table::FLOODED, "MiB", peer, (stormy.most_kib - calm.most_kib) / 1024.0);
    Ok(())
}

/// What was heard.
struct Heard {
    /// From each time said to its being in the log, in milliseconds, sorted.
    late: Vec<f64>,
    /// The most that the supervisor held.
    most_kib: f64,
}

fn listen(running: &Running, reader: &mut Reader, until: Instant) -> Result<Heard> {
    let (mut late, mut most_kib, mut look) = (Vec::new(), 0.0_f64, host::now());
    // What was said before does not count.
    reader.times()?;
    while host::now() < until {
        let times = reader.times()?;
        let now = clock()?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of seconds")]
        late.extend(times.into_iter().map(|at| now.saturating_sub(at) as f64 / 1e6));
        if host::now() >= look {
            look = host::now() + LOOK_EVERY;
            most_kib = most_kib.max(Memory::of(&running.family()?)?.rss_kib);
        }
        host::pause(Duration::from_millis(1));
    }
    ensure!(!late.is_empty(), "no line of the other program arrived");
    late.sort_by(f64::total_cmp);
    Ok(Heard { late, most_kib })
}

/// Reads what is added to a log.
struct Reader {
    file: File,
    rest: Vec<u8>,
}

impl Reader {
    /// The times in the lines that are new and whole.
    fn times(&mut self) -> Result<Vec<u64>> {
        self.file.read_to_end(&mut self.rest).context("read the log")?;
        let end = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        Ok(String::from_utf8_lossy(&whole).lines().filter_map(|l| l.parse().ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_read_and_each_once() {
        let path = std::env::temp_dir().join(format!("palisade-ticks-{}", std::process::id()));
        let mut out = File::create(&path).unwrap();
        let mut reader = Reader { file: File::open(&path).unwrap(), rest: Vec::new() };
        out.write_all(b"1\n2\n3").unwrap();
        assert_eq!(reader.times().unwrap(), [1, 2]);
        out.write_all(b"4\n").unwrap();
        assert_eq!(reader.times().unwrap(), [34]);
        assert!(reader.times().unwrap().is_empty());
        std::fs::remove_file(path).unwrap();
    }
}
