//! What the firewall costs: measured by an example of the agent's library, built as released.

use anyhow::Result;

use crate::{cargo, say};

/// Measures and prints. Needs root, for network namespaces, and the program nft to measure beside.
pub(crate) fn run() -> Result<()> {
    say::progress("bench: changes of address sets, and packets");
    let table = cargo::cargo()
        .args(["run", "--quiet", "--locked", "--profile", "fast"])
        .args(["--package", "palisade-agent", "--example", "firewall_cost"])
        .run()?;
    say::line(&table);
    Ok(())
}
