//! The changelog as Debian wants it, from `CHANGELOG.md` and the fragments of `changelog.d/`.

use anyhow::{Context as _, Result};

use crate::{
    changelog::{self, Release},
    cmd::Cmd,
};

/// Who signs off the entries.
const MAINTAINER: &str = "The Palisade maintainers <maintainers@palisade.example>";
/// Longest line.
const WIDTH: usize = 78;

/// The whole file. What is not released yet becomes the entry of `version`.
pub(crate) fn debian(package: &str, version: &str, epoch: u64) -> Result<String> {
    let now = date(&format!("@{epoch}"))?;
    let mut entries = Vec::new();
    let released = changelog::released()?;
    if released.first().is_none_or(|newest| newest.version != version) {
        let pending: Vec<_> = changelog::pending()?.into_iter().map(|f| f.text).collect();
        entries.push(entry(package, version, &pending, &now));
    }
    for Release { version, date: day, changes } in &released {
        entries.push(entry(package, version, changes, &date(day)?));
    }
    Ok(entries.join("\n"))
}

fn entry(package: &str, version: &str, changes: &[String], date: &str) -> String {
    let mut text = format!("{package} ({version}-1) stable; urgency=medium\n\n");
    for change in changes {
        text.push_str(&bullet(change));
    }
    if changes.is_empty() {
        text.push_str("  * No change that a user would notice.\n");
    }
    text.push_str(&format!("\n -- {MAINTAINER}  {date}\n"));
    text
}

fn bullet(change: &str) -> String {
    let mut lines = vec!["  *".to_owned()];
    for word in change.split_whitespace() {
        let full =
            lines.last().is_some_and(|l| l.chars().count() + 1 + word.chars().count() > WIDTH);
        if full {
            lines.push("   ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

/// As mail writes it, in UTC.
fn date(when: &str) -> Result<String> {
    let said = Cmd::new("date")
        .args(["-u", "-R", "-d", when])
        .env("LC_ALL", "C")
        .run()
        .with_context(|| format!("read the date {when}"))?;
    Ok(said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_dpkg_parses() {
        let long = "word ".repeat(40);
        let text = entry("palisade", "1.2.3", &[long, "two".to_owned()], &date("@0").unwrap());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"palisade (1.2.3-1) stable; urgency=medium"));
        let is_signature = |l: &&&str| l.starts_with(" -- ");
        let longest = lines.iter().filter(|l| !is_signature(l)).map(|l| l.chars().count()).max();
        assert!(longest <= Some(WIDTH) && lines.len() > 7, "{text}");
        assert!(text.contains("\n  * two\n"));
        assert!(text.ends_with("example>  Thu, 01 Jan 1970 00:00:00 +0000\n"), "{text}");
    }
}
