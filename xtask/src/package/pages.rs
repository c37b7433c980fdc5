//! Man pages and completions, from the very definition that the programs parse their words with.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::Product;

#[expect(dead_code, reason = "only the definition is wanted, not its uses")]
#[path = "../../../agent/bin/src/cli.rs"]
mod palisade;

#[expect(dead_code, reason = "only the definition is wanted, not its uses")]
#[path = "../../../bastionctl/src/cli.rs"]
mod bastionctl;

/// Writes `man/NAME.1`, one more for each verb, and completions for bash, zsh and fish.
pub(crate) fn write(product: &Product, version: &str, dir: &Path) -> Result<()> {
    // clap wants to keep it for ever, which in a chore is not long.
    let version: &'static str = version.to_owned().leak();
    let command = definition(product)?.version(version).disable_help_subcommand(true);
    let man = dir.join("man");
    fs::create_dir_all(&man).with_context(|| format!("create {}", man.display()))?;
    clap_mangen::generate_to(command.clone(), &man).context("write the man pages")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut command = command.clone();
        clap_complete::generate_to(shell, &mut command, product.name, dir)
            .with_context(|| format!("write the completion for {shell}"))?;
    }
    Ok(())
}

fn definition(product: &Product) -> Result<Command> {
    match product.name {
        "palisade" => Ok(palisade::Cli::command()),
        "bastionctl" => Ok(bastionctl::Cli::command()),
        other => bail!("nothing is known of the command line of {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host, package::PRODUCTS};

    #[test]
    fn every_visible_verb_has_a_page_and_is_completed() {
        let dir = std::env::temp_dir().join(format!("xtask-pages-{}", std::process::id()));
        for product in PRODUCTS {
            write(product, "7.8.9", &dir).unwrap();
        }
        let page = host::read(&dir.join("man/palisade.1")).unwrap();
        assert!(page.contains("7.8.9") && page.contains("palisade\\-firewall"), "{page}");
        assert!(dir.join("man/palisade-firewall-status.1").is_file());
        assert!(dir.join("man/bastionctl.1").is_file());
        for file in ["palisade.bash", "_palisade", "palisade.fish"] {
            let text = host::read(&dir.join(file)).unwrap();
            assert!(text.contains("firewall") && text.contains("explain"), "{file}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
