//! E07 to E09: where the edge's parts are, what is logged of requests, and that a VPC origin in use never
//! has to be updated, which AWS refuses in any way, a tag included.

use super::{
    Facts, Report,
    edge::{distributions, text},
};
use crate::{
    estate::{Place, Resource},
    project::GLOBAL_REGION,
    value::Value,
};

const VPC_ORIGIN: &str = "AWS::CloudFront::VpcOrigin";
/// Headers that visitors log in with.
const CREDENTIALS: &[&str] = &["authorization", "cookie"];

pub(super) fn in_the_global_region(facts: &Facts<'_>, report: &mut Report) {
    for (place, resource) in facts.estate.all() {
        let region = facts.estate.stacks.get(place.stack).map_or("", |s| s.region.as_str());
        let here = region == GLOBAL_REGION;
        let mut say = |path: &str, what: &str| {
            let what = format!("{what}; this is {region}");
            report.add(facts, place, path, what);
        };
        match resource.kind.as_str() {
            "AWS::CloudFront::Distribution" => {
                let path = "DistributionConfig.ViewerCertificate.AcmCertificateArn";
                let of = resource.str(path).and_then(|arn| arn.split(':').nth(3));
                if let Some(of) = of.filter(|r| *r != GLOBAL_REGION) {
                    let what = format!("CloudFront takes certificates of us-east-1, not of {of}");
                    report.add(facts, place, path, what);
                }
            }
            "AWS::WAFv2::WebACL"
            | "AWS::WAFv2::IPSet"
            | "AWS::WAFv2::RegexPatternSet"
            | "AWS::WAFv2::RuleGroup"
                if !here && resource.str("Scope") == Some("CLOUDFRONT") =>
            {
                say("Scope", "CLOUDFRONT scope exists in us-east-1 only");
            }
            "AWS::Logs::DeliverySource" if !here && of_cloudfront(resource, "ResourceArn") => {
                say("ResourceArn", "CloudFront delivers logs in us-east-1 only");
            }
            "AWS::CloudWatch::Alarm" if !here => {
                let namespace = resource.str("Namespace").unwrap_or_default();
                if ["AWS/CloudFront", "AWS/Route53"].contains(&namespace) {
                    say("Namespace", "its figures are in us-east-1 only, so it never goes off");
                }
            }
            _ => {}
        }
    }
}

fn of_cloudfront(resource: &Resource, path: &str) -> bool {
    resource.str(path).is_some_and(|arn| arn.split(':').nth(2) == Some("cloudfront"))
}

pub(super) fn logged_without_credentials(facts: &Facts<'_>, report: &mut Report) {
    let estate = facts.estate;
    for (place, acl) in estate.of("AWS::WAFv2::WebACL") {
        let mut logs = estate.of("AWS::WAFv2::LoggingConfiguration").filter(|(_, l)| {
            l.str("ResourceArn").is_some_and(|arn| estate.owner(arn) == Some(place))
        });
        match logs.next() {
            None => {
                let what = format!("{} logs no requests", acl.logical);
                report.add(facts, place, "", what);
            }
            Some((log_place, log)) => firewall_log(facts, log_place, log, report),
        }
    }
    for (place, distribution) in distributions(estate) {
        let bucket = "DistributionConfig.Logging.Bucket";
        let mut any = distribution.str(bucket).is_some_and(|b| !b.is_empty());
        let cookies = "DistributionConfig.Logging.IncludeCookies";
        if any && distribution.yes(cookies) {
            report.add(facts, place, cookies, "cookies are written to the log");
        }
        for (source_place, source) in estate.of("AWS::Logs::DeliverySource") {
            let mine = source.str("ResourceArn").is_some_and(|a| estate.owner(a) == Some(place));
            if mine && source.str("LogType") == Some("ACCESS_LOGS") {
                any |= delivered(facts, source_place, source, report);
            }
        }
        if !any {
            report.add(facts, place, "DistributionConfig.Logging", "it logs no requests");
        }
    }
}

fn firewall_log(facts: &Facts<'_>, place: Place, log: &Resource, report: &mut Report) {
    if log.get("LogDestinationConfigs").map(Value::items).unwrap_or_default().is_empty() {
        report.add(facts, place, "LogDestinationConfigs", "its log goes nowhere");
    }
    let fields = log.get("RedactedFields").map(Value::items).unwrap_or_default();
    let redacted: Vec<String> = fields
        .iter()
        .filter_map(|f| text(f, "SingleHeader.Name"))
        .map(str::to_ascii_lowercase)
        .collect();
    for header in CREDENTIALS.iter().filter(|h| !redacted.iter().any(|r| r == *h)) {
        let what = format!("{header} is written to the log, with what a visitor logs in with");
        report.add(facts, place, "RedactedFields", what);
    }
}

/// Whether a source's log is delivered to a place that exists.
fn delivered(facts: &Facts<'_>, place: Place, source: &Resource, report: &mut Report) -> bool {
    let name = source.str("Name").unwrap_or_default();
    let mut any = false;
    for (delivery_place, delivery) in facts.estate.of("AWS::Logs::Delivery") {
        if delivery.str("DeliverySourceName") != Some(name) {
            continue;
        }
        let kind = "AWS::Logs::DeliveryDestination";
        let to = delivery.str("DeliveryDestinationArn");
        if to.and_then(|arn| facts.estate.find_of(kind, arn)).is_none() {
            let what = "it is delivered to nothing of this environment";
            report.add(facts, delivery_place, "DeliveryDestinationArn", what);
        }
        let fields = delivery.get("RecordFields").map(Value::items).unwrap_or_default();
        // All fields, if none is named.
        if fields.is_empty() || fields.iter().any(|f| f.is("cs(Cookie)")) {
            report.add(facts, delivery_place, "RecordFields", "cookies are written to the log");
        }
        any = true;
    }
    if !any {
        report.add(facts, place, "", "nothing delivers what it logs");
    }
    // Said already, if it is not.
    true
}

pub(super) fn origins_stay_as_they_are(facts: &Facts<'_>, report: &mut Report) {
    for (place, origin) in facts.estate.of(VPC_ORIGIN) {
        let Some(stack) = facts.estate.stacks.get(place.stack) else { continue };
        if origin.get("Tags").is_some() {
            let what = "a tag that changes cannot be given to a VPC origin in use: have none";
            report.add(facts, place, "Tags", what);
        }
        if stack.tags {
            let at = facts.project.stacks.iter().find(|s| s.name == stack.name).map(|s| &s.at);
            let what = "its stack has stack-level tags, and an origin in use cannot take a new one";
            report.at(at.unwrap_or(&origin.at), facts.estate.name(place), what);
        }
    }
    for (place, distribution) in distributions(facts.estate) {
        let Some(stack) = facts.estate.stacks.get(place.stack) else { continue };
        let Some(template) = facts.project.templates.get(stack.template) else { continue };
        changeable(facts, place, distribution, &template.root, report);
    }
}

/// Whether a distribution's template can change over from one VPC origin to another: each is there on a
/// condition, and the distribution can be pointed at each.
fn changeable(
    facts: &Facts<'_>,
    place: Place,
    distribution: &Resource,
    template: &Value,
    report: &mut Report,
) {
    let resources = template.get("Resources").map(Value::entries).unwrap_or_default();
    let all: Vec<_> =
        resources.iter().filter(|e| text(&e.value, "Type") == Some(VPC_ORIGIN)).collect();
    let source = resources.iter().find(|e| e.key == distribution.logical).map(|e| &e.value);
    let mut named = Vec::new();
    if let Some(source) = source {
        source.walk(&mut |value| {
            if let Some(config) = value.get("VpcOriginId") {
                config.walk(&mut |v| named.extend(text(v, "Ref")));
            }
        });
    }
    let usable = all.iter().filter(|e| named.contains(&e.key.as_str())).count();
    // One in another stack is changed over by a parameter of that stack.
    let used = !named.is_empty() || !all.is_empty();
    if used && usable < 2 {
        let what = "it can be pointed at one VPC origin only, which can then never be changed";
        report.add(facts, place, "DistributionConfig.Origins", what);
    }
    for entry in all.iter().filter(|e| e.value.get("Condition").is_none()) {
        let what = "it is always there, so it cannot be made anew behind the other";
        let subject = format!(
            "{}.{}",
            facts.estate.stacks.get(place.stack).map_or("?", |s| s.name.as_str()),
            entry.key
        );
        report.at(&entry.at, subject, what);
    }
}
