//! Whether and why an address may connect. Pure: an answer from what is wanted in force.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    settings::{Settings, SourceName},
    sources::Sources,
    status::{Explanation, RangeOrigin, Reason, State},
};

/// Explains what happens to a new TCP connection from `ip` to `port`, or to any port.
#[must_use]
pub fn explain(
    ip: IpAddr,
    port: Option<u16>,
    settings: &Settings,
    sources: &Sources,
    state: &State,
) -> Explanation {
    let in_force = matches!(state, State::InForce { .. });
    // An IPv4 address in IPv6 clothes reaches us as IPv4.
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        let text = format!("{ip} is this host itself: loopback is always let in");
        return Explanation {
            ip,
            port,
            accepted: true,
            in_force,
            by: Vec::new(),
            text,
            foreign: Vec::new(),
            probe: None,
        };
    }
    let names: BTreeSet<&SourceName> = settings.ports.iter().flat_map(|r| &r.from).collect();
    let reason = |name: &SourceName| {
        let rules = settings.ports.iter().filter(|r| r.from.contains(name));
        let tcp: BTreeSet<u16> = rules.flat_map(|r| r.tcp.iter().map(|p| p.get())).collect();
        let tcp: Vec<u16> = tcp.into_iter().filter(|p| port.is_none_or(|q| q == *p)).collect();
        let (range, from) = sources.origin_of(name, ip, &settings.guard)?;
        (!tcp.is_empty()).then(|| Reason { source: name.as_str().to_owned(), tcp, range, from })
    };
    let by: Vec<Reason> = names.into_iter().filter_map(reason).collect();
    let to = port.map_or("any port".to_owned(), |p| format!("port {p}"));
    let text = if by.is_empty() {
        format!("{ip} is in no set that may connect to {to}: dropped")
    } else {
        let reasons: Vec<String> = by.iter().map(reason_text).collect();
        format!("{ip} may connect: {}", reasons.join("; "))
    };
    let text = match not_in_force(state) {
        Some(why) => format!("{text}. That is what is wanted: {why}"),
        None => text,
    };
    let accepted = !by.is_empty();
    Explanation { ip, port, accepted, in_force, by, text, foreign: Vec::new(), probe: None }
}

/// Why the rules that are wanted may not be those that a packet meets.
fn not_in_force(state: &State) -> Option<String> {
    match state {
        State::InForce { .. } => None,
        State::Starting => Some("no rule was put in force yet".to_owned()),
        State::PlanOnly { .. } => Some("enforce is false, and no rule is put in force".to_owned()),
        State::Failed { why, .. } => Some(format!("the rules are not in force: {why}")),
    }
}

fn reason_text(r: &Reason) -> String {
    let ports: Vec<String> = r.tcp.iter().map(u16::to_string).collect();
    let from = match &r.from {
        RangeOrigin::Configured => "written in the configuration".to_owned(),
        RangeOrigin::Granted => "named by a live SSH grant (palisade access list)".to_owned(),
        RangeOrigin::Listed { service, origin, sync_token, published, read } => {
            let read = read.map(|at| format!(", read {at}")).unwrap_or_default();
            format!(
                "listed as {service} in version {sync_token} of {published}, from {origin}{read}"
            )
        }
        RangeOrigin::Leaving { service, sync_token, due, confirmed } => {
            let end = if *confirmed {
                format!("open until {due}")
            } else {
                "open until a second version agrees".to_owned()
            };
            format!("no longer listed as {service} since version {sync_token}, {end}")
        }
    };
    format!("tcp {} by range {} of {} ({from})", ports.join(","), r.range, r.source)
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU16, path::PathBuf, time::Duration};

    use super::*;
    use crate::{
        clock::Timestamp,
        firewall::{
            feed::{FeedList, ORIGIN_FACING},
            model::AddrSet,
            settings::*,
            sources::FeedKey,
        },
    };

    fn name(s: &str) -> SourceName {
        SourceName::try_from(s.to_owned()).unwrap()
    }

    fn setup() -> (Settings, Sources) {
        let port = |p| NonZeroU16::new(p).unwrap();
        let feed = FeedSource {
            service: ORIGIN_FACING.to_owned(),
            location: FeedLocation::Url("https://example.invalid/".to_owned()),
            every: Duration::from_secs(900),
        };
        let bastion = Source::Cidrs(vec!["10.20.0.10/32".parse().unwrap()]);
        let settings = Settings {
            ports: vec![
                PortRule { tcp: vec![port(80), port(443)], from: vec![name("cloudfront")] },
                PortRule { tcp: vec![port(22)], from: vec![name("bastion")] },
            ],
            sources: [
                (name("cloudfront"), vec![Source::Feed(feed)]),
                (name("bastion"), vec![bastion]),
            ]
            .into(),
            guard: Guard {
                max_address_loss_permille: 50,
                withdraw_after: Duration::from_secs(86_400),
                max_ranges: 4096,
            },
            enforce: Enforce::Yes,
            table_owner: TableOwner::Auto,
            guard_published: true,
            metadata_users: None,
            drops: crate::firewall::drops::Settings { group: None, samples: false },
            tests: Vec::new(),
            state_dir: PathBuf::from("/nowhere"),
        };
        let sources = Sources::new(&settings, Sources::default(), |_, _| None);
        (settings, sources)
    }

    fn in_force() -> State {
        let at = Timestamp::from_secs(1);
        State::InForce { since: at, checked: at }
    }

    #[test]
    fn the_answer_names_set_range_and_version() {
        let (settings, sources) = setup();
        let ask =
            |ip: &str, port| explain(ip.parse().unwrap(), port, &settings, &sources, &in_force());
        let edge = ask("13.124.199.7", Some(443));
        assert_eq!(
            edge.text,
            "13.124.199.7 may connect: tcp 443 by range 13.124.199.0/24 of cloudfront (listed as \
             CLOUDFRONT_ORIGIN_FACING in version 1787411825 of 2026-08-22T15:17:05.000Z, from built in)"
        );
        assert!(ask("::ffff:13.124.199.7", Some(443)).accepted);
        assert_eq!(ask("13.124.199.7", None).by[0].tcp, [80, 443]);
        assert!(!ask("13.124.199.7", Some(22)).accepted);
        assert_eq!(ask("10.20.0.10", Some(22)).by[0].from, RangeOrigin::Configured);
        assert!(!ask("10.20.0.11", None).accepted);
        assert!(ask("127.0.0.1", Some(9)).accepted);
    }

    #[test]
    fn a_range_on_its_way_out_is_still_let_in_and_said_to_be_leaving() {
        let (settings, mut sources) = setup();
        let key = FeedKey { source: name("cloudfront"), nth: 0 };
        let feed = sources.feed_mut(&key).unwrap();
        let gone = AddrSet::parse(["13.124.199.0/24"]).unwrap();
        let set = feed.in_force().difference(&gone);
        let token = feed.good().unwrap().sync_token + 60;
        let now = crate::firewall::guard::when(token);
        let list = FeedList { sync_token: token, set, stray: AddrSet::default() };
        feed.offer(list, None, &settings.guard, now);
        let answer = explain(
            "13.124.199.7".parse().unwrap(),
            Some(443),
            &settings,
            &sources,
            &State::Failed { why: "no nft".to_owned(), hint: None, failures: 1 },
        );
        assert!(!answer.in_force && answer.text.ends_with("not in force: no nft"), "{answer:?}");
        assert!(answer.accepted);
        assert!(
            matches!(&answer.by[0].from, RangeOrigin::Leaving { due, confirmed: false, .. }
                if *due == Timestamp::from_secs(now.as_secs() + 86_400)),
            "{answer:?}"
        );
    }
}
