//! The part of the ssh-agent protocol (draft-ietf-sshm-ssh-agent) that one key needs. Pure.

use crate::keys::EphemeralKey;

/// Longest message taken; a request to sign an SSH login has a few hundred bytes.
pub(super) const MAX_MESSAGE: usize = 16 << 10;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// The answer to one message, both without the length in front.
pub(super) fn answer(message: &[u8], key: &EphemeralKey, comment: &str) -> Vec<u8> {
    match message.split_first() {
        Some((&REQUEST_IDENTITIES, _)) => {
            let mut out = vec![IDENTITIES_ANSWER];
            out.extend_from_slice(&1_u32.to_be_bytes());
            put(&mut out, &key.public().blob());
            put(&mut out, comment.as_bytes());
            out
        }
        Some((&SIGN_REQUEST, rest)) => sign(rest, key).unwrap_or_else(|| vec![FAILURE]),
        Some(_) | None => vec![FAILURE],
    }
}

fn sign(request: &[u8], key: &EphemeralKey) -> Option<Vec<u8>> {
    let (blob, rest) = take(request)?;
    let (data, flags) = take(rest)?;
    // Flags choose among hashes of RSA, which this key has none of.
    if flags.len() != 4 || blob != key.public().blob() {
        return None;
    }
    let mut signature = Vec::with_capacity(83);
    put(&mut signature, palisade_types::ED25519.as_bytes());
    put(&mut signature, &key.sign(data));
    let mut out = vec![SIGN_RESPONSE];
    put(&mut out, &signature);
    Some(out)
}

fn put(out: &mut Vec<u8>, text: &[u8]) {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text);
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};

    use super::*;

    fn request(blob: &[u8], data: &[u8]) -> Vec<u8> {
        let mut out = vec![SIGN_REQUEST];
        put(&mut out, blob);
        put(&mut out, data);
        out.extend_from_slice(&[0; 4]);
        out
    }

    #[test]
    fn it_signs_with_its_own_key_and_with_no_other() {
        let key = EphemeralKey::new().unwrap();
        let blob = key.public().blob();
        let reply = answer(&request(&blob, b"data"), &key, "c");
        assert_eq!(reply[0], SIGN_RESPONSE);
        let (outer, rest) = take(&reply[1..]).unwrap();
        assert!(rest.is_empty());
        let (name, rest) = take(outer).unwrap();
        let (signature, _) = take(rest).unwrap();
        assert_eq!(name, b"ssh-ed25519");
        let verifier = VerifyingKey::from_bytes(key.public().public()).unwrap();
        verifier.verify(b"data", &Signature::from_slice(signature).unwrap()).unwrap();
        let other = EphemeralKey::new().unwrap().public().blob();
        assert_eq!(answer(&request(&other, b"data"), &key, "c"), [FAILURE]);
    }

    #[test]
    fn it_lists_one_key_and_refuses_everything_else() {
        let key = EphemeralKey::new().unwrap();
        let list = answer(&[REQUEST_IDENTITIES], &key, "bastionctl");
        assert_eq!(list[..5], [IDENTITIES_ANSWER, 0, 0, 0, 1]);
        // Adding, removing, locking, extensions; then messages cut anywhere and lengths that lie.
        for kind in (0..=255).filter(|k| ![REQUEST_IDENTITIES, SIGN_REQUEST].contains(k)) {
            assert_eq!(answer(&[kind, 0, 0], &key, ""), [FAILURE]);
        }
        let whole = request(&key.public().blob(), b"data");
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end], &key, ""), [FAILURE]);
        }
        assert_eq!(answer(&[SIGN_REQUEST, 255, 255, 255, 255, 1], &key, ""), [FAILURE]);
    }
}
