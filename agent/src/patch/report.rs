//! A report as SSM Compliance takes it.
//!
//! Pure. Whatever the report says, the list keeps SSM's limits, its ids are unique, its order is the
//! same for the same facts, and it contains a compliant item only if nothing speaks against it: the
//! first item is the host's own verdict, so that a list without packages still says something.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::model::{
    ComplianceItem, ComplianceUpload, PackageItem, PackageState, Report, Severity, Verdict,
};

/// Most items of one report; SSM refuses more.
const MAX_ITEMS: usize = 10_000;
/// Most bytes of all items together as JSON. SSM takes one MiB with everything around it; what is
/// over goes without details first, and then into the count of what was left out.
const MAX_BYTES: usize = 900 * 1024;
/// Most characters of a title.
const MAX_TITLE: usize = 500;
/// Most characters of a value in the details.
const MAX_VALUE: usize = 4096;
/// Most characters of an id or of the name of a run.
const MAX_ID: usize = 100;

/// The id of the item that says how the host stands. No package's name has a slash.
pub const HOST_ID: &str = "palisade/host";
/// The id of the item that says how many items there was no room for.
pub const LEFT_OUT_ID: &str = "palisade/left-out";

/// Bytes of an item's JSON beside its texts: names of fields, quotes, status and severity.
const ITEM_BYTES: usize = 110;
/// Bytes of a detail's JSON beside its texts.
const DETAIL_BYTES: usize = 6;

/// What is told to SSM about `instance`.
#[must_use]
pub fn compliance(report: &Report, instance: &str) -> ComplianceUpload {
    let mut packages: Vec<&PackageItem> = report.items.iter().filter(|i| told(report, i)).collect();
    packages.sort_by_cached_key(|i| order(i));
    let items = fit_within(MAX_BYTES, host(report), numbered(&packages));
    let hash = hash(items.iter().flat_map(|i| {
        let head =
            [i.id.as_str(), &i.title, word(i.severity), if i.compliant { "yes" } else { "no" }];
        head.map(str::to_owned).into_iter().chain(pairs(&i.details)).chain([String::new()])
    }));
    ComplianceUpload {
        instance: instance.to_owned(),
        executed: report.at,
        execution: report.run.as_deref().map(|r| clean(r, MAX_ID)).filter(|r| !r.is_empty()),
        items,
        hash,
    }
}

/// The words of SSM for a severity.
#[must_use]
pub fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Unspecified => "UNSPECIFIED",
        Severity::Informational => "INFORMATIONAL",
        Severity::Low => "LOW",
        Severity::Medium => "MEDIUM",
        Severity::High => "HIGH",
        Severity::Critical => "CRITICAL",
    }
}

/// The words of SSM for where a package stands; `HELD` is ours.
pub(super) fn state_word(state: PackageState) -> &'static str {
    match state {
        PackageState::Installed => "INSTALLED",
        PackageState::InstalledPendingReboot => "INSTALLED_PENDING_REBOOT",
        PackageState::Missing => "MISSING",
        PackageState::Failed => "FAILED",
        PackageState::Held => "HELD",
    }
}

/// SHA-256 of texts, in hexadecimal. Each counts with its length, so that no two lists of texts look
/// alike.
pub(super) fn hash(texts: impl IntoIterator<Item = String>) -> String {
    let mut sha = Sha256::new();
    for text in texts {
        sha.update((text.len() as u64).to_be_bytes());
        sha.update(text.as_bytes());
    }
    sha.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A map as texts, in its order.
pub(super) fn pairs(map: &BTreeMap<String, String>) -> impl Iterator<Item = String> + '_ {
    map.iter().flat_map(|(k, v)| [k.clone(), v.clone()])
}

/// Text on one line, of at most `max` characters; what was cut shows as `...`.
pub(super) fn clean(text: &str, max: usize) -> String {
    const MARK: &str = "...";
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut out: String = text.trim().chars().map(plain).take(max + 1).collect();
    if let Some((end, _)) = out.char_indices().nth(max) {
        let keep = out.char_indices().nth(max.saturating_sub(MARK.len())).map_or(end, |(i, _)| i);
        out.truncate(keep);
        out.push_str(MARK);
    }
    out
}

/// Identifiers in one text of at most `max` characters, cut between two of them.
pub(super) fn listed(names: &[String], max: usize) -> String {
    /// Room for `, and 123456 more`.
    const MORE: usize = 24;
    let mut out = String::new();
    for (n, name) in names.iter().enumerate() {
        let name = clean(name, 64);
        if out.chars().count() + name.chars().count() + 2 + MORE > max {
            out.push_str(&format!(", and {} more", names.len() - n));
            break;
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(&name);
    }
    out
}

/// How many bytes a text takes within JSON.
pub(super) fn json_len(text: &str) -> usize {
    text.chars().map(|c| if matches!(c, '"' | '\\') { 2 } else { c.len_utf8() }).sum()
}

/// Where nobody knows how the host stands, nothing is called compliant.
fn told(report: &Report, item: &PackageItem) -> bool {
    !(matches!(report.verdict, Verdict::Unknown { .. }) && item.state.is_compliant())
}

/// What needs something done comes first, the worst of it foremost.
fn order(i: &PackageItem) -> (bool, std::cmp::Reverse<Severity>, String, String, String) {
    let text = |v: &Option<String>| v.clone().unwrap_or_default();
    let version = format!("{}\0{}\0{}", text(&i.available), text(&i.installed), i.why);
    let rest = format!("{version}\0{}\0{}", state_word(i.state), i.cves.join(","));
    (i.state.is_compliant(), std::cmp::Reverse(i.severity), i.name.clone(), version, rest)
}

/// The host's own item.
fn host(report: &Report) -> ComplianceItem {
    let wrong = report.items.iter().filter(|i| !i.state.is_compliant());
    let count = wrong.clone().count();
    let worst = wrong.map(|i| i.severity).max().unwrap_or_default();
    let (compliant, severity, title) = match &report.verdict {
        Verdict::Unknown { why } => {
            (false, Severity::Unspecified, format!("compliance unknown: {why}"))
        }
        Verdict::Compliant if count == 0 => {
            (true, Severity::Unspecified, "no security update is missing".to_owned())
        }
        Verdict::NonCompliant if count == 0 => {
            (false, Severity::Unspecified, "not as it should be; no package is named".to_owned())
        }
        // A verdict that its own items contradict is not believed.
        Verdict::Compliant | Verdict::NonCompliant => {
            (false, worst, format!("{count} packages are not as they should be"))
        }
    };
    let mut details = BTreeMap::new();
    if let Some(release) = &report.release {
        details.insert("Release".to_owned(), clean(release, MAX_VALUE));
    }
    let title = clean(&title, MAX_TITLE);
    ComplianceItem { id: HOST_ID.to_owned(), title, severity, compliant, details }
}

/// Items with ids of their own: the name, and the version where a name comes twice.
fn numbered(packages: &[&PackageItem]) -> Vec<ComplianceItem> {
    let mut taken = BTreeSet::from([HOST_ID.to_owned(), LEFT_OUT_ID.to_owned()]);
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    let mut items = Vec::with_capacity(packages.len());
    for p in packages {
        let version = p.available.as_deref().or(p.installed.as_deref()).unwrap_or("none");
        // Room for a number after it.
        let name = clean(&p.name, MAX_ID - 8);
        let full = clean(&format!("{}={version}", p.name), MAX_ID - 8);
        let n = next.entry(full.clone()).or_insert(2);
        let numbers = (*n..).map(|n| format!("{full}#{n}"));
        let mut wanted = [name, full.clone()].into_iter().chain(numbers);
        if let Some(id) = wanted.find(|id| !id.is_empty() && !taken.contains(id)) {
            // Numbers below were taken before, and are not tried again.
            *n += usize::from(id.contains('#'));
            taken.insert(id.clone());
            items.push(package(p, id));
        }
    }
    items
}

fn package(p: &PackageItem, id: String) -> ComplianceItem {
    let versions = match (&p.installed, &p.available) {
        (Some(old), Some(new)) if old != new => format!(" {old} -> {new}"),
        (Some(one), _) => format!(" {one}"),
        (None, Some(new)) => format!(" -> {new}"),
        (None, None) => String::new(),
    };
    let state = match p.state {
        PackageState::Installed => "installed",
        PackageState::InstalledPendingReboot => "installed, waits for a reboot",
        PackageState::Missing => "missing",
        PackageState::Failed => "failed",
        PackageState::Held => "held",
    };
    let why = if p.why.trim().is_empty() { String::new() } else { format!(": {}", p.why) };
    let title = clean(&format!("{}{versions}: {state}{why}", p.name), MAX_TITLE);
    let texts = [
        ("State", Some(state_word(p.state).to_owned())),
        ("InstalledVersion", p.installed.clone()),
        ("AvailableVersion", p.available.clone()),
        ("CVEs", Some(listed(&p.cves, MAX_VALUE))),
        ("Reason", Some(p.why.clone())),
    ];
    let texts = texts.into_iter().filter_map(|(k, v)| Some((k.to_owned(), clean(&v?, MAX_VALUE))));
    let details = texts.filter(|(_, v)| !v.is_empty()).collect();
    ComplianceItem { id, title, severity: p.severity, compliant: p.state.is_compliant(), details }
}

/// The host's item and as many others as there is room for, with a note of what was left out.
/// Details are given as long as there is room when all that is listed has its title.
fn fit_within(
    bytes: usize,
    host: ComplianceItem,
    packages: Vec<ComplianceItem>,
) -> Vec<ComplianceItem> {
    let bare = |i: &ComplianceItem| json_len(&i.id) + json_len(&i.title) + ITEM_BYTES;
    let detailed = |i: &ComplianceItem| -> usize {
        i.details.iter().map(|(k, v)| json_len(k) + json_len(v) + DETAIL_BYTES).sum()
    };
    // The host's item and the note always find room.
    let mut room = bytes.saturating_sub(2 * (MAX_TITLE * 4 + MAX_VALUE * 4 + ITEM_BYTES));
    let mut keep = 0;
    let all_fit = packages.len() < MAX_ITEMS;
    let most = if all_fit { packages.len() } else { MAX_ITEMS - 2 };
    for size in packages.iter().take(most).map(bare) {
        let Some(left) = room.checked_sub(size) else { break };
        room = left;
        keep += 1;
    }
    let mut out = vec![host];
    let mut rest = packages.into_iter();
    for mut item in rest.by_ref().take(keep) {
        match room.checked_sub(detailed(&item)) {
            Some(left) => room = left,
            None => item.details.clear(),
        }
        out.push(item);
    }
    out.extend(left_out(rest.as_slice()));
    out
}

fn left_out(rest: &[ComplianceItem]) -> Option<ComplianceItem> {
    let wrong = rest.iter().filter(|i| !i.compliant);
    let title = format!(
        "{} more packages are not listed for want of room, {} of them not compliant",
        rest.len(),
        wrong.clone().count()
    );
    let severity = wrong.clone().map(|i| i.severity).max().unwrap_or_default();
    let compliant = wrong.count() == 0;
    let id = LEFT_OUT_ID.to_owned();
    (!rest.is_empty()).then(|| ComplianceItem {
        id,
        title,
        severity,
        compliant,
        details: BTreeMap::new(),
    })
}

#[cfg(test)]
pub(super) mod tests;
