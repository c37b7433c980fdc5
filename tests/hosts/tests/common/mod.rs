//! What tests on hosts have in common.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use palisade_hosts::trees::{self, Trees};

/// The trees; else the reason is printed and the test returns.
pub fn hosts_or_skip() -> Option<Trees> {
    trees::for_hosts().inspect_err(|why| println!("{why}")).ok()
}
