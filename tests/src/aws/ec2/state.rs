//! What the fake has, what goes wrong, and what arrived.

use std::collections::BTreeMap;

/// A managed prefix list.
#[derive(Clone, Debug, Default)]
pub struct PrefixList {
    /// `pl-...`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `AWS`, or an account.
    pub owner: String,
    /// Of a list of an account.
    pub version: Option<u32>,
    /// Its entries.
    pub cidrs: Vec<String>,
}

/// A network interface.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// Its VPC.
    pub vpc: String,
    /// Its subnet.
    pub subnet: String,
    /// Names of its security groups.
    pub groups: Vec<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// What it says of itself.
    pub description: String,
    /// Whether a service of AWS made it.
    pub requester_managed: bool,
    /// Its private IPv4 addresses.
    pub v4: Vec<String>,
    /// Its IPv6 addresses.
    pub v6: Vec<String>,
}

/// A subnet.
#[derive(Clone, Debug, Default)]
pub struct Subnet {
    /// `subnet-...`.
    pub id: String,
    /// Its IPv4 network.
    pub v4: String,
    /// Its IPv6 network.
    pub v6: Option<String>,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// So many requests are throttled first.
    pub throttle: u32,
    /// The action that the role may not do.
    pub deny: Option<String>,
    /// Every answer is this text.
    pub garbage: Option<String>,
    /// There is always another page.
    pub endless: bool,
    /// There is always another page, and it is this one.
    pub circle: bool,
    /// Most items of a page, whatever was asked for.
    pub page: Option<usize>,
    /// Answers with status 500.
    pub broken: bool,
}

/// What arrived.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Requests by action.
    pub calls: BTreeMap<String, u32>,
    /// Rules that a request broke.
    pub violations: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) lists: Vec<PrefixList>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) subnets: Vec<Subnet>,
    pub(super) faults: Faults,
    pub(super) stats: Stats,
}
