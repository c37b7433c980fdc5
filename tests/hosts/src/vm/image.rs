//! A disk for a guest: the base tree, the kernel's modules, and a way in, as one ext4 file system.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::script;

const MAKE_WITHIN: Duration = Duration::from_secs(600);

/// Who may log in by ssh.
#[derive(Clone, Debug)]
pub enum Login {
    /// root; the host's key is on the disk, so that the first boot has nothing to generate.
    Root,
    /// A user with `sudo`, as images of clouds have one.
    User(String),
}

/// What is put on a disk beyond the base tree.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Who may log in.
    pub login: Login,
    /// Packages to install, between spaces; they are fetched.
    pub packages: String,
    /// Size of the file system in MiB. The file is sparse.
    pub size: u32,
}

/// Writes the file system to `out`. `kernel` has the kernel package's files, `key` is the public key
/// of whoever logs in.
pub(super) fn make(
    base: &Path,
    kernel: &Path,
    key: &Path,
    extra: &Extra,
    out: &Path,
) -> Result<()> {
    let user = match &extra.login {
        Login::Root => "root",
        Login::User(name) => name,
    };
    let base = fs::canonicalize(base).with_context(|| format!("find {}", base.display()))?;
    let folder = out.parent().context("a disk needs a folder")?;
    let size = format!("{}M", extra.size);
    let args = [&base, kernel, key, out, size.as_ref(), user.as_ref(), extra.packages.as_ref()];
    script(include_str!("image.sh"), &args, &[&base, folder], MAKE_WITHIN)
        .context("make a guest's disk")?;
    Ok(())
}
