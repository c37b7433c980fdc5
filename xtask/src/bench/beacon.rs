//! The program that both supervisors run: it writes down when its `main` began, and waits. One line
//! of `PID NANOSECONDS` (CLOCK_MONOTONIC) for each start, appended to one file by all copies.

use std::{fs::File, io::Write as _, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

use crate::host;

/// One start of a beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) pid: i32,
    /// When its `main` began.
    pub(crate) at: u64,
}

/// The clock of all figures, in nanoseconds.
pub(crate) fn clock() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("read the clock")?;
    let (s, ns) = (u64::try_from(now.tv_sec())?, u64::try_from(now.tv_nsec())?);
    Ok(s * 1_000_000_000 + ns)
}

/// The beacon's whole life, which is over at once if it is `brief`. `at` was read first thing in `main`.
pub(crate) fn shine(at: u64, file: &Path, brief: bool) -> Result<()> {
    let line = format!("{} {at}\n", std::process::id());
    let mut file =
        File::options().create(true).append(true).open(file).context("open the record")?;
    file.write_all(line.as_bytes()).context("write the record")?;
    if brief {
        return Ok(());
    }
    loop {
        host::pause(Duration::from_secs(3_600));
    }
}

/// Everything that was written down so far.
pub(crate) fn starts(file: &Path) -> Result<Vec<Start>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    Ok(read(&host::read(file)?))
}

fn read(text: &str) -> Vec<Start> {
    // A line without its end is still being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter_map(|line| {
            let (pid, at) = line.split_once(' ')?;
            Some(Start { pid: pid.parse().ok()?, at: at.parse().ok()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_half_written_does_not_count() {
        assert_eq!(read("7 100\n8 2"), [Start { pid: 7, at: 100 }]);
        assert_eq!(read("7"), []);
    }

    #[test]
    fn the_clock_goes_forward() {
        let first = clock().unwrap();
        assert!(clock().unwrap() >= first && first > 0);
    }
}
