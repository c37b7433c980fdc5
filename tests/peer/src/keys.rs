//! Who signed a request, and what he may do.

use std::sync::Mutex;

use crate::{
    ApiError,
    config::Key,
    lock,
    sigv4::{Parts, Refusal},
};

/// The principal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The access key.
    pub access_key: String,
    /// Whose it is.
    pub arn: String,
}

/// All keys.
#[derive(Debug)]
pub(crate) struct Keys {
    list: Mutex<Vec<Key>>,
    region: String,
}

/// Why a request is nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The signature: see there.
    Signature(Refusal),
    /// No such key, or a wrong token.
    Key,
    /// Its credentials have expired.
    Expired,
}

impl Keys {
    pub(crate) fn new(list: Vec<Key>, region: &str) -> Self {
        Self { list: Mutex::new(list), region: region.to_owned() }
    }

    /// Adds a key, or replaces the one of the same name.
    pub(crate) fn put(&self, key: Key) {
        let mut list = lock(&self.list);
        list.retain(|k| k.access_key != key.access_key);
        list.push(key);
    }

    pub(crate) fn get(&self, access_key: &str) -> Option<Key> {
        lock(&self.list).iter().find(|k| k.access_key == access_key).cloned()
    }

    /// Who signed this, for `service`.
    pub(crate) fn signer(
        &self,
        parts: &Parts<'_>,
        service: &str,
        now_s: i64,
    ) -> Result<Signer, Unknown> {
        let claim = parts.claim().map_err(Unknown::Signature)?;
        let key = self.get(&claim.access_key).ok_or(Unknown::Key)?;
        if claim.token.as_deref().unwrap_or("") != key.session_token {
            return Err(Unknown::Key);
        }
        let scope = |what: String| Err(Unknown::Signature(Refusal::Scope(what)));
        if claim.region != self.region {
            return scope(format!(
                "Credential should be scoped to a valid region, not '{}'",
                claim.region
            ));
        }
        if claim.service != service {
            return scope(format!("Credential should be scoped to correct service: '{service}'."));
        }
        parts.verify(&claim, &key.secret, now_s).map_err(Unknown::Signature)?;
        if key.expired {
            return Err(Unknown::Expired);
        }
        Ok(Signer { access_key: key.access_key, arn: key.arn })
    }

    /// Whether the policy lets the signer do it.
    pub(crate) fn allow(
        &self,
        signer: &Signer,
        action: &str,
        resource: &str,
    ) -> Result<(), ApiError> {
        let key = self.get(&signer.access_key);
        let denied = key.is_none_or(|k| {
            let has = |list: &[String]| list.iter().any(|a| a == action);
            has(&k.deny) || (has(&k.needs_mfa) && !k.mfa)
        });
        if !denied {
            return Ok(());
        }
        let message = format!(
            "User: {} is not authorized to perform: {action} on resource: {resource} because no \
             identity-based policy allows the {action} action",
            signer.arn
        );
        Err(ApiError::new("AccessDeniedException", message))
    }
}

impl Unknown {
    /// As the services of JSON 1.1 say it.
    pub(crate) fn json(&self) -> ApiError {
        let (kind, message) = match self {
            Self::Key => {
                let text = "The security token included in the request is invalid.".to_owned();
                ("UnrecognizedClientException", text)
            }
            Self::Expired => {
                let text = "The security token included in the request is expired".to_owned();
                ("ExpiredTokenException", text)
            }
            Self::Signature(Refusal::Missing) => {
                let text = "Missing Authentication Token".to_owned();
                ("MissingAuthenticationTokenException", text)
            }
            Self::Signature(Refusal::Incomplete(what)) => {
                ("IncompleteSignatureException", what.clone())
            }
            Self::Signature(Refusal::Scope(what) | Refusal::Skew(what)) => {
                ("InvalidSignatureException", what.clone())
            }
            Self::Signature(Refusal::Mismatch) => {
                ("InvalidSignatureException", MISMATCH.to_owned())
            }
        };
        ApiError::new(kind, message)
    }

    /// As EC2 and STS say it.
    pub(crate) fn query(&self, service: &str) -> ApiError {
        let sts = service == "sts";
        let (status, kind) = match self {
            Self::Key if sts => (403, "InvalidClientTokenId"),
            Self::Key => (401, "AuthFailure"),
            Self::Expired if sts => (403, "ExpiredToken"),
            Self::Expired => (400, "RequestExpired"),
            Self::Signature(Refusal::Missing) => (403, "MissingAuthenticationToken"),
            Self::Signature(Refusal::Skew(_)) if !sts => (400, "RequestExpired"),
            Self::Signature(_) if sts => (403, "SignatureDoesNotMatch"),
            Self::Signature(_) => (401, "AuthFailure"),
        };
        ApiError { status, kind: kind.to_owned(), message: self.json().message }
    }
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you \
                        provided. Check your AWS Secret Access Key and signing method. Consult the \
                        service documentation for details.";
