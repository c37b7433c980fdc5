//! What Debian's own checker says of the packages: no error, and only warnings that are allowed with
//! a reason in `packaging/lintian-allowed`.
//!
//! lintian is not at home on every machine that builds; where it is missing it runs inside the tree
//! of tools that `cargo xtask hosts` makes, if there is one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cargo,
    cmd::{Cmd, find},
    host, say,
};

const ALLOWED: &str = "packaging/lintian-allowed";

/// Checks every .deb in `dir`.
pub(crate) fn check(dir: &Path) -> Result<()> {
    let Some(program) = Lintian::find()? else {
        say::line("skipped: lintian is not installed here, and `cargo xtask hosts` has not run");
        return Ok(());
    };
    let allowed = allowed(&host::read(&host::workspace().join(ALLOWED))?)?;
    let said = program.run(dir)?;
    let bad: Vec<_> = said.lines().filter(|line| !may_stay(line, &allowed)).collect();
    ensure!(
        bad.is_empty(),
        "lintian: {}\nmend it, or allow a warning in {ALLOWED} with the reason",
        bad.join("\n")
    );
    say::progress("package: lintian has nothing to say that is not allowed");
    Ok(())
}

enum Lintian {
    Installed(PathBuf),
    InTree(PathBuf),
}

impl Lintian {
    fn find() -> Result<Option<Self>> {
        if let Some(path) = find("lintian") {
            return Ok(Some(Self::Installed(path)));
        }
        let hosts = match std::env::var_os("PALISADE_HOSTS") {
            Some(given) => PathBuf::from(given),
            None => cargo::target_dir()?.join("hosts"),
        };
        let tree = hosts.join("tools");
        let there = host::is_root() && tree.join("usr/bin/lintian").is_file();
        Ok(there.then_some(Self::InTree(tree)))
    }

    fn run(&self, dir: &Path) -> Result<String> {
        let options = "--no-tag-display-limit --fail-on none --pedantic";
        let cmd = match self {
            Self::Installed(path) => Cmd::new("sh")
                .args(["-ec", &format!("exec \"$0\" {options} \"$1\"/*.deb")])
                .arg(path)
                .arg(dir),
            // Mounts of our own, gone with the process: the tree stays as it is.
            Self::InTree(tree) => Cmd::new("unshare")
                .args(["--mount", "--propagation", "private", "sh", "-ec"])
                .arg(format!(
                    "mount -t tmpfs none \"$0/tmp\"; mount -t proc none \"$0/proc\"; \
                     mkdir \"$0/tmp/in\"; mount --bind \"$1\" \"$0/tmp/in\"; \
                     exec chroot \"$0\" sh -c 'exec lintian --allow-root {options} /tmp/in/*.deb'"
                ))
                .arg(tree)
                .arg(dir),
        };
        cmd.within(cargo::BUILD_PATIENCE).run().context("run lintian")
    }
}

/// Tags that may be warned of: `TAG: reason` on each line, or a comment.
fn allowed(text: &str) -> Result<Vec<String>> {
    let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let (tag, reason) = line.split_once(": ").unwrap_or((line, ""));
            ensure!(!reason.trim().is_empty(), "{ALLOWED}: {tag} is allowed without a reason");
            Ok(tag.to_owned())
        })
        .collect()
}

/// A line is `W: package: tag details`; notes and what is only pedantry may stay.
fn may_stay(line: &str, allowed: &[String]) -> bool {
    let mut parts = line.splitn(3, ": ");
    let (Some(kind), Some(_), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return true;
    };
    let tag = rest.split_whitespace().next().unwrap_or_default();
    match kind {
        "E" => false,
        "W" => allowed.iter().any(|a| a == tag),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_never_stay_and_warnings_only_with_a_reason() {
        let list = allowed("# why\n\nsome-tag: because\n").unwrap();
        assert!(may_stay("W: palisade: some-tag [x]", &list));
        assert!(may_stay("I: palisade: other-tag", &list));
        assert!(may_stay("N: 1 tag overridden", &list));
        assert!(!may_stay("W: palisade: other-tag", &list));
        assert!(!may_stay("E: palisade: some-tag", &list));
        assert!(allowed("some-tag\n").is_err());
    }
}
