//! What all fakes make of a request's signature.

use hyper::http::request::Parts;
use palisade_peer::sigv4::{self, Refusal};

/// The keys whose secrets are known. A request that another key signs must be as whole and as new,
/// but nobody can say whether its signature is true.
const KEYS: [(&str, &str); 2] = [("AKIDEXAMPLE", "not-a-secret"), ("test", "test")];

/// Who signed a request for `service`, which came at `now`, in seconds since the epoch.
pub(super) fn signer(
    head: &Parts,
    body: &[u8],
    service: &str,
    now: i64,
) -> Result<String, Refusal> {
    let headers = sigv4::headers(head);
    let parts = sigv4::Parts::of(head, &headers, body);
    let claim = parts.claim()?;
    if claim.service != service {
        return Err(Refusal::Scope(format!("signed for {}, not {service}", claim.service)));
    }
    let secret = KEYS.iter().find(|(key, _)| *key == claim.access_key).map(|(_, secret)| *secret);
    match (parts.verify(&claim, secret.unwrap_or_default(), now), secret) {
        (Ok(()), _) | (Err(Refusal::Mismatch), None) => Ok(claim.access_key),
        (Err(refusal), _) => Err(refusal),
    }
}
