//! A key for one run. Invariant: the private half never leaves this process, is shown nowhere and is
//! zeroed at its end.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use palisade_types::Ed25519Key;
use zeroize::Zeroizing;

/// An ed25519 key that lives in memory only.
pub(crate) struct EphemeralKey(SigningKey);

impl EphemeralKey {
    /// A new one.
    ///
    /// # Errors
    /// When the machine has no chance to give.
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut())?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The public half.
    pub(crate) fn public(&self) -> Ed25519Key {
        Ed25519Key::from_public(self.0.verifying_key().to_bytes())
    }

    /// The signature of `data`, in 64 bytes.
    pub(crate) fn sign(&self, data: &[u8]) -> [u8; 64] {
        self.0.sign(data).to_bytes()
    }
}

impl fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EphemeralKey({})", self.public().fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};

    use super::*;

    #[test]
    fn each_key_is_new_signs_and_shows_its_fingerprint_only() {
        let (one, two) = (EphemeralKey::new().unwrap(), EphemeralKey::new().unwrap());
        assert_ne!(one.public(), two.public());
        let verifier = VerifyingKey::from_bytes(one.public().public()).unwrap();
        verifier.verify(b"words", &Signature::from_bytes(&one.sign(b"words"))).unwrap();
        assert_eq!(format!("{one:?}"), format!("EphemeralKey({})", one.public().fingerprint()));
    }
}
