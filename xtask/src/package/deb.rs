//! The .deb, and its debug symbols as one more. cargo-deb packs; what it leaves out is added here:
//! `md5sums`, without which `dpkg -V` would not see a changed binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::{Job, Product, empty, tools::Tools};
use crate::{
    cargo::{self, Profile},
    cmd::Cmd,
    host,
};

/// Packs a product into `out`. Returns its binary as it is in the package, without debug symbols.
pub(crate) fn pack(job: &Job, product: &Product, tools: &Tools, out: &Path) -> Result<PathBuf> {
    let raw = job.target.join("packages.raw");
    empty(&raw)?;
    let symbols: &[&str] = match job.profile {
        Profile::Release => &["--dbgsym"],
        // They have none.
        Profile::Fast | Profile::Quick => &["--no-dbgsym", "--strip"],
    };
    let compression: &[&str] = match job.profile {
        Profile::Release | Profile::Fast => &["-Zxz"],
        Profile::Quick => &["-Zgzip", "-z1"],
    };
    let cargo_deb = Cmd::new(&tools.deb)
        .args(["--no-build", "--quiet", "--locked", "--offline", "-p", product.name])
        .args(["--profile", job.profile.dir(), "--deb-version", &format!("{}-1", job.version)])
        .args(symbols)
        // Quickly: it is opened again below. Its own gzip takes a minute for each package.
        .args(["--compress-type", "gz", "--compress-system", "--fast", "--output"])
        .arg(&raw)
        .env("SOURCE_DATE_EPOCH", job.epoch.to_string())
        .env("CARGO_TARGET_DIR", &job.target)
        .dir(host::workspace())
        .within(cargo::BUILD_PATIENCE);
    cargo_deb.run().with_context(|| format!("pack {} as .deb", product.name))?;

    let mut binary = None;
    for package in host::files_below(&raw)? {
        let tree = raw.join("tree");
        empty(&tree)?;
        Cmd::new("dpkg-deb").arg("-R").arg(&package).arg(&tree).run()?;
        add_sums(&tree)?;
        let name = package.file_stem().context("a package without a name")?.to_string_lossy();
        // cargo-deb calls symbols .ddeb as Ubuntu does; apt takes .deb only.
        let done = out.join(format!("{name}.deb"));
        Cmd::new("dpkg-deb")
            .arg("--root-owner-group")
            .args(compression)
            .arg("-b")
            .arg(&tree)
            .arg(&done)
            .env("SOURCE_DATE_EPOCH", job.epoch.to_string())
            // The bytes of several threads differ from those of one.
            .env("DPKG_DEB_THREADS_MAX", "1")
            .within(cargo::BUILD_PATIENCE)
            .run()?;
        let packed = tree.join("usr/bin").join(product.name);
        if packed.is_file() {
            let kept = job.stage(product).join("bin").join(product.name);
            host::write(&kept, fs::read(&packed).context("read the packed binary")?)?;
            fs::set_permissions(&kept, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("make {} executable", kept.display()))?;
            binary = Some(kept);
        }
    }
    fs::remove_dir_all(&raw).with_context(|| format!("remove {}", raw.display()))?;
    binary.with_context(|| format!("cargo-deb packed no {}", product.name))
}

/// Writes `DEBIAN/md5sums`: every file but those that an administrator may edit.
fn add_sums(tree: &Path) -> Result<()> {
    let conffiles = fs::read_to_string(tree.join("DEBIAN/conffiles")).unwrap_or_default();
    let names: Vec<String> = host::files_below(tree)?
        .iter()
        .filter_map(|file| file.strip_prefix(tree).ok())
        .filter(|name| !name.starts_with("DEBIAN"))
        .map(|name| name.display().to_string())
        .filter(|name| !conffiles.lines().any(|c| c.trim_start_matches('/') == name))
        .collect();
    ensure!(!names.is_empty(), "the package is empty");
    let sums = Cmd::new("md5sum").args(&names).dir(tree).run()?;
    let file = tree.join("DEBIAN/md5sums");
    host::write(&file, sums)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("set the mode of {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_cover_all_but_what_may_be_edited() {
        let tree = std::env::temp_dir().join(format!("xtask-sums-{}", std::process::id()));
        for (name, text) in [
            ("usr/bin/a", "a"),
            ("etc/a.conf", "b"),
            ("DEBIAN/control", "c"),
            ("DEBIAN/conffiles", "/etc/a.conf\n"),
        ] {
            host::write(&tree.join(name), text).unwrap();
        }
        add_sums(&tree).unwrap();
        let sums = host::read(&tree.join("DEBIAN/md5sums")).unwrap();
        assert_eq!(sums, "0cc175b9c0f1b6a831c399e269772661  usr/bin/a\n");
        fs::remove_dir_all(&tree).unwrap();
    }
}
