//! The `firewall` section.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, path::Path, time::Duration};

use ipnet::IpNet;
use palisade_types::Span;

use super::section::{Field, Section, did_you_mean};
use crate::firewall::{
    Enforce, FeedLocation, FeedSource, Guard, PortRule, Settings, Source, SourceName,
};

/// Where AWS publishes its addresses.
const IP_RANGES_URL: &str = "https://ip-ranges.amazonaws.com/ip-ranges.json";
/// The origin-facing list changes a few times a year (guides of AWS, and the published history).
const FEED_EVERY: Duration = Duration::from_secs(15 * 60);

/// The source that live grants with an address of their own make.
const GRANTS: &str = "grants";

/// `direct`: whether access grants addresses at all.
pub(super) fn firewall(mut s: Section<'_>, state_dir: &Path, direct: bool) -> Settings {
    let mut sources = s.get("sources").map(|f| sources(&f)).unwrap_or_default();
    if let (true, Ok(grants)) = (direct, SourceName::try_from(GRANTS.to_owned())) {
        sources.insert(grants, vec![Source::Grants]);
    }
    let ports: Vec<PortRule> = match s.need("ports") {
        Some(f) => f.items().iter().map(|item| port_rule(item, &sources)).collect(),
        None => Vec::new(),
    };
    let guard = s.get("guard").map_or(DEFAULT_GUARD, |f| guard(f.section()));
    let enforce = match s.get("enforce").and_then(|f| f.bool()) {
        Some(false) => Enforce::PlanOnly,
        Some(true) | None => Enforce::Yes,
    };
    s.finish();
    Settings { ports, sources, guard, enforce, state_dir: state_dir.join("firewall") }
}

const DEFAULT_GUARD: Guard = Guard {
    max_address_loss_permille: 50,
    withdraw_after: Duration::from_secs(24 * 3600),
    max_ranges: 4096,
};

fn guard(mut s: Section<'_>) -> Guard {
    let loss = s.get("max_address_loss").and_then(|f| permille(&f));
    let dwell = s.get("withdraw_after").and_then(|f| f.parse::<Span>());
    let ranges = s.get("max_ranges").and_then(|f| f.int(1..=65_536));
    s.finish();
    Guard {
        max_address_loss_permille: loss.unwrap_or(DEFAULT_GUARD.max_address_loss_permille),
        withdraw_after: dwell.map_or(DEFAULT_GUARD.withdraw_after, |Span(d)| d),
        max_ranges: ranges.unwrap_or(DEFAULT_GUARD.max_ranges),
    }
}

/// `5%` or `0.5%`, in thousandths.
fn permille(field: &Field<'_>) -> Option<u32> {
    let text = field.text()?;
    let parsed = text.strip_suffix('%').and_then(|number| {
        let (whole, tenth) = number.trim().split_once('.').unwrap_or((number.trim(), "0"));
        let (whole, tenth): (u32, u32) = (whole.parse().ok()?, tenth.parse().ok()?);
        (whole <= 100 && tenth <= 9).then_some(whole * 10 + tenth).filter(|p| *p <= 1000)
    });
    if parsed.is_none() {
        field.wrong(format!("{text:?} must be a percentage with at most one decimal, such as 5%"));
    }
    parsed
}

fn sources(field: &Field<'_>) -> BTreeMap<SourceName, Vec<Source>> {
    let mut out = BTreeMap::new();
    for (entry, field) in field.section().named() {
        match SourceName::try_from(entry.key.clone()) {
            Ok(name) if name.as_str() == GRANTS => {
                field.wrong("is a name of palisade's own: what live SSH grants open; use another");
            }
            Ok(name) => {
                let list = field.items().iter().filter_map(source).collect();
                out.insert(name, list);
            }
            Err(e) => field.wrong(e.to_string()),
        }
    }
    out
}

fn source(field: &Field<'_>) -> Option<Source> {
    let mut s = field.section();
    s.refuse(&["prefix-list", "vpc-origin", "subnets"]);
    let source = match (s.get("feed"), s.get("cidrs")) {
        (Some(feed), None) => {
            feed.one_of(&[("ip-ranges", ())])?;
            Some(Source::Feed(feed_source(&mut s)))
        }
        (None, Some(cidrs)) => Some(Source::Cidrs(cidrs.items().iter().filter_map(cidr).collect())),
        (Some(_), Some(_)) => {
            s.wrong("has both feed and cidrs; make it a list of two sources");
            None
        }
        (None, None) => {
            s.wrong("needs a feed (ip-ranges) or cidrs");
            None
        }
    };
    s.finish();
    source
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
    let every = s.get("every").and_then(|f| {
        let Span(every) = f.parse()?;
        if every < Duration::from_secs(1) {
            f.wrong("must be at least 1s");
        }
        Some(every)
    });
    FeedSource {
        service: service.unwrap_or_else(|| "CLOUDFRONT_ORIGIN_FACING".to_owned()),
        location: location.unwrap_or_else(|| FeedLocation::Url(IP_RANGES_URL.to_owned())),
        every: every.unwrap_or(FEED_EVERY),
    }
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

fn port_rule(field: &Field<'_>, sources: &BTreeMap<SourceName, Vec<Source>>) -> PortRule {
    let mut s = field.section();
    let tcp = s.need("tcp").map(|f| f.items()).unwrap_or_default();
    let tcp = tcp.iter().filter_map(|f| f.int::<u16>(1..=65_535)).filter_map(NonZeroU16::new);
    let tcp: Vec<_> = tcp.collect();
    let from = s.need("from").map(|f| f.items()).unwrap_or_default();
    let from: Vec<_> = from.iter().filter_map(|f| known_source(f, sources)).collect();
    s.finish();
    PortRule { tcp, from }
}

fn known_source(
    field: &Field<'_>,
    sources: &BTreeMap<SourceName, Vec<Source>>,
) -> Option<SourceName> {
    let text = field.text()?;
    let name =
        SourceName::try_from(text.to_owned()).map_err(|e| field.wrong(e.to_string())).ok()?;
    if sources.contains_key(&name) {
        return Some(name);
    }
    if text == GRANTS {
        field.wrong("needs access.sources: networks from which a grant may be used straight");
    } else {
        let hint = did_you_mean(text, sources.keys().map(SourceName::as_str));
        field.wrong(format!("{text} is not among firewall.sources{hint}"));
    }
    None
}
