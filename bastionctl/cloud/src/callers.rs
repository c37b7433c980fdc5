//! Whose credentials these are, remembered: an access key belongs to one principal for ever, so STS
//! has to be asked once for each, and a login is one round trip shorter. Best effort, and nothing
//! secret: key ids and ARNs.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::dirs;

/// Keys that are remembered; then all are forgotten.
const MAX: usize = 64;
const MAX_BYTES: u64 = 64 << 10;

#[derive(Default, Serialize, Deserialize)]
struct Known {
    v: u32,
    callers: BTreeMap<String, String>,
}

fn path() -> Option<PathBuf> {
    Some(dirs::cache()?.join("callers.json"))
}

fn load() -> Option<Known> {
    let path = path()?;
    if fs::metadata(&path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let known: Known = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (known.v == 1).then_some(known)
}

/// The ARN of this key at this endpoint, if it was seen before.
pub(crate) fn get(endpoint: &str, key_id: &str) -> Option<String> {
    load()?.callers.remove(&format!("{key_id} {endpoint}"))
}

/// Remembers it.
pub(crate) fn put(endpoint: &str, key_id: &str, arn: &str) {
    let mut known = load().unwrap_or_default();
    if known.callers.len() >= MAX {
        known.callers.clear();
    }
    known.v = 1;
    known.callers.insert(format!("{key_id} {endpoint}"), arn.to_owned());
    let Some(path) = path() else { return };
    let kept = path
        .parent()
        .map_or(Ok(()), dirs::private)
        .and_then(|()| dirs::write_private(&path, &serde_json::to_vec(&known).unwrap_or_default()));
    // The next run asks again.
    drop(kept);
}
