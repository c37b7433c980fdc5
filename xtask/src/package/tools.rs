//! The two programs that pack: pinned, built from source once, kept below the target directory.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::{cargo, say};

const DEB: (&str, &str) = ("cargo-deb", "3.8.0");
const RPM: (&str, &str) = ("cargo-generate-rpm", "0.21.1");

/// How they are compiled. They run for seconds: what optimising more than sums and compression would save
/// there, it costs many times over here.
const CHEAPLY: &[&str] = &["profile.release.opt-level=0", "profile.release.lto=false"];
/// But what compresses and sums.
const BUT: &[&str] = &[
    "profile.release.package.md-5.opt-level=2",
    "profile.release.package.sha1.opt-level=2",
    "profile.release.package.sha2.opt-level=2",
    "profile.release.package.sha3.opt-level=2",
    "profile.release.package.zlib-rs.opt-level=2",
    "profile.release.package.zstd-sys.opt-level=2",
];

/// Where they are.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) deb: PathBuf,
    pub(crate) rpm: PathBuf,
}

/// Installs what is not there in the version we want.
pub(crate) fn ready(target: &Path) -> Result<Tools> {
    let root = target.join("tools");
    Ok(Tools { deb: tool(&root, DEB, &[])?, rpm: tool(&root, RPM, BUT)? })
}

fn tool(root: &Path, (name, version): (&str, &str), but: &[&str]) -> Result<PathBuf> {
    // The version is part of the path: that it is there means that it is the one we want.
    let own = root.join(format!("{name}-{version}"));
    let program = own.join("bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    say::progress(&format!("package: installing {name} {version} (a few minutes, once)"));
    let ended = cargo::cargo()
        .args(["install", "--quiet", "--locked", "--root"])
        .arg(&own)
        .arg(format!("{name}@{version}"))
        .env("CARGO_TARGET_DIR", root.join("build"))
        .args(CHEAPLY.iter().chain(but).flat_map(|setting| ["--config", setting]))
        .show()?;
    ensure!(ended.success() && program.is_file(), "`cargo install {name}` ended with {ended}");
    Ok(program)
}
