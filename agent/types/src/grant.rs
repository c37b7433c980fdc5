//! A grant of access: what an admin asks a host for, and what the host answers.
//!
//! Every text field has one pattern, which the SSM documents give as `allowedPattern` and the host
//! checks again. None of them admits a quote, a backslash, a control character or white space other
//! than a space in the reason, so a field can neither end the JSON around it nor a line of a log.

mod fields;

use serde::{Deserialize, Serialize};

pub use fields::{BadField, GrantId, Owner, Reason, Source, Target, Ttl, UserName};

use crate::Ed25519Key;

/// The version of these documents.
pub const VERSION: u32 = 1;

/// Longest request in bytes.
pub const MAX_REQUEST: usize = 16 << 10;

/// What a grant is for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Only {
    /// A login: commands, files, forwarding of ports.
    #[default]
    Shell,
    /// Files only.
    Sftp,
    /// One forwarded port only.
    Tunnel,
}

impl Only {
    /// What its text matches.
    pub const PATTERN: &str = "^(shell|sftp|tunnel)$";

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Sftp => "sftp",
            Self::Tunnel => "tunnel",
        }
    }
}

/// A request, with every field checked by itself. Whether it is granted is the host's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct GrantRequest {
    /// Names the grant in CloudTrail, in the agent's audit log and in sshd's.
    pub id: GrantId,
    /// Whom to log in as.
    pub user: UserName,
    /// The key that lives in the admin's memory.
    pub key: Ed25519Key,
    /// How long.
    pub ttl: Ttl,
    /// What for.
    pub only: Only,
    /// Where a tunnel leads; there exactly if `only` is a tunnel.
    pub target: Option<Target>,
    /// From where.
    pub source: Source,
    /// The IAM principal that asks.
    pub owner: Owner,
    /// When it was asked for, in seconds since the epoch by the admin's clock.
    pub issued_at: i64,
    /// Why, in the admin's words.
    pub reason: Reason,
}

/// A request as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    v: u32,
    id: GrantId,
    user: UserName,
    key: Ed25519Key,
    ttl_s: Ttl,
    #[serde(default)]
    only: Only,
    #[serde(default)]
    target: String,
    #[serde(default)]
    source: Source,
    owner: Owner,
    issued_at: i64,
    #[serde(default)]
    reason: Reason,
}

/// Why a request is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Another version of the format.
    #[error("version {0} of a grant request is not {VERSION}")]
    Version(u32),
    /// A tunnel to nowhere.
    #[error("only: tunnel needs target: HOST:PORT")]
    NoTarget,
    /// A target that would not be obeyed.
    #[error("target is for only: tunnel, not for only: {0}")]
    Target(&'static str),
    /// A field.
    #[error(transparent)]
    Field(#[from] BadField),
}

impl TryFrom<Raw> for GrantRequest {
    type Error = BadRequest;

    fn try_from(raw: Raw) -> Result<Self, BadRequest> {
        if raw.v != VERSION {
            return Err(BadRequest::Version(raw.v));
        }
        let target = match (raw.only, raw.target.as_str()) {
            (Only::Tunnel, "") => return Err(BadRequest::NoTarget),
            (Only::Tunnel, text) => Some(text.parse()?),
            (Only::Shell | Only::Sftp, "") => None,
            (only @ (Only::Shell | Only::Sftp), _) => {
                return Err(BadRequest::Target(only.as_str()));
            }
        };
        Ok(Self {
            id: raw.id,
            user: raw.user,
            key: raw.key,
            ttl: raw.ttl_s,
            only: raw.only,
            target,
            source: raw.source,
            owner: raw.owner,
            issued_at: raw.issued_at,
            reason: raw.reason,
        })
    }
}

impl From<GrantRequest> for Raw {
    fn from(r: GrantRequest) -> Self {
        Self {
            v: VERSION,
            id: r.id,
            user: r.user,
            key: r.key,
            ttl_s: r.ttl,
            only: r.only,
            target: r.target.map(String::from).unwrap_or_default(),
            source: r.source,
            owner: r.owner,
            issued_at: r.issued_at,
            reason: r.reason,
        }
    }
}

/// The SSM document that carries a request.
pub const GRANT_DOCUMENT: &str = "Palisade-GrantAccess";

/// Parameters of [`GRANT_DOCUMENT`] and what each matches. An optional one may be left out.
pub const GRANT_PARAMETERS: [(&str, &str); 10] = [
    ("GrantId", GrantId::PATTERN),
    ("User", UserName::PATTERN),
    ("Key", Ed25519Key::PATTERN),
    ("TtlSeconds", Ttl::PATTERN),
    ("Only", Only::PATTERN),
    ("Target", Target::PATTERN),
    ("Source", Source::PATTERN),
    ("Owner", Owner::PATTERN),
    ("IssuedAt", "^[1-9][0-9]{0,11}$"),
    ("Reason", Reason::PATTERN),
];

impl GrantRequest {
    /// The request as parameters of [`GRANT_DOCUMENT`].
    #[must_use]
    pub fn parameters(&self) -> [(&'static str, String); 10] {
        let values = [
            self.id.to_string(),
            self.user.to_string(),
            self.key.to_string(),
            self.ttl.seconds().to_string(),
            self.only.as_str().to_owned(),
            self.target.as_ref().map(ToString::to_string).unwrap_or_default(),
            self.source.to_string(),
            self.owner.to_string(),
            self.issued_at.to_string(),
            self.reason.to_string(),
        ];
        let mut values = values.into_iter();
        GRANT_PARAMETERS.map(|(name, _)| (name, values.next().unwrap_or_default()))
    }
}

/// The host's answer to a request that it granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantReply {
    /// Version of the format.
    pub v: u32,
    /// The grant.
    pub id: GrantId,
    /// Whom to log in as.
    pub user: UserName,
    /// Of the granted key.
    pub fingerprint: String,
    /// Its end, in seconds since the epoch by the host's clock.
    pub expires_at: i64,
    /// How long from now; may be less than was asked for.
    pub ttl_s: Ttl,
    /// What for.
    pub only: Only,
    /// Where sshd listens.
    pub ssh_port: u16,
    /// Public host keys of the host's sshd, each `ALGORITHM BASE64`.
    pub host_keys: Vec<String>,
    /// How strictly a login is tied to the owner's SSM session.
    pub binding: Binding,
}

/// How strictly a login is tied to an SSM session of the grant's owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// A login that cannot be tied to one is refused.
    #[default]
    Strict,
    /// It is admitted, and told in the audit log.
    Warn,
    /// Nobody looks.
    Off,
}

/// One row of `palisade access list --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRow {
    /// The grant.
    pub id: GrantId,
    /// Whom it logs in as.
    pub user: UserName,
    /// Of its key.
    pub fingerprint: String,
    /// The IAM principal that asked for it.
    pub owner: Owner,
    /// What for.
    pub only: Only,
    /// Where its tunnel leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// From where.
    pub source: Source,
    /// Why.
    pub reason: Reason,
    /// Its start, in seconds since the epoch by the host's clock.
    pub granted_at: i64,
    /// Its end.
    pub expires_at: i64,
    /// `live`, `expired` or `revoked`.
    pub state: GrantState,
    /// Logins that are open.
    pub sessions: Vec<SessionRow>,
}

/// Where a grant is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantState {
    /// It admits logins.
    Live,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

/// An open login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// The SSM session it came through; empty if that is not known.
    pub session_id: String,
    /// Its sshd.
    pub pid: i32,
    /// Its start, in seconds since the epoch.
    pub since: i64,
}

/// The answer to a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Version of the format.
    pub v: u32,
    /// The grant.
    pub id: GrantId,
    /// Open logins that were ended.
    pub sessions_ended: u32,
}

#[cfg(test)]
mod tests;
