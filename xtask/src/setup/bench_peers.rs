//! What `cargo xtask bench supervise` measures beside us: Debian's s6 and runit, and circus. Tests
//! need none of them, so one that cannot be had is left out rather than a failure.

use std::path::PathBuf;

use anyhow::Result;

use super::{NoServiceStarts, apt, environment};
use crate::{
    cargo,
    cmd::find,
    host::{self, is_root},
    say,
};

const PACKAGES: &[(&str, &str)] = &[("s6", "s6-svscan"), ("runit", "runsvdir")];

/// Installs rsyslog, which `cargo xtask bench logs` measures beside us, if it can be had.
pub(crate) fn rsyslog() -> Result<()> {
    if find("rsyslogd").is_none()
        && let Err(e) = install("rsyslog")
    {
        say::progress(&format!("setup: rsyslog is not installed: {e:#}"));
    }
    Ok(())
}

/// Installs what is missing and can be had. Returns circus's program, if it is there.
pub(crate) fn run() -> Result<Option<PathBuf>> {
    let missing = PACKAGES.iter().filter(|(_, program)| find(program).is_none());
    for (package, _) in missing {
        if let Err(e) = install(package) {
            say::progress(&format!("setup: {package} is not installed: {e:#}"));
        }
    }
    let venv = cargo::target_dir()?.join("bench-venv");
    match environment(&venv, &host::workspace().join("xtask/bench-requirements.txt")) {
        Ok(()) => Ok(Some(venv.join("bin/circusd"))),
        Err(e) => {
            say::progress(&format!("setup: circus is not installed: {e:#}"));
            Ok(None)
        }
    }
}

fn install(package: &str) -> Result<()> {
    anyhow::ensure!(is_root(), "that takes root");
    say::progress(&format!("setup: installing {package}"));
    let _quiet = NoServiceStarts::new()?;
    apt(&["update", "-q"])?;
    apt(&["install", "-q", "-y", "--no-install-recommends", package])
}
