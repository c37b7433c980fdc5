//! E03 and E10: what a viewer gets. TLS on every path; what the application answers to one visitor is
//! never kept for the next, and reaches it whole: methods, cookies, query and `Authorization`. Below a path
//! of its own an answer may be kept if the application is told nothing of the visitor.

use super::{
    Facts, Report,
    edge::{Origin, behaviours, distributions, origin, origins, text, texts},
};
use crate::{
    estate::{Estate, Place, Resource},
    value::Value,
};

/// Sets of protocols and ciphers that begin with TLS 1.2.
const MODERN: &[&str] = &["TLSv1.2_2021", "TLSv1.2_2025", "TLSv1.3_2025"];
/// AWS's own policies, by the ids that are the same in every account.
const CACHING_DISABLED: &str = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad";
const ALL_VIEWER: &[&str] =
    &["216adef6-5c7f-47e4-b989-5492eafa07d3", "33f36d7e-f396-46d9-90e0-52428a34d9dc"];
const SECURITY_HEADERS: &str = "67f7725c-6f97-4210-82d7-5512b31e9d03";
/// Methods that an application gets beside those that read.
const WRITING: &[&str] = &["POST", "PUT", "PATCH", "DELETE"];
/// A year, in seconds: what browsers' preload lists ask for.
const YEAR: i64 = 31_536_000;

pub(super) fn viewers_speak_tls(facts: &Facts<'_>, report: &mut Report) {
    for (place, distribution) in distributions(facts.estate) {
        let certificate = "DistributionConfig.ViewerCertificate";
        let path = format!("{certificate}.MinimumProtocolVersion");
        let version = distribution.str(&path).unwrap_or("TLSv1");
        if !MODERN.contains(&version) {
            report.add(facts, place, &path, format!("viewers may speak {version}"));
        }
        let path = format!("{certificate}.AcmCertificateArn");
        if distribution.str(&path).is_none_or(str::is_empty) {
            report.add(facts, place, &path, "it has no certificate of the site's name");
        }
        let path = format!("{certificate}.SslSupportMethod");
        if distribution.str(&path) != Some("sni-only") {
            report.add(facts, place, &path, "its certificate is not served by SNI");
        }
        for (path, behaviour) in behaviours(distribution) {
            let policy = text(behaviour, "ViewerProtocolPolicy").unwrap_or("allow-all");
            if !["redirect-to-https", "https-only"].contains(&policy) {
                let path = format!("{path}.ViewerProtocolPolicy");
                report.add(facts, place, &path, "plain HTTP is served");
            }
        }
    }
}

pub(super) fn nothing_personal_is_kept(facts: &Facts<'_>, report: &mut Report) {
    for (place, distribution) in distributions(facts.estate) {
        let origins = origins(distribution);
        for (i, (path, behaviour)) in behaviours(distribution).iter().enumerate() {
            let target = text(behaviour, "TargetOriginId");
            let to = origins.iter().find(|(_, o)| text(o, "Id") == target);
            let Some((_, to)) = to else {
                let path = format!("{path}.TargetOriginId");
                report.add(facts, place, &path, "it names no origin of the distribution");
                continue;
            };
            let mut say = |part: &str, what: &str| {
                report.add(facts, place, &format!("{path}.{part}"), what);
            };
            if matches!(origin(facts.estate, to), Origin::Bucket(_)) {
                let methods = texts(behaviour, "AllowedMethods");
                if methods.iter().any(|m| WRITING.contains(m)) {
                    say("AllowedMethods", "a bucket of files can be written through it");
                }
            } else {
                application(facts.estate, behaviour, i == 0, &mut say);
            }
            headers(facts, place, behaviour, path, report);
        }
    }
}

/// A behaviour before an application.
fn application(
    estate: &Estate,
    behaviour: &Value,
    default: bool,
    say: &mut impl FnMut(&str, &str),
) {
    let methods = texts(behaviour, "AllowedMethods");
    if default && !WRITING.iter().all(|m| methods.contains(m)) {
        say("AllowedMethods", "the application gets no POST, PUT, PATCH and DELETE");
    }
    if !default && impersonal(estate, behaviour) {
        return;
    }
    let cache = text(behaviour, "CachePolicyId").unwrap_or_default();
    if !uncached(estate, cache) {
        say(
            "CachePolicyId",
            "what the application answers to one visitor is kept and served to others",
        );
    }
    let request = text(behaviour, "OriginRequestPolicyId").unwrap_or_default();
    let policy = found(estate, request, "AWS::CloudFront::OriginRequestPolicy");
    let is = |path: &str, values: &[&str]| {
        let path = format!("OriginRequestPolicyConfig.{path}");
        policy.and_then(|p| p.str(&path)).is_some_and(|v| values.contains(&v))
    };
    let known = ALL_VIEWER.contains(&request);
    if !known
        && !is("HeadersConfig.HeaderBehavior", &["allViewer", "allViewerAndWhitelistCloudFront"])
    {
        say("OriginRequestPolicyId", "Authorization and Host do not reach the application");
    }
    if !known && !is("CookiesConfig.CookieBehavior", &["all"]) {
        say("OriginRequestPolicyId", "cookies do not reach the application");
    }
    if !known && !is("QueryStringsConfig.QueryStringBehavior", &["all"]) {
        say("OriginRequestPolicyId", "query strings do not reach the application");
    }
}

/// Whether requests are answered without a thing of the visitor: read only, no cookie, no query, and no
/// header but the site's name, which CloudFront checks the origin's certificate against.
fn impersonal(estate: &Estate, behaviour: &Value) -> bool {
    let methods = texts(behaviour, "AllowedMethods");
    let none = |policy: &Resource, config: &str| {
        ["CookiesConfig.CookieBehavior", "QueryStringsConfig.QueryStringBehavior"]
            .iter()
            .all(|part| policy.str(&format!("{config}.{part}")) == Some("none"))
    };
    let kept_by = text(behaviour, "CachePolicyId").unwrap_or_default();
    let cache = found(estate, kept_by, "AWS::CloudFront::CachePolicy").is_some_and(|p| {
        let key = "CachePolicyConfig.ParametersInCacheKeyAndForwardedToOrigin";
        none(p, key) && p.str(&format!("{key}.HeadersConfig.HeaderBehavior")) == Some("none")
    });
    let asked_by = text(behaviour, "OriginRequestPolicyId").unwrap_or_default();
    let request =
        found(estate, asked_by, "AWS::CloudFront::OriginRequestPolicy").is_some_and(|p| {
            let config = "OriginRequestPolicyConfig";
            let headers = p.get(&format!("{config}.HeadersConfig"));
            let names = headers.map(|h| texts(h, "Headers")).unwrap_or_default();
            let listed = headers.and_then(|h| text(h, "HeaderBehavior")) == Some("whitelist");
            let host = names.len() == 1 && names.iter().all(|n| n.eq_ignore_ascii_case("host"));
            none(p, config) && listed && host
        });
    !methods.iter().any(|m| WRITING.contains(m)) && cache && request
}

/// Whether a cache policy keeps nothing.
fn uncached(estate: &Estate, policy: &str) -> bool {
    let zero = |policy: &Resource| {
        ["MinTTL", "DefaultTTL", "MaxTTL"].iter().all(|ttl| {
            let value = policy.get(&format!("CachePolicyConfig.{ttl}"));
            value.and_then(Value::as_int) == Some(0)
        })
    };
    policy == CACHING_DISABLED
        || found(estate, policy, "AWS::CloudFront::CachePolicy").is_some_and(zero)
}

fn found<'a>(estate: &'a Estate, id: &str, kind: &str) -> Option<&'a Resource> {
    estate.find_of(kind, id).map(|(_, r)| r)
}

/// What browsers are told by every answer.
fn headers(facts: &Facts<'_>, place: Place, behaviour: &Value, path: &str, report: &mut Report) {
    let id = text(behaviour, "ResponseHeadersPolicyId").unwrap_or_default();
    if id == SECURITY_HEADERS {
        return;
    }
    let kind = "AWS::CloudFront::ResponseHeadersPolicy";
    let Some((policy_place, policy)) = facts.estate.find_of(kind, id) else {
        let path = format!("{path}.ResponseHeadersPolicyId");
        report.add(facts, place, &path, "its answers have no security headers");
        return;
    };
    let config = "ResponseHeadersPolicyConfig.SecurityHeadersConfig";
    let hsts = format!("{config}.StrictTransportSecurity");
    let age = policy.get(&format!("{hsts}.AccessControlMaxAgeSec")).and_then(Value::as_int);
    if age.is_none_or(|age| age < YEAR) || !policy.yes(&format!("{hsts}.Override")) {
        let what = "browsers are not told to insist on TLS for a year, whatever the origin says";
        report.add(facts, policy_place, &hsts, what);
    }
    for (header, what) in [
        ("ContentTypeOptions", "browsers may guess what a file is"),
        ("FrameOptions", "pages may be shown inside of others'"),
    ] {
        if policy.get(&format!("{config}.{header}")).is_none() {
            report.add(facts, policy_place, config, what);
        }
    }
}
