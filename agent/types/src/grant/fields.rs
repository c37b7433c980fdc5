//! The text fields of a grant, each with its one rule.
//!
//! Invariant: a value that exists matches its `PATTERN`, which is written in what Java's, Rust's and
//! people's regular expressions have in common.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A text that is no value of a field. It is shown escaped and cut, as it may come from anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {shown:?} must be {rule}")]
pub struct BadField {
    field: &'static str,
    shown: String,
    rule: &'static str,
}

impl BadField {
    fn new(field: &'static str, text: &str, rule: &'static str) -> Self {
        Self { field, shown: text.chars().take(64).collect(), rule }
    }
}

macro_rules! text_field {
    ($(#[$doc:meta])* $name:ident, $field:literal, $rule:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// What its text matches.
            pub const PATTERN: &str = $pattern;

            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadField;

            fn from_str(s: &str) -> Result<Self, BadField> {
                let is_good: fn(&str) -> bool = $check;
                if is_good(s) {
                    Ok(Self(s.to_owned()))
                } else {
                    Err(BadField::new($field, s, $rule))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadField;

            fn try_from(s: String) -> Result<Self, BadField> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_field! {
    /// Names a grant: a random (version 4) UUID in lower case.
    GrantId,
    "id",
    "a lower-case UUID of version 4",
    "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
    |s| {
        s.len() == 36
            && s.bytes().enumerate().all(|(i, b)| match i {
                8 | 13 | 18 | 23 => b == b'-',
                14 => b == b'4',
                19 => matches!(b, b'8' | b'9' | b'a' | b'b'),
                _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
            })
    }
}

text_field! {
    /// A user of a host, as `useradd` names them.
    UserName,
    "user",
    "1-32 of a-z 0-9 _ - and start with a letter or _",
    "^[a-z_][a-z0-9_-]{0,31}$",
    |s| {
        s.len() <= 32
            && s.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && s.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    }
}

text_field! {
    /// An IAM principal, as `sts:GetCallerIdentity` names it.
    Owner,
    "owner",
    "the ARN of an IAM user, role or role session",
    "^arn:aws[a-z-]{0,20}:(iam|sts)::[0-9]{12}:[A-Za-z0-9+=,.@_/-]{1,256}$",
    is_owner
}

text_field! {
    /// Why access is asked for. May be empty.
    #[derive(Default)]
    Reason,
    "reason",
    "at most 200 letters, digits, spaces and . , : ; / _ # ( ) @ + = -",
    "^[A-Za-z0-9 .,:;/_#()@+=-]{0,200}$",
    |s| {
        s.len() <= 200
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b" .,:;/_#()@+=-".contains(&b))
    }
}

text_field! {
    /// Where a tunnel leads: `HOST:PORT`. An IPv6 address stands in brackets.
    Target,
    "target",
    "HOST:PORT, with a name or address and a port of 1-65535",
    "^$|^([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\\[[0-9A-Fa-f:.]{2,45}\\]):[1-9][0-9]{0,4}$",
    is_target
}

fn is_owner(s: &str) -> bool {
    let mut parts = s.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (arn, partition, service, region) = (next(), next(), next(), next());
    let (account, resource) = (next(), next());
    arn == "arn"
        && partition.strip_prefix("aws").is_some_and(|rest| {
            rest.len() <= 20 && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        })
        && matches!(service, "iam" | "sts")
        && region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && (1..=256).contains(&resource.len())
        && resource.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_/-".contains(&b))
}

fn is_target(s: &str) -> bool {
    let Some((host, port)) = s.rsplit_once(':') else { return false };
    let is_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&host.len())
                && host.starts_with(|c: char| c.is_ascii_alphanumeric())
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
        }
    };
    is_host && !port.starts_with('0') && is_digits(port) && port.parse::<u16>().is_ok()
}

fn is_digits(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())
}

impl Target {
    /// The host, without brackets, and the port.
    #[must_use]
    pub fn parts(&self) -> (&str, u16) {
        let (host, port) = self.0.rsplit_once(':').unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        // Digits of a port, by the invariant.
        (bare, port.parse().unwrap_or_default())
    }
}

/// How long a grant lasts: one minute to eight hours, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ttl(u32);

impl Ttl {
    /// What its text matches.
    pub const PATTERN: &str = "^[1-9][0-9]{1,4}$";
    /// The shortest.
    pub const MIN: Self = Self(60);
    /// The longest that any policy may allow.
    pub const MAX: Self = Self(28_800);

    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// As a span of time.
    #[must_use]
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0.into())
    }
}

impl TryFrom<u32> for Ttl {
    type Error = BadField;

    fn try_from(seconds: u32) -> Result<Self, BadField> {
        if (Self::MIN.0..=Self::MAX.0).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(BadField::new("ttl_s", &seconds.to_string(), "60-28800 seconds (1m-8h)"))
        }
    }
}

impl From<Ttl> for u32 {
    fn from(ttl: Ttl) -> Self {
        ttl.0
    }
}

/// From where a grant may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// Through an SSM session of the grant's owner.
    #[default]
    Session,
    /// Straight from these addresses.
    Net(IpNet),
}

impl Source {
    /// What its text matches.
    pub const PATTERN: &str = "^(session|[0-9a-f:.]{2,45}/[0-9]{1,3})$";

    /// Straight from one address.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Net(address.into())
    }
}

impl FromStr for Source {
    type Err = BadField;

    fn from_str(s: &str) -> Result<Self, BadField> {
        if s == "session" {
            return Ok(Self::Session);
        }
        let rule = "session, or a network as ADDRESS/LENGTH without bits beyond its length";
        let bad = || BadField::new("source", s, rule);
        let net: IpNet = s.parse().map_err(|_| bad())?;
        // Written in the one way that everybody reads alike.
        if net.trunc() == net && net.to_string() == s { Ok(Self::Net(net)) } else { Err(bad()) }
    }
}

impl TryFrom<String> for Source {
    type Error = BadField;

    fn try_from(s: String) -> Result<Self, BadField> {
        s.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.pad("session"),
            Self::Net(net) => net.fmt(f),
        }
    }
}
