//! What our table is to be: the ruleset of the settings and of the ranges in force. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    model::AddrSet,
    observe::Elements,
    parts::Part,
    rules::{self, Family},
    settings::{Settings, SourceName, TableOwner},
};

/// What our table is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// Sets of addresses by source; every source that a rule names is here or in `timed`.
    pub sets: BTreeMap<String, AddrSet>,
    /// Sources whose addresses end by themselves: each with its end in milliseconds since boot.
    pub timed: BTreeMap<String, BTreeMap<IpAddr, u64>>,
    /// Ports that are open to sources.
    pub rules: Vec<Allow>,
    /// Whether published ports of containers are closed to all but the sources.
    pub guard_published: bool,
    /// Who may ask the metadata service for credentials, if not everybody.
    pub metadata_users: Option<BTreeSet<u32>>,
    /// Where dropped packets are told.
    pub log_group: Option<u16>,
    /// Whether nobody else may change the table, where the kernel knows owners.
    pub owned: bool,
}

/// Ports that are open to one source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Allow {
    /// Of which protocol.
    pub protocol: Protocol,
    /// Which; never empty.
    pub ports: BTreeSet<u16>,
    /// To whom.
    pub source: String,
}

/// A protocol with ports. The configuration knows TCP only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Ruleset {
    /// Sets by their name in the kernel.
    #[must_use]
    pub fn kernel_sets(&self) -> BTreeMap<String, Elements> {
        let mut all = BTreeMap::new();
        let [v4, v6] = Family::BOTH;
        for (source, set) in &self.sets {
            all.insert(rules::addresses_of(source, v4), Elements::V4(set.v4.clone()));
            all.insert(rules::addresses_of(source, v6), Elements::V6(set.v6.clone()));
        }
        for (source, ends) in &self.timed {
            let (mut four, mut six) = (BTreeMap::new(), BTreeMap::new());
            for (ip, end) in ends {
                match ip {
                    IpAddr::V4(a) => drop(four.insert(u32::from(*a), *end)),
                    IpAddr::V6(a) => drop(six.insert(u128::from(*a), *end)),
                }
            }
            all.insert(rules::addresses_of(source, v4), Elements::Timed4(four));
            all.insert(rules::addresses_of(source, v6), Elements::Timed6(six));
        }
        for allow in &self.rules {
            all.insert(rules::ports_of(allow), Elements::Ports(allow.ports.clone()));
        }
        for gate in rules::gates(self) {
            all.insert(gate.name, Elements::Ports(gate.ports));
        }
        all
    }

    /// The addresses of a source, whether they end by themselves or not.
    #[must_use]
    pub fn addresses(&self, source: &str) -> AddrSet {
        let fixed = self.sets.get(source).cloned();
        let nets: Vec<IpNet> = match self.timed.get(source) {
            Some(ends) => ends.keys().copied().map(IpNet::from).collect(),
            None => Vec::new(),
        };
        fixed.unwrap_or_else(|| nets.iter().collect())
    }

    /// Names of the counters: one for each verdict that is worth a number.
    #[must_use]
    pub fn counters(&self) -> BTreeSet<String> {
        rules::counters(&rules::chains(self))
    }
}

/// The ruleset of `settings` with the ranges in force: each part of a source has a set and a rule of
/// its own, so that one can see which of them admits traffic.
#[must_use]
pub fn desired(
    settings: &Settings,
    in_force: &BTreeMap<SourceName, Vec<Part>>,
    timed: &BTreeMap<SourceName, BTreeMap<IpAddr, u64>>,
) -> Ruleset {
    // One rule for each source, in the order of names, so that order in the file makes no change.
    let mut ports: BTreeMap<&SourceName, BTreeSet<u16>> = BTreeMap::new();
    for rule in &settings.ports {
        for source in &rule.from {
            ports.entry(source).or_default().extend(rule.tcp.iter().map(|p| p.get()));
        }
    }
    let mut ruleset = Ruleset {
        guard_published: settings.guard_published,
        metadata_users: settings.metadata_users.clone(),
        log_group: settings.drops.group,
        owned: settings.table_owner == TableOwner::Auto,
        ..Ruleset::default()
    };
    for (source, ports) in ports {
        if ports.is_empty() {
            continue;
        }
        if let Some(ends) = timed.get(source) {
            let name = source.as_str().to_owned();
            ruleset.timed.insert(name.clone(), ends.clone());
            ruleset.rules.push(Allow { protocol: Protocol::Tcp, ports, source: name });
            continue;
        }
        for Part { name, set } in in_force.get(source).into_iter().flatten() {
            ruleset.sets.insert(name.clone(), set.clone());
            let (ports, source) = (ports.clone(), name.clone());
            ruleset.rules.push(Allow { protocol: Protocol::Tcp, ports, source });
        }
    }
    ruleset
}
