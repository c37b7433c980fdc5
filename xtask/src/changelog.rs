//! `changelog.d/`: one small file for each change that a user sees, so that branches never meet in
//! one file.

use anyhow::{Result, bail, ensure};

use crate::{host, say};

const FOLDER: &str = "changelog.d";
const KINDS: &[&str] = &["added", "changed", "fixed", "security"];

/// Fails if a fragment has a name that the release would not find, or says nothing.
pub(crate) fn check() -> Result<()> {
    let folder = host::workspace().join(FOLDER);
    if !folder.is_dir() {
        bail!("{FOLDER}/ is missing");
    }
    let mut fragments = 0;
    let mut wrong = Vec::new();
    for file in host::files_below(&folder)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        fragments += 1;
        if !is_fragment(&name) {
            wrong.push(format!("{name} must be <slug>.<{}>.md", KINDS.join("|")));
        } else if host::read(&file)?.trim().is_empty() {
            wrong.push(format!("{name} is empty"));
        }
    }
    ensure!(wrong.is_empty(), "{FOLDER}: {}", wrong.join("; "));
    say::line(&format!("{fragments} fragments"));
    Ok(())
}

fn is_fragment(name: &str) -> bool {
    let mut parts = name.rsplitn(3, '.');
    let (Some("md"), Some(kind), Some(slug)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let plain = slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    KINDS.contains(&kind) && !slug.is_empty() && plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_says_its_kind() {
        assert!(is_fragment("demo-of-everything.added.md"));
        for bad in ["demo.md", "demo.new.md", "Demo.added.md", ".added.md", "demo.added.txt"] {
            assert!(!is_fragment(bad), "{bad}");
        }
    }
}
