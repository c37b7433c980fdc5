//! R06 to R09 and R13: SSH, bastions, what is open to the world, what leaves for it, and version 6.

use super::{
    Facts, Report,
    reach::{
        groups, is, is_balancer, is_ssh, is_world, said_by, ssh_port, ssh_ports, wearers, worn,
    },
};
use crate::net::{
    acls::Acl,
    addresses::{Addresses, Family},
    groups::{Group, Peer, Permit, Protocol},
    ranges::{LAST_PORT, Ranges},
    subnets::{Subnet, Tier},
};

const HTTPS: u128 = 443;
/// The most addresses of an entry of a list of admins: a /16, and a /32 of version 6.
const ADMINS_V4: u128 = 1 << 16;
const ADMINS_V6: u128 = 1 << 96;

fn add(facts: &Facts<'_>, report: &mut Report, permit: &Permit, what: impl Into<String>) {
    let finding = report.at(&permit.at, said_by(facts, permit), what);
    finding.witness = vec![permit.text.clone()];
}

/// R06. Who else gets to an origin is R03's, ports of data are R05's, the world is R08's.
pub(super) fn ssh(facts: &Facts<'_>, report: &mut Report) {
    let all = ssh_ports(facts);
    for (index, group) in groups(facts) {
        let worn = worn(facts, index);
        for permit in group.ingress.iter().filter(|p| p.is_for(Protocol::TCP)) {
            if !permit.ports.meets(&all) || worn.data {
                continue;
            }
            if worn.origin {
                origin_ssh(facts, report, permit);
            } else if permit.ports.has(22) && !open(facts, permit) {
                add(facts, report, permit, "opens port 22");
            }
        }
    }
}

/// Whether a rule is for the world, by whatever version.
fn open(facts: &Facts<'_>, permit: &Permit) -> bool {
    let Peer::Block(block) = &permit.peer else { return false };
    is_world(facts, block, Family::V4) || !block.of(Family::V6).is_empty()
}

fn origin_ssh(facts: &Facts<'_>, report: &mut Report, permit: &Permit) {
    let net = facts.net;
    let peer = match &permit.peer {
        Peer::Group(id) => net.groups.index(id),
        Peer::Block(_) | Peer::List(_) => None,
    };
    let (good, bad): (Vec<_>, Vec<_>) = peer
        .into_iter()
        .flat_map(|peer| wearers(facts, peer))
        .partition(|(i, _)| net.is_bastion(*i));
    if !is_ssh(facts, permit) {
        // Others than load balancers are R03's at such a rule.
        if peer.is_some() && !bad.is_empty() && bad.iter().all(|(_, node)| is_balancer(node)) {
            add(facts, report, permit, "opens the SSH port to the load balancer");
        }
        return;
    }
    if permit.ports.has(22) && ssh_port(facts) != Some(22) {
        add(facts, report, permit, "opens port 22");
    }
    if peer.is_none() {
        add(facts, report, permit, "admits SSH from others than the bastion's group");
    }
    for (_, stranger) in bad {
        if good.is_empty() {
            let what = format!("admits SSH from {}, which is no bastion", stranger.name);
            add(facts, report, permit, what);
        } else {
            let what = format!("wears the group that {} admits to SSH", said_by(facts, permit));
            report.at(&stranger.groups_at, &stranger.name, what);
        }
    }
}

/// R07.
pub(super) fn bastion(facts: &Facts<'_>, report: &mut Report) {
    let net = facts.net;
    let public = is(facts, "BastionMode", "public");
    for (index, group) in groups(facts).filter(|(i, _)| worn(facts, *i).bastion) {
        if worn(facts, index).origin {
            continue;
        }
        for permit in &group.ingress {
            let list = match &permit.peer {
                Peer::List(id) if net.lists.contains_key(id) => Some(id),
                Peer::List(_) | Peer::Group(_) | Peer::Block(_) => None,
            };
            match list {
                None => add(facts, report, permit, "admits others than a list of admins"),
                Some(_) if !public => {
                    add(facts, report, permit, "listens, though sessions come by SSM");
                }
                Some(id) => {
                    if permit.protocol != Some(Protocol::TCP)
                        || !ssh_ports(facts).covers(&permit.ports)
                    {
                        add(facts, report, permit, "admits admins at more than the SSH port");
                    }
                    wide_entries(facts, report, id);
                }
            }
        }
    }
}

/// A list of everybody is no list of admins.
fn wide_entries(facts: &Facts<'_>, report: &mut Report, id: &str) {
    let Some(place) = facts.estate.owner(id) else { return };
    let Some(list) = facts.estate.resource(place) else { return };
    let entries = list.get("Entries").map(crate::Value::items).unwrap_or_default();
    for entry in entries {
        let block = entry.get("Cidr").and_then(crate::Value::as_str).and_then(Addresses::block);
        let wide = block.as_ref().is_none_or(|b| {
            b.of(Family::V4).size() > ADMINS_V4 || b.of(Family::V6).size() > ADMINS_V6
        });
        if wide {
            let what = "has an entry that is wider than a /16";
            report.at(&entry.at, facts.estate.name(place), what);
        }
    }
}

/// R08.
pub(super) fn world(facts: &Facts<'_>, report: &mut Report) {
    for (index, group) in groups(facts) {
        let worn = worn(facts, index);
        if worn.origin || worn.data || worn.bastion {
            continue;
        }
        for permit in &group.ingress {
            let Peer::Block(block) = &permit.peer else { continue };
            if is_world(facts, block, Family::V4) && !is_public_site(facts, index, permit) {
                add(facts, report, permit, "is open to the world");
            }
        }
    }
    acls(facts, report, Family::V4);
}

/// HTTPS at a load balancer that is meant to face the internet.
fn is_public_site(facts: &Facts<'_>, group: usize, permit: &Permit) -> bool {
    let meant = is(facts, "AlbExposure", "internet-facing");
    let balances =
        wearers(facts, group).all(|(_, node)| is_balancer(node) && node.public.is_some());
    let https = Ranges::one(HTTPS).covers(&permit.ports);
    meant && balances && https && permit.protocol == Some(Protocol::TCP)
}

/// What ACLs let in from the world: nothing where no route leads out, answers where one does, and HTTPS and
/// answers where one leads in.
fn acls(facts: &Facts<'_>, report: &mut Report, family: Family) {
    let answers = Ranges::of(1024, LAST_PORT);
    for (index, acl) in facts.net.acls.all.iter().enumerate() {
        let subnets = facts.net.subnets.all.iter().filter(|s| s.acl == Some(index));
        let tier = |s: &Subnet| if family == Family::V4 { s.tier } else { s.tier_v6 };
        let Some(strictest) = subnets.max_by_key(|s| tier(s)) else { continue };
        let may = match tier(strictest) {
            Tier::Data => Ranges::none(),
            Tier::Private => answers.clone(),
            Tier::Public => answers.union(&Ranges::one(HTTPS)),
        };
        for entry in world_entries(facts, acl, family) {
            let udp_or_tcp = entry.protocol.is_some_and(Protocol::has_ports);
            if may.is_empty() || !udp_or_tcp || !may.covers(&entry.ports) {
                let what = format!("lets {} in from the world", entry.ports);
                let finding = report.at(&entry.at, facts.estate.name(entry.place), what);
                let named =
                    format!("{} is the ACL of {} ({})", acl.name, strictest.name, strictest.at);
                finding.witness = vec![named];
            }
        }
    }
}

fn world_entries<'a>(
    facts: &Facts<'a>,
    acl: &'a Acl,
    family: Family,
) -> impl Iterator<Item = &'a crate::net::acls::Entry> + use<'a> {
    let facts = *facts;
    acl.entries.iter().filter(move |e| !e.outward && e.allows && is_world(&facts, &e.block, family))
}

/// R09. A group without an egress rule lets everything out.
pub(super) fn egress(facts: &Facts<'_>, report: &mut Report) {
    let https = Ranges::one(HTTPS);
    for (_, group) in groups(facts) {
        for permit in &group.egress {
            let block = match &permit.peer {
                Peer::Block(block) => block,
                Peer::Group(to) => {
                    let to = facts.net.groups.index(to).and_then(|i| facts.net.groups.all.get(i));
                    if let Some(to) = to.filter(|to| exceeds(permit, group, to)) {
                        let what = format!("lets out more than {} admits of it", to.name);
                        add(facts, report, permit, what);
                    }
                    continue;
                }
                Peer::List(_) => continue,
            };
            let leaves = block.meets(&facts.net.public);
            let fine = permit.protocol == Some(Protocol::TCP) && https.covers(&permit.ports);
            if leaves && !fine {
                add(
                    facts,
                    report,
                    permit,
                    format!("lets {} out to the internet", said(group, permit)),
                );
            }
        }
    }
}

/// Whether a right to send to a group is wider than what that group takes from the sender. Where it takes
/// nothing, or something else, is a matter of what must be reached.
fn exceeds(permit: &Permit, from: &Group, to: &Group) -> bool {
    let admits = |p: &&Permit| matches!(&p.peer, Peer::Group(id) if *id == from.id);
    let admitted: Vec<_> = to.ingress.iter().filter(admits).collect();
    let same = admitted.iter().filter(|p| p.protocol.is_none() || p.protocol == permit.protocol);
    let ports = same.fold(Ranges::default(), |ports, p| ports.union(&p.ports));
    match permit.protocol {
        None => !admitted.is_empty() && ports.is_empty(),
        Some(_) => !ports.is_empty() && permit.ports.covers(&ports) && !ports.covers(&permit.ports),
    }
}

fn said(group: &Group, permit: &Permit) -> String {
    let what = permit.protocol.map_or_else(|| "every protocol".to_owned(), |p| p.to_string());
    format!("{what} of {} at {}", group.name, permit.ports)
}

/// R13. Groups of data are R05's, those of bastions R07's.
pub(super) fn version_6(facts: &Facts<'_>, report: &mut Report) {
    for (index, group) in groups(facts) {
        let worn = worn(facts, index);
        if worn.data || worn.bastion {
            continue;
        }
        for permit in &group.ingress {
            let Peer::Block(block) = &permit.peer else { continue };
            let opens = block.of(Family::V6).meets(facts.net.public.of(Family::V6));
            // One that is for both versions is judged by version 4.
            let own = block.of(Family::V4).is_empty();
            if opens && own && !is_public_site(facts, index, permit) {
                add(facts, report, permit, "admits addresses of version 6");
            }
        }
    }
    acls_only_v6(facts, report);
    for subnet in &facts.net.subnets.all {
        if subnet.tier_v6 != Tier::Public || subnet.tier == Tier::Public {
            continue;
        }
        let routes = facts.net.subnets.routed(subnet, &Addresses::everything());
        let route = routes.iter().find(|(_, a)| !a.of(Family::V6).is_empty());
        if let Some((route, _)) = route {
            let what = format!("routes version 6 from the internet to {}", subnet.name);
            report.at(&route.at, facts.estate.name(route.place), what);
        }
    }
}

/// An ACL that lets version 6 in where it keeps version 4 out.
fn acls_only_v6(facts: &Facts<'_>, report: &mut Report) {
    for acl in &facts.net.acls.all {
        let v4: Vec<_> = world_entries(facts, acl, Family::V4).collect();
        for entry in world_entries(facts, acl, Family::V6) {
            let same = v4.iter().any(|v4| {
                v4.ports.covers(&entry.ports)
                    && (v4.protocol.is_none() || v4.protocol == entry.protocol)
            });
            if !same {
                let what = "lets version 6 in from the world, but not version 4";
                report.at(&entry.at, facts.estate.name(entry.place), what);
            }
        }
    }
}
