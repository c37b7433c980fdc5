//! Subnets and where their packets go. Invariant: what a subnet is called (public, private, data) follows
//! from its effective routes alone, never from a name or a tag.

use std::collections::HashMap;

use super::{
    acls::Acls,
    addresses::{Addresses, Family},
};
use crate::{
    estate::{Estate, Place, Resource},
    value::{At, Value},
};

/// What a subnet is, by its routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Some address of the internet is routed to an internet gateway.
    Public,
    /// Some address outside the VPC is routed elsewhere: NAT, a peer, a transit gateway.
    Private,
    /// No route leaves the VPC, but those of gateway endpoints, which are no routes of a table.
    Data,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An internet gateway.
    Internet(Place),
    /// A NAT gateway.
    Nat(Place),
    /// An egress-only internet gateway.
    EgressOnly,
    /// Anything else that leaves the VPC.
    Other(String),
}

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its line.
    pub at: At,
    /// The resource.
    pub place: Place,
    /// What it is for.
    pub block: Addresses,
    /// Whether `block` is everything because nobody here knows more: a prefix list, or what a gateway is
    /// told by others. Some of it goes there, but no address does for certain.
    pub vague: bool,
    /// Where that goes.
    pub target: Target,
}

/// A route table. The VPC's own route is left out: it is in all of them and cannot be changed.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its id.
    pub id: String,
    /// `stack.Logical`.
    pub name: String,
    /// Where it is.
    pub at: At,
    /// Vague ones, then the narrowest block first, as routing picks.
    pub routes: Vec<Route>,
}

/// A subnet.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// The resource.
    pub place: Place,
    /// `stack.Logical`.
    pub name: String,
    /// Where it is.
    pub at: At,
    /// The VPC's id.
    pub vpc: String,
    /// Its blocks.
    pub block: Addresses,
    /// Whether a block cannot be read; `block` then is all that it may be.
    pub unread: bool,
    /// Its zone.
    pub zone: String,
    /// Position of its table; the VPC's main table, which only knows the VPC, if none.
    pub table: Option<usize>,
    /// Whether its table is one that no template makes: nobody can say where that leads.
    pub foreign_table: bool,
    /// Position of its ACL; the VPC's default one, which lets everything through, if none.
    pub acl: Option<usize>,
    /// Whether what is made in it gets a public address unless it says otherwise.
    pub gives_public: bool,
    /// By its routes for version 4.
    pub tier: Tier,
    /// By its routes for version 6.
    pub tier_v6: Tier,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Subnets {
    /// In the order of the estate.
    pub all: Vec<Subnet>,
    /// In the order of the estate.
    pub tables: Vec<Table>,
    /// VPCs: id, and its blocks.
    pub vpcs: HashMap<String, Addresses>,
    /// VPCs with an internet gateway attached, and which.
    pub gateways: HashMap<String, Vec<Place>>,
    by_id: HashMap<String, usize>,
}

impl Subnets {
    /// A subnet's position by its id.
    #[must_use]
    pub fn index(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// A subnet's table.
    #[must_use]
    pub fn table_of(&self, subnet: &Subnet) -> Option<&Table> {
        self.tables.get(subnet.table?)
    }

    /// Which of these addresses a subnet's table routes to what, by longest match.
    #[must_use]
    pub fn routed<'a>(&'a self, subnet: &Subnet, to: &Addresses) -> Vec<(&'a Route, Addresses)> {
        let mut rest = to.without(self.vpcs.get(&subnet.vpc).unwrap_or(&Addresses::default()));
        let mut taken = Vec::new();
        for route in self.table_of(subnet).map(|t| t.routes.as_slice()).unwrap_or_default() {
            if route.vague {
                taken.push((route, rest.clone()));
                continue;
            }
            let here = rest.and(&route.block);
            if !here.is_empty() {
                rest = rest.without(&here);
                taken.push((route, here));
            }
        }
        taken
    }

    /// Whether an internet gateway is attached to the VPC.
    #[must_use]
    pub fn attached(&self, vpc: &str, gateway: Place) -> bool {
        self.gateways.get(vpc).is_some_and(|all| all.contains(&gateway))
    }

    pub(super) fn read(estate: &Estate, acls: &Acls) -> Self {
        let mut subnets = Self::default();
        for (_, vpc) in estate.of("AWS::EC2::VPC") {
            let block = vpc.str("CidrBlock").and_then(Addresses::block);
            let block = block.unwrap_or_else(Addresses::private);
            subnets.vpcs.insert(vpc.id.clone(), block);
        }
        for (_, more) in estate.of("AWS::EC2::VPCCidrBlock") {
            let block = more.str("CidrBlock").or_else(|| more.str("Ipv6CidrBlock"));
            let pools = [("Ipv4IpamPoolId", Addresses::private()), ("Ipv6IpamPoolId", global_v6())];
            let pools = pools.into_iter().filter(|(key, _)| more.get(key).is_some());
            let pools = pools.fold(Addresses::default(), |sum, (_, pool)| sum.union(&pool));
            let block = block.and_then(Addresses::block).unwrap_or(pools);
            if let Some(vpc) = more.str("VpcId").and_then(|id| subnets.vpcs.get_mut(id)) {
                *vpc = vpc.union(&block);
            }
        }
        for (_, attachment) in estate.of("AWS::EC2::VPCGatewayAttachment") {
            let gateway = attachment.str("InternetGatewayId").and_then(|id| estate.owner(id));
            if let (Some(vpc), Some(gateway)) = (attachment.str("VpcId"), gateway) {
                subnets.gateways.entry(vpc.to_owned()).or_default().push(gateway);
            }
        }
        let by_table = subnets.read_tables(estate);
        for (place, resource) in estate.of("AWS::EC2::Subnet") {
            let table = by_table.get(&resource.id).copied();
            let acl = acls.of_subnet.get(&resource.id).copied();
            let vpc = resource.str("VpcId").and_then(|id| subnets.vpcs.get(id)).cloned();
            let mut subnet = subnet(estate, place, resource, &vpc.unwrap_or_default());
            (subnet.table, subnet.foreign_table) = (table.flatten(), table == Some(None));
            subnet.acl = acl;
            subnets.by_id.insert(subnet.id.clone(), subnets.all.len());
            subnets.all.push(subnet);
        }
        for (_, more) in estate.of("AWS::EC2::SubnetCidrBlock") {
            let index = more.str("SubnetId").and_then(|id| subnets.index(id));
            let Some(subnet) = index.and_then(|i| subnets.all.get_mut(i)) else { continue };
            let block = more.str("Ipv6CidrBlock").and_then(Addresses::block);
            subnet.block = subnet.block.union(&block.unwrap_or_else(global_v6));
        }
        let tiers: Vec<_> = subnets
            .all
            .iter()
            .map(|s| (subnets.tier(s, Family::V4), subnets.tier(s, Family::V6)))
            .collect();
        for (subnet, (v4, v6)) in subnets.all.iter_mut().zip(tiers) {
            (subnet.tier, subnet.tier_v6) = (v4, v6);
        }
        subnets
    }

    /// Reads tables and routes. A subnet's id to the position of its table, or to none if that is foreign.
    fn read_tables(&mut self, estate: &Estate) -> HashMap<String, Option<usize>> {
        let mut by_id: HashMap<String, usize> = HashMap::new();
        let mut vpcs = Vec::new();
        for (place, resource) in estate.of("AWS::EC2::RouteTable") {
            vpcs.push(resource.str("VpcId").unwrap_or_default());
            by_id.insert(resource.id.clone(), self.tables.len());
            let (id, name, at) = (resource.id.clone(), estate.name(place), resource.at.clone());
            self.tables.push(Table { id, name, at, routes: Vec::new() });
        }
        for (place, resource) in estate.of("AWS::EC2::Route") {
            let index = resource.str("RouteTableId").and_then(|id| by_id.get(id)).copied();
            let Some(table) = index.and_then(|i| self.tables.get_mut(i)) else { continue };
            let made = route(estate, place, resource);
            // A gateway that these templates do not make is attached, or the route could not be made.
            if let (Target::Internet(gateway), Some(vpc)) =
                (&made.target, index.and_then(|i| vpcs.get(i)))
                && *gateway == place
            {
                self.gateways.entry((*vpc).to_owned()).or_default().push(place);
            }
            table.routes.push(made);
        }
        for (place, resource) in estate.of("AWS::EC2::VPNGatewayRoutePropagation") {
            let id = resource.str("VpnGatewayId").unwrap_or("?");
            for table in resource.get("RouteTableIds").map(Value::items).unwrap_or_default() {
                let index = table.as_str().and_then(|id| by_id.get(id));
                let Some(table) = index.and_then(|i| self.tables.get_mut(*i)) else { continue };
                table.routes.push(Route {
                    at: resource.at.clone(),
                    place,
                    block: Addresses::everything(),
                    vague: true,
                    target: Target::Other(id.to_owned()),
                });
            }
        }
        for table in &mut self.tables {
            let size = |a: &Addresses| (a.of(Family::V4).size(), a.of(Family::V6).size());
            table.routes.sort_by_key(|r| (!r.vague, size(&r.block)));
        }
        let mut of_subnet = HashMap::new();
        for (_, resource) in estate.of("AWS::EC2::SubnetRouteTableAssociation") {
            let table = resource.str("RouteTableId").and_then(|id| by_id.get(id)).copied();
            if let Some(subnet) = resource.str("SubnetId") {
                of_subnet.insert(subnet.to_owned(), table);
            }
        }
        of_subnet
    }

    fn tier(&self, subnet: &Subnet, family: Family) -> Tier {
        if subnet.foreign_table {
            return Tier::Public;
        }
        let mut tier = Tier::Data;
        for (route, addresses) in self.routed(subnet, &Addresses::everything()) {
            let addresses = addresses.of(family);
            if addresses.is_empty() {
                continue;
            }
            let public = addresses.meets(Addresses::public().of(family));
            let to_internet = matches!(route.target, Target::Internet(_)) && public;
            tier = tier.min(if to_internet { Tier::Public } else { Tier::Private });
        }
        tier
    }
}

/// What of version 6 is routed in the world.
fn global_v6() -> Addresses {
    Addresses::block("2000::/3").unwrap_or_default()
}

/// A subnet, but for its table and its ACL.
fn subnet(estate: &Estate, place: Place, resource: &Resource, vpc: &Addresses) -> Subnet {
    let v4 = resource.str("CidrBlock").and_then(Addresses::block);
    let v6 = resource.str("Ipv6CidrBlock").and_then(Addresses::block);
    let given = |keys: [&str; 2]| keys.iter().any(|key| resource.get(key).is_some());
    let unread_v4 = v4.is_none() && given(["CidrBlock", "Ipv4IpamPoolId"]);
    let unread_v6 = v6.is_none() && given(["Ipv6CidrBlock", "Ipv6IpamPoolId"]);
    let everything = Addresses::block("0.0.0.0/0").unwrap_or_default();
    let v4 = if unread_v4 { vpc.and(&everything) } else { v4.unwrap_or_default() };
    let v6 = if unread_v6 { global_v6() } else { v6.unwrap_or_default() };
    Subnet {
        id: resource.id.clone(),
        place,
        name: estate.name(place),
        at: resource.at.clone(),
        vpc: resource.str("VpcId").unwrap_or_default().to_owned(),
        block: v4.union(&v6),
        unread: unread_v4 || unread_v6,
        zone: resource.str("AvailabilityZone").unwrap_or_default().to_owned(),
        table: None,
        foreign_table: false,
        acl: None,
        gives_public: resource.yes("MapPublicIpOnLaunch"),
        tier: Tier::Data,
        tier_v6: Tier::Data,
    }
}

fn route(estate: &Estate, place: Place, resource: &Resource) -> Route {
    let block =
        resource.str("DestinationCidrBlock").or_else(|| resource.str("DestinationIpv6CidrBlock"));
    // A route for a prefix list is for addresses that nobody here knows.
    let block = block.and_then(Addresses::block);
    let vague = block.is_none();
    let block = block.unwrap_or_else(Addresses::everything);
    let owner = |key| resource.str(key).and_then(|id| Some((estate.owner(id)?, estate.find(id)?)));
    let gateway = owner("GatewayId").filter(|(_, r)| r.kind == "AWS::EC2::InternetGateway");
    let target = match (gateway, owner("NatGatewayId")) {
        (Some((place, _)), _) => Target::Internet(place),
        (None, Some((place, _))) => Target::Nat(place),
        (None, None) if resource.get("EgressOnlyInternetGatewayId").is_some() => Target::EgressOnly,
        (None, None) => {
            let id = resource.properties.entries().iter().find(|e| {
                !["RouteTableId", "DestinationPrefixListId"].contains(&e.key.as_str())
                    && e.key.ends_with("Id")
            });
            let text = id.and_then(|e| e.value.scalar()).unwrap_or_else(|| "?".to_owned());
            // An internet gateway that these templates do not make is one all the same, and so is one
            // whose id only AWS knows.
            let unknown = id.is_some_and(|e| e.key == "GatewayId")
                && estate.find(&text).is_none()
                && !["vgw-", "vpce-", "local"].iter().any(|known| text.starts_with(known));
            if unknown { Target::Internet(place) } else { Target::Other(text) }
        }
    };
    Route { at: resource.at.clone(), place, block, vague, target }
}
