//! What is kept on disk, `STATE_DIR/origin/state.json`: the accepted secrets and what nginx has loaded.
//!
//! The one place where secrets are written out, beside nginx's map. The file is for root alone.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    model::{Accepted, Secrets, Stage, Standing},
    secret::{BadSecret, Secret},
};
use crate::clock::Timestamp;

const VERSION: u32 = 1;
/// Largest file that is read.
pub const MAX_BYTES: usize = 256 << 10;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The accepted secrets.
    pub(super) secrets: Secrets,
    /// The digest of the files that nginx has read, and since when.
    pub(super) loaded: Option<(String, Timestamp)>,
}

/// Why what was kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadState {
    /// It is not what we write.
    #[error("is not a state file of the origin guard")]
    Json(#[source] serde_json::Error),
    /// Written by a version that we do not know.
    #[error("is of version {0}, and version {VERSION} is known")]
    Version(u32),
    /// A secret in it is none.
    #[error("has a secret that {0}")]
    Secret(BadSecret),
}

#[derive(Serialize, Deserialize)]
struct State {
    v: u32,
    secrets: Vec<Entry>,
    #[serde(default)]
    dismissed: Vec<String>,
    #[serde(default)]
    refused: u64,
    #[serde(default)]
    last_refused: Option<Timestamp>,
    loaded: Option<(String, Timestamp)>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    secret: String,
    version: String,
    stage: Option<Stage>,
    left: Option<Timestamp>,
    since: Timestamp,
    created: Option<Timestamp>,
    hits: u64,
    last_hit: Option<Timestamp>,
}

impl Drop for State {
    /// Wipes the values.
    fn drop(&mut self) {
        let entries = self.secrets.iter_mut().map(|e| &mut e.secret);
        for text in entries.chain(&mut self.dismissed) {
            drop(Zeroizing::new(std::mem::take(text)));
        }
    }
}

/// As bytes.
///
/// # Errors
/// Never in practice; the encoder has no other way to say so.
pub(super) fn encode(kept: &Kept) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let entry = |a: &Accepted| {
        let (stage, left) = match a.standing {
            Standing::Offered(stage) => (Some(stage), None),
            Standing::Left(at) => (None, Some(at)),
        };
        Entry {
            secret: a.secret.expose().to_owned(),
            version: a.version.clone(),
            stage,
            left,
            since: a.since,
            created: a.created,
            hits: a.hits,
            last_hit: a.last_hit,
        }
    };
    let (refused, last_refused) = kept.secrets.refused();
    let state = State {
        v: VERSION,
        secrets: kept.secrets.accepted().iter().map(entry).collect(),
        dismissed: kept.secrets.dismissed().iter().map(|s| s.expose().to_owned()).collect(),
        refused,
        last_refused,
        loaded: kept.loaded.clone(),
    };
    // Room for all, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES / 8));
    serde_json::to_writer(&mut *bytes, &state)?;
    Ok(bytes)
}

/// From bytes.
///
/// # Errors
/// When they are not what [`encode`] makes.
pub(super) fn decode(bytes: &[u8]) -> Result<Kept, BadState> {
    #[derive(Deserialize)]
    struct Head {
        v: u32,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(BadState::Json)?;
    if head.v != VERSION {
        return Err(BadState::Version(head.v));
    }
    let mut state: State = serde_json::from_slice(bytes).map_err(BadState::Json)?;
    let accepted = state.secrets.iter().map(|e| {
        let standing = match (e.stage, e.left) {
            (Some(stage), None) => Standing::Offered(stage),
            (_, left) => Standing::Left(left.unwrap_or(e.since)),
        };
        Ok(Accepted {
            secret: Secret::parse(&e.secret).map_err(BadState::Secret)?,
            version: e.version.clone(),
            standing,
            since: e.since,
            created: e.created,
            hits: e.hits,
            last_hit: e.last_hit,
        })
    });
    let accepted = accepted.collect::<Result<Vec<_>, _>>()?;
    let dismissed = state.dismissed.iter().map(|s| Secret::parse(s).map_err(BadState::Secret));
    let dismissed = dismissed.collect::<Result<Vec<_>, _>>()?;
    let refused = (state.refused, state.last_refused);
    let loaded = state.loaded.take();
    Ok(Kept { secrets: Secrets::restore(accepted, dismissed, refused), loaded })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{
        model::Offered,
        testutil::{at, secret},
    };

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let mut secrets = Secrets::default();
        let offered = |n, stage| Offered {
            secret: secret(n),
            stage,
            version: format!("v{n}"),
            created: Some(at(1)),
        };
        secrets.take(&[offered(1, Stage::Current)], at(10)).unwrap();
        secrets.take(&[offered(2, Stage::Current), offered(3, Stage::Pending)], at(20)).unwrap();
        secrets.take(&[offered(4, Stage::Current)], at(30)).unwrap();
        secrets.drop_asked(&secret(2).id()).unwrap();
        let kept = Kept { secrets, loaded: Some(("abc".to_owned(), at(21))) };
        let bytes = encode(&kept).unwrap();
        assert_eq!(decode(&bytes).unwrap(), kept);
        assert_eq!(decode(&encode(&Kept::default()).unwrap()).unwrap(), Kept::default());
    }

    #[test]
    fn what_cannot_be_used_says_why_and_tells_no_secret() {
        let value = "abcdefghijklmno~pqrstuvw";
        let bad = format!(
            r#"{{"v":1,"secrets":[{{"secret":"{value}","version":"1","stage":"current","left":null,"since":1,"created":null,"hits":0,"last_hit":null}}],"loaded":null}}"#
        );
        for (text, words) in [
            (bad.as_str(), "none of A-Z"),
            (r#"{"v":2}"#, "version 2"),
            ("", "not a state file"),
            (r#"{"v":1,"secrets":7}"#, "not a state file"),
        ] {
            let error = decode(text.as_bytes()).unwrap_err();
            let all = format!("{error:?} {error}");
            assert!(all.contains(words) && !all.contains("abcdefghijklmno"), "{all}");
        }
    }
}
