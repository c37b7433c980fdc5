//! The network of an estate: groups, subnets, ACLs, nodes, what CloudFront uses and what balances load to
//! whom; and, in `flow`, which packets get from one end to another.
//!
//! Limits, so that nobody reads more into an answer than is in it: prefix lists of AWS are known by id, not
//! by content; a VPC origin's interfaces count as in the load balancer's own subnets (no ACL between); a
//! route to a peer or a transit gateway counts as leaving the VPC, and what is behind it is not followed.

pub mod acls;
pub mod addresses;
pub mod edge;
pub mod flow;
pub mod groups;
pub mod nodes;
pub mod ranges;
pub mod subnets;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    estate::{Estate, Place},
    value::Value,
};
use acls::Acls;
use addresses::{Addresses, Family};
use edge::Edge;
use groups::{Groups, Protocol};
use nodes::{Kind, Node};
use subnets::Subnets;

pub use edge::Way;

/// Name of the stack whose hosts are bastions.
const BASTION: &str = "bastion";

/// The most addresses of a list whose people are told apart from the internet.
const NARROW_LIST: u128 = 1 << 20;

/// The network of an estate.
#[derive(Clone, Debug)]
pub struct Network {
    /// Security groups.
    pub groups: Groups,
    /// Subnets, tables, VPCs.
    pub subnets: Subnets,
    /// ACLs.
    pub acls: Acls,
    /// Nodes, in the order of the estate.
    pub nodes: Vec<Node>,
    /// How CloudFront and load balancers reach them.
    pub edge: Edge,
    /// Prefix lists that templates make: id, and what is in it.
    pub lists: BTreeMap<String, Addresses>,
    /// The id of AWS's list of CloudFront's addresses, and of the group of its VPC origins.
    pub cloudfront: CloudFront,
    /// What the internet routes and no list of ours holds.
    pub internet: Addresses,
    /// What the internet routes.
    pub public: Addresses,
    /// NAT gateways, and the position of the subnet that each is in.
    pub nats: HashMap<Place, usize>,
    /// Who wears each group: positions of nodes.
    pub wearers: Vec<Vec<usize>>,
    bastions: BTreeSet<usize>,
    by_place: HashMap<Place, usize>,
}

/// By what the environment knows CloudFront.
#[derive(Clone, Debug, Default)]
pub struct CloudFront {
    /// `com.amazonaws.global.cloudfront.origin-facing` in this region.
    pub list: Option<String>,
    /// `CloudFront-VPCOrigins-Service-SG`, once there is one.
    pub group: Option<String>,
}

impl Network {
    /// Reads an estate.
    #[must_use]
    pub fn of(estate: &Estate) -> Self {
        let groups = Groups::read(estate);
        let acls = Acls::read(estate);
        let subnets = Subnets::read(estate, &acls);
        let nodes = nodes::read(estate, &subnets, &groups);
        let by_place: HashMap<_, _> = nodes.iter().enumerate().map(|(i, n)| (n.place, i)).collect();
        let edge = Edge::read(estate, &by_place);
        let mut wearers = vec![Vec::new(); groups.all.len()];
        for (i, node) in nodes.iter().enumerate() {
            for group in &node.groups {
                wearers.get_mut(*group).map(|w: &mut Vec<usize>| w.push(i)).unwrap_or_default();
            }
        }
        let lists: BTreeMap<_, _> = estate
            .of("AWS::EC2::PrefixList")
            .map(|(_, list)| (list.id.clone(), entries(list.get("Entries"))))
            .collect();
        let public = Addresses::public();
        // A list of half of the world does not make the internet smaller.
        let narrow = lists.values().filter(|l| l.of(Family::V4).size() <= NARROW_LIST);
        let internet = narrow.fold(public.clone(), |rest, list| rest.without(list));
        let bastions = nodes.iter().enumerate().filter(|(i, node)| {
            let stack = estate.stacks.get(node.place.stack).is_some_and(|s| s.name == BASTION);
            node.kind == Kind::Host && stack && !edge.is_origin(*i)
        });
        let bastions = bastions.map(|(i, _)| i).collect();
        let nats = estate.of("AWS::EC2::NatGateway");
        let nats = nats.filter_map(|(p, nat)| Some((p, subnets.index(nat.str("SubnetId")?)?)));
        let nats = nats.collect();
        let given =
            |name: &str| estate.parameter(name).filter(|v| !v.is_empty()).map(str::to_owned);
        let cloudfront = CloudFront {
            list: given("CloudFrontPrefixListId"),
            group: given("VpcOriginServiceSgId"),
        };
        Self {
            groups,
            subnets,
            acls,
            nodes,
            edge,
            lists,
            cloudfront,
            internet,
            public,
            nats,
            wearers,
            bastions,
            by_place,
        }
    }

    /// The node that a resource is.
    #[must_use]
    pub fn node_at(&self, place: Place) -> Option<usize> {
        self.by_place.get(&place).copied()
    }

    /// Nodes of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(move |(_, n)| n.kind == kind)
    }

    /// Nodes that serve requests: targets of load balancers, and hosts that a VPC origin names.
    pub fn origins(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(|(i, _)| self.edge.is_origin(*i))
    }

    /// Databases and caches.
    pub fn data(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(|(_, n)| n.kind.is_data())
    }

    /// Hosts of the bastion's stack.
    pub fn bastions(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(|(i, _)| self.bastions.contains(i))
    }

    /// Whether a node is a bastion.
    #[must_use]
    pub fn is_bastion(&self, node: usize) -> bool {
        self.bastions.contains(&node)
    }

    /// Every protocol that can make a difference.
    #[must_use]
    pub fn protocols(&self) -> Vec<Protocol> {
        let entries = self.acls.all.iter().flat_map(|a| &a.entries).filter_map(|e| e.protocol);
        groups::protocols(&self.groups, entries)
    }
}

fn entries(list: Option<&Value>) -> Addresses {
    let items = list.map(Value::items).unwrap_or_default();
    let blocks = items.iter().map(|e| {
        // What cannot be read may be anything.
        let block = e.get("Cidr").and_then(Value::as_str).and_then(Addresses::block);
        block.unwrap_or_else(Addresses::everything)
    });
    blocks.fold(Addresses::default(), |sum, block| sum.union(&block))
}
