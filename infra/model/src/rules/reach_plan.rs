//! R11, R12, R14, R15, R16: default groups, quotas, blocks and zones, gateways.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Facts, Report, reach::groups};
use crate::{
    estate::Place,
    net::{
        addresses::{Addresses, Family},
        groups::{Peer, Permit},
        subnets::{Subnet, Target, Tier},
    },
    value::Value,
};

/// Rules that a group has, in and out, each; AWS counts both versions apart.
const RULES: i64 = 60;
/// What AWS counts its list of CloudFront's addresses for.
const CLOUDFRONT_LIST: i64 = 55;
/// Groups that an interface wears.
const GROUPS: usize = 5;
/// Zones of a tier.
const ZONES: usize = 2;

/// R11.
pub(super) fn default_group(facts: &Facts<'_>, report: &mut Report) {
    let net = facts.net;
    for (index, group) in net.groups.all.iter().enumerate().filter(|(_, g)| g.place.is_none()) {
        for node in net.wearers.get(index).into_iter().flatten() {
            let Some(node) = net.nodes.get(*node) else { continue };
            report.at(&node.groups_at, &node.name, format!("wears the {}", group.name));
        }
    }
    // What a custom resource is given of a VPC that is not the VPC's id is its default group's.
    let mut emptied: BTreeSet<Place> = BTreeSet::new();
    for (_, resource) in facts.estate.all().filter(|(_, r)| r.kind.starts_with("Custom::")) {
        resource.properties.walk(&mut |value| {
            let owner = value.as_str().and_then(|id| Some((id, facts.estate.owner(id)?)));
            let Some((id, place)) = owner else { return };
            let vpc = facts.estate.resource(place).filter(|r| r.kind == "AWS::EC2::VPC");
            emptied.extend(vpc.filter(|v| v.id != id).map(|_| place));
        });
    }
    for (place, _) in facts.estate.of("AWS::EC2::VPC").filter(|(p, _)| !emptied.contains(p)) {
        report.add(facts, place, "", "its default group is not emptied by a custom resource");
    }
}

/// R12.
pub(super) fn quotas(facts: &Facts<'_>, report: &mut Report) {
    for (_, group) in groups(facts) {
        for (rules, which) in [(&group.ingress, "ingress"), (&group.egress, "egress")] {
            let most = [Family::V4, Family::V6]
                .map(|family| rules.iter().map(|rule| weight(facts, rule, family)).sum::<i64>());
            let count = most.into_iter().max().unwrap_or_default();
            if count > RULES {
                let what =
                    format!("has {count} {which} rules as AWS counts them; the most is {RULES}");
                let heavy = rules.iter().filter(|r| weight(facts, r, Family::V4) > 1);
                let heavy = heavy.map(|r| format!("{}: {}", r.at, r.text));
                report.at(&group.at, &group.name, what).witness = heavy.collect();
            }
        }
    }
    for node in &facts.net.nodes {
        let count = node.groups.len() + node.foreign_groups.len();
        if count > GROUPS {
            let what = format!("wears {count} groups; the most is {GROUPS}");
            report.at(&node.groups_at, &node.name, what);
        }
    }
}

/// As how many rules AWS counts one: a list counts for all that it may hold.
fn weight(facts: &Facts<'_>, permit: &Permit, family: Family) -> i64 {
    match &permit.peer {
        Peer::Block(block) => (!block.of(family).is_empty()).into(),
        Peer::Group(_) => 1,
        Peer::List(id) => {
            if facts.net.cloudfront.list.as_ref() == Some(id) {
                return CLOUDFRONT_LIST;
            }
            let most = facts.estate.find(id).and_then(|list| list.get("MaxEntries"));
            most.and_then(Value::as_int).unwrap_or(1)
        }
    }
}

/// R14.
pub(super) fn blocks(facts: &Facts<'_>, report: &mut Report) {
    let subnets = &facts.net.subnets;
    let mut tiers: BTreeMap<(&str, Tier), Vec<&Subnet>> = BTreeMap::new();
    let mut by_vpc: HashMap<&str, Vec<&Subnet>> = HashMap::new();
    for subnet in &subnets.all {
        tiers.entry((&subnet.vpc, subnet.tier)).or_default().push(subnet);
        by_vpc.entry(&subnet.vpc).or_default().push(subnet);
    }
    for ((_, tier), of_tier) in tiers {
        let zones: BTreeSet<_> = of_tier.iter().map(|s| s.zone.as_str()).collect();
        if let (true, Some(first)) = (zones.len() < ZONES, of_tier.first()) {
            let tier = format!("{tier:?}").to_lowercase();
            let what = format!("the {tier} tier is in one zone only, {}", first.zone);
            report.at(&first.at, &first.name, what);
        }
    }
    for (place, vpc) in facts.estate.of("AWS::EC2::VPC") {
        let whole = subnets.vpcs.get(&vpc.id).cloned().unwrap_or_default();
        if vpc.str("CidrBlock").and_then(Addresses::block).is_none() {
            report.add(facts, place, "CidrBlock", "has a block that cannot be read");
        }
        let mut taken = Addresses::default();
        for subnet in by_vpc.get(vpc.id.as_str()).into_iter().flatten() {
            if subnet.unread {
                report.add(facts, subnet.place, "CidrBlock", "has a block that cannot be read");
                continue;
            }
            if taken.meets(&subnet.block) {
                report.add(facts, subnet.place, "CidrBlock", "overlaps another subnet");
            }
            if !whole.covers(&v4(&subnet.block)) {
                report.add(facts, subnet.place, "CidrBlock", "is not inside of its VPC");
            }
            taken = taken.union(&subnet.block);
        }
        let (used, all) = (taken.of(Family::V4).size(), whole.of(Family::V4).size());
        if used.saturating_mul(2) > all {
            let what = format!("{used} of {all} addresses are subnets'; half must stay free");
            report.add(facts, place, "CidrBlock", what);
        }
    }
}

fn v4(block: &Addresses) -> Addresses {
    block.and(&Addresses::block("0.0.0.0/0").unwrap_or_default())
}

/// R15.
pub(super) fn zones_alone(facts: &Facts<'_>, report: &mut Report) {
    if !facts.estate.is_production() {
        return;
    }
    let net = facts.net;
    // A way out of the data tier is R04's.
    let data: BTreeSet<_> = net.data().flat_map(|(_, n)| &n.subnets).collect();
    for (index, subnet) in net.subnets.all.iter().enumerate() {
        if data.contains(&index) {
            continue;
        }
        for (route, _) in net.subnets.routed(subnet, &net.public) {
            let Target::Nat(place) = route.target else { continue };
            let nat = net.nats.get(&place).and_then(|s| net.subnets.all.get(*s));
            let Some(nat) = nat.filter(|nat| nat.zone != subnet.zone) else { continue };
            let what = format!(
                "{} in {} leaves by a NAT gateway in {}",
                subnet.name, subnet.zone, nat.zone
            );
            let finding = report.at(&route.at, facts.estate.name(route.place), what);
            finding.witness =
                vec![format!("{} is in {} ({})", facts.estate.name(place), nat.name, nat.at)];
        }
    }
}

/// R16. CloudFront makes no VPC origin in a VPC that has none, though no packet passes it.
pub(super) fn gateway(facts: &Facts<'_>, report: &mut Report) {
    let net = facts.net;
    for (place, node) in &net.edge.vpc_origins {
        // One outside of these templates is in a VPC that nobody here knows.
        let Some(node) = node.and_then(|i| net.nodes.get(i)) else { continue };
        let subnet = node.subnets.first().and_then(|s| net.subnets.all.get(*s));
        let vpc = subnet.map(|s| s.vpc.as_str());
        if !vpc.is_some_and(|vpc| net.subnets.gateways.contains_key(vpc)) {
            let path = "VpcOriginEndpointConfig.Arn";
            report.add(facts, *place, path, "its VPC has no internet gateway attached");
        }
    }
}
