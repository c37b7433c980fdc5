//! The last good list of a feed as it stands on disk: encoding and decoding, without IO.
//!
//! One JSON document: `{"v":1,"sha256":"...","content":{...}}`. The checksum is over the content as
//! this program writes it; a file that does not fit its checksum is treated as absent. Two files are
//! kept: `<source>.current.json` and, should it be damaged, `<source>.previous.json`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{dwell::Dwell, model::AddrSet, status::Origin};
use crate::clock::Timestamp;

/// The form written today.
const VERSION: u32 = 1;
/// Largest file that is read: 4,096 ranges in force and leaving come to less than a tenth.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// A list that passed the guard, and the ranges still leaving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// The service whose ranges these are.
    pub service: String,
    /// Version of the list.
    pub sync_token: u64,
    /// Version of the first list ever accepted.
    pub first_token: u64,
    /// Its ranges.
    pub set: AddrSet,
    /// Ranges it no longer has.
    pub dwell: Dwell,
    /// Where it came from.
    pub origin: Origin,
    /// What the source called this version.
    pub tag: Option<String>,
    /// When it was read.
    pub fetched_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    v: u32,
    sha256: String,
    content: Good,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCache {
    /// Not our JSON.
    #[error("read it as JSON")]
    Json(#[source] serde_json::Error),
    /// Written by a program that we do not know.
    #[error("its version is {0} and not {VERSION}")]
    Version(u32),
    /// Damaged.
    #[error("its content does not fit its checksum")]
    Checksum,
}

/// The content of a file.
///
/// # Errors
/// Never for a [`Good`] that can exist; the type of the encoder's error.
pub fn encode(good: &Good) -> Result<Vec<u8>, serde_json::Error> {
    let sha256 = checksum(good)?;
    let file = File { v: VERSION, sha256, content: good.clone() };
    let mut bytes = serde_json::to_vec(&file)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads the content of a file.
///
/// # Errors
/// When it is not exactly what [`encode`] wrote.
pub fn decode(bytes: &[u8]) -> Result<Good, BadCache> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let Versioned { v } = serde_json::from_slice(bytes).map_err(BadCache::Json)?;
    if v != VERSION {
        return Err(BadCache::Version(v));
    }
    let file: File = serde_json::from_slice(bytes).map_err(BadCache::Json)?;
    if checksum(&file.content).map_err(BadCache::Json)? != file.sha256 {
        return Err(BadCache::Checksum);
    }
    Ok(file.content)
}

fn checksum(good: &Good) -> Result<String, serde_json::Error> {
    let digest = Sha256::digest(serde_json::to_vec(good)?);
    Ok(digest.iter().fold(String::new(), |mut hex, b| {
        // Writing to a String cannot fail.
        write!(hex, "{b:02x}").unwrap_or_default();
        hex
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Good {
        let old = AddrSet::parse(["13.0.0.0/15", "2600:9000::/36"]).unwrap();
        let set = AddrSet::parse(["13.0.0.0/16", "2600:9000::/36"]).unwrap();
        Good {
            service: "S".to_owned(),
            sync_token: 5,
            first_token: 1,
            dwell: Dwell::default().after_change(&old, &set, 5, Timestamp::from_secs(9)),
            set,
            origin: Origin::Fetched("https://x/".to_owned()),
            tag: Some("\"abc\"".to_owned()),
            fetched_at: Timestamp::from_millis(12_345),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(decode(&encode(&good()).unwrap()).unwrap(), good());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode(&good()).unwrap();
        for at in 0..bytes.len() - 1 {
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                // A flip may only pass if it says the same: a hexadecimal digit's case, say.
                if let Ok(read) = decode(&bad) {
                    assert_eq!(read, good(), "bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let text = String::from_utf8(encode(&good()).unwrap()).unwrap();
        let newer = text.replacen("\"v\":1", "\"v\":2", 1);
        assert!(matches!(decode(newer.as_bytes()), Err(BadCache::Version(2))));
        let empty = text.replace("\"13.0.0.0/16\",", "");
        assert!(matches!(decode(empty.as_bytes()), Err(BadCache::Checksum)));
    }
}
