//! One value of the secret header.
//!
//! Invariants: it is 16 to 512 of `A-Z a-z 0-9`, so that it means itself wherever it is written: in a
//! regular expression, in quotes, in a header. It is never shown: what is shown is its id.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Shortest value: 95 bits, if it was drawn at random.
pub const MIN_CHARS: usize = 16;
/// Longest value.
pub const MAX_CHARS: usize = 512;

/// A value of the secret header. Wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// Why a text cannot be a [`Secret`]. Does not tell the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// There is nothing: it would let every request in that has no header.
    #[error("is empty")]
    Empty,
    /// Too short or too long.
    #[error("has {0} characters; {MIN_CHARS} to {MAX_CHARS} are allowed")]
    Length(usize),
    /// A character that may mean something else than itself.
    #[error("has a character that is none of A-Z a-z 0-9, at place {0}")]
    Character(usize),
}

impl Secret {
    /// Takes a text as it is: nothing is trimmed.
    ///
    /// # Errors
    /// When it is no such value.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        if text.is_empty() {
            return Err(BadSecret::Empty);
        }
        if let Some(at) = text.chars().position(|c| !c.is_ascii_alphanumeric()) {
            return Err(BadSecret::Character(at + 1));
        }
        if !(MIN_CHARS..=MAX_CHARS).contains(&text.len()) {
            return Err(BadSecret::Length(text.len()));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The value itself, for what nginx and the state file need.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// By what it is called.
    #[must_use]
    pub fn id(&self) -> SecretId {
        let digest = Sha256::digest(self.0.as_bytes());
        SecretId(digest.iter().take(4).map(|b| format!("{b:02x}")).collect())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.id())
    }
}

/// What a secret is called where people and logs see it: the first 8 hexadecimal digits of its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretId(String);

impl SecretId {
    /// Reads an id as it is shown.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Self(text.to_owned()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_letters_and_digits_of_a_sane_length_are_a_secret() {
        let long = "a".repeat(512);
        for good in ["abcdefghijklmnop", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", &long] {
            assert_eq!(Secret::parse(good).unwrap().expose(), good);
        }
        let too_long = "a".repeat(513);
        for (bad, why) in [
            ("", BadSecret::Empty),
            ("abcdefghijklmno", BadSecret::Length(15)),
            (too_long.as_str(), BadSecret::Length(513)),
            ("~abcdefghijklmnopqrst", BadSecret::Character(1)),
            ("abcdefghijklmnop\n", BadSecret::Character(17)),
            ("abcdefgh$jklmnopqrst", BadSecret::Character(9)),
            ("abcdefghéjklmnopqrst", BadSecret::Character(9)),
            (" abcdefghijklmnopqrst", BadSecret::Character(1)),
        ] {
            assert_eq!(Secret::parse(bad), Err(why));
        }
    }

    #[test]
    fn it_is_shown_by_its_id_only() {
        let text = "abcdefghijklmnopqrstuvwx";
        let secret = Secret::parse(text).unwrap();
        // sha256sum of the text.
        assert!(sha(text).starts_with(secret.id().as_str()));
        assert_eq!(secret.id().as_str().len(), 8);
        let shown = format!("{secret:?} {:?} {}", secret.id(), secret.id());
        assert!(!shown.contains("abcdefgh"), "{shown}");
        assert_eq!(SecretId::parse(secret.id().as_str()), Some(secret.id()));
        assert_eq!(SecretId::parse("ABCDEF01"), None);
        assert_eq!(SecretId::parse("abc"), None);
    }

    fn sha(text: &str) -> String {
        Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
    }
}
