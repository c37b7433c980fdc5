//! The .rpm, of the same binary as the .deb.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{Job, Product, tools::Tools};
use crate::{
    cargo::{self, Profile},
    cmd::Cmd,
    host,
};

/// Packs a product into `out`. `binary` lies in the stage, where the metadata names it.
pub(crate) fn pack(
    job: &Job,
    product: &Product,
    tools: &Tools,
    binary: &Path,
    key: Option<&Path>,
    out: &Path,
) -> Result<()> {
    ensure!(binary.starts_with(job.stage(product)), "{} is not staged", binary.display());
    let crate_dir = host::workspace().join(product.dir);
    let mut cmd = Cmd::new(&tools.rpm)
        .args(["--profile", job.profile.dir(), "--auto-req", "disabled"])
        .args(["--set-metadata", &format!("version = \"{}\"", job.version)])
        .args(["--source-date", &job.epoch.to_string()])
        .arg("--target-dir")
        .arg(&job.target)
        .arg("--output")
        .arg(out)
        // Sources in the metadata are relative to the crate.
        .dir(crate_dir)
        .within(cargo::BUILD_PATIENCE);
    if job.profile == Profile::Quick {
        // In seconds instead of a minute.
        cmd = cmd.args(["--payload-compress", "gzip"]);
    }
    if let Some(key) = key {
        cmd = cmd.arg("--signing-key").arg(key);
    }
    cmd.run().map(|_| ()).with_context(|| format!("pack {} as .rpm", product.name))
}
