//! `cargo xtask bench logs`: what shipping costs, and what is lost and doubled when things go wrong.

mod cost;
mod faults;
mod rig;

use std::{fmt::Write as _, path::Path};

use anyhow::Result;

use crate::{cargo, say, setup};

/// Measures and prints; false if a line was lost or a rule broken.
pub(super) fn run(palisade: &Path, fake: Option<&Path>, lines: usize) -> Result<bool> {
    setup::bench_peers::rsyslog()?;
    let fake = cargo::given_or_built(cargo::Profile::Fast, fake, "fake-aws")?;
    let mut out = String::new();
    let full = cost::full_speed(palisade, &fake, lines)?;
    writeln!(
        out,
        "| {lines} lines of 200 bytes | CPU s per million | lines/s | memory at most | bytes sent for each byte | requests | out of order |\n\
         |---|--:|--:|--:|--:|--:|--:|"
    )?;
    for f in &full {
        let wire = f.wire.map_or("-".to_owned(), |w| format!("{w:.2}"));
        writeln!(
            out,
            "| {} | {:.2} | {:.0} | {:.0} MiB | {wire} | {} | {} |",
            f.name, f.cpu_s_per_million, f.lines_a_second, f.peak_mib, f.puts, f.out_of_order
        )?;
    }
    for a_second in [200, 0] {
        let (percent, mib) = cost::slow(palisade, &fake, a_second)?;
        writeln!(
            out,
            "\n{a_second} lines a second, 20 files: {percent:.2} % of a core, {mib:.1} MiB"
        )?;
    }
    let outcomes = faults::play(palisade, &fake, lines * 3 / 10)?;
    writeln!(out, "\n| | lines | lost | doubled | out of order |\n|---|--:|--:|--:|--:|")?;
    for o in &outcomes {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            o.name, o.written, o.lost, o.doubled, o.out_of_order
        )?;
    }
    let broken: u64 = outcomes.iter().map(|o| o.violations).sum();
    writeln!(out, "\nRules of PutLogEvents broken: {broken}")?;
    say::line(&out);
    Ok(broken == 0 && outcomes.iter().all(|o| o.lost == 0))
}
