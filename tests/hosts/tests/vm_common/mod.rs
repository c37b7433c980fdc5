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

fn hosts_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("PALISADE_HOSTS") {
        return dir.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    target.join("hosts")
}
