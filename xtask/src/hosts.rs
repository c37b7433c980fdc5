//! `cargo xtask hosts`: the root file systems that test hosts boot from.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::{host, say};

/// What to make.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Make them anew, whatever is there.
    #[arg(long)]
    rebuild: bool,
}

/// Makes what is missing or out of date.
pub(crate) fn run(options: &Options) -> Result<()> {
    host::need_root("making test hosts")?;
    let start = host::now();
    let trees = palisade_hosts::build::run(options.rebuild, &say::progress)?;
    palisade_hosts::vm::Kit::build(&say::progress)?;
    let took = Duration::from_secs(start.elapsed().as_secs());
    say::line(&format!("test hosts: {} ({took:?})", trees.dir().display()));
    Ok(())
}
