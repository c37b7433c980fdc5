//! What there is to draw: boxes in their tiers, and arrows that `flow` proves.

use std::collections::BTreeMap;

use crate::{
    estate::Estate,
    net::{
        Network,
        addresses::Family,
        flow::{End, Mode, flow},
        groups::Protocol,
        nodes::{Kind, Node},
        ranges::Ranges,
        subnets::{Target, Tier},
    },
};

/// Where a box is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Outside,
    Edge,
    Tier(Tier),
}

/// A box.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Letters and digits only.
    pub(super) id: String,
    /// Its lines; the first is what it is.
    pub(super) lines: Vec<String>,
    pub(super) place: Place,
}

/// An arrow between two boxes, by their positions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: String,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) region: String,
    /// VPCs with their blocks.
    pub(super) vpc: String,
    /// What each tier is, where it has subnets.
    pub(super) tiers: BTreeMap<Tier, String>,
    pub(super) items: Vec<Item>,
    pub(super) arrows: Vec<Arrow>,
}

/// Ends that are drawn as one box.
struct Drawn {
    ends: Vec<End>,
    item: Item,
}

impl Picture {
    pub(super) fn of(estate: &Estate) -> Self {
        let net = Network::of(estate);
        let drawn = boxes(estate, &net);
        let nat = drawn.iter().position(|d| d.item.id == "nat");
        let internet = drawn.iter().position(|d| d.ends == [End::Internet]);
        let mut arrows = Vec::new();
        for (from, source) in drawn.iter().enumerate() {
            for (to, destination) in drawn.iter().enumerate().filter(|(to, _)| *to != from) {
                let Some(label) = label(&net, &source.ends, &destination.ends) else { continue };
                // Those without an address of their own leave by NAT.
                let by_nat =
                    Some(to) == internet && !source.ends.iter().all(|e| is_public(&net, *e));
                let to = if by_nat { nat.unwrap_or(to) } else { to };
                arrows.push(Arrow { from, to, label });
            }
        }
        if let (Some(nat), Some(internet)) = (nat, internet) {
            // What gets to the gateways by those flows goes on.
            let mut labels: Vec<_> =
                arrows.iter().filter(|a| a.to == nat).map(|a| a.label.clone()).collect();
            labels.sort();
            labels.dedup();
            let on = |label| Arrow { from: nat, to: internet, label };
            arrows.extend(labels.into_iter().map(on));
        }
        arrows.sort();
        let vpcs = estate.of("AWS::EC2::VPC");
        let vpcs = vpcs
            .map(|(p, r)| format!("{} {}", estate.name(p), r.str("CidrBlock").unwrap_or_default()));
        Self {
            title: format!("{} {}", estate.project, estate.env),
            region: estate.region.clone(),
            vpc: vpcs.collect::<Vec<_>>().join(", "),
            tiers: tiers(estate, &net),
            items: drawn.into_iter().map(|d| d.item).collect(),
            arrows,
        }
    }
}

/// What gets from any of these to all of those; TCP and UDP.
fn label(net: &Network, from: &[End], to: &[End]) -> Option<String> {
    let node = |ends: &[End]| ends.iter().any(|e| matches!(e, End::Node(_)));
    let viewers = from == [End::Internet] && to == [End::CloudFront];
    // What gets to the internet gets to admins and to CloudFront too: no arrow of its own.
    let worth = match (node(from), node(to)) {
        (_, true) => !from.is_empty(),
        (true, false) => to == [End::Internet],
        (false, false) => viewers,
    };
    if !worth {
        return None;
    }
    let all = Ranges::all_ports();
    let mut parts = Vec::new();
    for (protocol, name) in [(Protocol::TCP, "tcp"), (Protocol::UDP, "udp")] {
        let mut ports: Option<Ranges> = None;
        for source in from {
            for destination in to.iter().filter(|d| *d != source) {
                let flow = flow(net, *source, *destination, protocol, &all, Mode::May);
                let so_far = ports.get_or_insert_with(Ranges::none);
                *so_far = so_far.union(&flow.ports);
            }
        }
        if let Some(ports) = ports.filter(|p| !p.is_empty()) {
            parts.push(format!("{name} {ports}"));
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn is_public(net: &Network, end: End) -> bool {
    match end {
        End::Node(i) => net.nodes.get(i).is_some_and(|n| n.public.is_some()),
        End::Internet | End::CloudFront | End::Admins => true,
    }
}

fn boxes(estate: &Estate, net: &Network) -> Vec<Drawn> {
    let outside = |id: &str, line: String, end, place| Drawn {
        ends: vec![end],
        item: Item { id: id.to_owned(), lines: vec![line], place },
    };
    let mut all = vec![outside("internet", "Internet".to_owned(), End::Internet, Place::Outside)];
    if !net.lists.is_empty() {
        all.push(outside("admins", "Admins".to_owned(), End::Admins, Place::Outside));
    }
    for (place, distribution) in estate.of("AWS::CloudFront::Distribution").take(1) {
        let mut drawn =
            outside("cloudfront", "CloudFront".to_owned(), End::CloudFront, Place::Edge);
        drawn.item.lines.push(estate.name(place));
        let firewall = distribution.str("DistributionConfig.WebACLId");
        let firewall = firewall.and_then(|id| estate.owner(id));
        drawn.item.lines.extend(firewall.map(|f| format!("behind {}", estate.name(f))));
        all.push(drawn);
    }
    all.extend(nats(estate, net));
    let mut endpoints: BTreeMap<Tier, Vec<usize>> = BTreeMap::new();
    for (i, node) in net.nodes.iter().enumerate() {
        if node.kind == Kind::Endpoint {
            endpoints.entry(tier(net, node)).or_default().push(i);
            continue;
        }
        let id: String = node.name.chars().filter(char::is_ascii_alphanumeric).collect();
        let lines = vec![what(net, i, node).to_owned(), node.name.clone()];
        let item = Item { id, lines, place: Place::Tier(tier(net, node)) };
        all.push(Drawn { ends: vec![End::Node(i)], item });
    }
    for (tier, of_tier) in endpoints {
        let lines = vec!["VPC endpoints".to_owned(), format!("{} services", of_tier.len())];
        let id = format!("endpoints{}", format!("{tier:?}").to_lowercase());
        let ends = of_tier.into_iter().map(End::Node).collect();
        all.push(Drawn { ends, item: Item { id, lines, place: Place::Tier(tier) } });
    }
    all
}

/// NAT gateways as one box, where some route leads to them.
fn nats(estate: &Estate, net: &Network) -> Option<Drawn> {
    let routes = net.subnets.tables.iter().flat_map(|t| &t.routes);
    let mut used: Vec<_> = routes
        .filter_map(|r| match r.target {
            Target::Nat(place) => Some(place),
            Target::Internet(_) | Target::EgressOnly | Target::Other(_) => None,
        })
        .collect();
    used.sort();
    used.dedup();
    let first = used.first()?;
    let subnet = net.nats.get(first).and_then(|s| net.subnets.all.get(*s))?;
    let name = match used.len() {
        1 => estate.name(*first),
        count => format!("{count} gateways"),
    };
    let lines = vec!["NAT".to_owned(), name];
    let item = Item { id: "nat".to_owned(), lines, place: Place::Tier(subnet.tier) };
    Some(Drawn { ends: Vec::new(), item })
}

fn what(net: &Network, index: usize, node: &Node) -> &'static str {
    match node.kind {
        _ if net.is_bastion(index) => "Bastion",
        Kind::Host if net.edge.is_origin(index) => "Origin hosts",
        Kind::Task if net.edge.is_origin(index) => "Origin tasks",
        Kind::Host => "Hosts",
        Kind::Task => "Tasks",
        Kind::LoadBalancer | Kind::NetworkLoadBalancer => "Load balancer",
        Kind::Function => "Function",
        Kind::Database => "Database",
        Kind::Cache => "Cache",
        Kind::Endpoint => "Endpoint",
        Kind::Other => "Other",
    }
}

/// The tier of a node: the most open one of its subnets.
fn tier(net: &Network, node: &Node) -> Tier {
    let tiers = node.subnets.iter().filter_map(|s| net.subnets.all.get(*s)).map(|s| s.tier);
    tiers.min().unwrap_or(Tier::Data)
}

/// A line for each tier: its zones and how many addresses it has.
fn tiers(estate: &Estate, net: &Network) -> BTreeMap<Tier, String> {
    let mut all: BTreeMap<Tier, Vec<String>> = BTreeMap::new();
    for subnet in &net.subnets.all {
        let block = estate.resource(subnet.place).and_then(|r| r.str("CidrBlock"));
        let zone = subnet.zone.chars().last().map(String::from).unwrap_or_default();
        let known = !subnet.block.of(Family::V4).is_empty();
        let block = block.filter(|_| known).unwrap_or("?");
        all.entry(subnet.tier).or_default().push(format!("{zone} {block}"));
    }
    all.into_iter()
        .map(|(tier, subnets)| {
            let name = match tier {
                Tier::Public => "Public tier, routed from the internet",
                Tier::Private => "Private tier, way out by NAT",
                Tier::Data => "Data tier, no way out",
            };
            (tier, format!("{name}: {}", subnets.join(", ")))
        })
        .collect()
}
