//! E04 to E06: behind CloudFront. TLS to a port where somebody listens; an application that is inside the
//! VPC and, inside or not, forwards nothing without the secret header; buckets read by one distribution.

use std::collections::BTreeSet;

use super::{
    Facts, Report,
    edge::{Origin, Part, distributions, origin, origins, text, texts},
};
use crate::{
    estate::{Estate, Place, Resource},
    policy::{self, Statement},
    value::Value,
};

const LISTENER: &str = "AWS::ElasticLoadBalancingV2::Listener";
const BALANCER: &str = "AWS::ElasticLoadBalancingV2::LoadBalancer";
const SECRET: &str = "{{resolve:secretsmanager:";

pub(super) fn spoken_to_over_tls(facts: &Facts<'_>, report: &mut Report) {
    for (place, vpc_origin) in facts.estate.of("AWS::CloudFront::VpcOrigin") {
        let config = "VpcOriginEndpointConfig";
        let target = vpc_origin.str(&format!("{config}.Arn"));
        one_over_tls(facts, place, config, target.and_then(|t| facts.estate.find(t)), report);
    }
    for (place, distribution) in distributions(facts.estate) {
        for (path, value) in origins(distribution) {
            if let Origin::Internet(target) = origin(facts.estate, value) {
                let config = format!("{path}.CustomOriginConfig");
                one_over_tls(facts, place, &config, target.map(|(_, r)| r), report);
            }
        }
    }
}

/// The settings of one origin, below `config` of a resource; and what it leads to.
fn one_over_tls(
    facts: &Facts<'_>,
    place: Place,
    config: &str,
    target: Option<&Resource>,
    report: &mut Report,
) {
    let Some(resource) = facts.estate.resource(place) else { return };
    let path = format!("{config}.OriginProtocolPolicy");
    if resource.str(&path) != Some("https-only") {
        report.add(facts, place, &path, "CloudFront may speak plain HTTP to it");
    }
    let path = format!("{config}.OriginSSLProtocols");
    let protocols = resource.get(&path).map(Value::items).unwrap_or_default();
    let modern = |p: &Value| p.is("TLSv1.2") || p.is("TLSv1.3");
    if protocols.is_empty() || !protocols.iter().all(modern) {
        report.add(facts, place, &path, "CloudFront may speak TLS older than 1.2 to it");
    }
    let Some(target) = target.filter(|t| t.kind == BALANCER) else { return };
    let path = format!("{config}.HTTPSPort");
    let port = resource.get(&path).and_then(Value::as_int).unwrap_or(443);
    let listens = listeners(facts.estate, target).any(|(_, l)| {
        l.str("Protocol") == Some("HTTPS") && l.get("Port").and_then(Value::as_int) == Some(port)
    });
    if !listens {
        let what = format!("nothing of {} listens for TLS at port {port}", target.logical);
        report.add(facts, place, &path, what);
    }
}

fn listeners<'a>(
    estate: &'a Estate,
    balancer: &'a Resource,
) -> impl Iterator<Item = (Place, &'a Resource)> {
    estate.of(LISTENER).filter(|(_, l)| l.str("LoadBalancerArn") == Some(balancer.id.as_str()))
}

pub(super) fn only_by_cloudfront(facts: &Facts<'_>, report: &mut Report) {
    let mut named = BTreeSet::new();
    for (place, distribution) in distributions(facts.estate) {
        let mut applications = 0;
        for part in origins(distribution) {
            let (path, value) = &part;
            let target = match origin(facts.estate, value) {
                Origin::Bucket(_) => continue,
                Origin::Vpc(None) => {
                    let path = format!("{path}.VpcOriginConfig.VpcOriginId");
                    report.add(facts, place, &path, "it is no VPC origin of this environment");
                    continue;
                }
                Origin::Vpc(Some((_, vpc_origin))) => vpc_origin
                    .str("VpcOriginEndpointConfig.Arn")
                    .and_then(|arn| facts.estate.find(arn)),
                Origin::Internet(Some((_, balancer))) => {
                    if facts.estate.parameter("AlbExposure") == Some("internal") {
                        let what = "it is reached over the internet, though the load balancer is to be internal";
                        report.add(facts, place, path, what);
                        continue;
                    }
                    Some(balancer)
                }
                Origin::Internet(None) => {
                    let what = "it is neither a VPC origin nor a load balancer of this environment";
                    report.add(facts, place, &format!("{path}.DomainName"), what);
                    continue;
                }
            };
            applications += 1;
            if let Some(balancer) = target.filter(|t| t.kind == BALANCER) {
                named.insert(balancer.id.as_str());
                behind_a_header(facts, place, &part, balancer, report);
            }
        }
        if applications == 0 && origins(distribution).iter().all(|(_, o)| is_bucket(facts, o)) {
            let what = "no application is behind it";
            report.add(facts, place, "DistributionConfig.Origins", what);
        }
    }
    past_cloudfront(facts, &named, report);
}

/// Load balancers that no distribution names: none of them asks for the header, so none may forward to an
/// origin, whoever may reach it today.
fn past_cloudfront(facts: &Facts<'_>, named: &BTreeSet<&str>, report: &mut Report) {
    let edge = &facts.net.edge;
    for (place, balancer) in facts.estate.of(BALANCER) {
        let node = facts.net.node_at(place);
        let forwards_on = edge.forwards.iter().any(|f| Some(f.from) == node);
        if !forwards_on || named.contains(balancer.id.as_str()) {
            continue;
        }
        let what =
            format!("{} forwards to an origin, and no distribution names it", balancer.logical);
        for (listener_place, listener) in listeners(facts.estate, balancer) {
            if forwards(listener.get("DefaultActions")) {
                report.add(facts, listener_place, "DefaultActions", what.as_str());
            }
            for (rule_place, _) in forwarding_rules(facts.estate, listener) {
                report.add(facts, rule_place, "Actions", what.as_str());
            }
        }
    }
}

/// The rules of a listener that forward.
fn forwarding_rules<'a>(
    estate: &'a Estate,
    listener: &'a Resource,
) -> impl Iterator<Item = (Place, &'a Resource)> {
    estate.of("AWS::ElasticLoadBalancingV2::ListenerRule").filter(|(_, r)| {
        r.str("ListenerArn") == Some(listener.id.as_str()) && forwards(r.get("Actions"))
    })
}

fn is_bucket(facts: &Facts<'_>, value: &Value) -> bool {
    matches!(origin(facts.estate, value), Origin::Bucket(_))
}

/// A load balancer that forwards only what has the header that this origin sends.
fn behind_a_header(
    facts: &Facts<'_>,
    place: Place,
    (path, value): &Part<'_>,
    balancer: &Resource,
    report: &mut Report,
) {
    let headers = value.get("OriginCustomHeaders").map(Value::items).unwrap_or_default();
    let sent: Vec<(&str, &str)> = headers
        .iter()
        .filter_map(|h| Some((text(h, "HeaderName")?, text(h, "HeaderValue")?)))
        .collect();
    let headers_path = format!("{path}.OriginCustomHeaders");
    let secret = sent.iter().find(|(_, v)| v.starts_with(SECRET) && !v.contains("AWSPENDING"));
    let Some((name, sent_value)) = secret else {
        let what = "it sends no header whose value is a secret, so that others look the same";
        report.add(facts, place, &headers_path, what);
        return;
    };
    for (listener_place, listener) in listeners(facts.estate, balancer) {
        if forwards(listener.get("DefaultActions")) {
            let what = format!("it forwards what comes without {name}");
            report.add(facts, listener_place, "DefaultActions", what);
        }
        for (rule_place, rule) in forwarding_rules(facts.estate, listener) {
            match wanted(rule, name) {
                None => {
                    let what = format!("it forwards what comes without {name}");
                    report.add(facts, rule_place, "Conditions", what);
                }
                Some(values) => {
                    for wanted in values.iter().filter(|w| !same_secret(w, sent_value)) {
                        let what = format!("{wanted} is not the secret that CloudFront sends");
                        report.add(facts, rule_place, "Conditions", what);
                    }
                }
            }
        }
    }
}

fn forwards(actions: Option<&Value>) -> bool {
    let actions = actions.map(Value::items).unwrap_or_default();
    actions.iter().any(|a| text(a, "Type") == Some("forward"))
}

/// The values that a rule wants of a header; nothing if it does not look at it.
fn wanted<'a>(rule: &'a Resource, header: &str) -> Option<Vec<&'a str>> {
    let conditions = rule.get("Conditions").map(Value::items).unwrap_or_default();
    let config = conditions
        .iter()
        .filter(|c| text(c, "Field") == Some("http-header"))
        .filter_map(|c| c.get("HttpHeaderConfig"))
        .find(|c| text(c, "HttpHeaderName").is_some_and(|n| n.eq_ignore_ascii_case(header)))?;
    Some(texts(config, "Values")).filter(|v| !v.is_empty())
}

/// Whether two references mean one secret, by name or by ARN, in whatever region and of whatever version.
fn same_secret(a: &str, b: &str) -> bool {
    fn name(reference: &str) -> Option<&str> {
        let rest = reference.strip_prefix(SECRET)?.trim_end_matches("}}");
        match rest.split_once(":secret:") {
            // An ARN has six characters more than the name, behind a hyphen.
            Some((_, rest)) => rest.split(':').next()?.rsplit_once('-').map(|(name, _)| name),
            None => rest.split(':').next(),
        }
    }
    name(a).is_some_and(|a| name(b) == Some(a))
}

pub(super) fn buckets_by_their_distribution(facts: &Facts<'_>, report: &mut Report) {
    for (place, distribution) in distributions(facts.estate) {
        for (path, value) in origins(distribution) {
            let Origin::Bucket(bucket) = origin(facts.estate, value) else { continue };
            let domain = text(value, "DomainName").unwrap_or_default();
            if domain.contains(".s3-website") {
                let what = "a website's endpoint is public and speaks no TLS";
                report.add(facts, place, &format!("{path}.DomainName"), what);
            }
            signed(facts, place, &path, value, report);
            match bucket {
                None => {
                    let what = format!("{domain} is no bucket of this environment");
                    report.add(facts, place, &format!("{path}.DomainName"), what);
                }
                Some((bucket_place, bucket)) => {
                    if bucket.get("WebsiteConfiguration").is_some() {
                        let what = "it is served as a website, past CloudFront";
                        report.add(facts, bucket_place, "WebsiteConfiguration", what);
                    }
                    read_by(facts, place, bucket, report);
                }
            }
        }
    }
}

/// Whether requests to a bucket are signed by an access control.
fn signed(facts: &Facts<'_>, place: Place, path: &str, value: &Value, report: &mut Report) {
    let id = text(value, "OriginAccessControlId").unwrap_or_default();
    let kind = "AWS::CloudFront::OriginAccessControl";
    match facts.estate.find_of(kind, id) {
        None => {
            let path = format!("{path}.OriginAccessControlId");
            report.add(facts, place, &path, "its requests to the bucket are not signed");
        }
        Some((control_place, control)) => {
            let behaviour = "OriginAccessControlConfig.SigningBehavior";
            if control.str(behaviour) != Some("always") {
                let what = "not every request to the bucket is signed";
                report.add(facts, control_place, behaviour, what);
            }
        }
    }
    if text(value, "S3OriginConfig.OriginAccessIdentity").is_some_and(|i| !i.is_empty()) {
        let path = format!("{path}.S3OriginConfig.OriginAccessIdentity");
        report.add(facts, place, &path, "access identities know no KMS keys: use access control");
    }
}

/// Whether CloudFront may read a bucket for this distribution and for no other.
fn read_by(facts: &Facts<'_>, place: Place, bucket: &Resource, report: &mut Report) {
    let estate = facts.estate;
    let mine = |s: &Statement<'_>| {
        s.condition("aws:SourceArn").is_some_and(|arns| {
            !arns.is_empty() && arns.iter().all(|a| estate.owner(a) == Some(place))
        })
    };
    let mut may = false;
    for (policy_place, policy) in estate.of("AWS::S3::BucketPolicy") {
        if policy.str("Bucket") != Some(bucket.id.as_str()) {
            continue;
        }
        let statements = policy.get("PolicyDocument").map(policy::statements).unwrap_or_default();
        for statement in statements {
            let cloudfront =
                statement.principals.contains(&("Service", "cloudfront.amazonaws.com"));
            if !statement.allows || !cloudfront {
                continue;
            }
            if mine(&statement) {
                may |= statement.covers_action("s3:GetObject");
            } else {
                let what = "CloudFront may read it for distributions of anybody";
                report.at(statement.at, estate.name(policy_place), what);
                // Said once: that its own may read is not in doubt.
                may = true;
            }
        }
    }
    if !may {
        let what = format!("nothing lets it read {}", bucket.logical);
        report.add(facts, place, "DistributionConfig.Origins", what);
    }
}

#[cfg(test)]
mod tests {
    use super::same_secret;

    #[test]
    fn a_secret_is_the_same_by_name_and_by_arn_and_no_other_is() {
        let by_name = "{{resolve:secretsmanager:palisade/dev/origin-secret:SecretString}}";
        let arn = "{{resolve:secretsmanager:arn:aws:secretsmanager:eu-west-1:1:secret:palisade/dev/origin-secret-a1b2c3:SecretString}}";
        let copy = arn.replace("eu-west-1", "us-east-1");
        assert!(same_secret(by_name, by_name) && same_secret(by_name, arn));
        assert!(same_secret(arn, by_name) && same_secret(arn, &copy));
        for other in [by_name.replace("/dev", "/prod"), by_name.replace("secret:S", "secret-two:S")]
        {
            assert!(!same_secret(&other, by_name) && !same_secret(arn, &other), "{other}");
        }
        assert!(!same_secret(arn, &arn.replace("origin", "other")));
        assert!(!same_secret("plain", "plain"));
    }
}
