//! R01, R02, R03: the claim of the product. Nothing but CloudFront reaches the origin.

use super::{
    Facts, Report,
    reach::{groups, is, is_balancer, is_ssh, is_world, said_by, ssh_ports, wearers, worn},
};
use crate::net::{
    Network, Way,
    addresses::Family,
    flow::{End, Mode, flow},
    groups::{Peer, Permit, Protocol},
    nodes::{Kind, Node},
    ranges::Ranges,
    subnets::Tier,
};

/// R01. Databases are R04's.
pub(super) fn no_public_address(facts: &Facts<'_>, report: &mut Report) {
    // Whoever is meant to have one asks for it itself.
    for subnet in facts.net.subnets.all.iter().filter(|s| s.gives_public) {
        let what = "gives a public address to whatever is started in it";
        report.add(facts, subnet.place, "MapPublicIpOnLaunch", what);
    }
    for (i, node) in facts.net.nodes.iter().enumerate() {
        let Some(at) = &node.public else { continue };
        let may = match node.kind {
            Kind::LoadBalancer => is(facts, "AlbExposure", "internet-facing"),
            Kind::Host => facts.net.is_bastion(i) && is(facts, "BastionMode", "public"),
            Kind::Database | Kind::Cache => true,
            Kind::Task
            | Kind::NetworkLoadBalancer
            | Kind::Function
            | Kind::Endpoint
            | Kind::Other => false,
        };
        if !may {
            let finding = report.at(at, &node.name, "has a public address");
            finding.witness = vec![format!("given here; {} is at {}", node.name, node.at)];
        }
    }
}

/// R02.
pub(super) fn no_public_subnet(facts: &Facts<'_>, report: &mut Report) {
    let net = facts.net;
    for (i, node) in net.nodes.iter().enumerate() {
        let inner = is_balancer(node) && node.public.is_none();
        if !(net.edge.is_origin(i) || node.kind.is_data() || inner) {
            continue;
        }
        let subnets = node.subnets.iter().filter_map(|s| net.subnets.all.get(*s));
        let public: Vec<_> = subnets.filter(|s| s.tier == Tier::Public).collect();
        let names: Vec<_> = public.iter().map(|s| s.name.as_str()).collect();
        if names.is_empty() {
            continue;
        }
        let what = format!("is in {}, which the internet is routed to", names.join(", "));
        let finding = report.at(&node.subnets_at, &node.name, what);
        for subnet in public {
            let routes = net.subnets.routed(subnet, &net.public);
            let table = net.subnets.table_of(subnet).map(|t| t.name.as_str()).unwrap_or_default();
            let by = routes.first().map(|(r, _)| format!(", by {table} and its route at {}", r.at));
            let by = by.unwrap_or_default();
            finding.witness.push(format!("{} ({}){by}", subnet.name, subnet.at));
        }
    }
}

/// R03: what groups admit, then what gets through, hop by hop.
pub(super) fn only_cloudfront(facts: &Facts<'_>, report: &mut Report) {
    for (index, group) in groups(facts) {
        let worn = worn(facts, index);
        if !(worn.origin || worn.balancer) {
            continue;
        }
        for permit in &group.ingress {
            // SSH is R06's, and R06's alone.
            if worn.origin && is_ssh(facts, permit) {
                continue;
            }
            if worn.origin {
                origin_permit(facts, report, index, permit);
            } else {
                balancer_permit(facts, report, index, permit);
            }
        }
    }
    for (i, node) in facts.net.nodes.iter().enumerate() {
        let serves = facts.net.edge.is_origin(i) || is_balancer(node);
        for id in node.foreign_groups.iter().filter(|_| serves) {
            let what =
                format!("wears {id}, which no template makes: nobody can say what it admits");
            report.at(&node.groups_at, &node.name, what);
        }
    }
    ways_in(facts, report);
}

/// Whether CloudFront sends requests straight to a wearer of a group, by a VPC origin.
fn is_cloudfronts(facts: &Facts<'_>, group: usize) -> bool {
    let origins = &facts.net.edge.origins;
    wearers(facts, group)
        .any(|(i, _)| origins.iter().any(|o| o.node == i && o.way == Way::VpcOrigin))
}

/// What a group of origins may admit: load balancers, and CloudFront where it comes to the host itself.
fn origin_permit(facts: &Facts<'_>, report: &mut Report, group: usize, permit: &Permit) {
    let cloudfront = &facts.net.cloudfront;
    match &permit.peer {
        Peer::Group(id) => match facts.net.groups.index(id) {
            Some(peer) => {
                judge_wearers(facts, report, group, permit, peer, is_balancer);
                // SSH among the ports is R06's; then the rule has been told of.
                if !permit.ports.meets(&ssh_ports(facts)) {
                    only_at(facts, report, group, permit, &forwarded(facts, group, peer));
                }
            }
            None if cloudfront.group.as_ref() == Some(id) && is_cloudfronts(facts, group) => {
                only_at(facts, report, group, permit, &requested(facts, group));
            }
            None => finding(facts, report, group, permit, "admits a group that no template makes"),
        },
        Peer::List(id) if cloudfront.list.as_ref() == Some(id) && is_cloudfronts(facts, group) => {
            only_at(facts, report, group, permit, &requested(facts, group));
        }
        Peer::List(_) => {
            finding(facts, report, group, permit, "admits a prefix list to the origin");
        }
        // Version 6 is R13's.
        Peer::Block(block) if block.of(Family::V4).is_empty() => {}
        Peer::Block(_) => finding(facts, report, group, permit, "admits addresses to the origin"),
    }
}

/// What a group of load balancers may admit: CloudFront.
fn balancer_permit(facts: &Facts<'_>, report: &mut Report, group: usize, permit: &Permit) {
    let cloudfront = &facts.net.cloudfront;
    match &permit.peer {
        Peer::Group(id) => match facts.net.groups.index(id) {
            Some(peer) => judge_wearers(facts, report, group, permit, peer, |_| false),
            None if cloudfront.group.as_ref() == Some(id) => {
                from_cloudfront(facts, report, group, permit)
            }
            None => finding(facts, report, group, permit, "admits a group that no template makes"),
        },
        Peer::List(id) if cloudfront.list.as_ref() == Some(id) => {
            from_cloudfront(facts, report, group, permit)
        }
        Peer::List(_) => {
            finding(facts, report, group, permit, "admits a list that is not CloudFront's")
        }
        // The world is R08's, version 6 is R13's.
        Peer::Block(block)
            if block.of(Family::V4).is_empty() || is_world(facts, block, Family::V4) => {}
        Peer::Block(_) => {
            finding(facts, report, group, permit, "admits addresses to the load balancer");
        }
    }
}

/// CloudFront at a load balancer. Port 22 is R06's.
fn from_cloudfront(facts: &Facts<'_>, report: &mut Report, group: usize, permit: &Permit) {
    if !permit.ports.has(22) {
        only_at(facts, report, group, permit, &requested(facts, group));
    }
}

/// Ports at which CloudFront sends requests to wearers of a group.
fn requested(facts: &Facts<'_>, group: usize) -> Ranges {
    let origins = &facts.net.edge.origins;
    let ports = wearers(facts, group)
        .flat_map(|(i, _)| origins.iter().filter(move |o| o.node == i))
        .map(|o| Ranges::one(o.port.into()));
    ports.fold(Ranges::none(), |sum, port| sum.union(&port))
}

/// Ports at which wearers of one group forward to wearers of another.
fn forwarded(facts: &Facts<'_>, to: usize, from: usize) -> Ranges {
    let wears = |node: usize, group| wearers(facts, group).any(|(i, _)| i == node);
    let forwards = facts.net.edge.forwards.iter();
    let ours = forwards.filter(|f| wears(f.to, to) && wears(f.from, from));
    ours.fold(Ranges::none(), |sum, f| sum.union(&f.ports))
}

/// That a rule for the right ones is for requests alone. One for other ports than those of requests lets
/// nobody talk to anything; that requests get through is another rule's.
fn only_at(facts: &Facts<'_>, report: &mut Report, group: usize, permit: &Permit, ports: &Ranges) {
    let within = permit.protocol == Some(Protocol::TCP) && ports.covers(&permit.ports);
    if permit.is_for(Protocol::TCP) && permit.ports.meets(ports) && !within {
        finding(facts, report, group, permit, &format!("admits more than tcp {ports}"));
    }
}

/// A rule for a group is as good as those who wear it.
fn judge_wearers(
    facts: &Facts<'_>,
    report: &mut Report,
    group: usize,
    permit: &Permit,
    peer: usize,
    may: impl Fn(&Node) -> bool,
) {
    let name = facts.net.groups.all.get(peer).map(|g| g.name.as_str()).unwrap_or_default();
    let (good, bad): (Vec<_>, Vec<_>) = wearers(facts, peer).partition(|(_, node)| may(node));
    for (i, stranger) in bad {
        let steps = way(facts.net, End::Node(i), group, &permit.ports);
        // If nobody who may wears it, the rule is wrong; else the one who wears it besides.
        let (at, subject, what) = if good.is_empty() {
            let what = format!("admits {}, which wears {name}", stranger.name);
            (&permit.at, said_by(facts, permit), what)
        } else {
            let what = format!("wears {name}, which {} admits", said_by(facts, permit));
            (&stranger.groups_at, stranger.name.clone(), what)
        };
        report.at(at, subject, what).witness = steps;
    }
}

fn finding(facts: &Facts<'_>, report: &mut Report, group: usize, permit: &Permit, what: &str) {
    let net = facts.net;
    let outside = [End::Internet, End::Admins, End::CloudFront];
    let ends = outside.into_iter().chain((0..net.nodes.len()).map(End::Node));
    let mut steps = ends.map(|end| way(net, end, group, &permit.ports));
    let steps = steps.find(|s| !s.is_empty()).unwrap_or_default();
    let what = format!("{what}: {}", permit.text);
    report.at(&permit.at, said_by(facts, permit), what).witness = steps;
}

/// How an end gets to a wearer of a group, at some of these ports; nothing if it does not.
fn way(net: &Network, from: End, group: usize, ports: &Ranges) -> Vec<String> {
    let wearers = net.wearers.get(group).map(Vec::as_slice).unwrap_or_default();
    for to in wearers.iter().map(|i| End::Node(*i)).filter(|to| *to != from) {
        for protocol in net.protocols() {
            let flow = flow(net, from, to, protocol, ports, Mode::May);
            if !flow.ports.is_empty() {
                return flow.steps.into_iter().map(|s| s.0).collect();
            }
        }
    }
    Vec::new()
}

/// Everything that the internet gets to, hop after hop, but by load balancers, whose forwarding E05 judges,
/// every one's, and by bastions, whose clients R06 and R07 judge.
fn ways_in(facts: &Facts<'_>, report: &mut Report) {
    let net = facts.net;
    let protocols = net.protocols();
    let gate = |i: usize| net.is_bastion(i) || net.nodes.get(i).is_some_and(is_balancer);
    let reaches = |from: End, to: usize| {
        let flows = protocols
            .iter()
            .map(|p| flow(net, from, End::Node(to), *p, &Ranges::all_ports(), Mode::May));
        flows.into_iter().find(|f| !f.ports.is_empty())
    };
    let open = (0..net.nodes.len()).filter(|i| !gate(*i));
    let open = open.filter_map(|i| Some((i, vec![reaches(End::Internet, i)?])));
    let mut ways: Vec<_> = open.collect();
    let mut seen: Vec<usize> = ways.iter().map(|(i, _)| *i).collect();
    while let Some((i, hops)) = ways.pop() {
        if net.edge.is_origin(i) {
            let Some(node) = net.nodes.get(i) else { continue };
            let finding = report.at(&node.at, &node.name, "the internet has a way to it");
            let steps = hops.into_iter().flat_map(|f| f.steps).map(|s| s.0);
            finding.witness = steps.collect();
            continue;
        }
        for next in (0..net.nodes.len()).filter(|n| !gate(*n)) {
            if seen.contains(&next) {
                continue;
            }
            if let Some(hop) = reaches(End::Node(i), next) {
                seen.push(next);
                ways.push((next, [hops.as_slice(), &[hop]].concat()));
            }
        }
    }
}
