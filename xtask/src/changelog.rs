//! `changelog.d/`: one small file for each change that a user sees, so that branches never meet in
//! one file. A release folds them into `CHANGELOG.md`.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::{host, say};

const FOLDER: &str = "changelog.d";
const FILE: &str = "CHANGELOG.md";
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

/// A change that is not released yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    file: PathBuf,
    kind: String,
    /// What it says, on one line.
    pub(crate) text: String,
}

/// What a release brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) version: String,
    /// `2026-11-25`.
    pub(crate) date: String,
    /// Each on one line.
    pub(crate) changes: Vec<String>,
}

/// The fragments, in the order of kinds.
pub(crate) fn pending() -> Result<Vec<Fragment>> {
    let mut found = Vec::new();
    for file in host::files_below(&host::workspace().join(FOLDER))? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(kind) = is_fragment(&name).then(|| name.rsplit('.').nth(1)).flatten() {
            let text = one_line(&host::read(&file)?);
            found.push(Fragment { kind: kind.to_owned(), text, file });
        }
    }
    found.sort_by_key(|f| KINDS.iter().position(|k| *k == f.kind));
    Ok(found)
}

/// What `CHANGELOG.md` says of the releases so far, the newest first.
pub(crate) fn released() -> Result<Vec<Release>> {
    Ok(parse(&host::read(&host::workspace().join(FILE))?))
}

/// Moves every fragment into `CHANGELOG.md` as what `version` brought.
pub(crate) fn fold(version: &str, date: &str) -> Result<()> {
    let fragments = pending()?;
    ensure!(!fragments.is_empty(), "{FOLDER}/ holds no change: there is nothing to release");
    let path = host::workspace().join(FILE);
    let text = host::read(&path)?;
    ensure!(
        parse(&text).iter().all(|r| r.version != version),
        "{FILE} has {version} already; a release is not changed afterwards"
    );
    host::write(&path, with_release(&text, version, date, &fragments))?;
    for Fragment { file, .. } in &fragments {
        std::fs::remove_file(file)?;
    }
    say::line(&format!("{FILE}: {version} with {} changes", fragments.len()));
    Ok(())
}

/// The part of `CHANGELOG.md` about one release, for its page.
pub(crate) fn notes(version: &str) -> Result<String> {
    let text = host::read(&host::workspace().join(FILE))?;
    let heading = format!("## {version} - ");
    let mut lines = text.lines().skip_while(|l| !l.starts_with(&heading)).skip(1).peekable();
    ensure!(lines.peek().is_some(), "{FILE} says nothing of {version}");
    let body: Vec<_> = lines.take_while(|l| !l.starts_with("## ")).collect();
    Ok(body.join("\n").trim().to_owned() + "\n")
}

fn with_release(text: &str, version: &str, date: &str, fragments: &[Fragment]) -> String {
    let mut entry = format!("## {version} - {date}\n");
    for kind in KINDS {
        let of_kind: Vec<_> = fragments.iter().filter(|f| f.kind == *kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let (first, rest) = kind.split_at(1);
        entry.push_str(&format!("\n### {}{rest}\n\n", first.to_uppercase()));
        of_kind.iter().for_each(|f| entry.push_str(&format!("- {}\n", f.text)));
    }
    match text.find("\n## ") {
        Some(at) => {
            let (head, tail) = text.split_at(at + 1);
            format!("{head}{entry}\n{tail}")
        }
        None => format!("{}\n\n{entry}", text.trim_end()),
    }
}

fn parse(text: &str) -> Vec<Release> {
    let mut releases: Vec<Release> = Vec::new();
    for line in text.lines() {
        if let Some((version, date)) =
            line.strip_prefix("## ").and_then(|heading| heading.split_once(" - "))
        {
            let (version, date) = (version.to_owned(), date.to_owned());
            releases.push(Release { version, date, changes: Vec::new() });
            continue;
        }
        let Some(release) = releases.last_mut() else { continue };
        if let Some(change) = line.strip_prefix("- ") {
            release.changes.push(change.to_owned());
        } else if let Some(more) = line.strip_prefix("  ")
            && let Some(change) = release.changes.last_mut()
        {
            change.push(' ');
            change.push_str(more.trim());
        }
    }
    releases
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
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

    #[test]
    fn a_release_is_found_again_as_it_was_folded_in() {
        let fragment = |kind: &str, text: &str| Fragment {
            file: PathBuf::new(),
            kind: kind.to_owned(),
            text: text.to_owned(),
        };
        let old = "# Changelog\n\nWords.\n\n## 0.1.0 - 2026-01-02\n\n### Fixed\n\n- one\n  line\n";
        let new = with_release(
            old,
            "0.2.0",
            "2026-03-04",
            &[fragment("added", "a"), fragment("security", "b")],
        );
        assert!(
            new.starts_with("# Changelog\n\nWords.\n\n## 0.2.0 - 2026-03-04\n\n### Added\n\n- a\n")
        );
        let releases = parse(&new);
        let seen: Vec<_> =
            releases.iter().map(|r| (r.version.as_str(), r.changes.join("|"))).collect();
        assert_eq!(seen, [("0.2.0", "a|b".to_owned()), ("0.1.0", "one line".to_owned())]);
        let first = with_release("# Changelog\n", "0.1.0", "2026-01-02", &[fragment("fixed", "x")]);
        assert_eq!(first, "# Changelog\n\n## 0.1.0 - 2026-01-02\n\n### Fixed\n\n- x\n");
    }
}
