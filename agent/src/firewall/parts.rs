//! The parts of a source, and what they are called in the kernel. Pure.
//!
//! Each kind of part has sets and a counter of its own, so that one can see which of them admits
//! traffic: whether a VPC origin speaks from its interface or from CloudFront's addresses, for one.

use super::{
    model::AddrSet,
    settings::{Ec2List, FeedLocation, FeedSource, Source, SourceName},
};

/// One part of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What its sets and counter are named after: the source, and where that has several parts, a dot
    /// and the kind of this one: `cloudfront`, or `cloudfront.ranges` and `cloudfront.origins`. No
    /// source has a dot in its name.
    pub name: String,
    /// The ranges in force.
    pub set: AddrSet,
}

/// A kind of part. Lists of the same kind are one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// AWS's published list.
    Ranges,
    /// Managed prefix lists.
    Prefixes,
    /// Interfaces of VPC origins.
    Origins,
    /// Networks of subnets.
    Subnets,
    /// Interfaces, or subnets, of a load balancer.
    Alb,
    /// Written in the configuration.
    Cidrs,
    /// Live grants.
    Grants,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Ranges => "ranges",
            Self::Prefixes => "prefixes",
            Self::Origins => "origins",
            Self::Subnets => "subnets",
            Self::Alb => "alb",
            Self::Cidrs => "cidrs",
            Self::Grants => "grants",
        }
    }

    pub(super) fn of_feed(feed: &FeedSource) -> Self {
        match &feed.location {
            FeedLocation::Url(_) | FeedLocation::File(_) => Self::Ranges,
            FeedLocation::Ec2(Ec2List::PrefixList(_)) => Self::Prefixes,
            FeedLocation::Ec2(Ec2List::VpcOrigins(_)) => Self::Origins,
            FeedLocation::Ec2(Ec2List::Subnets(_)) => Self::Subnets,
            FeedLocation::Ec2(Ec2List::LoadBalancer(_)) => Self::Alb,
        }
    }

    fn of(source: &Source) -> Self {
        match source {
            Source::Feed(feed) => Self::of_feed(feed),
            Source::Cidrs(_) => Self::Cidrs,
            Source::Grants => Self::Grants,
        }
    }
}

/// The kinds of a source's parts, each once, in the order of the configuration. A source of nothing
/// is an empty list of networks.
pub(super) fn kinds(parts: &[Source]) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for part in parts {
        let kind = Kind::of(part);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() {
        kinds.push(Kind::Cidrs);
    }
    kinds
}

/// The name of a part of a source that has parts of these kinds.
pub(super) fn name(source: &SourceName, kind: Kind, all: &[Kind]) -> String {
    match all {
        [] | [_] => source.as_str().to_owned(),
        [_, ..] => format!("{}.{}", source.as_str(), kind.text()),
    }
}
