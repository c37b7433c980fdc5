//! What tests with QEMU guests have in common.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use palisade_hosts::{
    packages::{OLD, Packages},
    trees,
    vm::Kit,
};

/// What guests are made of, built if need be; else the reason is printed and the test returns.
pub(crate) fn kit_or_skip() -> Option<Kit> {
    if let Err(why) = trees::for_tools().and_then(|_| trees::for_hosts()) {
        say(&why);
        return None;
    }
    Some(Kit::build(&say).unwrap())
}

/// The agent's package; else the reason is printed and the test returns.
pub(crate) fn deb_or_skip() -> Option<PathBuf> {
    Packages::debs().inspect_err(|why| say(why)).ok().map(|packages| packages.deb(OLD))
}

/// A figure, or why there is no test.
#[expect(clippy::print_stdout, reason = "a test tells its figures and why it is skipped")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
