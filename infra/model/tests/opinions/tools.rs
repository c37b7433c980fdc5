//! Where the public linters are, and running them. `cargo xtask setup` installs them; without them these
//! tests say why they do nothing.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The tools' directory.
pub(crate) struct Tools(PathBuf);

impl Tools {
    /// Where they are, or the line that says why a test is skipped.
    pub(crate) fn find() -> Result<Self, String> {
        let dir = std::env::var_os("PALISADE_INFRA_TOOLS")
            .map_or_else(|| target().join("infra-tools"), PathBuf::from);
        let tools = Self(dir);
        for program in [tools.cfn_lint(), tools.checkov(), tools.guard()] {
            if !program.is_file() {
                let path = program.display();
                return Err(format!("skipped: no {path}: run `cargo xtask setup`"));
            }
        }
        Ok(tools)
    }

    pub(crate) fn cfn_lint(&self) -> PathBuf {
        self.0.join("venv/bin/cfn-lint")
    }

    pub(crate) fn checkov(&self) -> PathBuf {
        self.0.join("venv-checkov/bin/checkov")
    }

    pub(crate) fn guard(&self) -> PathBuf {
        let bin = format!("bin/ubuntu/{}/cfn-guard", std::env::consts::ARCH);
        self.guard_package().join(bin)
    }

    /// Control Tower's rules.
    pub(crate) fn guard_rules(&self) -> PathBuf {
        self.guard_package().join("rules/control-tower/cfn-guard")
    }

    fn guard_package(&self) -> PathBuf {
        self.0.join("node_modules/@cdklabs/cdk-validator-cfnguard")
    }
}

/// Cargo's target directory: test binaries are in `<target>/<profile>/deps`.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).map(Path::to_owned).unwrap()
}

/// What a tool says. One that fails because it found something is no failure; its words are looked at.
pub(crate) fn said(command: &mut Command) -> serde_json::Value {
    let Output { status, stdout, stderr } = command.output().unwrap();
    serde_json::from_slice(&stdout).unwrap_or_else(|e| {
        let text = String::from_utf8_lossy(&stdout);
        let errors = String::from_utf8_lossy(&stderr);
        panic!("{command:?} ended with {status}, {e}:\n{text:.2000}\n{errors:.2000}")
    })
}
