//! A public SSH key of the one kind that grants take: ed25519.
//!
//! Invariant: what is printed is made anew from 32 bytes. No text that came in ever goes out again.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Name of the algorithm in SSH.
pub const ED25519: &str = "ssh-ed25519";

/// Length of the name, the name, length of the key.
const HEAD: &[u8; 19] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";
const TEXT_LEN: usize = 68;

/// An ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ed25519Key([u8; 32]);

/// Why a text is no such key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Too long, too short, or a whole line of a key file.
    #[error(
        "key must be {TEXT_LEN} characters of base64, the second word of an ssh-ed25519 .pub file, not {0}"
    )]
    Length(usize),
    /// Characters that are none of base64.
    #[error("key is not base64")]
    Base64,
    /// A key of another kind.
    #[error("key is not an ssh-ed25519 key")]
    Kind,
}

impl Ed25519Key {
    /// What every text of a key matches.
    pub const PATTERN: &str = "^AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}$";

    /// The key with this public half.
    #[must_use]
    pub fn from_public(public: [u8; 32]) -> Self {
        Self(public)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as it travels in the SSH protocol.
    #[must_use]
    pub fn blob(&self) -> Vec<u8> {
        [HEAD.as_slice(), &self.0].concat()
    }

    /// `SHA256:...` as OpenSSH prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.blob());
        format!("SHA256:{}", general_purpose::STANDARD_NO_PAD.encode(digest))
    }
}

impl FromStr for Ed25519Key {
    type Err = BadKey;

    fn from_str(s: &str) -> Result<Self, BadKey> {
        if s.len() != TEXT_LEN {
            return Err(BadKey::Length(s.len()));
        }
        let blob = general_purpose::STANDARD.decode(s).map_err(|_| BadKey::Base64)?;
        let public = blob.strip_prefix(HEAD).ok_or(BadKey::Kind)?;
        // Padding makes it shorter.
        public.try_into().map(Self).map_err(|_| BadKey::Kind)
    }
}

impl TryFrom<String> for Ed25519Key {
    type Error = BadKey;

    fn try_from(s: String) -> Result<Self, BadKey> {
        s.parse()
    }
}

impl From<Ed25519Key> for String {
    fn from(key: Ed25519Key) -> Self {
        key.to_string()
    }
}

impl fmt::Display for Ed25519Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&general_purpose::STANDARD.encode(self.blob()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGVqNAXp4K6wkQ0RJMVLbZ4cLqyqiMh1bWwBhmQp1KuU";

    #[test]
    fn a_key_reads_back_and_other_kinds_are_refused() {
        let key: Ed25519Key = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        assert_eq!(key.blob().len(), 51);
        assert!(key.fingerprint().starts_with("SHA256:"));
        assert_eq!(key.fingerprint().len(), "SHA256:".len() + 43);
        let rsa = KEY.replacen("C3NzaC1lZDI1NTE5", "C3NzaC1yc2EAAAAD", 1);
        assert_eq!(rsa.parse::<Ed25519Key>(), Err(BadKey::Kind));
        for bad in [
            "",
            "ssh-ed25519 AAAA",
            &format!("{KEY}\n"),
            &KEY.replace('G', "\n"),
            &KEY.replace('G', "\0"),
            KEY.trim_end_matches('U'),
            &KEY.replace("uU", "u="),
        ] {
            assert!(bad.parse::<Ed25519Key>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_public_half_makes_a_text_that_reads_back(public in any::<[u8; 32]>()) {
            let key = Ed25519Key::from_public(public);
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }

        #[test]
        fn no_text_panics_and_none_but_its_own_is_taken(text in "\\PC{0,80}") {
            if let Ok(key) = text.parse::<Ed25519Key>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
