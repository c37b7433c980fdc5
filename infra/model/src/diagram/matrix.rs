//! Security groups as a Markdown table: every rule that lets something in, with its line.

use std::fmt::Write as _;

use crate::{
    estate::Estate,
    net::{
        Network,
        groups::{Group, Peer, Permit},
    },
};

/// The tables: what each group lets in, and what it lets out.
pub(super) fn write(estate: &Estate) -> String {
    let net = Network::of(estate);
    let mut out = String::from("# Security groups\n");
    for (title, outward) in [("Who is let in", false), ("What is let out", true)] {
        let head = if outward { "To" } else { "From" };
        let mut line = |text: String| writeln!(out, "{text}").unwrap_or_default();
        line(format!("\n## {title}\n"));
        line(format!("| Group | Worn by | {head} | Protocol | Ports | Line |"));
        line("|---|---|---|---|---|---|".to_owned());
        for (index, group) in net.groups.all.iter().enumerate() {
            if group.place.is_none() {
                continue;
            }
            let permits = if outward { &group.egress } else { &group.ingress };
            if permits.is_empty() {
                line(format!(
                    "| {} | {} | nobody | | | {} |",
                    group.name,
                    worn(&net, index),
                    group.at
                ));
            }
            for permit in permits {
                line(row(estate, &net, index, group, permit));
            }
        }
    }
    out
}

fn row(estate: &Estate, net: &Network, index: usize, group: &Group, permit: &Permit) -> String {
    let peer = match &permit.peer {
        Peer::Group(id) | Peer::List(id) => {
            let ours = estate.owner(id).map(|place| estate.name(place));
            let cloudfront = [&net.cloudfront.list, &net.cloudfront.group];
            let theirs = cloudfront.iter().any(|known| known.as_ref() == Some(id));
            ours.unwrap_or_else(|| if theirs { format!("CloudFront ({id})") } else { id.clone() })
        }
        // The last word of a rule's text is what its block was written as.
        Peer::Block(_) => permit.text.rsplit(' ').next().unwrap_or_default().to_owned(),
    };
    let protocol = permit.protocol.map_or_else(|| "all".to_owned(), |p| p.to_string());
    format!(
        "| {} | {} | {peer} | {protocol} | {} | {} |",
        group.name,
        worn(net, index),
        permit.ports,
        permit.at
    )
}

/// Names of those who wear a group; endpoints are many, so they are counted.
fn worn(net: &Network, group: usize) -> String {
    let nodes = net.wearers.get(group).into_iter().flatten().filter_map(|i| net.nodes.get(*i));
    let (endpoints, others): (Vec<_>, Vec<_>) = nodes.partition(|n| n.service.is_some());
    let mut names: Vec<_> = others.iter().map(|n| n.name.clone()).collect();
    if !endpoints.is_empty() {
        names.push(format!("{} endpoints", endpoints.len()));
    }
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
