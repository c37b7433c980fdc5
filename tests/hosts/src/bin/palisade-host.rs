//! Boots one test host and keeps it until the end of standard input: to look around by hand, and for
//! the test that kills a host's owner. usage: `palisade-host [DEB]`
#![expect(clippy::print_stdout, reason = "this is a program for a terminal")]

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use palisade_hosts::{
    nspawn::{Host, HostOptions},
    trees,
};

fn main() -> Result<ExitCode> {
    if let Err(why) = trees::for_hosts() {
        println!("{why}");
        return Ok(ExitCode::FAILURE);
    }
    let mut options = HostOptions::new("test-host");
    let deb = std::env::args_os().nth(1);
    if let Some(deb) = &deb {
        options = options.copy(Path::new(deb), "/root/palisade.deb");
    }
    let host = Host::boot(None, options);
    if deb.is_some() {
        host.ok("dpkg -i /root/palisade.deb");
    }
    println!("{} {}", host.id(), host.leader().context("the host is gone")?);
    println!("enter it by `nsenter -t PID -m -u -i -n -p -C -r`; it ends with this input");
    io::stdout().flush().context("tell where it is")?;
    io::copy(&mut io::stdin(), &mut io::sink()).context("wait for the end of input")?;
    Ok(ExitCode::SUCCESS)
}
