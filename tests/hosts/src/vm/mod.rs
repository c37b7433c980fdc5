//! Guests under QEMU, without KVM: a kernel of their own, for what a container cannot show (limits that
//! bite, an out-of-memory kill, a reboot, a sealed image's first boot).
//!
//! [`Kit::build`] boots Debian once and keeps the running guest as a snapshot; [`Vm::restore`] gives
//! each test a copy of it in seconds. QEMU runs from the tools tree. All that a guest leaves on the
//! machine goes with its [`Vm`], or with the next one if its owner was killed.

mod cpio;
mod guest;
mod image;
mod kernel;
mod kit;
mod monitor;
mod place;
mod plug;
mod qemu;
mod shell;

use std::{path::Path, time::Duration};

use anyhow::Result;

pub use guest::{Disk, Options, Vm};
pub use image::{Extra, Login};
pub use kit::Kit;

use crate::{tools, trees::Trees};

/// Runs a shell script in the tools tree to a good end and returns what it printed. It sees the trees,
/// the folders in `more`, and the arguments as `$1` and so on.
///
/// # Errors
/// When it fails or takes longer than `patience`.
pub fn script(script: &str, args: &[&Path], more: &[&Path], patience: Duration) -> Result<String> {
    let trees = Trees::here();
    let mut seen = vec![trees.dir()];
    seen.extend(more);
    let command = tools::cmd_with("sh", &seen)?.args(["-euc", script, "script"]).args(args);
    command.within(patience).run()
}
