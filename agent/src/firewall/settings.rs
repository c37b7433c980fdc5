//! What the firewall is told to let in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    num::NonZeroU16,
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::drops;

/// Everything the firewall needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Which ports are open to whom. Every port not named is closed.
    pub ports: Vec<PortRule>,
    /// Named sets of addresses.
    pub sources: BTreeMap<SourceName, Vec<Source>>,
    /// Limits on what a feed may change.
    pub guard: Guard,
    /// Whether rules are put in force, or only planned.
    pub enforce: Enforce,
    /// Whether others may change our table.
    pub table_owner: TableOwner,
    /// Whether published ports of containers are closed to all but the sources.
    pub guard_published: bool,
    /// Users who may ask the metadata service for credentials, if not everybody may.
    pub metadata_users: Option<BTreeSet<u32>>,
    /// What is told of packets that are turned away.
    pub drops: drops::Settings,
    /// What must be let in or kept out, tried with real packets before rules are put in force.
    pub tests: Vec<PolicyTest>,
    /// Where the last good lists are kept: `STATE_DIR/firewall`.
    pub state_dir: PathBuf,
}

/// Name of a set of addresses: a lower-case letter, then up to 15 of `a-z 0-9 _`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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

impl From<SourceName> for String {
    fn from(name: SourceName) -> Self {
        name.0
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRule {
    /// TCP ports.
    pub tcp: Vec<NonZeroU16>,
    /// Who may connect.
    pub from: Vec<SourceName>,
}

/// Where addresses of a set come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A list that is read: AWS's published `ip-ranges.json`, or one that EC2 has.
    Feed(FeedSource),
    /// Written in the configuration.
    Cidrs(Vec<IpNet>),
    /// Addresses of live SSH grants, as they come and go.
    Grants,
}

/// A list that is read again and again: AWS's published one, a copy of it, or one that EC2 has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedSource {
    /// The `service` whose prefixes are taken: `CLOUDFRONT_ORIGIN_FACING`. Of a list that EC2 has, what
    /// it is asked for, in words.
    pub service: String,
    /// Where to read it.
    pub location: FeedLocation,
    /// How often to look.
    pub every: Duration,
}

/// Where a feed is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedLocation {
    /// By HTTP or HTTPS, asked with the last `ETag`.
    Url(String),
    /// From a file.
    File(PathBuf),
    /// By asking EC2.
    Ec2(Ec2List),
}

/// What EC2 is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ec2List {
    /// A managed prefix list, by its id or its name.
    PrefixList(String),
    /// The interfaces that CloudFront made for its VPC origins, in this VPC or in the host's own.
    VpcOrigins(Option<String>),
    /// The networks of these subnets.
    Subnets(Vec<String>),
    /// The interfaces of an application load balancer.
    LoadBalancer(LoadBalancer),
}

/// An application load balancer, and what of it is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    /// `NAME`, or `NAME/ID` where it was given by its ARN.
    pub name: String,
    /// Whether whole subnets are taken in place of the addresses it has at the moment.
    pub whole_subnets: bool,
}

/// Names of the two prefix lists that AWS keeps of CloudFront's origin-facing addresses.
pub const ORIGIN_FACING_LISTS: [&str; 2] = [
    "com.amazonaws.global.cloudfront.origin-facing",
    "com.amazonaws.global.ipv6.cloudfront.origin-facing",
];

/// What kind of addresses a list has, which is how its changes are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nature {
    /// AWS's published file: public addresses, in dated versions.
    Published,
    /// Public addresses of AWS as EC2 has them now.
    Public,
    /// Addresses of the account's own networks, or in a list of its own. Of two interfaces one may go
    /// at any time, so no share of them is too much to lose: what goes leaves slowly, and that is all.
    Own,
}

impl fmt::Display for Ec2List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrefixList(list) => write!(f, "prefix-list {list}"),
            Self::VpcOrigins(None) => f.write_str("vpc-origin"),
            Self::VpcOrigins(Some(vpc)) => write!(f, "vpc-origin {vpc}"),
            Self::Subnets(ids) => write!(f, "subnets {}", ids.join(",")),
            Self::LoadBalancer(LoadBalancer { name, whole_subnets: false }) => {
                write!(f, "alb {name}")
            }
            Self::LoadBalancer(LoadBalancer { name, whole_subnets: true }) => {
                write!(f, "alb {name} subnets")
            }
        }
    }
}

impl FeedSource {
    /// A list that EC2 has.
    #[must_use]
    pub fn ec2(list: Ec2List, every: Duration) -> Self {
        Self { service: list.to_string(), location: FeedLocation::Ec2(list), every }
    }

    /// What kind of addresses the list should have.
    #[must_use]
    pub fn nature(&self) -> Nature {
        match &self.location {
            FeedLocation::Url(_) | FeedLocation::File(_) => Nature::Published,
            FeedLocation::Ec2(Ec2List::PrefixList(name)) if name.starts_with("com.amazonaws.") => {
                Nature::Public
            }
            FeedLocation::Ec2(_) => Nature::Own,
        }
    }
}

/// Limits on what a feed may change; what goes beyond is held for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Largest share of the address space, in thousandths, that one update may take away.
    pub max_address_loss_permille: u32,
    /// How long a range stays in force after the feed dropped it.
    pub withdraw_after: Duration,
    /// Most ranges of one set, checked before they are built.
    pub max_ranges: usize,
}

/// Whether rules are put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enforce {
    /// Put in force and kept so.
    Yes,
    /// Only planned; the kernel is not touched.
    PlanOnly,
}

/// Whether others may change our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableOwner {
    /// Nobody, where the kernel knows owners of tables.
    Auto,
    /// Everybody; what they change is repaired.
    Off,
}

/// One thing that the rules must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTest {
    /// Who connects.
    pub from: Caller,
    /// To which TCP port.
    pub to: NonZeroU16,
    /// What must come of it.
    pub expect: Expect,
}

/// Who connects in a [`PolicyTest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caller {
    /// This address.
    Address(IpAddr),
    /// The first and the last address of ranges of this source.
    Source(SourceName),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Source(name) => f.write_str(name.as_str()),
        }
    }
}

/// What must come of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// It is let in.
    Accept,
    /// It is not, whether without a word or with a reset.
    Drop,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        })
    }
}

impl fmt::Display for PolicyTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to tcp/{}: expect {}", self.from, self.to, self.expect)
    }
}
