//! How rendering and checking of templates grow: measured by an example of the model, built as released.

use anyhow::Result;

use crate::{cargo, host, say};

/// Measures and prints.
pub(crate) fn run() -> Result<()> {
    say::progress("bench: templates of 5 to 50 stacks");
    let table = cargo::cargo()
        .args(["run", "--quiet", "--locked", "--profile", "fast"])
        .args(["--package", "palisade-infra-model", "--example", "scale", "--"])
        .args([host::workspace().join("infra")])
        .run()?;
    say::line(&table);
    Ok(())
}
