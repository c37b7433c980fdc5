//! Lines into a file for each second of CPU that the supervisor spends, its loggers included.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Figures, Peer, Tools, table};
use crate::{
    bench::{
        chatter::LINE,
        jobs::{Job, Log, log_file},
        measure::all_ran_for,
    },
    host,
    process::{children, command_line},
};

/// How long all lines may take.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn measure(
    peer: Peer,
    tools: &Tools,
    dir: &Path,
    lines: u32,
    each: bool,
    figures: &mut Figures,
) -> Result<()> {
    let word = dir.join("go");
    let program = host::own_program()?;
    let each_word = if each { " --each" } else { "" };
    let command = format!(
        "{} __talk {lines} --stay --after {}{each_word}",
        program.display(),
        word.display()
    );
    let job = Job { log: Log::File, ..Job::new("talker", command.clone()) };
    let running = peer.start_jobs(tools, dir, &[job])?;
    host::wait_until("the talker", PATIENCE, || {
        let below = running.family()?.into_iter().flat_map(|p| children(p).unwrap_or_default());
        let mut below = below.map(command_line);
        ensure!(below.any(|line| line == command), "it does not run");
        Ok(())
    })
    .with_context(|| running.output())?;
    // What starting takes is not what carrying lines takes.
    host::pause(Duration::from_secs(2));
    let family = running.family()?;
    let (from, before) = (host::now(), all_ran_for(&family)?);
    host::write(&word, "")?;
    let file = log_file(peer, dir, "talker");
    let wanted = u64::from(lines) * (LINE as u64 + 1);
    host::wait_until("arrival of the last line", PATIENCE, || {
        // A look costs the supervisor nothing.
        host::pause(Duration::from_millis(10));
        let there = fs::metadata(&file).map_or(0, |m| m.len());
        ensure!(there >= wanted, "{there} of {wanted} bytes arrived");
        Ok(())
    })
    .with_context(|| running.output())?;
    let seconds = from.elapsed().as_secs_f64();
    let cpu = all_ran_for(&family)?.saturating_sub(before).as_secs_f64();
    let lines = f64::from(lines);
    let (per_cpu, rate) = if each {
        (table::CAPTURE_EACH, "lines a second, a write for each")
    } else {
        (table::CAPTURE, "lines a second, large writes")
    };
    figures.add(per_cpu, "1/s", peer, lines / cpu.max(0.001));
    figures.add(rate, "1/s", peer, lines / seconds.max(0.001));
    Ok(())
}
