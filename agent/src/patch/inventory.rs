//! A report as SSM Inventory takes it: rows of the type `Custom:PalisadePatch`.
//!
//! Pure. One row for the host and one for each package, all with the same attributes, within the
//! limits of a custom type. A row says nothing that changes by itself with time, so that a host that
//! stays as it is has a hash that stays as it is.

use std::collections::BTreeMap;

use super::{
    model::{InventoryUpload, PackageItem, Report, Verdict},
    report::{clean, hash, json_len, listed, pairs, state_word, word},
};

/// Most rows; SSM refuses more.
const MAX_ROWS: usize = 10_000;
/// Most bytes of all rows as JSON; SSM's limit for a custom type is 200 KB with what is around them.
const MAX_BYTES: usize = 180 * 1024;
/// Most characters of a text in a row, so that one package cannot fill the table.
const MAX_TEXT: usize = 400;
/// Bytes of a row's JSON beside its texts.
const ROW_BYTES: usize = 4;
/// Bytes of an attribute's JSON beside its texts.
const ATTRIBUTE_BYTES: usize = 6;

/// One row: attribute and value.
type Row = BTreeMap<String, String>;

/// The table that is told to SSM about `instance`.
#[must_use]
pub fn inventory(report: &Report, instance: &str) -> InventoryUpload {
    let mut packages: Vec<&PackageItem> = report.items.iter().collect();
    packages.sort_by_cached_key(|i| {
        (i.state.is_compliant(), std::cmp::Reverse(i.severity), i.name.clone(), package(i))
    });
    let mut rows = Vec::with_capacity(packages.len().min(MAX_ROWS) + 1);
    // The host's row is written last, when it is known how many found room; its room is kept.
    let mut room = MAX_BYTES - size(&host(report, packages.len()));
    for p in packages.iter().take(MAX_ROWS - 1) {
        let row = package(p);
        let Some(left) = room.checked_sub(size(&row)) else { break };
        room = left;
        rows.push(row);
    }
    let left_out = packages.len() - rows.len();
    rows.insert(0, host(report, left_out));
    let texts = rows.iter().flat_map(|r| pairs(r).chain([String::new()]));
    let hash = hash(texts);
    InventoryUpload { instance: instance.to_owned(), captured: report.at, rows, hash }
}

/// A row as long as SSM may see it, in bytes of JSON.
fn size(row: &Row) -> usize {
    let attributes = row.iter().map(|(k, v)| json_len(k) + json_len(v) + ATTRIBUTE_BYTES);
    attributes.sum::<usize>() + ROW_BYTES
}

fn host(report: &Report, left_out: usize) -> Row {
    let wrong = report.items.iter().any(|i| !i.state.is_compliant());
    let (state, why) = match &report.verdict {
        Verdict::Unknown { why } => ("UNKNOWN", why.as_str()),
        Verdict::Compliant if !wrong => ("COMPLIANT", ""),
        Verdict::Compliant | Verdict::NonCompliant => ("NON_COMPLIANT", ""),
    };
    let mut reason = clean(why, MAX_TEXT);
    if left_out > 0 {
        let more = format!("{left_out} packages are not listed for want of room");
        reason = if reason.is_empty() { more } else { format!("{reason}; {more}") };
    }
    let release = report.release.as_deref().unwrap_or_default();
    row([
        ("Kind", "host".to_owned()),
        ("State", state.to_owned()),
        ("AvailableVersion", clean(release, MAX_TEXT)),
        ("Reason", reason),
    ])
}

fn package(p: &PackageItem) -> Row {
    let text = |v: &Option<String>| clean(v.as_deref().unwrap_or_default(), MAX_TEXT);
    row([
        ("Kind", "package".to_owned()),
        ("Name", clean(&p.name, MAX_TEXT)),
        ("State", state_word(p.state).to_owned()),
        ("Severity", word(p.severity).to_owned()),
        ("InstalledVersion", text(&p.installed)),
        ("AvailableVersion", text(&p.available)),
        ("CVEs", listed(&p.cves, MAX_TEXT)),
        ("Reason", clean(&p.why, MAX_TEXT)),
    ])
}

/// A row with all attributes, the ones not named empty: a type's rows are one table.
fn row<const N: usize>(texts: [(&str, String); N]) -> Row {
    const ATTRIBUTES: [&str; 8] = [
        "Kind",
        "Name",
        "State",
        "Severity",
        "InstalledVersion",
        "AvailableVersion",
        "CVEs",
        "Reason",
    ];
    let empty = ATTRIBUTES.map(|a| (a.to_owned(), String::new()));
    empty.into_iter().chain(texts.map(|(k, v)| (k.to_owned(), v))).collect()
}

#[cfg(test)]
mod tests;
