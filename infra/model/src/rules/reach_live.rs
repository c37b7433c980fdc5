//! R10: a network that keeps everybody out is safe and useless. What must be reached is derived from what
//! is there: whom CloudFront sends requests to, whom load balancers forward to, who serves, who keeps data.

use std::collections::HashSet;

use super::{
    Facts, Report,
    reach::{is, is_balancer, ssh_port},
};
use crate::{
    estate::Resource,
    net::{
        Network,
        flow::{End, Flow, Mode, flow},
        groups::Protocol,
        nodes::{Kind, Node},
        ranges::Ranges,
    },
    value::Value,
};

/// Services that an agent's host calls, by the end of their endpoints' names.
const HOST_SERVICES: &[&str] =
    &["ssm", "ssmmessages", "ec2messages", "logs", "monitoring", "secretsmanager", "kms", "sts"];
/// Services that a task is started by.
const TASK_SERVICES: &[&str] = &["ecr.api", "ecr.dkr", "logs", "secretsmanager", "kms"];
const HTTPS: u128 = 443;

/// R10.
pub(super) fn must_reach(facts: &Facts<'_>, report: &mut Report) {
    there(facts, report);
    let net = facts.net;
    for origin in &net.edge.origins {
        let port = Ranges::one(origin.port.into());
        must(facts, report, End::CloudFront, origin.node, &port);
    }
    for forward in &net.edge.forwards {
        must(facts, report, End::Node(forward.from), forward.to, &forward.ports);
    }
    let endpoints: Vec<_> = net.of_kind(Kind::Endpoint).collect();
    let doors = Doors { endpoints: &endpoints, tables: s3_tables(facts) };
    for (i, node) in net.nodes.iter().enumerate() {
        let serves = net.edge.is_origin(i);
        if serves {
            for (data, store) in net.data() {
                must(facts, report, End::Node(i), data, &store.ports);
            }
        }
        if serves || net.is_bastion(i) || node.kind == Kind::Function {
            for (endpoint, _) in &endpoints {
                must(facts, report, End::Node(i), *endpoint, &Ranges::one(HTTPS));
            }
        }
        match node.kind {
            Kind::Host => services(facts, report, i, &doors, HOST_SERVICES),
            Kind::Task => services(facts, report, i, &doors, TASK_SERVICES),
            Kind::LoadBalancer
            | Kind::NetworkLoadBalancer
            | Kind::Function
            | Kind::Database
            | Kind::Cache
            | Kind::Endpoint
            | Kind::Other => {}
        }
    }
    if let Some(port) = ssh_port(facts).map(Ranges::one) {
        for (bastion, _) in net.bastions() {
            for (origin, _) in net.origins().filter(|(_, n)| n.kind == Kind::Host) {
                must(facts, report, End::Node(bastion), origin, &port);
            }
            if is(facts, "BastionMode", "public") {
                must(facts, report, End::Admins, bastion, &port);
            }
        }
    }
}

/// The product has each of these; without one the other rules had nothing to look at.
fn there(facts: &Facts<'_>, report: &mut Report) {
    let net = facts.net;
    let balancers = net.nodes.iter().any(is_balancer);
    let bastion = ["ssm", "public"].iter().any(|mode| is(facts, "BastionMode", mode));
    for (there, what) in [
        (net.origins().next().is_some(), "nothing serves requests: no load balancer has a target"),
        (balancers, "there is no load balancer"),
        (!net.edge.origins.is_empty(), "CloudFront sends requests nowhere in this VPC"),
        (net.of_kind(Kind::Database).next().is_some(), "there is no database"),
        (net.of_kind(Kind::Cache).next().is_some(), "there is no cache"),
        (!bastion || net.bastions().next().is_some(), "there is no bastion"),
    ] {
        if !there {
            let file = facts.project.stacks.first().map(|s| s.at.clone());
            let at = file.unwrap_or_else(|| crate::At::new(&"stacks.yaml".into(), 1));
            report.at(&at, &facts.estate.env, what);
        }
    }
}

/// One that must be reached at all of these ports.
fn must(facts: &Facts<'_>, report: &mut Report, from: End, to: usize, ports: &Ranges) {
    let Some(node) = facts.net.nodes.get(to) else { return };
    let flow = flow(facts.net, from, End::Node(to), Protocol::TCP, ports, Mode::Must);
    if !flow.ports.covers(ports) || ports.is_empty() {
        let who = called(facts.net, from);
        let what = format!("cannot be reached from {who} at {}", ports.without(&flow.ports));
        report.at(&node.at, &node.name, what).witness = witness(flow);
    }
}

fn witness(flow: Flow) -> Vec<String> {
    let stopped = flow.stopped.map(|s| s.0);
    let partly = || "some of its subnets, or some of the ports, are left out".to_owned();
    let last = stopped.unwrap_or_else(partly);
    flow.steps.into_iter().map(|s| s.0).chain([last]).collect()
}

fn called(net: &Network, end: End) -> &str {
    match end {
        End::Internet => "the internet",
        End::CloudFront => "CloudFront",
        End::Admins => "admins",
        End::Node(i) => net.nodes.get(i).map(|n| n.name.as_str()).unwrap_or_default(),
    }
}

/// Endpoints of the VPCs.
struct Doors<'a> {
    endpoints: &'a [(usize, &'a Node)],
    /// Route tables with a gateway endpoint of S3.
    tables: HashSet<&'a str>,
}

/// Services of AWS: by an endpoint in the VPC, or over the internet.
fn services(
    facts: &Facts<'_>,
    report: &mut Report,
    index: usize,
    doors: &Doors<'_>,
    names: &[&str],
) {
    let net = facts.net;
    let Some(node) = net.nodes.get(index) else { return };
    let https = Ranges::one(HTTPS);
    let out = flow(net, End::Node(index), End::Internet, Protocol::TCP, &https, Mode::Must);
    if !out.ports.is_empty() {
        return;
    }
    let vpc = |n: &Node| {
        let subnet = n.subnets.first().and_then(|s| net.subnets.all.get(*s));
        subnet.map(|s| s.vpc.clone())
    };
    let own = vpc(node);
    for name in names {
        // An endpoint that is there but cannot be reached is told about as such.
        let there = doors.endpoints.iter().any(|(_, e)| {
            let named = e.service.as_ref().is_some_and(|s| s.ends_with(&format!(".{name}")));
            named && vpc(e) == own
        });
        if !there {
            let what = format!("calls {name}, which no endpoint and no way out leads to");
            report.at(&node.at, &node.name, what).witness = witness(out.clone());
        }
    }
    let mut subnets = node.subnets.iter().filter_map(|s| net.subnets.all.get(*s));
    let has_s3 = subnets
        .all(|s| net.subnets.table_of(s).is_some_and(|t| doors.tables.contains(t.id.as_str())));
    if !has_s3 {
        let what = "calls s3, which no endpoint of its route table and no way out leads to";
        report.at(&node.at, &node.name, what).witness = witness(out);
    }
}

fn s3_tables<'a>(facts: &Facts<'a>) -> HashSet<&'a str> {
    let estate = facts.estate;
    let gateway = |r: &Resource| {
        let kind = r.str("VpcEndpointType").unwrap_or("Gateway") == "Gateway";
        kind && r.str("ServiceName").is_some_and(|s| s.ends_with(".s3"))
    };
    let all = estate.of("AWS::EC2::VPCEndpoint").filter(|(_, r)| gateway(r));
    let tables =
        all.flat_map(|(_, r)| r.get("RouteTableIds").map(Value::items).unwrap_or_default());
    tables.filter_map(Value::as_str).collect()
}
