//! The journal: all grants and spent ids as one document, valid for one boot of the host.

use std::collections::BTreeMap;

use palisade_types::grant::GrantId;
use serde::{Deserialize, Serialize};

use super::{
    ledger::Ledger,
    model::{Boot, Grant},
};

/// Version of the document.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Out<'a> {
    v: u32,
    boot_id: &'a str,
    grants: Vec<&'a Grant>,
    spent: &'a BTreeMap<GrantId, Boot>,
    blind_until: Option<Boot>,
}

#[derive(Deserialize)]
struct In {
    v: u32,
    boot_id: String,
    grants: Vec<Grant>,
    spent: BTreeMap<GrantId, Boot>,
    #[serde(default)]
    blind_until: Option<Boot>,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadJournal {
    /// It is not what we write.
    #[error("understand it")]
    Json(#[from] serde_json::Error),
    /// Of a later version of this program.
    #[error("version {0} is not {VERSION}")]
    Version(u32),
}

/// The document.
pub(super) fn encode(ledger: &Ledger, boot_id: &str) -> serde_json::Result<Vec<u8>> {
    let grants = ledger.grants.values().collect();
    let (spent, blind_until) = (&ledger.spent, ledger.blind_until);
    serde_json::to_vec(&Out { v: VERSION, boot_id, grants, spent, blind_until })
}

/// The grants of a document; none if it is of another boot.
pub(super) fn decode(bytes: &[u8], boot_id: &str) -> Result<Ledger, BadJournal> {
    let doc: In = serde_json::from_slice(bytes)?;
    if doc.v != VERSION {
        return Err(BadJournal::Version(doc.v));
    }
    if doc.boot_id != boot_id {
        return Ok(Ledger::default());
    }
    let mut spent = doc.spent;
    let grants: BTreeMap<GrantId, Grant> =
        doc.grants.into_iter().map(|g| (g.id.clone(), g)).collect();
    for grant in grants.values() {
        spent.entry(grant.id.clone()).or_insert(grant.deadline);
    }
    Ok(Ledger::from_parts(grants, spent, doc.blind_until))
}
