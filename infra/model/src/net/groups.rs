//! Security groups: what each lets in and out, wherever the rule is written. Invariant: a part of a rule
//! that cannot be read, protocol, ports or block, is all of them, so that nothing is called safe because it
//! was not understood. A rule whose own group cannot be read is nobody's here, and is left out.

use std::collections::{HashMap, HashSet};

use super::{addresses::Addresses, ranges::Ranges};
use crate::{
    estate::{Estate, Place, Resource},
    value::{At, Value},
};

/// A protocol's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);

    /// Whether it has ports.
    #[must_use]
    pub fn has_ports(self) -> bool {
        self == Self::TCP || self == Self::UDP
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            1 => f.write_str("icmp"),
            6 => f.write_str("tcp"),
            17 => f.write_str("udp"),
            58 => f.write_str("icmpv6"),
            other => write!(f, "protocol {other}"),
        }
    }
}

/// `tcp`, `6`, `-1`: a protocol, or nothing for all of them.
pub(super) fn protocol(value: Option<&Value>) -> Option<Protocol> {
    let text = value.and_then(Value::scalar).unwrap_or_default().to_ascii_lowercase();
    match text.as_str() {
        "tcp" => Some(Protocol::TCP),
        "udp" => Some(Protocol::UDP),
        "icmp" => Some(Protocol(1)),
        "icmpv6" => Some(Protocol(58)),
        // `-1`, and what is none: everything.
        other => other.parse().ok().map(Protocol),
    }
}

/// Ports of a protocol between two values; all where it has none or they do not say.
pub(super) fn ports(
    protocol: Option<Protocol>,
    from: Option<&Value>,
    to: Option<&Value>,
) -> Ranges {
    let number = |v: Option<&Value>| v.and_then(Value::as_int).and_then(|n| u128::try_from(n).ok());
    match (protocol.is_some_and(Protocol::has_ports), number(from), number(to)) {
        (true, Some(from), Some(to)) => Ranges::of(from, to).and(&Ranges::all_ports()),
        _ => Ranges::all_ports(),
    }
}

/// Who is on the other side of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Addresses.
    Block(Addresses),
    /// Who wears a group, by its id.
    Group(String),
    /// A prefix list, by its id.
    List(String),
}

/// A rule of a group.
#[derive(Clone, Debug)]
pub struct Permit {
    /// The line that gives it.
    pub at: At,
    /// The resource that gives it: the group itself, or a rule of its own.
    pub place: Place,
    /// Which protocol; all if none.
    pub protocol: Option<Protocol>,
    /// Which ports.
    pub ports: Ranges,
    /// The other side.
    pub peer: Peer,
    /// As people write it: `tcp 443 0.0.0.0/0`.
    pub text: String,
}

impl Permit {
    /// Whether it is about this protocol.
    #[must_use]
    pub fn is_for(&self, protocol: Protocol) -> bool {
        self.protocol.is_none_or(|p| p == protocol)
    }
}

/// A security group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// The resource; nothing for a VPC's default group.
    pub place: Option<Place>,
    /// `stack.Logical`.
    pub name: String,
    /// Where it is.
    pub at: At,
    /// What it lets in.
    pub ingress: Vec<Permit>,
    /// What it lets out.
    pub egress: Vec<Permit>,
}

/// All groups.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// In the order of the estate; default groups last.
    pub all: Vec<Group>,
    by_id: HashMap<String, usize>,
}

impl Groups {
    /// A group's position by its id.
    #[must_use]
    pub fn index(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    fn add(&mut self, group: Group) {
        self.by_id.insert(group.id.clone(), self.all.len());
        self.all.push(group);
    }

    /// Reads them out of an estate.
    pub(super) fn read(estate: &Estate) -> Self {
        let mut groups = Self::default();
        for (place, resource) in estate.of("AWS::EC2::SecurityGroup") {
            let mut group = Group {
                id: resource.id.clone(),
                place: Some(place),
                name: estate.name(place),
                at: resource.at.clone(),
                ingress: permits(place, resource.get("SecurityGroupIngress"), false),
                egress: permits(place, resource.get("SecurityGroupEgress"), true),
            };
            // Without a rule of its own AWS gives it one that lets everything out, and keeps that one
            // beside rules that are resources.
            if group.egress.is_empty() {
                group.egress.push(everything(&resource.at, place));
            }
            groups.add(group);
        }
        for (kind, outward) in
            [("AWS::EC2::SecurityGroupIngress", false), ("AWS::EC2::SecurityGroupEgress", true)]
        {
            for (place, resource) in estate.of(kind) {
                let permit = permit(place, &resource.properties, &resource.at, outward);
                let target = resource.str("GroupId").and_then(|id| groups.index(id));
                let Some(group) = target.and_then(|i| groups.all.get_mut(i)) else { continue };
                if outward { group.egress.push(permit) } else { group.ingress.push(permit) }
            }
        }
        for group in &mut groups.all {
            for permit in group.ingress.iter_mut().chain(&mut group.egress) {
                if let Peer::Group(id) | Peer::List(id) = &permit.peer
                    && let Some(place) = estate.owner(id)
                {
                    permit.text = permit.text.replace(id.as_str(), &estate.name(place));
                }
            }
        }
        groups.add_defaults(estate);
        groups
    }

    /// The group that AWS makes with a VPC: its wearers reach each other, and everything.
    fn add_defaults(&mut self, estate: &Estate) {
        for (place, vpc) in estate.of("AWS::EC2::VPC") {
            let id = default_of(&vpc.id);
            let mut inside = everything(&vpc.at, place);
            inside.peer = Peer::Group(id.clone());
            inside.text = "everything from itself".to_owned();
            self.add(Group {
                id,
                place: None,
                name: format!("{} default security group", estate.name(place)),
                at: vpc.at.clone(),
                ingress: vec![inside],
                egress: vec![everything(&vpc.at, place)],
            });
        }
    }
}

/// The id by which a VPC's default group goes here.
pub(super) fn default_of(vpc: &str) -> String {
    format!("{vpc}/default")
}

/// A group's id as a property gives it: an attribute of a VPC is its default group.
pub(super) fn group_id(estate: &Estate, text: &str) -> String {
    match estate.find(text) {
        Some(vpc) if vpc.kind == "AWS::EC2::VPC" => default_of(&vpc.id),
        _ => text.to_owned(),
    }
}

fn everything(at: &At, place: Place) -> Permit {
    Permit {
        at: at.clone(),
        place,
        protocol: None,
        ports: Ranges::all_ports(),
        peer: Peer::Block(Addresses::everything()),
        text: "everything to everywhere, as no egress is given".to_owned(),
    }
}

fn permits(place: Place, list: Option<&Value>, outward: bool) -> Vec<Permit> {
    let items = list.map(Value::one_or_more).unwrap_or_default();
    items.iter().map(|item| permit(place, item, &item.at, outward)).collect()
}

fn permit(place: Place, value: &Value, at: &At, outward: bool) -> Permit {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (group, list) = if outward {
        (text("DestinationSecurityGroupId"), text("DestinationPrefixListId"))
    } else {
        (text("SourceSecurityGroupId"), text("SourcePrefixListId"))
    };
    let block = text("CidrIp").or_else(|| text("CidrIpv6"));
    let protocol = protocol(value.get("IpProtocol"));
    let ports = ports(protocol, value.get("FromPort"), value.get("ToPort"));
    let peer = match (group, list, block) {
        (Some(group), _, _) => Peer::Group(group.to_owned()),
        (None, Some(list), _) => Peer::List(list.to_owned()),
        (None, None, block) => {
            Peer::Block(block.and_then(Addresses::block).unwrap_or_else(Addresses::everything))
        }
    };
    let said = protocol.map_or_else(|| "every protocol".to_owned(), |p| p.to_string());
    let who = group.or(list).or(block).unwrap_or("anybody");
    let between = if outward { "to" } else { "from" };
    let text = format!("{said} {ports} {between} {who}");
    Permit { at: at.clone(), place, protocol, ports, peer, text }
}

/// Every protocol that some rule names, TCP and UDP, and one that none names and that stands for the rest.
pub(super) fn protocols(groups: &Groups, others: impl Iterator<Item = Protocol>) -> Vec<Protocol> {
    let permits = groups.all.iter().flat_map(|g| g.ingress.iter().chain(&g.egress));
    let named = permits.filter_map(|p| p.protocol).chain(others);
    let mut all: HashSet<Protocol> = named.collect();
    all.extend([Protocol::TCP, Protocol::UDP]);
    all.extend((0..=u8::MAX).map(Protocol).find(|p| !all.contains(p)));
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_unstable();
    all
}

/// The line at which a resource says what groups it wears.
pub(super) fn said_at(resource: &Resource, paths: &[&str]) -> At {
    let found = paths.iter().find_map(|path| resource.get(path));
    found.map_or_else(|| resource.at.clone(), |v| v.at.clone())
}
