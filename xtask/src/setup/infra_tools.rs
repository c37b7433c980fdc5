//! The public linters that give a second opinion on `infra/templates`, and the emulator that the
//! templates are deployed to: below `<target>/infra-tools`, at the versions that `infra/opinions` pins.
//! Tests look there, or where `PALISADE_INFRA_TOOLS` says.

use std::{fs, path::Path, thread};

use anyhow::{Context as _, Result, anyhow};

use super::{PATIENCE, environment};
use crate::{cargo, cmd::Cmd, host, say};

/// What npm goes by.
const NPM_FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// Installs what is missing or of another version.
pub(crate) fn run() -> Result<()> {
    let pins = host::workspace().join("infra/opinions");
    let tools = cargo::target_dir()?.join("infra-tools");
    fs::create_dir_all(&tools).with_context(|| format!("make {}", tools.display()))?;
    // Both wait for the network most of the time.
    thread::scope(|scope| {
        let checkov = scope.spawn(|| {
            environment(&tools.join("venv-checkov"), &pins.join("requirements-checkov.txt"))
        });
        let others = environment(&tools.join("venv"), &pins.join("requirements.txt"))
            .and_then(|()| cfn_guard(&tools, &pins));
        let checkov = checkov.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
        others.and(checkov)
    })
}

/// cfn-guard as a program, with Control Tower's rules: npm is the only registry that has both.
fn cfn_guard(tools: &Path, pins: &Path) -> Result<()> {
    let mut wanted = String::new();
    for file in NPM_FILES {
        wanted.push_str(&host::read(&pins.join(file))?);
    }
    let mark = tools.join("node_modules/made-from.txt");
    if fs::read_to_string(&mark).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    say::progress(&format!("setup: cfn-guard into {}", tools.display()));
    for file in NPM_FILES {
        host::write(&tools.join(file), host::read(&pins.join(file))?)?;
    }
    // A script that begins with `#!/usr/bin/env node`: the environment's own, not the machine's.
    let bin = tools.join("venv/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    Cmd::new(bin.join("npm"))
        .args(["ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund"])
        .arg("--prefix")
        .arg(tools)
        .env("PATH", format!("{}:{path}", bin.display()))
        .within(PATIENCE)
        .run()
        .context("install cfn-guard by npm")?;
    host::write(&mark, wanted)
}
