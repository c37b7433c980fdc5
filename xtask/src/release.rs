//! `cargo xtask release`: what a release consists of beside the packages. Every step of the release
//! workflow is one of these, so that it can be tried without the workflow.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{changelog, cmd::Cmd, host, package, say};

/// One step.
#[derive(Debug, Subcommand)]
pub(crate) enum Step {
    /// Move the fragments of changelog.d/ into CHANGELOG.md as what VERSION brought
    Fold {
        version: String,
        /// The day, such as 2026-11-25 [default: the last commit's]
        #[arg(long)]
        date: Option<String>,
    },
    /// Fail unless TAG, the sources and CHANGELOG.md name the same version, and nothing is unfolded
    CheckTag { tag: String },
    /// Print what CHANGELOG.md says of VERSION
    Notes { version: String },
    /// Write SHA256SUMS over DIR, and its signature if there is a key
    Sums {
        dir: PathBuf,
        #[arg(long, value_name = "KEYFILE")]
        sign: Option<PathBuf>,
    },
    /// Check SHA256SUMS in DIR, and its signature if there is a key
    Verify {
        dir: PathBuf,
        #[arg(long, value_name = "KEYFILE")]
        key: Option<PathBuf>,
    },
    /// Write DIR/provenance.json: from which commit, by which tools, which files with which digest
    Provenance { dir: PathBuf },
}

/// Does a step.
pub(crate) fn run(step: &Step) -> Result<()> {
    match step {
        Step::Fold { version, date } => {
            let date = match date {
                Some(date) => date.clone(),
                None => git(&["log", "-1", "--format=%cs"])?,
            };
            changelog::fold(version, &date)
        }
        Step::CheckTag { tag } => check_tag(tag),
        Step::Notes { version } => {
            say::line(changelog::notes(version)?.trim_end());
            Ok(())
        }
        Step::Sums { dir, sign } => package::sums(dir, sign.as_deref()),
        Step::Verify { dir, key } => package::verify_sums(dir, key.as_deref()),
        Step::Provenance { dir } => provenance(dir),
    }
}

fn check_tag(tag: &str) -> Result<()> {
    let Some(version) = tag.strip_prefix('v') else {
        bail!("the tag {tag} must be v and a version, such as v{}", env!("CARGO_PKG_VERSION"));
    };
    ensure!(
        version == env!("CARGO_PKG_VERSION"),
        "the tag is {version} and Cargo.toml says {}",
        env!("CARGO_PKG_VERSION")
    );
    changelog::notes(version)?;
    let pending = changelog::pending()?.len();
    ensure!(
        pending == 0,
        "changelog.d/ still holds {pending} fragments: cargo xtask release fold {version}"
    );
    Ok(())
}

/// An in-toto statement with a SLSA predicate, over what `SHA256SUMS` lists. In the release workflow
/// GitHub signs one of its own; this one is for whoever builds elsewhere and compares.
fn provenance(dir: &Path) -> Result<()> {
    let sums = host::read(&dir.join("SHA256SUMS"))?;
    let lock = Cmd::new("sha256sum").arg(host::workspace().join("Cargo.lock")).run()?;
    let rustc = Cmd::new("rustc").arg("--version").dir(host::workspace()).run()?;
    let facts = Facts {
        commit: git(&["rev-parse", "HEAD"])?,
        is_clean: git(&["status", "--porcelain"])?.is_empty(),
        lock: lock.split_whitespace().next().unwrap_or_default().to_owned(),
        rustc: rustc.trim().to_owned(),
        repository: env!("CARGO_PKG_REPOSITORY"),
    };
    let text = serde_json::to_string_pretty(&statement(&sums, &facts)?)?;
    host::write(&dir.join("provenance.json"), text + "\n")
}

struct Facts {
    commit: String,
    is_clean: bool,
    lock: String,
    rustc: String,
    repository: &'static str,
}

fn statement(sums: &str, facts: &Facts) -> Result<Value> {
    let subjects: Vec<Value> = sums
        .lines()
        .map(|line| {
            let (digest, name) = line.split_once("  ").context("read a line of SHA256SUMS")?;
            Ok(json!({ "name": name, "digest": { "sha256": digest } }))
        })
        .collect::<Result<_>>()?;
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": format!("{}/cargo-xtask-package", facts.repository),
                "externalParameters": { "command": "cargo xtask package" },
                "internalParameters": { "rustc": facts.rustc, "sourcesUnchanged": facts.is_clean },
                "resolvedDependencies": [
                    {
                        "uri": format!("git+{}", facts.repository),
                        "digest": { "gitCommit": facts.commit },
                    },
                    { "uri": "file:Cargo.lock", "digest": { "sha256": facts.lock } },
                ],
            },
            "runDetails": { "builder": { "id": format!("{}/xtask", facts.repository) } },
        },
    }))
}

fn git(args: &[&str]) -> Result<String> {
    let said = Cmd::new("git").args(args).dir(host::workspace()).run()?;
    Ok(said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_names_every_file_and_the_commit() {
        let facts = Facts {
            commit: "c0ffee".to_owned(),
            is_clean: true,
            lock: "10c4".to_owned(),
            rustc: "rustc 1".to_owned(),
            repository: "https://example.org/p",
        };
        let said = statement("aa  a.deb\nbb  b.rpm\n", &facts).unwrap();
        assert_eq!(said["subject"][1], json!({ "name": "b.rpm", "digest": { "sha256": "bb" } }));
        let from = &said["predicate"]["buildDefinition"]["resolvedDependencies"][0];
        assert_eq!(from["digest"]["gitCommit"], "c0ffee");
        assert!(statement("no sums", &facts).is_err());
    }

    #[test]
    fn a_tag_of_another_version_is_refused() {
        assert!(check_tag("1.0").unwrap_err().to_string().contains("must be v"));
        let e = check_tag("v99.0.0").unwrap_err().to_string();
        assert!(e.contains("99.0.0") && e.contains("Cargo.toml"), "{e}");
    }
}
