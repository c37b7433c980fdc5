//! R04, R05: databases and caches have no way out, and one way in.

use std::collections::BTreeSet;

use super::{
    Facts, Report,
    reach::{groups, said_by, wearers, worn},
};
use crate::net::{
    groups::{Peer, Permit, Protocol},
    ranges::Ranges,
    subnets::Tier,
};

/// R04. A subnet that the internet is routed to is R02's, by version 6 R13's.
pub(super) fn no_way_out(facts: &Facts<'_>, report: &mut Report) {
    let net = facts.net;
    let mut told = BTreeSet::new();
    for (_, node) in net.data() {
        if let Some(at) = &node.public {
            report.at(at, &node.name, "has a public address");
        }
        for subnet in node.subnets.iter().filter_map(|s| net.subnets.all.get(*s)) {
            let public = subnet.tier == Tier::Public || subnet.tier_v6 == Tier::Public;
            if public || (subnet.tier, subnet.tier_v6) == (Tier::Data, Tier::Data) {
                continue;
            }
            let table = net.subnets.table_of(subnet);
            for route in table.map(|t| t.routes.as_slice()).unwrap_or_default() {
                if !told.insert(route.place) {
                    continue;
                }
                let what = "leads out of a subnet that holds data";
                let finding = report.at(&route.at, facts.estate.name(route.place), what);
                finding.witness = vec![
                    format!("{} ({}) is in {} ({})", node.name, node.at, subnet.name, subnet.at),
                    format!("whose table {} has this route", table.map_or("?", |t| &t.name)),
                ];
            }
        }
    }
}

/// R05.
pub(super) fn only_clients(facts: &Facts<'_>, report: &mut Report) {
    let net = facts.net;
    for (index, group) in groups(facts) {
        if !worn(facts, index).data {
            continue;
        }
        let ports = wearers(facts, index).filter(|(_, n)| n.kind.is_data());
        let ports = ports.fold(Ranges::none(), |sum, (_, n)| sum.union(&n.ports));
        for permit in &group.ingress {
            let own = permit.protocol == Some(Protocol::TCP) && ports.covers(&permit.ports);
            match &permit.peer {
                Peer::Group(id) if own => match net.groups.index(id) {
                    Some(peer) => clients(facts, report, permit, peer),
                    None => add(facts, report, permit, "admits a group that no template makes"),
                },
                Peer::Group(_) => {
                    let what = format!("admits more than {ports} to data");
                    add(facts, report, permit, &what);
                }
                Peer::Block(_) | Peer::List(_) => {
                    add(facts, report, permit, "admits addresses to data");
                }
            }
        }
    }
    for (_, node) in net.data() {
        for id in &node.foreign_groups {
            let what =
                format!("wears {id}, which no template makes: nobody can say what it admits");
            report.at(&node.groups_at, &node.name, what);
        }
    }
}

/// Only origins wear what a database admits.
fn clients(facts: &Facts<'_>, report: &mut Report, permit: &Permit, peer: usize) {
    let net = facts.net;
    let name = net.groups.all.get(peer).map(|g| g.name.as_str()).unwrap_or_default();
    let (good, bad): (Vec<_>, Vec<_>) =
        wearers(facts, peer).partition(|(i, _)| net.edge.is_origin(*i));
    for (_, stranger) in bad {
        if good.is_empty() {
            let what = format!("admits {}, which wears {name}", stranger.name);
            add(facts, report, permit, &what);
        } else {
            let what = format!("wears {name}, which {} admits to data", said_by(facts, permit));
            report.at(&stranger.groups_at, &stranger.name, what);
        }
    }
}

fn add(facts: &Facts<'_>, report: &mut Report, permit: &Permit, what: &str) {
    let finding = report.at(&permit.at, said_by(facts, permit), what);
    finding.witness = vec![permit.text.clone()];
}
