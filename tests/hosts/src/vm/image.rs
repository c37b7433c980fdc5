//! A disk for a guest: the base tree, the kernel's modules, and a way in, as one ext4 file system.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{bounded, toolbox::Toolbox};

const MAKE_WITHIN: Duration = Duration::from_secs(600);

/// Who may log in by ssh.
#[derive(Clone, Debug)]
pub enum Login {
    /// root; the host's key is on the disk, so that the first boot has nothing to generate.
    Root,
    /// A user with `sudo`, as images of clouds have one; each boot finds or makes host keys itself.
    User(String),
}

/// What is put on a disk beyond the base tree.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Who may log in.
    pub login: Login,
    /// Packages to install, between spaces; they are fetched.
    pub packages: String,
}

/// What to put on a disk.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// The base tree.
    pub base: &'a Path,
    /// The kernel package's files, for its modules.
    pub kernel: &'a Path,
    /// The public key of whoever logs in.
    pub key: &'a Path,
    /// Who that is, and what else.
    pub extra: &'a Extra,
    /// Size of the file system in MiB. The file is sparse.
    pub size: u32,
}

impl Image<'_> {
    /// Writes the file system to `out`, which must be in a folder that `tools` shares.
    ///
    /// # Errors
    /// When the tree is incomplete or does not fit.
    pub fn make(&self, tools: &Toolbox, out: &Path) -> Result<()> {
        let user = match &self.extra.login {
            Login::Root => "root",
            Login::User(name) => name,
        };
        let size = format!("{}M", self.size);
        let mut command = tools.command("sh");
        command.args(["-euc", include_str!("image.sh"), "image"]);
        command.args([self.base, self.kernel, self.key, out, Path::new(&size), Path::new(user)]);
        command.arg(&self.extra.packages);
        bounded::run(&mut command, MAKE_WITHIN).context("make a guest's disk")?;
        Ok(())
    }
}
