//! R01 to R16: who may reach whom, who must, and the plan of addresses and zones that carries it.
//!
//! One fault, one rule: what a group admits is judged by the rule of those who wear it (origins and load
//! balancers R03, databases and caches R05, bastions R07, everybody else R08), SSH by R06 and version 6
//! by R13 wherever it is. That everything is there at all is for R10, which must reach it.

use super::{Facts, How, Rule};
use crate::{
    net::{
        addresses::{Addresses, Family},
        groups::{Group, Permit, Protocol},
        nodes::{Kind, Node},
        ranges::Ranges,
    },
    value::Value,
};

/// What a block must hold of the internet to count as open to the world: an eighth of a percent and more.
const WORLD: u128 = 1 << 22;

/// The rules, in order.
pub(super) fn rules() -> Vec<Rule> {
    use super::{
        reach_access as access, reach_data as data, reach_live as live, reach_origin as origin,
        reach_plan as plan,
    };
    let rule = |id, title, pci, check| Rule { id, title, pci, how: How::Check(check) };
    vec![
        rule(
            "R01",
            "Nothing but a public bastion or load balancer has a public address",
            &["1.3.1", "1.4.4", "1.4.5"],
            origin::no_public_address,
        ),
        rule(
            "R02",
            "Origins and data are in no subnet with a route from the internet",
            &["1.3.1", "1.4.4"],
            origin::no_public_subnet,
        ),
        rule(
            "R03",
            "Nothing but CloudFront reaches the origin, by whatever way",
            &["1.2.5", "1.3.1", "1.4.2"],
            origin::only_cloudfront,
        ),
        rule("R04", "No route leads out of the data tier", &["1.3.2", "1.4.4"], data::no_way_out),
        rule(
            "R05",
            "Databases and caches admit origins only, at their own port",
            &["1.2.5", "1.3.1", "1.4.4"],
            data::only_clients,
        ),
        rule(
            "R06",
            "SSH gets to origins from the bastion alone, and port 22 is open nowhere",
            &["1.2.5", "1.3.1", "2.2.4"],
            access::ssh,
        ),
        rule(
            "R07",
            "A bastion admits a list of admins at its SSH port, or nobody",
            &["1.2.5", "1.3.1", "1.4.2"],
            access::bastion,
        ),
        rule("R08", "No group and no ACL is open to the world", &["1.3.1", "1.4.2"], access::world),
        rule("R09", "What leaves for the internet is HTTPS", &["1.2.5", "1.3.2"], access::egress),
        rule(
            "R10",
            "What must be reached can be reached, from every subnet to every subnet",
            &["1.2.5"],
            live::must_reach,
        ),
        rule(
            "R11",
            "A VPC's default group is emptied and nobody wears it",
            &["1.2.5", "2.2.4"],
            plan::default_group,
        ),
        rule("R12", "Groups keep within their quotas", &[], plan::quotas),
        rule(
            "R13",
            "Version 6 opens nothing that version 4 does not",
            &["1.3.1"],
            access::version_6,
        ),
        rule(
            "R14",
            "Each tier is in two zones, blocks do not overlap, half of the VPC is free",
            &[],
            plan::blocks,
        ),
        rule("R15", "In production each zone has its own way out", &[], plan::zones_alone),
        rule("R16", "A VPC with a VPC origin has an internet gateway", &[], plan::gateway),
    ]
}

/// Who wears a group, and so by which rule it is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Worn {
    pub(super) origin: bool,
    pub(super) balancer: bool,
    pub(super) data: bool,
    pub(super) bastion: bool,
}

/// Who wears a group.
pub(super) fn worn(facts: &Facts<'_>, group: usize) -> Worn {
    let mut worn = Worn::default();
    for (i, node) in wearers(facts, group) {
        worn.origin |= facts.net.edge.is_origin(i);
        worn.balancer |= is_balancer(node);
        worn.data |= node.kind.is_data();
        worn.bastion |= facts.net.is_bastion(i);
    }
    worn
}

/// Nodes that wear a group.
pub(super) fn wearers<'a>(
    facts: &Facts<'a>,
    group: usize,
) -> impl Iterator<Item = (usize, &'a Node)> + use<'a> {
    let net = facts.net;
    let all: &'a [usize] = net.wearers.get(group).map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|i| Some((*i, net.nodes.get(*i)?)))
}

/// Groups that a template makes, with their positions.
pub(super) fn groups<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (usize, &'a Group)> + use<'a> {
    facts.net.groups.all.iter().enumerate().filter(|(_, g)| g.place.is_some())
}

pub(super) fn is_balancer(node: &Node) -> bool {
    matches!(node.kind, Kind::LoadBalancer | Kind::NetworkLoadBalancer)
}

/// The value that the stacks give to a parameter.
pub(super) fn parameter<'a>(facts: &Facts<'a>, name: &str) -> Option<&'a Value> {
    let estate = facts.estate;
    let of_env = estate.parameters.get(name);
    of_env.or_else(|| estate.stacks.iter().find_map(|s| s.parameters.get(name)))
}

/// Whether a parameter has a value.
pub(super) fn is(facts: &Facts<'_>, name: &str, value: &str) -> bool {
    parameter(facts, name).is_some_and(|v| v.is(value))
}

/// The port of the product's sshd.
pub(super) fn ssh_port(facts: &Facts<'_>) -> Option<u128> {
    u128::try_from(parameter(facts, "SshPort")?.as_int()?).ok()
}

/// Ports of SSH: the product's, and the one that everybody knows.
pub(super) fn ssh_ports(facts: &Facts<'_>) -> Ranges {
    Ranges::from_many([Some(22), ssh_port(facts)].into_iter().flatten().map(|p| (p, p)))
}

/// Whether a rule is about SSH and nothing else.
pub(super) fn is_ssh(facts: &Facts<'_>, permit: &Permit) -> bool {
    permit.protocol == Some(Protocol::TCP) && ssh_ports(facts).covers(&permit.ports)
}

/// Whether so much of the internet is in a block that it is open to all.
pub(super) fn is_world(facts: &Facts<'_>, block: &Addresses, family: Family) -> bool {
    block.of(family).and(facts.net.public.of(family)).size() >= WORLD
}

/// What a rule's resource is called: the group itself, or a rule of its own.
pub(super) fn said_by(facts: &Facts<'_>, permit: &Permit) -> String {
    facts.estate.name(permit.place)
}
