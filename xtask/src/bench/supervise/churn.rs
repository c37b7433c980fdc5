//! Programs that end as soon as they began: how many restarts a second, what one costs, and what is left
//! behind of them in memory, descriptors and zombies.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Figures, Peer, Tools, table};
use crate::{
    bench::{beacon, jobs::Job, measure::Memory, peers::Running},
    host,
    process::children,
};

/// Programs that restart at the same time.
const PROGRAMS: usize = 100;
/// A peer that is not done by then is measured by what it did.
const CAP: Duration = Duration::from_secs(60);
/// How long the first start of all may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Looks of which the smallest count is taken, as something is always on its way.
const LOOKS: u32 = 10;

pub(super) fn measure(
    peer: Peer,
    tools: &Tools,
    dir: &Path,
    restarts: usize,
    figures: &mut Figures,
) -> Result<()> {
    let record = dir.join("starts");
    let program = host::own_program()?;
    let command = format!("{} __beacon --brief {}", program.display(), record.display());
    let job = Job { copies: PROGRAMS, at_once: true, ..Job::new("brief", command) };
    let running = peer.start_jobs(tools, dir, &[job])?;
    // Everybody has been started twice: what a supervisor makes once for each program is there.
    host::wait_until("two starts of each program", PATIENCE, || {
        let count = beacon::starts(&running.record)?.len();
        ensure!(count >= 2 * PROGRAMS, "{count} starts");
        Ok(())
    })
    .with_context(|| running.output())?;
    let before = Left::behind(&running)?;
    let (from, first) = (host::now(), beacon::starts(&running.record)?.len());
    let cpu = cpu_ticks(&running)?;
    while from.elapsed() < CAP {
        if beacon::starts(&running.record)?.len() >= first + restarts {
            break;
        }
        host::pause(Duration::from_millis(100));
    }
    let seconds = from.elapsed().as_secs_f64();
    let used = cpu_ticks(&running)?.saturating_sub(cpu);
    let done = count(beacon::starts(&running.record)?.len() - first);
    let after = Left::behind(&running)?;
    figures.add(table::CHURN, "1/s", peer, done / seconds);
    figures.add("restarts counted", "", peer, done);
    figures.add(
        "CPU of the supervisor for one restart",
        "ms",
        peer,
        count(used) * 10.0 / done.max(1.0),
    );
    figures.add(table::GROWTH, "MiB", peer, (after.rss_kib - before.rss_kib) / 1024.0);
    figures.add(table::FILES, "", peer, count(after.files) - count(before.files));
    figures.add(table::ZOMBIES, "", peer, count(after.zombies));
    Ok(())
}

/// What a supervisor holds.
struct Left {
    rss_kib: f64,
    files: usize,
    zombies: usize,
}

impl Left {
    fn behind(running: &Running) -> Result<Self> {
        let pid = running.pid()?;
        let (mut files, mut zombies) = (usize::MAX, usize::MAX);
        for _ in 0..LOOKS {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).context("the supervisor is gone")?;
            files = files.min(open.count());
            zombies = zombies.min(children(pid)?.into_iter().filter(|p| is_zombie(*p)).count());
            host::pause(Duration::from_millis(50));
        }
        // Of it alone: what is below it comes and goes.
        Ok(Self { rss_kib: Memory::of(&[pid])?.rss_kib, files, zombies })
    }
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// User and system time of the supervisor's own processes, in hundredths of a second.
fn cpu_ticks(running: &Running) -> Result<usize> {
    let ticks = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        crate::bench::chatter::ticks(&stat).unwrap_or_default()
    };
    let sum: u64 = running.family()?.iter().map(ticks).sum();
    usize::try_from(sum).context("ticks of minutes")
}

#[expect(clippy::cast_precision_loss, reason = "counts of thousands")]
fn count(n: usize) -> f64 {
    n as f64
}
