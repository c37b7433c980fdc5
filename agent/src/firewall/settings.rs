//! What the firewall is told to let in.

use std::{collections::BTreeMap, num::NonZeroU16, path::PathBuf, time::Duration};

use ipnet::IpNet;

/// Everything the firewall needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which ports are open to whom. Every port not named is closed.
    pub ports: Vec<PortRule>,
    /// Named sets of addresses.
    pub sources: BTreeMap<SourceName, Vec<Source>>,
    /// Limits on what a feed may change.
    pub guard: Guard,
    /// Whether rules are put in force, or only planned.
    pub enforce: Enforce,
    /// Where the last good lists are kept: `STATE_DIR/firewall`.
    pub state_dir: PathBuf,
}

/// Name of a set of addresses: a lower-case letter, then up to 15 of `a-z 0-9 _`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(String);

/// Why a string cannot be a [`SourceName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("source name {0:?} must be 1-16 of [a-z0-9_] and start with a letter")]
pub struct BadSourceName(String);

impl SourceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SourceName {
    type Error = BadSourceName;

    fn try_from(s: String) -> Result<Self, BadSourceName> {
        let ok = (1..=16).contains(&s.len())
            && s.starts_with(|c: char| c.is_ascii_lowercase())
            && s.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if ok { Ok(Self(s)) } else { Err(BadSourceName(s)) }
    }
}

/// Ports that are open to some sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// TCP ports.
    pub tcp: Vec<NonZeroU16>,
    /// Who may connect.
    pub from: Vec<SourceName>,
}

/// Where addresses of a set come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// AWS's published `ip-ranges.json`.
    Feed(FeedSource),
    /// Written in the configuration.
    Cidrs(Vec<IpNet>),
    /// Addresses of live SSH grants, as they come and go.
    Grants,
}

/// AWS's published list, or a copy of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedSource {
    /// The `service` whose prefixes are taken: `CLOUDFRONT_ORIGIN_FACING`.
    pub service: String,
    /// Where to read it.
    pub location: FeedLocation,
    /// How often to look.
    pub every: Duration,
}

/// Where a feed is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedLocation {
    /// By HTTP or HTTPS, asked with the last `ETag`.
    Url(String),
    /// From a file.
    File(PathBuf),
}

/// Limits on what a feed may change; what goes beyond is held for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Largest share of the address space, in thousandths, that one update may take away.
    pub max_address_loss_permille: u32,
    /// How long a range stays in force after the feed dropped it.
    pub withdraw_after: Duration,
    /// Most ranges of one set, checked before they are built.
    pub max_ranges: usize,
}

/// Whether rules are put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforce {
    /// Put in force and kept so.
    Yes,
    /// Only planned; the kernel is not touched.
    PlanOnly,
}
