//! What tests with guests share: where the trees and packages are, or why there is no test.

use std::path::PathBuf;

use palisade_hosts::vm::Kit;

/// The kit, built if need be; or why not, told.
pub(crate) fn kit() -> Option<Kit> {
    let hosts = hosts_dir();
    if !hosts.join("base").exists() || !hosts.join("tools").exists() {
        say(&format!("skipped: no trees in {} (cargo xtask hosts makes them)", hosts.display()));
        return None;
    }
    Some(Kit::build(&hosts, say).unwrap())
}

/// One line for whoever reads the test's output.
#[expect(clippy::print_stderr, reason = "a test tells its figures and why it is skipped")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// Where the trees are.
pub(crate) fn hosts_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("PALISADE_HOSTS") {
        return dir.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    target.join("hosts")
}

/// The agent's package; or why not, told. With several versions it is the lowest.
pub(crate) fn package() -> Option<PathBuf> {
    let dir = std::env::var_os("PALISADE_PACKAGES")
        .map_or_else(|| hosts_dir().with_file_name("packages"), PathBuf::from);
    let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("palisade_")))
        .filter(|p| p.extension().is_some_and(|e| e == "deb"))
        .collect();
    found.sort();
    if found.is_empty() {
        say(&format!("skipped: no package in {} (cargo xtask package makes one)", dir.display()));
        return None;
    }
    found.into_iter().next()
}
