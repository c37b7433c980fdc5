//! Where the root file systems of test hosts are: `base` (what a host boots), `tools` (programs that
//! this machine need not have) and `vm` (kernel and snapshot), made by `cargo xtask hosts`.

use std::path::{Path, PathBuf};

/// The directory with all trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trees {
    dir: PathBuf,
}

impl Trees {
    /// `PALISADE_HOSTS`, else `hosts` below the target directory.
    #[must_use]
    pub fn here() -> Self {
        let dir = std::env::var_os("PALISADE_HOSTS")
            .map_or_else(|| target_dir().join("hosts"), PathBuf::from);
        Self { dir }
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Debian 12 with systemd: what a host boots.
    #[must_use]
    pub fn base(&self) -> PathBuf {
        self.dir.join("base")
    }

    /// Debian 12 with QEMU, Packer, dnf, lintian and the like.
    #[must_use]
    pub fn tools(&self) -> PathBuf {
        self.dir.join("tools")
    }

    /// What QEMU guests start from.
    #[must_use]
    pub fn vm(&self) -> PathBuf {
        self.dir.join("vm")
    }
}

/// The trees, if nspawn hosts can be booted here; else a line that begins with `skipped: `.
///
/// # Errors
/// The reason why there can be no host.
pub fn for_hosts() -> Result<Trees, String> {
    let trees = Trees::here();
    if !nix::unistd::geteuid().is_root() {
        return Err("skipped: test hosts need root".to_owned());
    }
    if !crate::exec::is_installed("systemd-nspawn") {
        return Err("skipped: no systemd-nspawn here (`cargo xtask setup` installs it)".to_owned());
    }
    if !is_tree(&trees.base()) {
        return Err(missing(&trees.base()));
    }
    Ok(trees)
}

/// The trees, if there is a tools root; else a line that begins with `skipped: `.
///
/// # Errors
/// The reason why there are no tools.
pub fn for_tools() -> Result<Trees, String> {
    let trees = Trees::here();
    if !nix::unistd::geteuid().is_root() {
        return Err("skipped: the tools root needs root".to_owned());
    }
    if !is_tree(&trees.tools()) {
        return Err(missing(&trees.tools()));
    }
    Ok(trees)
}

fn missing(tree: &Path) -> String {
    format!("skipped: {} is not there (`cargo xtask hosts` makes it)", tree.display())
}

fn is_tree(dir: &Path) -> bool {
    dir.join("etc/os-release").symlink_metadata().is_ok()
}

/// Where cargo builds.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The workspace's own directory.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
