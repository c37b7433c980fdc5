//! Measures `ship` against the strict fake: `bench_logs PATH_OF_SHIP [LINES]`.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::path::PathBuf;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let ship: PathBuf = args.next().context("give the path of ship")?.into();
    let lines = args.next().map_or(Ok(1_000_000), |n| n.parse())?;
    for gzip in [false, true] {
        let dir = tempfile::tempdir()?;
        let report = palisade_e2e::shipping::bench(&ship, dir.path(), lines, gzip)?;
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}
