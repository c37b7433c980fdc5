//! Which nodes CloudFront sends requests to, and which nodes load balancers forward them to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ranges::Ranges;
use crate::{
    estate::{Estate, Place, Resource},
    value::{At, Value},
};

/// How CloudFront reaches a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// By a VPC origin, whose interfaces are in the VPC.
    VpcOrigin,
    /// Over the internet.
    Internet,
}

/// A node that a distribution sends requests to.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The node.
    pub node: usize,
    /// How.
    pub way: Way,
    /// At which port.
    pub port: u16,
    /// The distribution.
    pub distribution: Place,
    /// Where its origin is given.
    pub at: At,
}

/// A load balancer's target.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The load balancer.
    pub from: usize,
    /// The node.
    pub to: usize,
    /// Ports of requests and of health checks.
    pub ports: Ranges,
    /// The target group.
    pub group: Place,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// By distribution and origin.
    pub origins: Vec<Origin>,
    /// By load balancer and target.
    pub forwards: Vec<Forward>,
    /// VPC origins, used or not: the node that each names.
    pub vpc_origins: Vec<(Place, Option<usize>)>,
    /// `stack.Logical` of every distribution, and where it is.
    pub distributions: Vec<(String, At)>,
    /// Ports at which a load balancer listens.
    pub listens: BTreeMap<usize, Ranges>,
    serve: BTreeSet<usize>,
}

impl Edge {
    /// Whether a node serves requests of its own: not one that only forwards them.
    #[must_use]
    pub fn is_origin(&self, node: usize) -> bool {
        self.serve.contains(&node)
    }

    pub(super) fn read(estate: &Estate, nodes: &HashMap<Place, usize>) -> Self {
        let mut edge = Self::default();
        edge.read_balancers(estate, nodes);
        edge.read_cloudfront(estate, nodes);
        let balances: BTreeSet<_> = edge.listens.keys().copied().collect();
        let named = edge.vpc_origins.iter().filter_map(|(_, node)| *node);
        let all = edge.forwards.iter().map(|f| f.to).chain(named);
        edge.serve = all.filter(|node| !balances.contains(node)).collect();
        edge
    }

    fn read_balancers(&mut self, estate: &Estate, nodes: &HashMap<Place, usize>) {
        // Target group to the load balancers that forward to it.
        let mut used: BTreeMap<Place, BTreeSet<usize>> = BTreeMap::new();
        let mut listener_of: HashMap<Place, usize> = HashMap::new();
        let node_of = |id: &str| nodes.get(&estate.owner(id)?).copied();
        for (place, node) in nodes {
            let balancer = estate.resource(*place);
            if balancer.is_some_and(|r| r.kind.ends_with("::LoadBalancer")) {
                self.listens.insert(*node, Ranges::none());
            }
        }
        for (place, listener) in estate.of("AWS::ElasticLoadBalancingV2::Listener") {
            let Some(node) = listener.str("LoadBalancerArn").and_then(node_of) else { continue };
            listener_of.insert(place, node);
            let port = number(listener.get("Port")).map(Ranges::one).unwrap_or_default();
            if let Some(ports) = self.listens.get_mut(&node) {
                *ports = ports.union(&port);
            }
            note_targets(estate, listener.get("DefaultActions"), node, &mut used);
        }
        for (_, rule) in estate.of("AWS::ElasticLoadBalancingV2::ListenerRule") {
            let listener = rule.str("ListenerArn").and_then(|id| estate.owner(id));
            let node = listener.and_then(|place| listener_of.get(&place));
            if let Some(node) = node {
                note_targets(estate, rule.get("Actions"), *node, &mut used);
            }
        }
        let mut targets: Vec<(Place, usize, Ranges)> = Vec::new();
        for (place, group) in estate.of("AWS::ElasticLoadBalancingV2::TargetGroup") {
            let ports = ports(group);
            for target in group.get("Targets").map(Value::items).unwrap_or_default() {
                let node = target.get("Id").and_then(Value::as_str).and_then(node_of);
                let own = number(target.get("Port")).map(Ranges::one);
                let ports = own.unwrap_or_else(Ranges::none).union(&ports);
                targets.extend(node.map(|node| (place, node, ports)));
            }
        }
        let group_of = |id: &Value| {
            let place = estate.owner(id.as_str()?)?;
            let group = estate.resource(place)?;
            group.kind.ends_with("::TargetGroup").then(|| (place, ports(group)))
        };
        for (place, hosts) in estate.of("AWS::AutoScaling::AutoScalingGroup") {
            let Some(node) = nodes.get(&place) else { continue };
            let list = |path| hosts.get(path).map(Value::items).unwrap_or_default().iter();
            let sources = list("TrafficSources").filter_map(|s| s.get("Identifier"));
            let groups = list("TargetGroupARNs").chain(sources).filter_map(group_of);
            targets.extend(groups.map(|(g, p)| (g, *node, p)));
        }
        for (place, service) in estate.of("AWS::ECS::Service") {
            let Some(node) = nodes.get(&place) else { continue };
            for balancer in service.get("LoadBalancers").map(Value::items).unwrap_or_default() {
                let Some((group, checks)) = balancer.get("TargetGroupArn").and_then(group_of)
                else {
                    continue;
                };
                let port = number(balancer.get("ContainerPort")).map(Ranges::one);
                let own = port.unwrap_or_default();
                // Tasks listen at the container's port, whatever the target group's default is.
                let ports = if own.is_empty() { checks } else { own };
                targets.push((group, *node, ports));
            }
        }
        for (group, to, ports) in targets {
            for from in used.get(&group).into_iter().flatten() {
                self.forwards.push(Forward { from: *from, to, ports: ports.clone(), group });
            }
        }
        self.forwards.sort_by_key(|f| (f.from, f.to, f.group));
    }

    fn read_cloudfront(&mut self, estate: &Estate, nodes: &HashMap<Place, usize>) {
        let node_of = |id: &str| {
            // An instance's ARN ends with its id.
            let last = id.rsplit('/').next().unwrap_or(id);
            let place = estate.owner(id).or_else(|| estate.owner(last))?;
            nodes.get(&place).copied()
        };
        for (place, origin) in estate.of("AWS::CloudFront::VpcOrigin") {
            let node = origin.str("VpcOriginEndpointConfig.Arn").and_then(node_of);
            self.vpc_origins.push((place, node));
        }
        for (distribution, resource) in estate.of("AWS::CloudFront::Distribution") {
            self.distributions.push((estate.name(distribution), resource.at.clone()));
            let origins = resource.get("DistributionConfig.Origins").map(Value::items);
            for origin in origins.unwrap_or_default() {
                let text = |path: &str| origin.path(path).and_then(Value::as_str);
                let found = if let Some(id) = text("VpcOriginConfig.VpcOriginId") {
                    let place = estate.owner(id);
                    let of = self.vpc_origins.iter().find(|(p, _)| Some(*p) == place);
                    let https = place.and_then(|p| {
                        number(estate.resource(p)?.get("VpcOriginEndpointConfig.HTTPSPort"))
                    });
                    of.and_then(|(_, node)| *node).map(|node| (node, Way::VpcOrigin, https))
                } else if origin.get("CustomOriginConfig").is_some() {
                    let node = text("DomainName").and_then(node_of);
                    let https = number(origin.path("CustomOriginConfig.HTTPSPort"));
                    node.map(|node| (node, Way::Internet, https))
                } else {
                    None
                };
                let Some((node, way, port)) = found else { continue };
                let port = port.and_then(|p| u16::try_from(p).ok()).unwrap_or(443);
                let at = origin.at.clone();
                self.origins.push(Origin { node, way, port, distribution, at });
            }
        }
    }
}

fn number(value: Option<&Value>) -> Option<u128> {
    u128::try_from(value?.as_int()?).ok()
}

/// Ports at which a target group's targets must answer.
fn ports(group: &Resource) -> Ranges {
    let of = |key| number(group.get(key)).map(Ranges::one).unwrap_or_default();
    of("Port").union(&of("HealthCheckPort"))
}

/// Notes every target group that some actions forward to.
fn note_targets(
    estate: &Estate,
    actions: Option<&Value>,
    node: usize,
    used: &mut BTreeMap<Place, BTreeSet<usize>>,
) {
    let Some(actions) = actions else { return };
    actions.walk(&mut |value| {
        let Some(place) = value.as_str().and_then(|id| estate.owner(id)) else { return };
        if estate.resource(place).is_some_and(|r| r.kind.ends_with("::TargetGroup")) {
            used.entry(place).or_default().insert(node);
        }
    });
}
