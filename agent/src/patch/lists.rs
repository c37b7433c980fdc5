//! How old the package lists are, source by source. Pure.
//!
//! A file's date says when the archive made it, and apt's exit code is good when a source cannot be
//! reached. So each fetch is judged by what it says of each source, and the moment of the last good
//! one is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// One source of packages, as `http://deb.debian.org/debian bookworm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceList {
    /// Where and which suite.
    pub source: String,
    /// Whether it carries the distribution's security updates.
    pub security: bool,
    /// Whether its lists are on disk.
    pub present: bool,
    /// When it was last fetched, or found unchanged.
    pub fetched: Option<Timestamp>,
    /// What went wrong with the last fetch.
    pub trouble: Option<Trouble>,
}

/// What went wrong with a fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// In the package manager's words.
    pub what: String,
    /// Whether what came cannot be trusted: damaged, forged, expired. Otherwise nothing came.
    pub untrusted: bool,
}

/// What is remembered of fetches, by source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetches {
    /// Version of this document.
    pub v: u32,
    /// Each source's last good fetch and the trouble since.
    pub sources: BTreeMap<String, Fetch>,
}

/// What is remembered of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// When it was last good.
    pub fetched: Option<Timestamp>,
    /// What went wrong since.
    pub trouble: Option<Trouble>,
}

/// A source as `apt-get indextargets` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As in [`SourceList`].
    pub source: String,
    /// `l=LABEL`, `o=ORIGIN`, `a=SUITE` and `n=CODENAME`, as far as its release file is here.
    pub release: Vec<String>,
    /// The file of the index. One without packages is not kept.
    pub file: String,
    /// What the names of its release files begin with.
    pub base: String,
}

/// Reads the output of `apt-get indextargets --no-release-info 'Created-By: Packages'`, which names
/// sources that were never fetched too. What releases they are is not in it; see [`parse_release`].
#[must_use]
pub fn parse_targets(text: &str) -> Vec<Target> {
    text.split("\n\n").filter_map(target).collect()
}

fn target(stanza: &str) -> Option<Target> {
    let field = |key: &str| field(stanza, key);
    let uri = without_password(field("Repo-URI")?);
    let source = format!("{} {}", uri.trim_end_matches('/'), field("Release")?);
    let file = field("Filename")?;
    let key = field("MetaKey")?.replace('/', "_");
    let base = file.strip_suffix(&key).unwrap_or(file).to_owned();
    Some(Target { source, release: Vec::new(), file: file.to_owned(), base })
}

/// The address without a user and password in it, as apt itself prints it: it is shown and sent.
fn without_password(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}/{path}")
}

/// What a pin may say of a release, from the head of its `Release` or `InRelease` file.
#[must_use]
pub fn parse_release(text: &str) -> Vec<String> {
    let keys = [("l", "Label"), ("o", "Origin"), ("a", "Suite"), ("n", "Codename")];
    keys.iter().filter_map(|(k, name)| Some(format!("{k}={}", field(text, name)?))).collect()
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": ")).map(str::trim)
}

/// Whether a release is meant by a pin such as `o=Ubuntu,a=noble-security`.
#[must_use]
pub fn carries(release: &[String], label: &str) -> bool {
    label.split(',').all(|part| release.iter().any(|r| r == part.trim()))
}

/// What a fetch by `apt-get update` brought, source by source, after what was known before.
///
/// `output` is what it printed on both outputs in the C locale, `clean` whether it had no complaint at
/// all. A source that is not known to be good is not counted as fetched.
#[must_use]
pub fn after_update(
    before: &Fetches,
    targets: &[Target],
    output: &str,
    clean: bool,
    now: Timestamp,
) -> Fetches {
    let items = items(output);
    let complaints: Vec<&str> = output
        .lines()
        .filter_map(|l| l.strip_prefix("E: ").or_else(|| l.strip_prefix("W: ")))
        .collect();
    let trouble_of = |source: &str| {
        let of_it = || items.values().filter(|i| mentions(&i.what, source));
        let failed = of_it().find(|i| !i.good).map(|i| i.why.as_str());
        let about = || complaints.iter().copied().filter(|c| mentions(c, source));
        // Where nothing at all went wrong, every source was fetched, also one that goes by another name
        // in what apt prints, as those of a mirror list do.
        let nothing = (!clean && of_it().next().is_none()).then_some("it was not fetched");
        let what = failed.filter(|w| !w.is_empty()).or_else(|| about().next()).or(nothing)?;
        let untrusted = is_untrusted(what) || about().any(is_untrusted);
        Some(Trouble { what: what.to_owned(), untrusted })
    };
    let sources: std::collections::BTreeSet<_> = targets.iter().map(|t| &t.source).collect();
    let mut found: BTreeMap<String, Option<Trouble>> =
        sources.iter().map(|s| ((*s).clone(), trouble_of(s))).collect();
    if !clean && found.values().all(Option::is_none) {
        // It failed and does not say for which: none of them counts.
        let what = complaints.first().copied().unwrap_or("apt-get update failed").to_owned();
        let untrusted = is_untrusted(&what);
        found.values_mut().for_each(|t| *t = Some(Trouble { what: what.clone(), untrusted }));
    }
    let fetch = |(source, trouble): (String, Option<Trouble>)| {
        let fetched = match &trouble {
            None => Some(now),
            Some(_) => before.sources.get(&source).and_then(|f| f.fetched),
        };
        (source, Fetch { fetched, trouble })
    };
    Fetches { v: 1, sources: found.into_iter().map(fetch).collect() }
}

/// One file that apt fetched or tried to.
#[derive(Debug)]
struct Item {
    what: String,
    good: bool,
    why: String,
}

/// `Hit:1 URI SUITE InRelease`, `Get:2 …`, `Ign:3 …`, `Err:4 …` and then its reason, indented. A file
/// that is tried again keeps its number, so its last word counts.
fn items(output: &str) -> BTreeMap<u32, Item> {
    let mut found: BTreeMap<u32, Item> = BTreeMap::new();
    let mut last_err = None;
    for line in output.lines() {
        if let (Some(number), Some(reason)) = (last_err, line.strip_prefix("  ")) {
            if let Some(item) = found.get_mut(&number).filter(|i| i.why.is_empty()) {
                reason.clone_into(&mut item.why);
            }
            continue;
        }
        last_err = None;
        let Some((word, rest)) = line.split_once(':') else { continue };
        let good = match word {
            "Hit" | "Get" => true,
            "Err" | "Ign" => false,
            _ => continue,
        };
        let Some((number, what)) = rest.split_once(' ') else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        // An ignored file need not be there, or is tried again.
        if word == "Ign" {
            continue;
        }
        if word == "Err" {
            last_err = Some(number);
        }
        found.insert(number, Item { what: what.to_owned(), good, why: String::new() });
    }
    found
}

/// Whether a text speaks of this source: `URI SUITE` or `URI/dists/SUITE`, and there the suite ends.
fn mentions(text: &str, source: &str) -> bool {
    let (uri, suite) = source.split_once(' ').unwrap_or((source, ""));
    text.match_indices(uri).any(|(at, _)| {
        let rest = text.get(at + uri.len()..).unwrap_or_default();
        let rest =
            rest.strip_prefix("/dists/").or_else(|| rest.trim_start_matches('/').strip_prefix(' '));
        let after = rest.and_then(|r| r.strip_prefix(suite.trim_end_matches('/')));
        after.is_some_and(|a| a.is_empty() || a.starts_with([' ', '/', ':']))
    })
}

fn is_untrusted(text: &str) -> bool {
    [
        "Hash Sum mismatch",
        "signature",
        "NO_PUBKEY",
        "not signed",
        "expired",
        "not valid yet",
        "not have a Release file",
        "no longer have a Release file",
        "no longer has a Release file",
        "File has unexpected size",
        "Clearsigned file isn't valid",
    ]
    .iter()
    .any(|mark| text.contains(mark))
}

/// The sources as they are: what apt is set up to use, with what is remembered of each.
#[must_use]
pub fn sources(
    targets: &[Target],
    fetches: &Fetches,
    labels: &[String],
    is_there: impl Fn(&Target) -> bool,
) -> Vec<SourceList> {
    let mut found: Vec<SourceList> = Vec::new();
    for target in targets {
        let present = is_there(target);
        let security = labels.iter().any(|l| carries(&target.release, l));
        if let Some(known) = found.iter_mut().find(|s| s.source == target.source) {
            known.present |= present;
            known.security |= security;
            continue;
        }
        let fetch = fetches.sources.get(&target.source).cloned().unwrap_or_default();
        found.push(SourceList {
            source: target.source.clone(),
            security,
            present,
            fetched: fetch.fetched,
            trouble: fetch.trouble,
        });
    }
    found
}

#[cfg(test)]
mod tests;
