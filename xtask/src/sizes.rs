//! How long our files are. A file beyond the limit holds more than one idea, or is listed here with
//! the reason why not.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::{host, say};

/// Most lines of a file, its tests not counted.
const LIMIT: usize = 600;
/// How many are shown.
const SHOWN: usize = 10;
/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[];
/// Directories without sources of ours.
const NOT_OURS: &[&str] = &["target", ".git"];

/// Fails if a file is too long.
pub(crate) fn check() -> Result<()> {
    let mut sizes = Vec::new();
    for path in sources()? {
        let name = short(&path);
        if !is_test(&name) {
            sizes.push((lines_without_tests(&host::read(&path)?), name));
        }
    }
    sizes.sort_by(|a, b| b.cmp(a));
    for (lines, name) in sizes.iter().take(SHOWN) {
        say::line(&format!("{lines:>6}  {name}"));
    }
    let total: usize = sizes.iter().map(|(lines, _)| lines).sum();
    say::line(&format!("{total:>6}  in all {} files, tests not counted", sizes.len()));
    let long: Vec<_> = sizes
        .iter()
        .filter(|(lines, name)| *lines > LIMIT && !LONGER.iter().any(|(n, _)| n == name))
        .map(|(lines, name)| format!("{name} has {lines} lines"))
        .collect();
    ensure!(
        long.is_empty(),
        "longer than {LIMIT} lines: {}. Split it, or list it in xtask/src/sizes.rs with the reason",
        long.join(", ")
    );
    Ok(())
}

/// Every Rust file of the workspace.
pub(crate) fn sources() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(host::workspace())? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() && !NOT_OURS.iter().any(|n| name == *n) {
            let files = host::files_below(&entry.path())?;
            found.extend(files.into_iter().filter(|f| f.extension().is_some_and(|x| x == "rs")));
        }
    }
    found.sort();
    Ok(found)
}

/// A path from the workspace on.
pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(host::workspace()).unwrap_or(path).display().to_string()
}

fn is_test(name: &str) -> bool {
    let parts: Vec<_> = name.split('/').collect();
    parts.iter().any(|p| matches!(*p, "tests" | "testutil" | "tests.rs" | "testutil.rs"))
        || name.ends_with("_tests.rs")
}

fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair.first().is_some_and(|l| l.starts_with("#[cfg(test)]"))
            && pair.last().is_some_and(|l| l.starts_with("mod tests {"))
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_at_the_end_do_not_count() {
        assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(lines_without_tests("a\n#[cfg(test)]\nmod testutil;\nb\n"), 4);
    }

    #[test]
    fn files_of_tests_are_known_by_their_place() {
        assert!(is_test("agent/tests/layers.rs") && is_test("agent/src/logs/testutil.rs"));
        assert!(!is_test("agent/src/logs/mod.rs") && !is_test("xtask/src/test.rs"));
    }

    #[test]
    fn our_own_sources_are_found() {
        let names: Vec<_> = sources().unwrap().iter().map(|p| short(p)).collect();
        assert!(names.contains(&"xtask/src/sizes.rs".to_owned()));
        assert!(names.iter().all(|n| !n.starts_with("target/")));
    }
}
