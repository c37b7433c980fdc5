//! Cargo, run again: where it builds, and our programs in the `fast` profile.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{cmd::Cmd, host, say};

/// A cold build of everything on two cores, with room.
pub(crate) const BUILD_PATIENCE: Duration = Duration::from_secs(5_400);

/// Cargo itself, as the one that runs us.
pub(crate) fn cargo() -> Cmd {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Cmd::new(cargo).dir(host::workspace()).within(BUILD_PATIENCE)
}

/// Where build results go.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let text = cargo()
        .args(["metadata", "--no-deps", "--locked", "--offline", "--format-version", "1"])
        .within(Duration::from_secs(60))
        .run()?;
    let all: Value = serde_json::from_str(&text).context("read what `cargo metadata` said")?;
    let dir = all["target_directory"].as_str().context("`cargo metadata` names no target")?;
    Ok(PathBuf::from(dir))
}

/// The binary that was given, or our own, built.
pub(crate) fn given_or_built(given: Option<&Path>, package: &str, binary: &str) -> Result<PathBuf> {
    match given {
        Some(path) => {
            is_there(path)?;
            Ok(path.to_path_buf())
        }
        None => build_fast(package, binary),
    }
}

/// Builds a binary of the workspace as it will be released, without link-time optimisation.
fn build_fast(package: &str, binary: &str) -> Result<PathBuf> {
    say::progress(&format!("build: {binary} (the first time takes a few minutes)"));
    let ended = cargo()
        .args(["build", "--quiet", "--locked", "--profile", "fast", "-p", package])
        .args(["--bin", binary])
        .show()?;
    if !ended.success() {
        bail!("`cargo build -p {package}` ended with {ended}");
    }
    let built = target_dir()?.join("fast").join(binary);
    is_there(&built)?;
    Ok(built)
}

fn is_there(path: &Path) -> Result<()> {
    if !path.is_file() {
        bail!("{} is not there", path.display());
    }
    Ok(())
}
