//! The figures: how fast a killed program is back, what supervisors weigh, what they do when there is
//! nothing to do, how fast they start many programs.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::{
    beacon::{self, Start},
    peers::{Peer, Running, Tools},
};
use crate::{host, net::percentile, process::signal};

/// How long a program may take to come back, or all of them to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured of one supervisor with so many programs.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) peer: Peer,
    pub(crate) programs: usize,
    /// From its start to the `main` of its last program.
    pub(crate) started_ms: f64,
    pub(crate) rss_kib: f64,
    pub(crate) pss_kib: f64,
    /// Of one CPU, in per cent.
    pub(crate) idle_cpu: f64,
    /// From `kill -9` to the successor's `main`, sorted.
    pub(crate) back_ms: Vec<f64>,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) idle: Duration,
}

/// Starts the supervisor with so many programs and measures everything.
pub(crate) fn figures(
    peer: Peer,
    tools: &Tools,
    dir: &Path,
    programs: usize,
    plan: Plan,
) -> Result<Figures> {
    let running = peer.start(tools, dir, programs)?;
    let starts = host::wait_until(&format!("start of {programs} programs"), PATIENCE, || {
        let starts = beacon::starts(&running.record)?;
        ensure!(starts.len() >= programs, "{} have started", starts.len());
        Ok(starts)
    })
    .with_context(|| running.output())?;
    let last = starts.iter().map(|s| s.at).max().unwrap_or_default();
    // Past `startsecs`, after which a supervisor that polls has nothing left to do.
    host::pause(Duration::from_secs(3));
    let family = running.family()?;
    let idle_cpu = idle_cpu(&family, plan.idle)?;
    let memory = Memory::of(&family)?;
    let mut back_ms = Vec::new();
    for round in 0..plan.rounds {
        back_ms.push(kill_one(&running, round)?);
    }
    back_ms.sort_by(f64::total_cmp);
    Ok(Figures {
        peer,
        programs,
        started_ms: ms(last.saturating_sub(running.at)),
        rss_kib: memory.rss_kib,
        pss_kib: memory.pss_kib,
        idle_cpu,
        back_ms,
    })
}

impl Figures {
    pub(crate) fn back_median(&self) -> f64 {
        percentile(&self.back_ms, 50)
    }

    pub(crate) fn back_worst(&self) -> f64 {
        percentile(&self.back_ms, 100)
    }
}

/// Kills the program that started last and waits for its successor.
fn kill_one(running: &Running, round: u32) -> Result<f64> {
    // Past `startsecs`, and at another point of the peer's one-second poll in each round.
    host::pause(Duration::from_millis(u64::from(1_500 + round * 137 % 1_000)));
    let before = beacon::starts(&running.record)?;
    let victim = before.last().context("no program has started")?.pid;
    let at = beacon::clock()?;
    signal(victim, Signal::SIGKILL)?;
    let successor: Start = host::wait_until("the killed program's successor", PATIENCE, || {
        beacon::starts(&running.record)?.get(before.len()).copied().context("none has started")
    })?;
    Ok(ms(successor.at.saturating_sub(at)))
}

/// What some processes hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Pages that two of them share count in each.
    pub(crate) rss_kib: f64,
    /// Such pages count once.
    pub(crate) pss_kib: f64,
}

impl Memory {
    pub(crate) fn of(family: &[i32]) -> Result<Self> {
        let mut sum = Self::default();
        for pid in family {
            let text = host::read(Path::new(&format!("/proc/{pid}/smaps_rollup")))?;
            sum.rss_kib += kib(&text, "Rss:")?;
            sum.pss_kib += kib(&text, "Pss:")?;
        }
        Ok(sum)
    }
}

/// How long the living threads of some processes ran so far.
pub(crate) fn all_ran_for(family: &[i32]) -> Result<Duration> {
    family.iter().map(|pid| ran_for(*pid)).sum()
}

fn idle_cpu(family: &[i32], span: Duration) -> Result<f64> {
    let (from, before) = (host::now(), all_ran_for(family)?);
    host::pause(span);
    let used = all_ran_for(family)?.saturating_sub(before);
    Ok(used.as_secs_f64() / from.elapsed().as_secs_f64() * 100.0)
}

/// How long a process's living threads ran so far, in nanoseconds and not in ticks.
pub(crate) fn ran_for(pid: i32) -> Result<Duration> {
    let mut all = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the supervisor is gone")? {
        // A thread that ended while we look takes its time with it.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        all += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(all))
}

fn kib(smaps: &str, key: &str) -> Result<f64> {
    smaps
        .lines()
        .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse().ok())
        .with_context(|| format!("the kernel does not tell {key}"))
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of minutes, to print")]
fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        let text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:    2104 kB\nPss:     650 kB\n";
        assert_eq!((kib(text, "Rss:").unwrap(), kib(text, "Pss:").unwrap()), (2104.0, 650.0));
        assert!(kib(text, "Swap:").is_err());
    }

    #[test]
    fn work_takes_time() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let before = ran_for(pid).unwrap();
        let end = host::now() + Duration::from_millis(30);
        while host::now() < end {
            std::hint::spin_loop();
        }
        assert!(ran_for(pid).unwrap() > before);
    }
}
