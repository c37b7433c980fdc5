//! `cargo xtask ami`: the image of an origin host, checked and built without an AWS account.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use palisade_hosts::ami::{Build, validate};

use crate::{cargo, cmd::Cmd, host, say};

/// What to do with the image.
#[derive(Debug, Subcommand)]
pub(crate) enum Chore {
    /// Check the template: `packer validate`, what it must say, the scripts' syntax
    Check,
    /// Build it under QEMU, through the scripts of the AMI, into target/ami
    #[command(
        after_help = "Example: cargo xtask ami build --deb target/packages/palisade_0.1.0-1_amd64.deb"
    )]
    Build {
        /// The agent's package
        #[arg(long)]
        deb: PathBuf,
    },
}

/// Does it. The trees must be there: `cargo xtask hosts`.
pub(crate) fn run(chore: &Chore) -> Result<()> {
    let target = cargo::target_dir()?;
    let template = host::workspace().join("ami");
    let out = target.join("ami");
    match chore {
        Chore::Check => {
            fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
            validate(&template, &out)?;
            say::progress("ami: the template is valid, and says what it must");
        }
        Chore::Build { deb } => {
            let git_sha = Cmd::new("git")
                .args(["rev-parse", "HEAD"])
                .dir(host::workspace())
                .within(Duration::from_secs(20))
                .run()?;
            let build = Build { template: &template, deb, git_sha: git_sha.trim(), out: &out };
            let built = build.run(&say::progress)?;
            say::progress(&format!(
                "ami: {}, contents in {}",
                built.image.display(),
                built.sbom.display()
            ));
        }
    }
    Ok(())
}
