//! Rules of the edge, E01 to E10: what is between the internet and the origin keeps out what it should,
//! speaks TLS on both sides, and cannot be gone round. Here is the list, and how a distribution is read.

use super::{Facts, How, Report, Rule, edge_behaviours, edge_firewall, edge_origins, edge_places};
use crate::{
    estate::{Estate, Place, Resource},
    value::{At, Value},
};

pub(super) const DISTRIBUTION: &str = "AWS::CloudFront::Distribution";

pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, pci, check| Rule { id, title, pci, how: How::Check(check) };
    vec![
        rule(
            "E01",
            "Every distribution is behind a web firewall of CloudFront's scope.",
            &["1.4.2", "6.4.2"],
            edge_firewall::every_distribution_has_one,
        ),
        rule(
            "E02",
            "The web firewall blocks injection, cross-site scripting, bad inputs, bad addresses and floods.",
            &["6.4.1", "6.4.2"],
            edge_firewall::it_blocks,
        ),
        rule(
            "E03",
            "Viewers speak TLS 1.2 or newer, by SNI, and plain HTTP is redirected.",
            &["4.2.1", "2.2.7"],
            edge_behaviours::viewers_speak_tls,
        ),
        rule(
            "E04",
            "CloudFront speaks TLS 1.2 to the origin, at a port where the origin listens for it.",
            &["4.2.1"],
            edge_origins::spoken_to_over_tls,
        ),
        rule(
            "E05",
            "An origin is private, or takes nothing without the secret header.",
            &["1.3.1", "1.4.2", "1.4.4"],
            edge_origins::only_by_cloudfront,
        ),
        rule(
            "E06",
            "Buckets behind CloudFront are read by their distribution alone.",
            &["1.3.1", "7.2.1"],
            edge_origins::buckets_by_their_distribution,
        ),
        rule(
            "E07",
            "What CloudFront uses is in us-east-1, where it looks for it.",
            &["4.2.1", "6.4.2"],
            edge_places::in_the_global_region,
        ),
        rule(
            "E08",
            "Requests are logged at the firewall and at the edge, without what visitors log in with.",
            &["10.2.1", "3.3.1", "8.3.2"],
            edge_places::logged_without_credentials,
        ),
        rule(
            "E09",
            "A VPC origin in use never has to change: no tags, and another to change over to.",
            &["6.5.1"],
            edge_places::origins_stay_as_they_are,
        ),
        rule(
            "E10",
            "What is for one visitor is not kept for another, and browsers are told to insist on TLS.",
            &["6.2.4", "4.2.1"],
            edge_behaviours::nothing_personal_is_kept,
        ),
    ]
}

/// Every distribution.
pub(super) fn distributions<'a>(
    estate: &'a Estate,
) -> impl Iterator<Item = (Place, &'a Resource)> + use<'a> {
    estate.of(DISTRIBUTION)
}

/// Where something that is missing altogether would have to be listed.
pub(super) fn nowhere(facts: &Facts<'_>, report: &mut Report, what: &str) {
    let at = facts.project.stacks.first().map(|s| At::new(&s.at.file, 1));
    let at = at.unwrap_or_else(|| At::new(&"stacks.yaml".into(), 1));
    report.at(&at, facts.estate.env.as_str(), what);
}

/// A path of a property, and what is there.
pub(super) type Part<'a> = (String, &'a Value);

/// The origins of a distribution.
pub(super) fn origins(distribution: &Resource) -> Vec<Part<'_>> {
    numbered(distribution, "DistributionConfig.Origins")
}

/// The cache behaviours of a distribution, the default one first.
pub(super) fn behaviours(distribution: &Resource) -> Vec<Part<'_>> {
    let path = "DistributionConfig.DefaultCacheBehavior";
    let default = distribution.get(path).map(|v| (path.to_owned(), v));
    default.into_iter().chain(numbered(distribution, "DistributionConfig.CacheBehaviors")).collect()
}

fn numbered<'a>(resource: &'a Resource, path: &str) -> Vec<Part<'a>> {
    let items = resource.get(path).map(Value::items).unwrap_or_default();
    items.iter().enumerate().map(|(i, v)| (format!("{path}.{i}"), v)).collect()
}

/// A text below a value.
pub(super) fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.path(path).and_then(Value::as_str)
}

/// The texts of a list below a value.
pub(super) fn texts<'a>(value: &'a Value, path: &str) -> Vec<&'a str> {
    let items = value.path(path).map(Value::one_or_more).unwrap_or_default();
    items.iter().filter_map(Value::as_str).collect()
}

/// What an origin is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// Reached inside the VPC; the origin if it is one of ours.
    Vpc(Option<(Place, &'a Resource)>),
    /// A bucket; the bucket if it is one of ours.
    Bucket(Option<(Place, &'a Resource)>),
    /// Reached over the internet; what it is if it is ours.
    Internet(Option<(Place, &'a Resource)>),
}

/// Reads one origin of a distribution.
pub(super) fn origin<'a>(estate: &'a Estate, origin: &Value) -> Origin<'a> {
    let found = |id: &str, kind: &str| estate.find_of(kind, id);
    let domain = text(origin, "DomainName").unwrap_or_default();
    if origin.get("VpcOriginConfig").is_some() {
        let id = text(origin, "VpcOriginConfig.VpcOriginId").unwrap_or_default();
        return Origin::Vpc(found(id, "AWS::CloudFront::VpcOrigin"));
    }
    let bucket = found(domain, "AWS::S3::Bucket");
    let is_s3 = [".s3.", ".s3-"].iter().any(|part| domain.contains(part));
    if bucket.is_some() || is_s3 || origin.get("S3OriginConfig").is_some() {
        return Origin::Bucket(bucket.or_else(|| {
            let name = domain.split_once(".s3").map_or(domain, |(name, _)| name);
            found(name, "AWS::S3::Bucket")
        }));
    }
    Origin::Internet(found(domain, "AWS::ElasticLoadBalancingV2::LoadBalancer"))
}

#[cfg(test)]
#[path = "edge_tests.rs"]
mod tests;
