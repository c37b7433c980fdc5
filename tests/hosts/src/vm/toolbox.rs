//! The tools tree (QEMU, Packer, mke2fs and their like) as a place to run programs in.
//!
//! Each program gets a mount namespace of its own, where the tree is the root and the shared folders
//! are at their usual paths. The tree itself is never written to: what a program writes outside the
//! shared folders is in memory and goes with it.
#![expect(clippy::disallowed_methods, reason = "a harness starts programs")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::bounded;

/// Arguments: the tree, how many folders, the folders, the program and its arguments.
const ENTER: &str = include_str!("enter.sh");

/// Where programs run.
#[derive(Clone, Debug)]
pub struct Toolbox {
    tree: PathBuf,
    shared: Vec<PathBuf>,
}

impl Toolbox {
    /// The tools tree at `tree`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn new(tree: &Path) -> Result<Self> {
        let tree = fs::canonicalize(tree)
            .with_context(|| format!("find the tools tree {}", tree.display()))?;
        Ok(Self { tree, shared: Vec::new() })
    }

    /// A folder that programs see at its own path, and may write to.
    #[must_use]
    pub fn share(mut self, folder: &Path) -> Self {
        self.shared.push(folder.to_owned());
        self
    }

    /// A program, not yet started. Its pid will be the pid of what is started here.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.command_in(None, program)
    }

    /// The same in a network namespace.
    pub(super) fn command_in(&self, netns: Option<&str>, program: &str) -> Command {
        let mut command = match netns {
            None => Command::new("unshare"),
            Some(name) => {
                let mut enter = Command::new("nsenter");
                enter.arg(format!("--net=/run/netns/{name}")).args(["--", "unshare"]);
                enter
            }
        };
        command.args(["--mount", "--", "sh", "-euc", ENTER, "enter"]).arg(&self.tree);
        command.arg(self.shared.len().to_string()).args(&self.shared).arg(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/root");
        // Registries may be behind a proxy.
        for name in ["http_proxy", "https_proxy", "no_proxy"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Runs a shell script with arguments to a good end and returns what it printed.
    ///
    /// # Errors
    /// When it fails or takes longer than `patience`.
    pub fn script<'a>(
        &self,
        script: &str,
        args: impl IntoIterator<Item = &'a Path>,
        patience: Duration,
    ) -> Result<String> {
        bounded::run(self.command("sh").args(["-euc", script, "script"]).args(args), patience)
    }
}
