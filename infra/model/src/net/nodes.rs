//! Nodes: whatever has network interfaces in a subnet. Invariant: a resource of a type that nobody thought
//! of is a node too, if its properties name both subnets and security groups; and a text in place of a group
//! that no template makes is a group of which nobody can say what it admits.

use std::collections::HashMap;

use super::{
    groups::{Groups, default_of, group_id, said_at},
    ranges::Ranges,
    subnets::Subnets,
};
use crate::{
    estate::{Estate, Place, Resource},
    value::{At, Value},
};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An instance, or a group of them.
    Host,
    /// Tasks of an ECS service.
    Task,
    /// A load balancer of requests: it looks into them before it forwards.
    LoadBalancer,
    /// A load balancer of connections.
    NetworkLoadBalancer,
    /// A Lambda function in the VPC.
    Function,
    /// A database or a proxy of one.
    Database,
    /// A cache.
    Cache,
    /// An interface endpoint of an AWS service.
    Endpoint,
    /// Anything else.
    Other,
}

impl Kind {
    /// Whether it keeps data.
    #[must_use]
    pub fn is_data(self) -> bool {
        matches!(self, Self::Database | Self::Cache)
    }
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// The resource.
    pub place: Place,
    /// `stack.Logical`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub at: At,
    /// Positions of its subnets, ascending.
    pub subnets: Vec<usize>,
    /// Where they are given.
    pub subnets_at: At,
    /// Positions of the groups that it wears, ascending.
    pub groups: Vec<usize>,
    /// Ids of groups that it wears and that no template makes.
    pub foreign_groups: Vec<String>,
    /// Where they are given.
    pub groups_at: At,
    /// What gives it a public address, if anything does.
    pub public: Option<At>,
    /// Ports at which it listens, where its resource says so.
    pub ports: Ranges,
    /// The service, of an endpoint: `com.amazonaws.eu-west-1.ssm`.
    pub service: Option<String>,
    /// Whether security groups are no filter for it: a network load balancer that has none.
    pub unfiltered: bool,
}

/// What a type's properties are called.
struct Shape {
    kind: Kind,
    subnets: &'static [&'static str],
    groups: &'static [&'static str],
}

const fn shape(
    kind: Kind,
    subnets: &'static [&'static str],
    groups: &'static [&'static str],
) -> Option<Shape> {
    Some(Shape { kind, subnets, groups })
}

fn known(resource: &Resource) -> Option<Shape> {
    match resource.kind.as_str() {
        "AWS::EC2::Instance" => shape(
            Kind::Host,
            &["SubnetId", "NetworkInterfaces"],
            &["SecurityGroupIds", "NetworkInterfaces"],
        ),
        "AWS::EC2::NetworkInterface" => shape(Kind::Host, &["SubnetId"], &["GroupSet"]),
        "AWS::AutoScaling::AutoScalingGroup" => shape(Kind::Host, &["VPCZoneIdentifier"], &[]),
        "AWS::ECS::Service" => {
            let at = "NetworkConfiguration.AwsvpcConfiguration";
            resource.get(at)?;
            shape(
                Kind::Task,
                &["NetworkConfiguration.AwsvpcConfiguration.Subnets"],
                &["NetworkConfiguration.AwsvpcConfiguration.SecurityGroups"],
            )
        }
        "AWS::ElasticLoadBalancingV2::LoadBalancer" => {
            let network = matches!(resource.str("Type"), Some("network" | "gateway"));
            let kind = if network { Kind::NetworkLoadBalancer } else { Kind::LoadBalancer };
            shape(kind, &["Subnets", "SubnetMappings"], &["SecurityGroups"])
        }
        "AWS::Lambda::Function" => {
            resource.get("VpcConfig")?;
            shape(Kind::Function, &["VpcConfig.SubnetIds"], &["VpcConfig.SecurityGroupIds"])
        }
        "AWS::RDS::DBCluster" => {
            shape(Kind::Database, &["DBSubnetGroupName"], &["VpcSecurityGroupIds"])
        }
        // An instance of a cluster is where its cluster is, and wears what it wears.
        "AWS::RDS::DBInstance" if resource.get("DBClusterIdentifier").is_some() => None,
        "AWS::RDS::DBInstance" => {
            shape(Kind::Database, &["DBSubnetGroupName"], &["VPCSecurityGroups"])
        }
        "AWS::RDS::DBProxy" => shape(Kind::Database, &["VpcSubnetIds"], &["VpcSecurityGroupIds"]),
        "AWS::ElastiCache::ReplicationGroup" => {
            shape(Kind::Cache, &["CacheSubnetGroupName"], &["SecurityGroupIds"])
        }
        "AWS::ElastiCache::CacheCluster" => {
            shape(Kind::Cache, &["CacheSubnetGroupName"], &["VpcSecurityGroupIds"])
        }
        "AWS::ElastiCache::ServerlessCache" => {
            shape(Kind::Cache, &["SubnetIds"], &["SecurityGroupIds"])
        }
        "AWS::EC2::VPCEndpoint" => {
            resource.str("VpcEndpointType").filter(|t| *t != "Gateway")?;
            shape(Kind::Endpoint, &["SubnetIds"], &["SecurityGroupIds"])
        }
        _ => None,
    }
}

/// Types that name subnets and groups without being in them.
const NO_NODES: &[&str] = &[
    "AWS::EC2::LaunchTemplate",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::RDS::DBInstance",
    "AWS::SSM::Parameter",
];

/// What names the groups of a launch template's instances, and of an interface.
const LAUNCHED: &[&str] = &["SecurityGroupIds", "SecurityGroups", "NetworkInterfaces"];
const INTERFACE: &[&str] = &["GroupSet", "Groups"];

/// Every node of an estate, in its order.
pub(super) fn read(estate: &Estate, subnets: &Subnets, groups: &Groups) -> Vec<Node> {
    let public = Public::read(estate);
    let reader = Reader { estate, subnets, groups, public };
    estate.all().filter_map(|(place, resource)| reader.node(place, resource)).collect()
}

/// Resources that an Elastic IP or a public database instance gives a public address.
struct Public {
    at: HashMap<Place, At>,
}

impl Public {
    fn read(estate: &Estate) -> Self {
        let mut at = HashMap::new();
        for (kind, keys) in [
            ("AWS::EC2::EIP", ["InstanceId", "NetworkInterfaceId"]),
            ("AWS::EC2::EIPAssociation", ["InstanceId", "NetworkInterfaceId"]),
        ] {
            for (_, resource) in estate.of(kind) {
                let owner = keys.iter().find_map(|k| estate.owner(resource.str(k)?));
                at.extend(owner.map(|place| (place, resource.at.clone())));
            }
        }
        for (_, instance) in estate.of("AWS::RDS::DBInstance") {
            let cluster = instance.str("DBClusterIdentifier").and_then(|id| estate.owner(id));
            if let Some(cluster) = cluster.filter(|_| instance.yes("PubliclyAccessible")) {
                at.insert(cluster, instance.at("PubliclyAccessible").clone());
            }
        }
        Self { at }
    }
}

struct Reader<'a> {
    estate: &'a Estate,
    subnets: &'a Subnets,
    groups: &'a Groups,
    public: Public,
}

impl<'a> Reader<'a> {
    fn node(&self, place: Place, resource: &'a Resource) -> Option<Node> {
        let shape = known(resource);
        if shape.is_none() && NO_NODES.contains(&resource.kind.as_str()) {
            return None;
        }
        let templates = self.launch_templates(resource);
        let (kind, in_subnets, wears, subnets_at, groups_at) = match &shape {
            Some(shape) => {
                let mut values: Vec<_> =
                    shape.groups.iter().filter_map(|p| resource.get(p)).collect();
                let mut groups_at = said_at(resource, shape.groups);
                let more: Vec<_> = templates
                    .iter()
                    .flat_map(|data| LAUNCHED.iter().filter_map(|key| data.get(key)))
                    .collect();
                if let (Some(first), true) = (more.first(), values.is_empty()) {
                    groups_at = first.at.clone();
                }
                values.extend(more);
                let places: Vec<_> = shape.subnets.iter().filter_map(|p| resource.get(p)).collect();
                let subnets_at = said_at(resource, shape.subnets);
                (shape.kind, places, values, subnets_at, groups_at)
            }
            None => {
                let all = vec![&resource.properties];
                (Kind::Other, all.clone(), all, resource.at.clone(), resource.at.clone())
            }
        };
        let mut subnets = Vec::new();
        in_subnets.iter().for_each(|value| self.find_subnets(value, &mut subnets));
        subnets.sort_unstable();
        subnets.dedup();
        let (mut groups, foreign) = self.find_groups(&wears, shape.is_some());
        if shape.is_none() && (subnets.is_empty() || groups.is_empty()) {
            return None;
        }
        let unfiltered =
            kind == Kind::NetworkLoadBalancer && groups.is_empty() && foreign.is_empty();
        if groups.is_empty() && foreign.is_empty() && !unfiltered {
            // Nothing said: AWS gives it the VPC's default group.
            let vpc =
                subnets.first().and_then(|s| self.subnets.all.get(*s)).map(|s| s.vpc.as_str());
            groups.extend(vpc.and_then(|vpc| self.groups.index(&default_of(vpc))));
        }
        Some(Node {
            place,
            name: self.estate.name(place),
            kind,
            at: resource.at.clone(),
            public: self.public(place, resource, &templates, &subnets),
            subnets,
            subnets_at,
            groups,
            foreign_groups: foreign,
            groups_at,
            ports: listens(resource),
            service: resource
                .str("ServiceName")
                .filter(|_| kind == Kind::Endpoint)
                .map(str::to_owned),
            unfiltered,
        })
    }

    /// The data of every launch template that an instance or a group of them may be made from.
    fn launch_templates(&self, resource: &'a Resource) -> Vec<&'a Value> {
        let mixed = "MixedInstancesPolicy.LaunchTemplate";
        let one = ["LaunchTemplate".to_owned(), format!("{mixed}.LaunchTemplateSpecification")];
        let overrides = resource.get(&format!("{mixed}.Overrides")).map(Value::items);
        let overrides = overrides.unwrap_or_default().iter();
        let all = one.iter().filter_map(|path| resource.get(path));
        all.chain(overrides.filter_map(|o| o.get("LaunchTemplateSpecification")))
            .filter_map(|s| {
                let id = s.get("LaunchTemplateId").or(s.get("LaunchTemplateName"))?;
                self.estate.find(id.as_str()?)?.get("LaunchTemplateData")
            })
            .collect()
    }

    fn find_subnets(&self, value: &Value, found: &mut Vec<usize>) {
        value.walk(&mut |v| {
            let Some(text) = v.as_str() else { return };
            if let Some(index) = self.subnets.index(text) {
                found.push(index);
            } else if let Some(group) = self.estate.find(text)
                && group.kind.ends_with("SubnetGroup")
            {
                let ids = group.get("SubnetIds").map(Value::items).unwrap_or_default();
                found.extend(ids.iter().filter_map(|id| self.subnets.index(id.as_str()?)));
            }
        });
    }

    /// Groups that some values name. Where nothing but groups is named, `only_groups`, a text that is no
    /// group of ours is a stranger, however it is written.
    fn find_groups(&self, values: &[&Value], only_groups: bool) -> (Vec<usize>, Vec<String>) {
        let (mut groups, mut foreign) = (Vec::new(), Vec::new());
        let mut note = |v: &Value| {
            let Some(text) = v.as_str() else { return };
            let id = group_id(self.estate, text);
            match self.groups.index(&id) {
                Some(index) => groups.push(index),
                None if only_groups || id.starts_with("sg-") => foreign.push(id),
                None => {}
            }
        };
        for value in values {
            let interfaces: Vec<_> =
                value.items().iter().filter(|item| !item.entries().is_empty()).collect();
            if only_groups && !interfaces.is_empty() {
                let named =
                    interfaces.iter().flat_map(|i| INTERFACE.iter().filter_map(|k| i.get(k)));
                named.for_each(|groups| groups.walk(&mut note));
            } else {
                value.walk(&mut note);
            }
        }
        groups.sort_unstable();
        groups.dedup();
        (groups, foreign)
    }

    /// What gives it a public address.
    fn public(
        &self,
        place: Place,
        resource: &Resource,
        templates: &[&Value],
        subnets: &[usize],
    ) -> Option<At> {
        if let Some(at) = self.public.at.get(&place) {
            return Some(at.clone());
        }
        match resource.kind.as_str() {
            "AWS::ElasticLoadBalancingV2::LoadBalancer"
            | "AWS::ElasticLoadBalancing::LoadBalancer" => {
                let internal = resource.str("Scheme") == Some("internal");
                (!internal).then(|| resource.at("Scheme").clone())
            }
            "AWS::ECS::Service" => {
                let path = "NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp";
                (resource.str(path) == Some("ENABLED")).then(|| resource.at(path).clone())
            }
            "AWS::RDS::DBInstance" | "AWS::RDS::DBCluster" => resource
                .yes("PubliclyAccessible")
                .then(|| resource.at("PubliclyAccessible").clone()),
            "AWS::EC2::Instance" | "AWS::AutoScaling::AutoScalingGroup" => {
                // What it says itself holds for all that it is made from.
                let own = said_public(&resource.properties);
                let said: Vec<_> = match (own.is_empty(), templates.is_empty()) {
                    (true, false) => templates.iter().map(|t| said_public(t)).collect(),
                    _ => vec![own],
                };
                let asked = said.iter().flatten().find(|v| v.as_bool() != Some(false));
                let mut all = subnets.iter().filter_map(|s| self.subnets.all.get(*s));
                let mut given = || all.find(|s| s.gives_public).map(|s| s.at.clone());
                match asked {
                    Some(value) => Some(value.at.clone()),
                    None if said.iter().any(Vec::is_empty) => given(),
                    None => None,
                }
            }
            _ => None,
        }
    }
}

/// What network interfaces say about a public address.
fn said_public(value: &Value) -> Vec<&Value> {
    let interfaces = value.get("NetworkInterfaces").map(Value::items).unwrap_or_default();
    interfaces.iter().filter_map(|i| i.get("AssociatePublicIpAddress")).collect()
}

fn listens(resource: &Resource) -> Ranges {
    let given = resource.get("Port").and_then(Value::as_int).and_then(|p| u128::try_from(p).ok());
    let usual = match resource.kind.as_str() {
        "AWS::RDS::DBCluster" | "AWS::RDS::DBInstance" | "AWS::RDS::DBProxy" => Some(3306),
        "AWS::ElastiCache::ReplicationGroup"
        | "AWS::ElastiCache::CacheCluster"
        | "AWS::ElastiCache::ServerlessCache" => Some(6379),
        "AWS::EC2::VPCEndpoint" => Some(443),
        _ => return Ranges::none(),
    };
    given.or(usual).map(Ranges::one).unwrap_or_default()
}
