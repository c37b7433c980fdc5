//! `cargo xtask fuzz`: hostile input for the parsers, by libFuzzer.
//!
//! Built with the pinned toolchain: coverage is one of its stable code generation flags; only the
//! sanitizers are not, and safe Rust has little for them to find. Inputs of `fuzz/seeds` and those that
//! earlier runs found worth keeping (in the target folder) come first; each target has a bound on memory
//! and on the time for one input.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{cargo, cmd::Cmd, host, say};

/// Most memory that a target may use, in MiB, libFuzzer's own included.
const MEMORY_MIB: u32 = 512;
/// Longest time for one input, in seconds.
const ONE_INPUT_S: u32 = 5;
/// Longest input in bytes.
const MAX_LEN: u32 = 1 << 16;
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Targets, of `fuzz/src/bin`; all of them if none is given
    targets: Vec<String>,
    /// How long for each target
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    seconds: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let known = known()?;
    if let Some(unknown) = options.targets.iter().find(|t| !known.contains(t)) {
        bail!("there is no fuzz target {unknown}: {}", known.join(", "));
    }
    let target_dir = cargo::target_dir()?.join("fuzz");
    say::progress("building the fuzz targets");
    cargo::cargo()
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg("fuzz/Cargo.toml")
        // With a target of its own, the flags do not reach build scripts.
        .args(["--target", &triple()?, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTFLAGS", FLAGS)
        .run()?;
    let programs = target_dir.join(triple()?).join("release");
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    for target in chosen {
        let corpus = target_dir.join("corpus").join(target);
        let found = target_dir.join("artifacts").join(target);
        // Read only: what is found worth keeping goes to the first directory.
        let seeds = host::workspace().join("fuzz/seeds").join(target);
        for dir in [&corpus, &found] {
            std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let said = Cmd::new(programs.join(target))
            .arg(format!("-max_total_time={}", options.seconds))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-timeout={ONE_INPUT_S}"))
            .arg(format!("-max_len={MAX_LEN}"))
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(&corpus)
            .arg(&seeds)
            .within(Duration::from_secs(u64::from(options.seconds) + 120))
            .said()?;
        let all = said.all();
        if !said.status.success() {
            bail!("{target}: {}\nthe input is in {}", tail(&all), found.display());
        }
        let stat = |name: &str| {
            let line = all.lines().find_map(|l| l.strip_prefix(&format!("stat::{name}:")));
            line.map_or("?", str::trim).to_owned()
        };
        say::progress(&format!(
            "{target:12} {:>10} inputs, {} MiB at most, nothing found",
            stat("number_of_executed_units"),
            stat("peak_rss_mb"),
        ));
    }
    Ok(())
}

/// The names of the targets, which are those of their files.
fn known() -> Result<Vec<String>> {
    let dir = host::workspace().join("fuzz/src/bin");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|s| s.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// The triple of this machine.
fn triple() -> Result<String> {
    let said = Cmd::new("rustc").arg("-vV").said()?;
    let host = said.stdout.lines().find_map(|l| l.strip_prefix("host: ")).map(str::to_owned);
    host.context("rustc does not say its host")
}

/// The last lines, where libFuzzer says what it found.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
}
