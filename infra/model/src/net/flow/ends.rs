//! Both ends of a flow, and the places at which each can be: a node is in every one of its subnets.

use super::Mode;
use crate::net::{
    Network, Way,
    addresses::{Addresses, Family},
    groups::Protocol,
    nodes::Node,
    ranges::Ranges,
    subnets::Subnet,
};

/// One end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Anybody on the internet but those whom a prefix list of ours names.
    Internet,
    /// CloudFront, on its way to an origin.
    CloudFront,
    /// Whom the prefix lists of ours name.
    Admins,
    /// A node, by its position.
    Node(usize),
}

/// An end at one place.
#[derive(Clone, Debug)]
pub struct Where<'a> {
    pub(super) end: End,
    /// How CloudFront comes.
    pub(super) way: Way,
    /// As people call it.
    pub(super) name: &'a str,
    pub(super) node: Option<&'a Node>,
    pub(super) subnet: Option<&'a Subnet>,
    /// Those that it may have here.
    pub(super) addresses: Addresses,
}

impl Where<'_> {
    /// The first step of a way.
    pub(super) fn text(&self, protocol: Protocol) -> String {
        match self.subnet {
            Some(subnet) => {
                format!("{protocol} from {} in {} ({})", self.name, subnet.name, subnet.at)
            }
            None => format!("{protocol} from {}", self.name),
        }
    }

    /// The last one.
    pub(super) fn arrival(&self, protocol: Protocol, ports: &Ranges) -> String {
        let what = if protocol.has_ports() { format!(" at {ports}") } else { String::new() };
        match (self.node, self.subnet) {
            (Some(node), Some(subnet)) => {
                format!("reaches {} ({}) in {}{what}", self.name, node.at, subnet.name)
            }
            _ => format!("reaches {}{what}", self.name),
        }
    }
}

fn outside<'a>(net: &'a Network, end: End, way: Way) -> Where<'a> {
    let (name, addresses) = match end {
        End::Admins => {
            let all = net.lists.values().fold(Addresses::default(), |sum, list| sum.union(list));
            // Those with private addresses come by ways that are not the internet.
            ("admins", all.and(&net.public))
        }
        // Its addresses are of the internet, and no admin's.
        End::CloudFront => ("cloudfront", net.internet.clone()),
        End::Internet | End::Node(_) => ("internet", net.internet.clone()),
    };
    Where { end, way, name, node: None, subnet: None, addresses }
}

/// A node at each of its subnets.
fn places<'a>(net: &'a Network, index: usize, node: &'a Node) -> Vec<Where<'a>> {
    let subnets = node.subnets.iter().filter_map(|s| net.subnets.all.get(*s));
    let place = |subnet: &'a Subnet| Where {
        end: End::Node(index),
        way: Way::Internet,
        name: &node.name,
        node: Some(node),
        subnet: Some(subnet),
        addresses: subnet.block.clone(),
    };
    subnets.map(place).collect()
}

/// Every pair of places of two ends between which a packet can be at all; or why there is none.
pub(super) fn pairs<'a>(
    net: &'a Network,
    from: End,
    to: End,
    mode: Mode,
) -> Result<Vec<(Where<'a>, Where<'a>)>, String> {
    let node = |end| match end {
        End::Node(i) => net.nodes.get(i).map(|node| (i, node)),
        End::Internet | End::CloudFront | End::Admins => None,
    };
    match (node(from), node(to)) {
        (Some((i, source)), Some((j, destination))) => {
            let mut pairs = Vec::new();
            for a in places(net, i, source) {
                for b in places(net, j, destination) {
                    let vpc = |w: &Where<'a>| w.subnet.map(|s| s.vpc.as_str());
                    if vpc(&a) == vpc(&b) {
                        pairs.push((a.clone(), b));
                    }
                }
            }
            let none = || {
                format!("no VPC has a subnet of {} and one of {}", source.name, destination.name)
            };
            if pairs.is_empty() { Err(none()) } else { Ok(pairs) }
        }
        (None, Some((j, destination))) => into(net, from, j, destination, mode),
        (Some((i, source)), None) if to != End::CloudFront => {
            let there = outside(net, to, Way::Internet);
            Ok(places(net, i, source).into_iter().map(|here| (here, there.clone())).collect())
        }
        _ => Err("nothing here decides about that".to_owned()),
    }
}

fn into<'a>(
    net: &'a Network,
    from: End,
    index: usize,
    node: &'a Node,
    mode: Mode,
) -> Result<Vec<(Where<'a>, Where<'a>)>, String> {
    let mut pairs = Vec::new();
    let by_vpc_origin = net.edge.origins.iter().any(|o| o.node == index && o.way == Way::VpcOrigin);
    if from == End::CloudFront && by_vpc_origin {
        let there = outside(net, from, Way::VpcOrigin);
        pairs.extend(places(net, index, node).into_iter().map(|here| (there.clone(), here)));
        // It comes that way; over the internet it may come too, but need not.
        if mode == Mode::Must {
            return Ok(pairs);
        }
    }
    let there = outside(net, from, Way::Internet);
    for mut here in places(net, index, node) {
        let v6 = Addresses::everything().of(Family::V6).clone();
        if node.public.is_none() {
            // Addresses of version 6 are public ones, those of version 4 are not.
            let v4 = Addresses::block("0.0.0.0/0").unwrap_or_default();
            here.addresses = here.addresses.without(&v4);
        }
        if here.addresses.of(Family::V4).is_empty() && !here.addresses.of(Family::V6).meets(&v6) {
            continue;
        }
        pairs.push((there.clone(), here));
    }
    if pairs.is_empty() {
        return Err(match from {
            End::CloudFront => format!(
                "no distribution has a VPC origin at {} ({}), and it has no public address",
                node.name, node.at
            ),
            End::Internet | End::Admins | End::Node(_) => {
                format!("{} ({}) has no public address", node.name, node.at)
            }
        });
    }
    Ok(pairs)
}
