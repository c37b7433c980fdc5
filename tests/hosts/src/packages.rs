//! The packages under test: two versions of ours, built by `cargo xtask package`.

use std::path::{Path, PathBuf};

use crate::trees::target_dir;

/// The version that tests install first.
pub const OLD: &str = "0.1.0";
/// The version that tests upgrade to.
pub const NEW: &str = "0.1.1";

/// A directory with packages.
#[derive(Clone, Debug)]
pub struct Packages {
    dir: PathBuf,
}

impl Packages {
    /// Both versions as `.deb`, from `PALISADE_PACKAGES`, else `packages` below the target directory.
    ///
    /// # Errors
    /// A line that begins with `skipped: ` and says what is missing.
    pub fn debs() -> Result<Self, String> {
        Self::with(Self::deb)
    }

    /// As [`Packages::debs`], for `.rpm`.
    ///
    /// # Errors
    /// As [`Packages::debs`].
    pub fn rpms() -> Result<Self, String> {
        Self::with(Self::rpm)
    }

    fn with(file: fn(&Self, &str) -> PathBuf) -> Result<Self, String> {
        let dir = std::env::var_os("PALISADE_PACKAGES")
            .map_or_else(|| target_dir().join("packages"), PathBuf::from);
        let packages = Self { dir };
        match [OLD, NEW].map(|version| file(&packages, version)).iter().find(|f| !f.is_file()) {
            None => Ok(packages),
            Some(file) => Err(format!(
                "skipped: {} is not there (`cargo xtask package --profile quick`, and again with \
                 `--version {NEW}`, make it)",
                file.display()
            )),
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The Debian package of the agent.
    #[must_use]
    pub fn deb(&self, version: &str) -> PathBuf {
        self.dir.join(format!("palisade_{version}-1_amd64.deb"))
    }

    /// The RPM package of the agent.
    #[must_use]
    pub fn rpm(&self, version: &str) -> PathBuf {
        self.dir.join(format!("palisade-{version}-1.x86_64.rpm"))
    }
}
