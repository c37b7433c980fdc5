//! Cargo, run again: where it builds, and our programs as they are shipped.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
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

/// The binary that was given, or our own, built in a profile.
pub(crate) fn given_or_built(
    profile: Profile,
    given: Option<&Path>,
    binary: &str,
) -> Result<PathBuf> {
    match given {
        Some(path) => {
            is_there(path)?;
            Ok(path.to_path_buf())
        }
        None => build(profile, binary),
    }
}

/// How a shipped program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// With link-time optimisation and debug symbols: what is released.
    Release,
    /// The same code without both.
    Fast,
    /// The same, less optimised and compiled sooner.
    Quick,
}

impl Profile {
    /// Its name, and its directory's below the target directory.
    pub(crate) fn dir(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Fast => "fast",
            Self::Quick => "quick",
        }
    }
}

fn build(profile: Profile, binary: &str) -> Result<PathBuf> {
    say::progress(&format!("build: {binary} (the first time takes a few minutes)"));
    build_shipped(profile, &[binary], None)?;
    let built = target_dir()?.join(profile.dir()).join(binary);
    is_there(&built)?;
    Ok(built)
}

/// Goes on as the same chore in profile `fast`; comes back only with what hindered it.
pub(crate) fn become_fast() -> Result<anyhow::Error> {
    let fast = build(Profile::Fast, OWN)?;
    let args = std::env::args_os().skip(1);
    Ok(Cmd::new(fast).args(args.map(|a| a.to_string_lossy().into_owned())).replace_us())
}

/// This package.
const OWN: &str = "xtask";

/// Packages whose programs tests and benchmarks run. Cargo turns on in a library what any of the packages
/// on its command line asks for: built always together, they share one build of tokio, hyper and the AWS
/// SDK, which takes minutes.
const RUN_BY_TESTS: [&str; 4] = ["palisade", "bastionctl", "palisade-e2e", "palisade-peer"];

/// Builds some binaries as they are released: with no path of this machine in them. `version` is what
/// they call themselves instead of the sources' version. A released binary has its package's name.
pub(crate) fn build_shipped(
    profile: Profile,
    binaries: &[&str],
    version: Option<&str>,
) -> Result<()> {
    let packages = match profile {
        Profile::Release => binaries,
        Profile::Fast | Profile::Quick if binaries == [OWN] => binaries,
        Profile::Fast | Profile::Quick => &RUN_BY_TESTS,
    };
    let paths = private_paths(&target_dir()?)?;
    let flags = |option: &str, before: Option<OsString>, between: &str| {
        let maps = paths.iter().map(|(path, name)| format!("{option}={}={name}", path.display()));
        let before = before.map(|b| b.to_string_lossy().into_owned()).into_iter();
        before.chain(maps).collect::<Vec<_>>().join(between)
    };
    // The encoded form, which alone can carry a path with a space in it, and hides the plain one.
    let given = std::env::var_os("CARGO_ENCODED_RUSTFLAGS").or_else(|| {
        let plain = std::env::var("RUSTFLAGS").ok()?;
        Some(plain.split_whitespace().collect::<Vec<_>>().join("\x1f").into())
    });
    let mut build = cargo()
        .args(["build", "--quiet", "--locked", "--profile", profile.dir()])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .args(binaries.iter().flat_map(|binary| ["--bin", binary]))
        .env("CARGO_ENCODED_RUSTFLAGS", flags("--remap-path-prefix", given, "\x1f"))
        .env("CFLAGS", flags("-ffile-prefix-map", std::env::var_os("CFLAGS"), " "));
    if let Some(version) = version {
        build = build.env("PALISADE_VERSION", version);
    }
    let ended = build.show()?;
    if !ended.success() {
        bail!("`cargo build --bin {}` ended with {ended}", binaries.join(" --bin "));
    }
    Ok(())
}

/// Directories of this machine whose names compilers would write into what they build, and what
/// stands for them there. A later one lies inside an earlier one, or beside all of them.
pub(crate) fn private_paths(target: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map_or(home.join(".cargo"), PathBuf::from);
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = Cmd::new(rustc).args(["--print", "sysroot"]).dir(host::workspace()).run()?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    Ok(vec![
        (cargo_home, "/cargo"),
        (library, "/rust"),
        (host::workspace(), "/palisade"),
        (target.to_path_buf(), "/target"),
    ])
}

fn is_there(path: &Path) -> Result<()> {
    if !path.is_file() {
        bail!("{} is not there", path.display());
    }
    Ok(())
}
