//! One source of `firewall.sources`: where its addresses come from.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use palisade_types::Span;

use crate::{
    config::section::{Field, Section},
    firewall::{Ec2List, FeedLocation, FeedSource, LoadBalancer, ORIGIN_FACING_LISTS, Source},
};

/// Where AWS publishes its addresses.
const IP_RANGES_URL: &str = "https://ip-ranges.amazonaws.com/ip-ranges.json";
/// The origin-facing list changes a few times a year (guides of AWS, and the published history), and so
/// do the prefix lists.
const FEED_EVERY: Duration = Duration::from_secs(15 * 60);
/// Interfaces come and go with what they are for.
const INTERFACES_EVERY: Duration = Duration::from_secs(5 * 60);
/// EC2 limits how often an account asks, and a fleet asks together.
const EC2_LEAST: Duration = Duration::from_secs(30);

/// The kinds of sources, as keys.
const KINDS: [&str; 4] = ["feed", "cidrs", "subnets", "alb"];

/// A value of `feed`.
#[derive(Clone, Copy, Debug)]
enum Feed {
    IpRanges,
    PrefixList,
    VpcOrigin,
}

/// The sources that an entry makes: one, or two where two lists are two families of the same.
pub(super) fn source(field: &Field<'_>, has_aws: bool) -> Vec<Source> {
    let mut s = field.section();
    let given: Vec<&str> = KINDS.into_iter().filter(|k| s.get(k).is_some()).collect();
    let made = match given.as_slice() {
        ["feed"] => feed(&mut s, has_aws),
        ["cidrs"] => {
            let items = s.get("cidrs").map(|f| f.items()).unwrap_or_default();
            vec![Source::Cidrs(items.iter().filter_map(cidr).collect())]
        }
        ["subnets"] => {
            needs_aws(&s, has_aws, "subnets");
            let ids =
                texts(&mut s, "subnets", is_subnet, "a subnet such as subnet-0123456789abcdef0");
            vec![ec2(&mut s, Ec2List::Subnets(ids), FEED_EVERY)]
        }
        // The one that is left: `alb`.
        [_] => {
            needs_aws(&s, has_aws, "alb");
            load_balancer(&mut s).into_iter().collect()
        }
        [] => {
            s.wrong("needs a feed (ip-ranges, prefix-list or vpc-origin), cidrs, subnets or alb");
            Vec::new()
        }
        [one, other, ..] => {
            s.wrong(format!("has both {one} and {other}; make it a list of two sources"));
            Vec::new()
        }
    };
    s.finish();
    made
}

fn needs_aws(s: &Section<'_>, has_aws: bool, what: &str) {
    if !has_aws {
        s.wrong(format!("{what} needs an aws section, such as aws: {{ region: auto }}"));
    }
}

fn feed(s: &mut Section<'_>, has_aws: bool) -> Vec<Source> {
    let kinds = [
        ("ip-ranges", Feed::IpRanges),
        ("prefix-list", Feed::PrefixList),
        ("vpc-origin", Feed::VpcOrigin),
    ];
    match s.get("feed").and_then(|f| f.one_of(&kinds)) {
        None => Vec::new(),
        Some(Feed::IpRanges) => vec![Source::Feed(feed_source(s))],
        Some(Feed::PrefixList) => {
            needs_aws(s, has_aws, "prefix-list");
            let mut lists =
                texts(s, "lists", is_list, "the id or the name of a managed prefix list");
            if lists.is_empty() {
                lists = ORIGIN_FACING_LISTS.map(str::to_owned).to_vec();
            }
            let every = every(s, EC2_LEAST, "30s").unwrap_or(FEED_EVERY);
            let made = lists.into_iter().map(|l| FeedSource::ec2(Ec2List::PrefixList(l), every));
            made.map(Source::Feed).collect()
        }
        Some(Feed::VpcOrigin) => {
            needs_aws(s, has_aws, "vpc-origin");
            let vpc = s.get("vpc").and_then(|f| {
                let id = f.text()?;
                if !is_id(id, "vpc-") {
                    f.wrong(format!("{id:?} must be a VPC such as vpc-0123456789abcdef0"));
                }
                Some(id.to_owned())
            });
            vec![ec2(s, Ec2List::VpcOrigins(vpc), INTERFACES_EVERY)]
        }
    }
}

fn ec2(s: &mut Section<'_>, list: Ec2List, usual: Duration) -> Source {
    let every = every(s, EC2_LEAST, "30s").unwrap_or(usual);
    Source::Feed(FeedSource::ec2(list, every))
}

fn load_balancer(s: &mut Section<'_>) -> Option<Source> {
    let field = s.get("alb");
    let whole_subnets = s.get("whole_subnets").and_then(|f| f.bool()).unwrap_or(false);
    let field = field?;
    let text = field.text()?;
    let Some(name) = balancer_name(text) else {
        field.wrong(format!(
            "{text:?} must be the name of an application load balancer, or its ARN"
        ));
        return None;
    };
    let list = Ec2List::LoadBalancer(LoadBalancer { name, whole_subnets });
    Some(ec2(s, list, INTERFACES_EVERY))
}

/// `NAME` as it is, and `NAME/ID` of an ARN.
fn balancer_name(text: &str) -> Option<String> {
    let word = |t: &str| {
        (1..=32).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if word(text) {
        return Some(text.to_owned());
    }
    let (place, rest) = text.split_once(":loadbalancer/app/")?;
    let (name, id) = rest.split_once('/')?;
    let ours = place.starts_with("arn:") && place.contains(":elasticloadbalancing:");
    (ours && word(name) && word(id)).then(|| rest.to_owned())
}

/// The texts under a key, those that `good` takes.
fn texts(
    s: &mut Section<'_>,
    key: &'static str,
    good: fn(&str) -> bool,
    must: &str,
) -> Vec<String> {
    let items = s.get(key).map(|f| f.items()).unwrap_or_default();
    let texts = items.iter().filter_map(|f| {
        let text = f.text()?;
        if !good(text) {
            f.wrong(format!("{text:?} must be {must}"));
            return None;
        }
        Some(text.to_owned())
    });
    texts.collect()
}

/// An id of EC2: its prefix and 8 or 17 hexadecimal digits.
fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|hex| {
        matches!(hex.len(), 8 | 17) && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn is_subnet(text: &str) -> bool {
    is_id(text, "subnet-")
}

fn is_list(text: &str) -> bool {
    let name = (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if text.starts_with("pl-") { is_id(text, "pl-") } else { name }
}

fn feed_source(s: &mut Section<'_>) -> FeedSource {
    let service = s.get("service").and_then(|f| {
        let name = f.text()?;
        let plausible =
            name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if name.is_empty() || !plausible {
            f.wrong(format!("{name:?} must be a service of ip-ranges.json, in capitals"));
        }
        Some(name.to_owned())
    });
    let location = match (s.get("url"), s.get("file")) {
        (Some(url), None) => url.text().map(|t| {
            if !t.starts_with("https://") && !t.starts_with("http://") {
                url.wrong(format!("{t:?} must start with https:// or http://"));
            }
            FeedLocation::Url(t.to_owned())
        }),
        (None, Some(file)) => file.abs_path().map(FeedLocation::File),
        (Some(_), Some(file)) => {
            file.wrong("is given beside url; keep one of the two");
            None
        }
        (None, None) => None,
    };
    let every = every(s, Duration::from_secs(1), "1s");
    FeedSource {
        service: service.unwrap_or_else(|| "CLOUDFRONT_ORIGIN_FACING".to_owned()),
        location: location.unwrap_or_else(|| FeedLocation::Url(IP_RANGES_URL.to_owned())),
        every: every.unwrap_or(FEED_EVERY),
    }
}

/// How often to look, at least as seldom as `least`.
fn every(s: &mut Section<'_>, least: Duration, in_words: &str) -> Option<Duration> {
    let f = s.get("every")?;
    let Span(every) = f.parse()?;
    if every < least {
        f.wrong(format!("must be at least {in_words}"));
    }
    Some(every)
}

fn cidr(field: &Field<'_>) -> Option<IpNet> {
    let text = field.text()?;
    let Some(net) = strict_net(text) else {
        field.wrong(format!(
            "{text:?} is not an address range such as 10.20.0.0/24 or 2001:db8::/32"
        ));
        return None;
    };
    if net.trunc() != net {
        field.wrong(format!("{text} has host bits set; the range is {}", net.trunc()));
    }
    if net.prefix_len() == 0 {
        field.wrong(format!("{text} is every address there is, which is no firewall"));
    }
    Some(net)
}

/// A range, or a bare address as a range of one. The address is read by `std`, which refuses octal,
/// hexadecimal and names, and the length must be written without a leading zero: two readers of one
/// rule must not disagree about what it lets in.
fn strict_net(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let bits: u8 = length.parse().ok()?;
    (bits.to_string() == length).then_some(())?;
    IpNet::new(address.parse().ok()?, bits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_names_and_arns_are_told_from_what_only_looks_like_them() {
        let arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188";
        assert_eq!(balancer_name("web-1").as_deref(), Some("web-1"));
        assert_eq!(balancer_name(arn).as_deref(), Some("web/50dc6c495c0c9188"));
        let net = arn.replace("/app/", "/net/");
        for bad in ["", "web*", "a b", "app/web", &net, "arn:aws:elasticloadbalancing:x:y:z"] {
            assert_eq!(balancer_name(bad), None, "{bad}");
        }
        assert!(is_list("pl-0123456789abcdef0") && is_list(ORIGIN_FACING_LISTS[1]));
        assert!(!is_list("pl-xyz") && !is_list("a*") && !is_list(""));
        assert!(is_subnet("subnet-0123456789abcdef0") && !is_subnet("subnet-*"));
    }
}
