//! What tests on hosts have in common: a host with a small site under the agent, and what one asks it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file is a program of its own and uses a part of this"
)]

pub(crate) mod load;
pub(crate) mod site;

use std::time::Duration;

use palisade_hosts::{
    packages::Packages,
    trees::{self, Trees},
};

/// How long anything on a host may take on a loaded machine.
pub(crate) const CAP: Duration = Duration::from_secs(60);

/// The trees; else the reason is printed and the test returns.
pub(crate) fn hosts_or_skip() -> Option<Trees> {
    trees::for_hosts().inspect_err(|why| println!("{why}")).ok()
}

/// Both Debian packages and a place for hosts; else the reason is printed and the test returns.
pub(crate) fn debs_or_skip() -> Option<Packages> {
    hosts_or_skip()?;
    Packages::debs().inspect_err(|why| println!("{why}")).ok()
}

/// As [`debs_or_skip`], for RPM packages.
pub(crate) fn rpms_or_skip() -> Option<Packages> {
    hosts_or_skip()?;
    Packages::rpms().inspect_err(|why| println!("{why}")).ok()
}
