//! D05: buckets. A bucket to which access logs are written does not log access itself: it would never
//! stop writing about its own lines. Which bucket that is, the others say; no name does.

use std::collections::{HashMap, HashSet};

use super::{Facts, Report, edge::nowhere};
use crate::{
    estate::{Place, Resource},
    policy::{self, Statement},
    value::Value,
};

const BUCKET: &str = "AWS::S3::Bucket";
const BLOCKS: &[&str] =
    &["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"];

pub(super) fn closed(facts: &Facts<'_>, report: &mut Report) {
    let targets = log_targets(facts);
    let mut policies: HashMap<&str, Vec<(Place, &Resource)>> = HashMap::new();
    for (place, policy) in facts.estate.of("AWS::S3::BucketPolicy") {
        policies.entry(policy.str("Bucket").unwrap_or_default()).or_default().push((place, policy));
    }
    let (mut any, mut locked) = (false, false);
    for (place, bucket) in facts.estate.of(BUCKET) {
        any = true;
        locked |= bucket.yes("ObjectLockEnabled");
        settings(facts, place, bucket, report);
        logging(facts, place, bucket, targets.contains(bucket.id.as_str()), report);
        lock(facts, place, bucket, report);
        let own = policies.get(bucket.id.as_str()).map(Vec::as_slice).unwrap_or_default();
        over_tls(facts, place, bucket, own, report);
    }
    if !any {
        nowhere(facts, report, "there is no bucket");
    } else if !locked {
        let what = "no bucket has object lock: whoever takes over the account erases the backups";
        nowhere(facts, report, what);
    }
}

/// Buckets that access logs of buckets and load balancers are written to.
pub(super) fn log_targets<'a>(facts: &Facts<'a>) -> HashSet<&'a str> {
    let estate = facts.estate;
    let by_buckets =
        estate.of(BUCKET).filter_map(|(_, b)| b.str("LoggingConfiguration.DestinationBucketName"));
    let by_balancers = estate
        .of("AWS::ElasticLoadBalancingV2::LoadBalancer")
        .flat_map(|(_, b)| b.get("LoadBalancerAttributes").map(Value::items).unwrap_or_default())
        .filter(|a| a.get("Key").is_some_and(|k| k.is("access_logs.s3.bucket")))
        .filter_map(|a| a.get("Value").and_then(Value::as_str));
    by_buckets.chain(by_balancers).collect()
}

fn settings(facts: &Facts<'_>, place: Place, bucket: &Resource, report: &mut Report) {
    for block in BLOCKS {
        let path = format!("PublicAccessBlockConfiguration.{block}");
        if !bucket.yes(&path) {
            report.add(facts, place, &path, format!("it can be made public: no {block}"));
        }
    }
    let path = "VersioningConfiguration.Status";
    if bucket.str(path) != Some("Enabled") {
        report.add(facts, place, path, "what is overwritten in it is lost");
    }
    let path = "BucketEncryption.ServerSideEncryptionConfiguration.0.ServerSideEncryptionByDefault.SSEAlgorithm";
    if bucket.str(path).is_none() {
        report.add(facts, place, path, "nothing says how it is encrypted");
    }
    let path = "OwnershipControls.Rules.0.ObjectOwnership";
    if bucket.str(path) != Some("BucketOwnerEnforced") {
        report.add(facts, place, path, "who writes to it, and not its policy, says who may read");
    }
}

fn logging(facts: &Facts<'_>, place: Place, bucket: &Resource, target: bool, report: &mut Report) {
    let path = "LoggingConfiguration.DestinationBucketName";
    match bucket.str(path) {
        Some(to) if to == bucket.id => {
            report.add(facts, place, path, "it logs to itself, without end");
        }
        Some(_) => {}
        None if target => {}
        None => {
            report.add(facts, place, path, "nobody can tell who read it");
        }
    }
}

/// Object lock is for good, so it has a default, an end, and no literal COMPLIANCE.
fn lock(facts: &Facts<'_>, place: Place, bucket: &Resource, report: &mut Report) {
    if !bucket.yes("ObjectLockEnabled") {
        return;
    }
    let path = "ObjectLockConfiguration.Rule.DefaultRetention";
    let days = ["Days", "Years"].iter().any(|unit| {
        let value = bucket.get(&format!("{path}.{unit}"));
        value.and_then(Value::as_int).is_some_and(|n| n > 0)
    });
    if !days {
        let what = "its objects are not locked unless somebody thinks of it";
        report.add(facts, place, path, what);
    }
    if bucket.get("LifecycleConfiguration.Rules").is_none_or(|r| r.items().is_empty()) {
        report.add(facts, place, "LifecycleConfiguration", "what it holds is kept for ever");
    }
    let mode = format!("{path}.Mode");
    if literal(facts, place, bucket, &mode, "COMPLIANCE") {
        let what = "COMPLIANCE can never be taken back, so only a parameter may choose it";
        report.add(facts, place, &mode, what);
    }
}

/// Whether a template says a value itself, rather than that a parameter or a condition does.
pub(super) fn literal(
    facts: &Facts<'_>,
    place: Place,
    resource: &Resource,
    path: &str,
    text: &str,
) -> bool {
    let stack = facts.estate.stacks.get(place.stack);
    let template = stack.and_then(|s| facts.project.templates.get(s.template));
    let path = format!("Resources.{}.Properties.{path}", resource.logical);
    template.and_then(|t| t.root.path(&path)).is_some_and(|v| v.is(text))
}

/// Whether its policies refuse what does not come over TLS. Whom they let in is I01's.
fn over_tls(
    facts: &Facts<'_>,
    place: Place,
    bucket: &Resource,
    policies: &[(Place, &Resource)],
    report: &mut Report,
) {
    let arn = format!("arn:aws:s3:::{}", bucket.id);
    let mut tls = false;
    for (_, policy) in policies {
        let statements = policy.get("PolicyDocument").map(policy::statements).unwrap_or_default();
        for s in &statements {
            if refuses_plain(s, &arn) {
                tls = true;
            }
        }
    }
    if !tls {
        let (at, name) = match policies {
            [(place, policy), ..] => (*place, policy.logical.as_str()),
            [] => (place, bucket.logical.as_str()),
        };
        let what = format!("{name} lets plain HTTP in");
        report.add(facts, at, "PolicyDocument", what);
    }
}

/// Whether a statement refuses everybody everything of a bucket that is not asked over TLS.
fn refuses_plain(s: &Statement<'_>, arn: &str) -> bool {
    let everybody = !s.not_principal && s.principals.iter().any(|(_, who)| *who == "*");
    let everything = s.actions.iter().any(|a| ["*", "s3:*"].contains(a)) && !s.not_action;
    let whole = s.covers_resource(arn) && s.covers_resource(&format!("{arn}/any/object"));
    let [(operator, key, values)] = s.conditions.as_slice() else { return false };
    let plain = operator.starts_with("Bool")
        && key.eq_ignore_ascii_case("aws:SecureTransport")
        && values.iter().any(|v| v == "false");
    !s.allows && everybody && everything && whole && plain
}
