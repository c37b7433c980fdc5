//! What the services say of what was made, compared with what the model says was asked for: groups, the
//! listener and its rule, the distribution, the database.

use std::collections::BTreeSet;

use palisade_cloud::xml::{self, Node};
use palisade_infra_model::{Estate, Resource, Value};

use super::emulator::Emulator;

/// A rule of a group: protocol, ports, and the addresses.
type Rule = (String, String, String, String);

/// Compares everything of which ministack keeps enough.
pub(crate) fn compare(emulator: &Emulator, estate: &Estate) {
    groups(emulator, estate);
    listener(emulator, estate);
    distribution(emulator, estate);
    database(emulator, estate);
}

fn only<'a>(estate: &'a Estate, kind: &'a str) -> &'a Resource {
    let mut all = estate.of(kind);
    let first = all.next().unwrap_or_else(|| panic!("no {kind}")).1;
    assert!(all.next().is_none(), "several {kind}");
    first
}

/// A property as text, as the model has it.
fn said(resource: &Resource, path: &str) -> String {
    let value = resource.get(path).and_then(Value::scalar);
    value.unwrap_or_else(|| panic!("{} has no {path}", resource.logical))
}

fn first(node: Node<'_, '_>, name: &str) -> String {
    xml::first(node, name).unwrap_or_default().to_owned()
}

fn groups(emulator: &Emulator, estate: &Estate) {
    let form = "Action=DescribeSecurityGroups&Version=2016-11-15";
    let text = emulator.query("ec2", &estate.region, form);
    let document = xml::parse(&text).unwrap();
    let mut compared = 0;
    for (_, group) in estate.of("AWS::EC2::SecurityGroup") {
        let description = said(group, "GroupDescription");
        let live = xml::members(document.root_element(), "securityGroupInfo", "item")
            .find(|n| xml::child(*n, "groupDescription") == Some(&description))
            .unwrap_or_else(|| panic!("no group {description}"));
        for (property, list) in [
            ("SecurityGroupIngress", "ipPermissions"),
            ("SecurityGroupEgress", "ipPermissionsEgress"),
        ] {
            let wanted = group.get(property).map(Value::items).unwrap_or_default();
            let wanted: BTreeSet<Rule> = wanted.iter().map(wanted_rule).collect();
            // Without a list of its own a group lets everything out, in AWS and in the model.
            if property == "SecurityGroupEgress" && wanted.is_empty() {
                continue;
            }
            assert_eq!(wanted, live_rules(live, list), "{} {property}", group.logical);
            compared += 1;
        }
    }
    assert!(compared > 10, "only {compared} lists of rules were compared");
}

fn wanted_rule(rule: &Value) -> Rule {
    let text = |key: &str| rule.get(key).and_then(Value::scalar).unwrap_or_default();
    let from = ["CidrIp", "CidrIpv6", "SourcePrefixListId", "DestinationPrefixListId"];
    let groups = ["SourceSecurityGroupId", "DestinationSecurityGroupId"];
    let mut whom = from.iter().map(|k| text(k)).find(|t| !t.is_empty()).unwrap_or_default();
    // Ids are the emulator's own.
    if groups.iter().any(|k| !text(k).is_empty()) {
        whom = "a group".to_owned();
    }
    (text("IpProtocol"), text("FromPort"), text("ToPort"), whom)
}

fn live_rules(group: Node<'_, '_>, list: &str) -> BTreeSet<Rule> {
    let mut rules = BTreeSet::new();
    for rule in xml::members(group, list, "item") {
        let text = |name: &str| xml::child(rule, name).unwrap_or_default().to_owned();
        let head = (text("ipProtocol"), text("fromPort"), text("toPort"));
        let mut add = |whom: String| {
            rules.insert((head.0.clone(), head.1.clone(), head.2.clone(), whom));
        };
        for (list, name) in
            [("ipRanges", "cidrIp"), ("ipv6Ranges", "cidrIpv6"), ("prefixListIds", "prefixListId")]
        {
            xml::members(rule, list, "item").for_each(|n| add(first(n, name)));
        }
        xml::members(rule, "groups", "item").for_each(|_| add("a group".to_owned()));
    }
    rules
}

fn listener(emulator: &Emulator, estate: &Estate) {
    let ask = |form: &str| emulator.query("elasticloadbalancing", &estate.region, form);
    let found = |text: &str, name: &str| first(xml::parse(text).unwrap().root(), name);
    let version = "Version=2015-12-01";
    let balancer = ask(&format!("Action=DescribeLoadBalancers&{version}"));
    let wanted = only(estate, "AWS::ElasticLoadBalancingV2::LoadBalancer");
    assert_eq!(found(&balancer, "Scheme"), said(wanted, "Scheme"));
    let arn = found(&balancer, "LoadBalancerArn");
    let text = ask(&format!("Action=DescribeListeners&{version}&LoadBalancerArn={arn}"));
    let wanted = only(estate, "AWS::ElasticLoadBalancingV2::Listener");
    for name in ["Port", "Protocol", "SslPolicy"] {
        assert_eq!(found(&text, name), said(wanted, name), "{name}");
    }
    // Whoever does not know the secret is turned away.
    assert_eq!(found(&text, "StatusCode"), "403");
    let arn = found(&text, "ListenerArn");
    let text = ask(&format!("Action=DescribeRules&{version}&ListenerArn={arn}"));
    let rule = only(estate, "AWS::ElasticLoadBalancingV2::ListenerRule");
    let condition = rule.get("Conditions").map(Value::items).unwrap_or_default();
    let header = condition.first().and_then(|c| c.path("HttpHeaderConfig.HttpHeaderName"));
    assert_eq!(Some(found(&text, "HttpHeaderName").as_str()), header.and_then(Value::as_str));
    assert!(!text.contains("{{resolve:"), "the secret is not put in: {text}");
}

fn distribution(emulator: &Emulator, estate: &Estate) {
    let text = emulator.get("/2020-05-31/distribution", "cloudfront", "us-east-1");
    let document = xml::parse(&text).unwrap();
    let id = first(document.root(), "Id");
    let text =
        emulator.get(&format!("/2020-05-31/distribution/{id}/config"), "cloudfront", "us-east-1");
    let document = xml::parse(&text).unwrap();
    let wanted = only(estate, "AWS::CloudFront::Distribution");
    for (path, name) in [
        ("DistributionConfig.ViewerCertificate.MinimumProtocolVersion", "MinimumProtocolVersion"),
        ("DistributionConfig.ViewerCertificate.SslSupportMethod", "SSLSupportMethod"),
        ("DistributionConfig.DefaultCacheBehavior.ViewerProtocolPolicy", "ViewerProtocolPolicy"),
        ("DistributionConfig.HttpVersion", "HttpVersion"),
        ("DistributionConfig.Restrictions.GeoRestriction.RestrictionType", "RestrictionType"),
    ] {
        assert_eq!(first(document.root(), name), said(wanted, path), "{name}");
    }
    let origins = wanted.get("DistributionConfig.Origins").map(Value::items).unwrap_or_default();
    let origin = origins.iter().find_map(|o| o.path("VpcOriginConfig.VpcOriginId")?.as_str());
    assert_eq!(Some(first(document.root(), "VpcOriginId").as_str()), origin);
    // The list of rules that was made in the same region, by way of a feed.
    let acl = first(document.root(), "WebACLId");
    assert!(acl.contains(":global/webacl/") && acl.contains(":us-east-1:"), "{acl}");
}

fn database(emulator: &Emulator, estate: &Estate) {
    let form = "Action=DescribeDBClusters&Version=2014-10-31";
    let text = emulator.query("rds", &estate.region, form);
    let document = xml::parse(&text).unwrap();
    let wanted = only(estate, "AWS::RDS::DBCluster");
    for (path, name) in [
        ("Engine", "Engine"),
        ("Port", "Port"),
        ("StorageEncrypted", "StorageEncrypted"),
        ("EnableIAMDatabaseAuthentication", "IAMDatabaseAuthenticationEnabled"),
        ("DeletionProtection", "DeletionProtection"),
        ("BackupRetentionPeriod", "BackupRetentionPeriod"),
    ] {
        assert_eq!(first(document.root(), name), said(wanted, path), "{name}");
    }
    assert_eq!(said(wanted, "StorageEncrypted"), "true");
}
