//! `cargo xtask package`: from the sources to what a host installs. Builds, stages what goes into a
//! package beside the binaries, packs, checks the result, writes checksums and signs them.
//!
//! ```text
//! build ─> stage (man pages, completions, changelog) ─> .deb, debug symbols ─> .rpm ─> gates ─> sums
//! ```
//! Invariant: the same commit gives the same bytes, whoever builds it and wherever; nothing that
//! failed a gate is left in the output directory.

mod changelog;
mod deb;
mod elf;
mod gates;
mod lintian;
mod pages;
mod rpm;
mod sign;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    cargo::{self, Profile},
    cmd::Cmd,
    host, say,
};

pub(crate) use sign::{sums, verify_sums};

/// What to package, how, and where to.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// `fast` leaves out link-time optimisation and debug symbols, `quick` most else: for tests
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Another version than the sources have, for example to test an upgrade
    #[arg(long, value_parser = version)]
    version: Option<String>,
    /// Where the packages go [default: packages/ in the target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// An ASCII-armoured private OpenPGP key without passphrase: signs the rpms and SHA256SUMS
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
    /// Pack everything twice, and fail if the bytes differ
    #[arg(long)]
    twice: bool,
}

impl Options {
    /// What tests install: quick to build, this version or another.
    pub(crate) fn for_tests(version: Option<&str>) -> Self {
        let version = version.map(str::to_owned);
        Self { profile: Profile::Quick, version, out: None, sign: None, twice: false }
    }
}

/// One of our packages.
#[derive(Debug)]
pub(crate) struct Product {
    /// Its name, its binary's, and its package's in the workspace.
    pub(crate) name: &'static str,
    /// Its crate's directory.
    pub(crate) dir: &'static str,
}

/// What there is to package.
pub(crate) const PRODUCTS: &[Product] = &[
    Product { name: "palisade", dir: "agent/bin" },
    Product { name: "bastionctl", dir: "bastionctl" },
];

/// Everything that packing needs to know.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) profile: Profile,
    /// Without the packaging's own revision.
    pub(crate) version: String,
    /// `target`.
    pub(crate) target: PathBuf,
    /// Files dated later are dated back to this; seconds since 1970.
    pub(crate) epoch: u64,
    pub(crate) key: Option<PathBuf>,
}

impl Job {
    /// Where a product's man pages, completions and changelog are put together. Below the binaries,
    /// because the packing tools find only these whatever the profile.
    pub(crate) fn stage(&self, product: &Product) -> PathBuf {
        self.target.join(self.profile.dir()).join("stage").join(product.name)
    }
}

/// Packages everything. Files appear in the output directory only when every check has passed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let target = cargo::target_dir()?;
    let out = match &options.out {
        Some(out) => std::path::absolute(out).context("find the output directory")?,
        None => target.join("packages"),
    };
    let key = options.sign.as_deref().map(sign::readable_key).transpose()?;
    let job = Job {
        profile: options.profile,
        version: options.version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
        epoch: source_date_epoch()?,
        target,
        key,
    };
    let tools = tools::ready(&job.target)?;
    say::progress(&format!("package: building {} ({})", job.version, job.profile.dir()));
    let names: Vec<_> = PRODUCTS.iter().map(|p| p.name).collect();
    cargo::build_shipped(job.profile, &names, options.version.as_deref())?;

    let fresh = job.target.join("packages.new");
    if options.twice {
        let again = job.target.join("packages.again");
        // Without a key: when a file was signed is part of the signature.
        pack(&job, &tools, None, &again)?;
        pack(&job, &tools, None, &fresh)?;
        same_bytes(&again, &fresh)?;
        fs::remove_dir_all(&again).with_context(|| format!("remove {}", again.display()))?;
    }
    if !options.twice || job.key.is_some() {
        pack(&job, &tools, job.key.as_deref(), &fresh)?;
    }
    gates::check(&job, &fresh)?;
    lintian::check(&fresh)?;
    hand_out(&fresh, &out)?;
    sign::sums(&out, job.key.as_deref())?;
    for file in host::files_below(&out)? {
        let size =
            fs::metadata(&file).with_context(|| format!("look at {}", file.display()))?.len();
        say::line(&format!("{size:>10}  {}", file.display()));
    }
    Ok(())
}

fn pack(job: &Job, tools: &tools::Tools, key: Option<&Path>, into: &Path) -> Result<()> {
    empty(into)?;
    for product in PRODUCTS {
        stage(job, product)?;
        say::progress(&format!("package: packing {}", product.name));
        let binary = deb::pack(job, product, tools, into)?;
        rpm::pack(job, product, tools, &binary, key, into)?;
    }
    Ok(())
}

/// Fails unless both directories hold the same files with the same bytes.
fn same_bytes(one: &Path, other: &Path) -> Result<()> {
    let list = |dir: &Path| -> Result<Vec<PathBuf>> {
        let files = host::files_below(dir)?;
        Ok(files.iter().filter_map(|f| Some(f.strip_prefix(dir).ok()?.to_path_buf())).collect())
    };
    let names = list(one)?;
    ensure!(!names.is_empty() && names == list(other)?, "packed twice, there are other files");
    for name in &names {
        let read = |dir: &Path| {
            fs::read(dir.join(name)).with_context(|| format!("read {}", name.display()))
        };
        ensure!(read(one)? == read(other)?, "{} packed twice differs", name.display());
    }
    say::line(&format!("package: {} files packed twice, the same bytes", names.len()));
    Ok(())
}

fn stage(job: &Job, product: &Product) -> Result<()> {
    let dir = job.stage(product);
    empty(&dir)?;
    pages::write(product, &job.version, &dir)?;
    let debian = dir.join("changelog.Debian");
    host::write(&debian, changelog::debian(product.name, &job.version, job.epoch)?)?;
    let mut plain: Vec<_> = host::files_below(&dir.join("man"))?;
    plain.push(debian);
    // -n: neither name nor time of the input.
    Cmd::new("gzip").args(["-9n"]).args(&plain).run()?;
    Ok(())
}

/// Moves what passed to where it was asked for, each file at once.
fn hand_out(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for file in host::files_below(from)? {
        let name = file.file_name().context("a package without a name")?;
        let near = to.join(format!(".{}.new", name.to_string_lossy()));
        fs::copy(&file, &near).with_context(|| format!("copy to {}", near.display()))?;
        fs::rename(&near, to.join(name)).with_context(|| format!("rename {}", near.display()))?;
    }
    fs::remove_dir_all(from).with_context(|| format!("remove {}", from.display()))
}

pub(crate) fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))
}

/// The date of the commit, unless `SOURCE_DATE_EPOCH` says another.
fn source_date_epoch() -> Result<u64> {
    if let Some(given) = std::env::var_os("SOURCE_DATE_EPOCH") {
        let given = given.to_string_lossy().into_owned();
        return given.parse().with_context(|| format!("read SOURCE_DATE_EPOCH={given}"));
    }
    let said = Cmd::new("git")
        .args(["log", "-1", "--format=%ct"])
        .dir(host::workspace())
        .run()
        .context("date the packages by the last commit (or set SOURCE_DATE_EPOCH)")?;
    said.trim().parse().with_context(|| format!("read the date of the last commit: {said}"))
}

/// A version that all package formats can carry: `1.2.3`, with nothing behind it.
fn version(text: &str) -> Result<String> {
    let parts: Vec<_> = text.split('.').collect();
    let is_number = |p: &str| !p.is_empty() && p.len() < 6 && p.bytes().all(|b| b.is_ascii_digit());
    ensure!(
        parts.len() == 3 && parts.iter().all(|p| is_number(p)),
        "{text:?} must be three numbers with dots between, such as 1.2.3"
    );
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers() {
        assert_eq!(version("0.1.12").unwrap(), "0.1.12");
        for bad in ["", "1", "1.2", "1.2.3-1", "1.2.x", "1..3", "1.2.3.4"] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_product_has_its_metadata_for_both_formats() {
        for product in PRODUCTS {
            let manifest = host::workspace().join(product.dir).join("Cargo.toml");
            let text = host::read(&manifest).unwrap();
            for part in ["[package.metadata.deb]", "[package.metadata.generate-rpm]"] {
                assert!(text.contains(part), "{} lacks {part}", manifest.display());
            }
        }
    }

    #[test]
    fn a_byte_or_a_file_more_is_a_difference() {
        let dir = std::env::temp_dir().join(format!("xtask-twice-{}", std::process::id()));
        let (one, other) = (dir.join("one"), dir.join("other"));
        host::write(&one.join("a"), "1").unwrap();
        host::write(&other.join("a"), "1").unwrap();
        same_bytes(&one, &other).unwrap();
        host::write(&other.join("b"), "").unwrap();
        assert!(same_bytes(&one, &other).is_err());
        host::write(&one.join("b"), "x").unwrap();
        assert!(same_bytes(&one, &other).unwrap_err().to_string().starts_with("b packed twice"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
