//! `cargo xtask ci`: what a reviewer would look at first, by machine. Every check runs even if an
//! earlier one failed.

use anyhow::{Result, ensure};

use crate::{
    cargo, changelog,
    cmd::{Cmd, find},
    demo::report::seconds,
    host,
    say::{self, Ink},
    sizes, spec,
};

/// How a check ended well.
enum Ended {
    Passed,
    /// Not done, and why.
    Skipped(String),
}

type Check = fn() -> Result<Ended>;

const CHECKS: &[(&str, Check)] = &[
    ("format", format),
    ("clippy", clippy),
    ("layers", layers),
    ("fuzz targets", fuzz_targets),
    ("documentation", documentation),
    ("dependencies", dependencies),
    ("file sizes", || sizes::check().map(|()| Ended::Passed)),
    ("promises of docs/spec.md", || spec::check().map(|()| Ended::Passed)),
    ("changelog", || changelog::check().map(|()| Ended::Passed)),
];

/// Runs every check. Whether none failed.
pub(crate) fn run() -> Result<bool> {
    let start = host::now();
    let mut told = Vec::new();
    let mut failed = 0;
    for (name, check) in CHECKS {
        say::line(&say::ink(&format!("== {name}"), Ink::Bold));
        let start = host::now();
        let word = match check() {
            Ok(Ended::Passed) => say::ink("ok     ", Ink::Green),
            Ok(Ended::Skipped(why)) => {
                say::line(&format!("skipped: {why}"));
                "skipped".to_owned()
            }
            Err(e) => {
                failed += 1;
                say::line(&format!("{e:#}"));
                say::ink("FAIL   ", Ink::Red)
            }
        };
        told.push(format!("  {word}  {name:<26} {:>8}", seconds(start.elapsed())));
    }
    say::line("");
    told.iter().for_each(|line| say::line(line));
    let all = CHECKS.len();
    say::line(&format!("ci: {failed} of {all} checks failed, {}", seconds(start.elapsed())));
    Ok(failed == 0)
}

fn good(cmd: Cmd, what: &str) -> Result<Ended> {
    let ended = cmd.show()?;
    ensure!(ended.success(), "{what} ended with {ended}");
    Ok(Ended::Passed)
}

fn format() -> Result<Ended> {
    good(cargo::cargo().args(["fmt", "--all", "--check"]), "`cargo fmt --check`")
}

fn clippy() -> Result<Ended> {
    let clippy = cargo::cargo()
        .args(["clippy", "--quiet", "--workspace", "--all-targets", "--locked"])
        .args(["--", "-D", "warnings"]);
    good(clippy, "`cargo clippy`")
}

fn layers() -> Result<Ended> {
    // Of the whole workspace, as tests are built: of one package, cargo would build tokio once more.
    let test = cargo::cargo()
        .args(["test", "--quiet", "--locked", "--workspace"])
        .args(["--test", "layers"]);
    good(test, "the layer test")
}

/// They are a workspace of their own, whose lock file nothing else would miss.
fn fuzz_targets() -> Result<Ended> {
    let metadata = cargo::cargo()
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(["--manifest-path", "fuzz/Cargo.toml"]);
    metadata.run()?;
    Ok(Ended::Passed)
}

fn documentation() -> Result<Ended> {
    let doc = cargo::cargo()
        .args(["doc", "--quiet", "--workspace", "--no-deps", "--locked"])
        .args(["--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings");
    good(doc, "`cargo doc`")
}

fn dependencies() -> Result<Ended> {
    if find("cargo-deny").is_none() {
        return Ok(Ended::Skipped(
            "cargo-deny is not installed (`cargo install --locked cargo-deny`)".to_owned(),
        ));
    }
    if !host::workspace().join("deny.toml").is_file() {
        anyhow::bail!("deny.toml is missing");
    }
    // Advisories are fetched from the internet, which a build machine may not have.
    let deny = cargo::cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]);
    good(deny, "`cargo deny`")
}
