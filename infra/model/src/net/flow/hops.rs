//! The hops between two places: what each lets through, by which line, and which line stops a packet.

use super::{Mode, Where};
use crate::net::{
    Network, Way,
    acls::Acl,
    addresses::{Addresses, Family},
    flow::End,
    groups::{Group, Peer, Permit, Protocol},
    ranges::{LAST_PORT, Ranges},
    subnets::{Subnet, Target},
};

/// Ports at which clients await answers; NAT gateways and load balancers use all of them.
const EPHEMERAL: (u128, u128) = (1024, LAST_PORT);

/// One hop.
#[derive(Clone, Debug)]
pub(super) enum Hop<'a> {
    /// Rules of the groups that a node wears.
    Groups { net: &'a Network, here: &'a Where<'a>, there: &'a Where<'a>, outward: bool },
    /// A subnet's ACL; `answers` are those to a packet that has been let through.
    Acl { acl: &'a Acl, subnet: &'a Subnet, outward: bool, answers: bool, about_source: bool },
    /// A subnet's routes to (or, for answers, back to) what is outside.
    Routes { net: &'a Network, here: &'a Where<'a>, subnet: &'a Subnet, inbound: bool },
}

/// The hops in the order in which a packet and its answer meet them.
pub(super) fn between<'a>(
    net: &'a Network,
    from: &'a Where<'a>,
    to: &'a Where<'a>,
) -> Vec<Hop<'a>> {
    let mut hops = Vec::new();
    let acl = |subnet: &'a Subnet, outward, answers, about_source| {
        let acl = net.acls.all.get(subnet.acl?)?;
        Some(Hop::Acl { acl, subnet, outward, answers, about_source })
    };
    match (from.subnet, to.subnet) {
        (Some(source), Some(destination)) => {
            // Inside of a subnet no ACL looks.
            let crosses = source.id != destination.id;
            hops.push(Hop::Groups { net, here: from, there: to, outward: true });
            if crosses {
                hops.extend(acl(source, true, false, false));
                hops.extend(acl(destination, false, false, true));
            }
            hops.push(Hop::Groups { net, here: to, there: from, outward: false });
            if crosses {
                hops.extend(acl(destination, true, true, true));
                hops.extend(acl(source, false, true, false));
            }
        }
        (None, Some(destination)) => {
            let by_internet = from.end != End::CloudFront || from.way == Way::Internet;
            if by_internet {
                hops.push(Hop::Routes { net, here: to, subnet: destination, inbound: true });
                hops.extend(acl(destination, false, false, true));
            }
            hops.push(Hop::Groups { net, here: to, there: from, outward: false });
            if by_internet {
                hops.extend(acl(destination, true, true, true));
            }
        }
        (Some(source), None) => {
            hops.push(Hop::Groups { net, here: from, there: to, outward: true });
            hops.extend(acl(source, true, false, false));
            hops.push(Hop::Routes { net, here: from, subnet: source, inbound: false });
            for nat in nat_subnets(net, source) {
                hops.extend(acl(nat, false, false, true));
                hops.extend(acl(nat, true, false, false));
                hops.extend(acl(nat, false, true, false));
                hops.extend(acl(nat, true, true, true));
            }
            hops.extend(acl(source, false, true, false));
        }
        (None, None) => {}
    }
    hops
}

fn nat_subnets<'a>(net: &'a Network, subnet: &Subnet) -> Vec<&'a Subnet> {
    let routes = net.subnets.routed(subnet, &net.public);
    let nats = routes.iter().filter_map(|(route, _)| match route.target {
        Target::Nat(place) => net.nats.get(&place).copied(),
        Target::Internet(_) | Target::EgressOnly | Target::Other(_) => None,
    });
    nats.filter_map(|s| net.subnets.all.get(s)).collect()
}

/// Cuts ports so that no rule of any hop tells two ports of one piece apart.
pub(super) fn pieces(hops: &[Hop<'_>], protocol: Protocol, ports: &Ranges) -> Vec<Ranges> {
    if !protocol.has_ports() {
        return vec![Ranges::all_ports()];
    }
    let mut cuts = Vec::new();
    let mut cut = |set: &Ranges| {
        for (from, to) in set.parts() {
            cuts.extend([*from, to + 1]);
        }
    };
    cut(ports);
    for hop in hops {
        match hop {
            Hop::Groups { net, here, outward, .. } => {
                groups(net, here).flat_map(|g| permits(g, *outward)).for_each(|p| cut(&p.ports));
            }
            Hop::Acl { acl, answers: false, .. } => acl.entries.iter().for_each(|e| cut(&e.ports)),
            Hop::Acl { .. } | Hop::Routes { .. } => {}
        }
    }
    split(cuts, ports)
}

fn split(mut cuts: Vec<u128>, within: &Ranges) -> Vec<Ranges> {
    cuts.sort_unstable();
    cuts.dedup();
    let pairs = cuts.windows(2).filter_map(|pair| match pair {
        [from, next] => Some(Ranges::of(*from, next - 1)),
        _ => None,
    });
    pairs.filter(|piece| within.covers(piece)).collect()
}

fn groups<'a>(net: &'a Network, here: &Where<'a>) -> impl Iterator<Item = &'a Group> + use<'a> {
    let all: &'a [usize] = here.node.map(|n| n.groups.as_slice()).unwrap_or_default();
    all.iter().filter_map(|g| net.groups.all.get(*g))
}

fn permits(group: &Group, outward: bool) -> &[Permit] {
    if outward { &group.egress } else { &group.ingress }
}

/// Which of `set`, addresses that the other side may have, a rule is about.
fn fits(
    net: &Network,
    peer: &Peer,
    there: &Where<'_>,
    family: Family,
    set: &Ranges,
    mode: Mode,
) -> Ranges {
    let all_if = |yes: bool| if yes { set.clone() } else { Ranges::none() };
    let cloudfront = there.end == End::CloudFront;
    match peer {
        Peer::Block(block) => set.and(block.of(family)),
        Peer::Group(id) => {
            let theirs = cloudfront
                && there.way == Way::VpcOrigin
                && net.cloudfront.group.as_ref() == Some(id);
            all_if(
                theirs
                    || there.node.is_some_and(|node| {
                        node.foreign_groups.contains(id)
                            || net.groups.index(id).is_some_and(|i| node.groups.contains(&i))
                    }),
            )
        }
        Peer::List(id) => match net.lists.get(id) {
            Some(list) => set.and(list.of(family)),
            None if net.cloudfront.list.as_ref() == Some(id) => all_if(cloudfront),
            // Nobody here knows who is on it: maybe they, but not for certain.
            None => all_if(mode == Mode::May),
        },
    }
}

impl Hop<'_> {
    /// Whether it narrows the source's addresses; else the destination's.
    pub(super) fn narrows_source(&self) -> bool {
        match self {
            Self::Groups { outward, .. } => !outward,
            Self::Acl { about_source, .. } => *about_source,
            Self::Routes { inbound, .. } => *inbound,
        }
    }

    /// Which addresses it lets through, to ports that nothing tells apart.
    pub(super) fn lets(
        &self,
        net: &Network,
        protocol: Protocol,
        piece: &Ranges,
        family: Family,
        set: &Ranges,
        mode: Mode,
    ) -> Ranges {
        match self {
            Self::Groups { here, there, outward, .. } => {
                let node = here.node;
                let unknown = node.is_some_and(|n| !n.foreign_groups.is_empty());
                if node.is_none_or(|n| n.unfiltered) || unknown && mode == Mode::May {
                    return set.clone();
                }
                let permits = groups(net, here).flat_map(|g| permits(g, *outward));
                let permits = permits.filter(|p| p.is_for(protocol) && p.ports.covers(piece));
                permits.fold(Ranges::none(), |sum, p| {
                    sum.union(&fits(net, &p.peer, there, family, set, mode))
                })
            }
            Self::Acl { acl, outward, answers: false, .. } => {
                acl.lets(*outward, protocol, piece, family, set)
            }
            Self::Acl { acl, outward, .. } => answers(acl, *outward, protocol, family, set, mode),
            Self::Routes { here, subnet, inbound, .. } => {
                routed(net, here, subnet, *inbound, family, set, mode)
            }
        }
    }

    /// How it lets them through, where that is worth a line.
    pub(super) fn by(&self, protocol: Protocol, through: &Ranges) -> Option<String> {
        match self {
            Self::Groups { net, here, there, outward } => {
                let all = groups(net, here).flat_map(|g| permits(g, *outward));
                let permit =
                    all.filter(|p| p.is_for(protocol) && p.ports.meets(through)).find(|p| {
                        super::FAMILIES.iter().any(|family| {
                            let set = there.addresses.of(*family);
                            !fits(net, &p.peer, there, *family, set, Mode::May).is_empty()
                        })
                    })?;
                let (to, name) = if *outward { ("out of", here.name) } else { ("into", here.name) };
                Some(format!("{to} {name} by {}: {}", permit.at, permit.text))
            }
            Self::Acl { acl, outward, answers, .. } => {
                let which = if *outward { "out" } else { "in" };
                let ports = if *answers { ephemeral(protocol) } else { through.clone() };
                let entry = acl.entries.iter().find(|e| {
                    let fits = e.protocol.is_none_or(|p| p == protocol);
                    e.allows && e.outward == *outward && fits && e.ports.meets(&ports)
                })?;
                let what = if *answers { "answers " } else { "" };
                Some(format!("{what}{which} through {} by {}", acl.name, entry.at))
            }
            Self::Routes { net, subnet, .. } => {
                let table = net.subnets.table_of(subnet)?;
                let routes = net.subnets.routed(subnet, &net.public);
                let (route, _) = routes.first()?;
                Some(format!("routed by {} ({})", table.name, route.at))
            }
        }
    }

    /// Why nothing gets through.
    pub(super) fn why_not(&self, protocol: Protocol, ports: &Ranges) -> String {
        let what =
            if protocol.has_ports() { format!("{protocol} {ports}") } else { protocol.to_string() };
        match self {
            Self::Groups { net, here, there, outward } => {
                let names: Vec<_> =
                    groups(net, here).map(|g| format!("{} ({})", g.name, g.at)).collect();
                let (kind, to) = if *outward { ("egress", "to") } else { ("ingress", "from") };
                format!("no {kind} rule of {} lets {what} {to} {}", names.join(" or "), there.name)
            }
            Self::Acl { acl, subnet, outward, answers, .. } => {
                let (which, of) = (if *outward { "out of" } else { "into" }, &subnet.name);
                let answers = if *answers { "answers to " } else { "" };
                format!("{} ({}) keeps {answers}{what} from getting {which} {of}", acl.name, acl.at)
            }
            Self::Routes { net, subnet, inbound, .. } => {
                let table = net.subnets.table_of(subnet);
                let (name, at) = table.map_or((&subnet.name, &subnet.at), |t| (&t.name, &t.at));
                let which = if *inbound { "to an internet gateway" } else { "to the internet" };
                format!(
                    "{name} ({at}), the routes of {}, has none {which} that is attached",
                    subnet.name
                )
            }
        }
    }
}

fn ephemeral(protocol: Protocol) -> Ranges {
    let (from, to) = if protocol.has_ports() { EPHEMERAL } else { (0, LAST_PORT) };
    Ranges::of(from, to)
}

/// To which addresses an ACL lets answers: at some port that a client may have chosen, or at all of them.
fn answers(
    acl: &Acl,
    outward: bool,
    protocol: Protocol,
    family: Family,
    set: &Ranges,
    mode: Mode,
) -> Ranges {
    let ports = ephemeral(protocol);
    let mut cuts = Vec::new();
    for part in acl.entries.iter().map(|e| &e.ports).chain([&ports]).flat_map(Ranges::parts) {
        cuts.extend([part.0, part.1 + 1]);
    }
    let pieces = split(cuts, &ports);
    let lets = pieces.iter().map(|piece| acl.lets(outward, protocol, piece, family, set));
    match mode {
        Mode::May => lets.fold(Ranges::none(), |sum, l| sum.union(&l)),
        Mode::Must => lets.fold(set.clone(), |sum, l| sum.and(&l)),
    }
}

/// Which outside addresses a subnet's routes lead to, in a way that this node can use.
fn routed(
    net: &Network,
    here: &Where<'_>,
    subnet: &Subnet,
    inbound: bool,
    family: Family,
    set: &Ranges,
    mode: Mode,
) -> Ranges {
    if subnet.foreign_table {
        // It may lead anywhere, and need not.
        return if mode == Mode::May { set.clone() } else { Ranges::none() };
    }
    let public = here.node.is_some_and(|n| n.public.is_some()) || family == Family::V6;
    let useful = |target: &Target| match target {
        Target::Internet(gateway) => public && net.subnets.attached(&subnet.vpc, *gateway),
        // A NAT gateway is of use where its own subnet is public.
        Target::Nat(place) => {
            let nat = net.nats.get(place).and_then(|s| net.subnets.all.get(*s));
            !inbound && family == Family::V4 && nat.is_some_and(|s| attached_route(net, s))
        }
        Target::EgressOnly => !inbound && family == Family::V6,
        Target::Other(_) => false,
    };
    let routes = net.subnets.routed(subnet, &Addresses::everything());
    let certain = |vague: bool| mode == Mode::May || !vague;
    let all = routes.iter().filter(|(route, _)| certain(route.vague) && useful(&route.target));
    all.fold(Ranges::none(), |sum, (_, addresses)| sum.union(&set.and(addresses.of(family))))
}

fn attached_route(net: &Network, subnet: &Subnet) -> bool {
    let routes = net.subnets.routed(subnet, &net.public);
    routes.iter().any(|(route, _)| {
        matches!(route.target, Target::Internet(gateway) if net.subnets.attached(&subnet.vpc, gateway))
    })
}
