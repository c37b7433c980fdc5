//! The `firewall` section.

mod source;

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, path::Path, time::Duration};

use palisade_types::Span;

use super::section::{Field, Section, did_you_mean};
use crate::{
    firewall::{
        Caller, Enforce, Expect, Guard, PolicyTest, PortRule, Settings, Source, SourceName,
        TableOwner, drops,
    },
    sys::users,
};

/// Tests of one policy; each is tried with a few packets.
const MAX_TESTS: usize = 256;

/// The source that live grants with an address of their own make.
const GRANTS: &str = "grants";

/// What other sections say that matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    /// Whether access grants addresses at all.
    pub(super) direct: bool,
    /// Whether AWS may be asked.
    pub(super) has_aws: bool,
}

pub(super) fn firewall(mut s: Section<'_>, state_dir: &Path, beside: Beside) -> Settings {
    let Beside { direct, has_aws } = beside;
    let mut sources = s.get("sources").map(|f| sources(&f, has_aws)).unwrap_or_default();
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
    let table_owner = match s.get("own_table").and_then(|f| f.bool()) {
        Some(false) => TableOwner::Off,
        Some(true) | None => TableOwner::Auto,
    };
    let guard_published = s.get("guard_published").and_then(|f| f.bool()).unwrap_or(true);
    let metadata_users =
        s.get("metadata_users").map(|f| f.items().iter().filter_map(user).collect());
    let drops = s.get("drops").map_or(DEFAULT_DROPS, |f| drops(f.section()));
    let tests = s.get("tests").map(|f| f.items()).unwrap_or_default();
    if let Some(beyond) = tests.get(MAX_TESTS) {
        beyond.wrong(format!("is one test more than the {MAX_TESTS} that are tried"));
    }
    let tests = tests.iter().take(MAX_TESTS).filter_map(|t| policy_test(t, &sources)).collect();
    s.finish();
    Settings {
        ports,
        sources,
        guard,
        enforce,
        table_owner,
        guard_published,
        metadata_users,
        drops,
        tests,
        state_dir: state_dir.join("firewall"),
    }
}

/// The number of a user of this host, given by name or number.
fn user(field: &Field<'_>) -> Option<u32> {
    let text = field.word()?;
    let known = users::owner(&text);
    known
        .map_err(|e| field.wrong(format!("{text:?} is no user of this host: {e}")))
        .ok()
        .map(|o| o.0)
}

const DEFAULT_DROPS: drops::Settings =
    drops::Settings { group: Some(drops::DEFAULT_GROUP), samples: false };

/// `log: false` lets the rules log nothing; `samples: true` tells one packet in a hundred by itself.
fn drops(mut s: Section<'_>) -> drops::Settings {
    let log = s.get("log").and_then(|f| f.bool()).unwrap_or(true);
    let group = s.get("group").and_then(|f| f.int(0..=65_535)).unwrap_or(drops::DEFAULT_GROUP);
    let samples = s.get("samples").and_then(|f| f.bool()).unwrap_or(DEFAULT_DROPS.samples);
    s.finish();
    drops::Settings { group: log.then_some(group), samples }
}

const DEFAULT_GUARD: Guard = Guard {
    max_address_loss_permille: 50,
    withdraw_after: Duration::from_secs(24 * 3600),
    max_ranges: 4096,
};

fn guard(mut s: Section<'_>) -> Guard {
    let loss = s.get("max_address_loss").and_then(|f| f.permille());
    let dwell = s.get("withdraw_after").and_then(|f| f.parse::<Span>());
    let ranges = s.get("max_ranges").and_then(|f| f.int(1..=65_536));
    s.finish();
    Guard {
        max_address_loss_permille: loss.unwrap_or(DEFAULT_GUARD.max_address_loss_permille),
        withdraw_after: dwell.map_or(DEFAULT_GUARD.withdraw_after, |Span(d)| d),
        max_ranges: ranges.unwrap_or(DEFAULT_GUARD.max_ranges),
    }
}

fn sources(field: &Field<'_>, has_aws: bool) -> BTreeMap<SourceName, Vec<Source>> {
    let mut out = BTreeMap::new();
    for (entry, field) in field.section().named() {
        match SourceName::try_from(entry.key.clone()) {
            Ok(name) if name.as_str() == GRANTS => {
                field.wrong("is a name of palisade's own: what live SSH grants open; use another");
            }
            Ok(name) => {
                let items = field.items();
                let list = items.iter().flat_map(|f| source::source(f, has_aws)).collect();
                out.insert(name, list);
            }
            Err(e) => field.wrong(e.to_string()),
        }
    }
    out
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

/// `{ from: ADDRESS or SOURCE, to: tcp/PORT, expect: accept or drop }`.
fn policy_test(
    field: &Field<'_>,
    sources: &BTreeMap<SourceName, Vec<Source>>,
) -> Option<PolicyTest> {
    let mut s = field.section();
    let from = s.need("from").and_then(|f| match f.text()?.parse::<IpAddr>() {
        Ok(ip) => Some(Caller::Address(ip)),
        Err(_) => known_source(&f, sources).map(Caller::Source),
    });
    let to = s.need("to").and_then(|f| {
        let text = f.text()?;
        let port = text.strip_prefix("tcp/").and_then(|p| p.parse::<NonZeroU16>().ok());
        if port.is_none() {
            f.wrong(format!("{text:?} must be a TCP port such as tcp/443"));
        }
        port
    });
    let expect = s
        .need("expect")
        .and_then(|f| f.one_of(&[("accept", Expect::Accept), ("drop", Expect::Drop)]));
    s.finish();
    Some(PolicyTest { from: from?, to: to?, expect: expect? })
}
