//! Network ACLs: entries in order, the first that fits decides, and answers need an entry of their own.

use std::collections::HashMap;

use super::{
    addresses::{Addresses, Family},
    groups::{Protocol, ports, protocol},
    ranges::Ranges,
};
use crate::{
    estate::{Estate, Place},
    value::At,
};

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its line.
    pub at: At,
    /// The resource.
    pub place: Place,
    /// Lower numbers come first.
    pub number: i64,
    /// Whether it is about what leaves the subnet.
    pub outward: bool,
    /// Whether it lets through; else it keeps out.
    pub allows: bool,
    /// Which protocol; all if none.
    pub protocol: Option<Protocol>,
    /// Which ports.
    pub ports: Ranges,
    /// Which addresses on the other side.
    pub block: Addresses,
}

/// One ACL.
#[derive(Clone, Debug)]
pub struct Acl {
    /// The resource.
    pub place: Place,
    /// `stack.Logical`.
    pub name: String,
    /// Where it is.
    pub at: At,
    /// By number.
    pub entries: Vec<Entry>,
}

impl Acl {
    /// Which of these addresses it lets through to (or from) these ports, which no entry cuts in two.
    #[must_use]
    pub fn lets(
        &self,
        outward: bool,
        protocol: Protocol,
        ports: &Ranges,
        family: Family,
        addresses: &Ranges,
    ) -> Ranges {
        let (mut rest, mut lets) = (addresses.clone(), Ranges::none());
        for entry in self.entries.iter().filter(|e| e.outward == outward) {
            let fits = entry.protocol.is_none_or(|p| p == protocol);
            if !fits || !entry.ports.covers(ports) {
                continue;
            }
            let block = entry.block.of(family);
            if entry.allows {
                lets = lets.union(&rest.and(block));
            }
            rest = rest.without(block);
            if rest.is_empty() {
                break;
            }
        }
        lets
    }
}

/// All ACLs, and a subnet's id to the position of its own.
#[derive(Clone, Debug, Default)]
pub struct Acls {
    /// In the order of the estate.
    pub all: Vec<Acl>,
    pub(super) of_subnet: HashMap<String, usize>,
}

impl Acls {
    pub(super) fn read(estate: &Estate) -> Self {
        let mut acls = Self::default();
        let mut by_id = HashMap::new();
        for (place, resource) in estate.of("AWS::EC2::NetworkAcl") {
            by_id.insert(resource.id.clone(), acls.all.len());
            let (name, at) = (estate.name(place), resource.at.clone());
            acls.all.push(Acl { place, name, at, entries: Vec::new() });
        }
        for (place, resource) in estate.of("AWS::EC2::NetworkAclEntry") {
            let target = resource.str("NetworkAclId").and_then(|id| by_id.get(id));
            let Some(acl) = target.and_then(|i| acls.all.get_mut(*i)) else { continue };
            let protocol = protocol(resource.get("Protocol"));
            let block = resource.str("CidrBlock").or_else(|| resource.str("Ipv6CidrBlock"));
            let block = block.and_then(Addresses::block);
            let allows = resource.str("RuleAction").is_none_or(|a| a.eq_ignore_ascii_case("allow"));
            // What cannot be read allows everything and denies nothing.
            let widest = || if allows { Addresses::everything() } else { Addresses::default() };
            acl.entries.push(Entry {
                at: resource.at.clone(),
                place,
                number: resource.get("RuleNumber").and_then(|v| v.as_int()).unwrap_or_default(),
                outward: resource.yes("Egress"),
                allows,
                protocol,
                ports: ports(
                    protocol,
                    resource.get("PortRange.From"),
                    resource.get("PortRange.To"),
                ),
                block: block.unwrap_or_else(widest),
            });
        }
        for acl in &mut acls.all {
            acl.entries.sort_by_key(|e| e.number);
        }
        for (_, resource) in estate.of("AWS::EC2::SubnetNetworkAclAssociation") {
            let acl = resource.str("NetworkAclId").and_then(|id| by_id.get(id));
            if let (Some(subnet), Some(acl)) = (resource.str("SubnetId"), acl) {
                acls.of_subnet.insert(subnet.to_owned(), *acl);
            }
        }
        acls
    }
}
