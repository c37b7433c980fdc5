//! Our table in the words of nft's JSON interface, by the types of the `nftables` crate. Pure.
//!
//! Order of the rules: what a host needs to be a host (loopback, replies, ICMP, neighbour discovery,
//! DHCP), then one rule for each source and family, then the count of what is dropped. Addresses are
//! written as canonical numbers only, since nft would ask DNS for anything else.

use std::{borrow::Cow, collections::HashSet};

use nftables::{
    batch::Batch,
    expr::{
        CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, Range,
        SetItem,
    },
    schema::{self, FlushObject, NfCmd, NfListObject, Rule, SetFlag, SetType, SetTypeValue},
    stmt::{self, Match, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};
use serde_json::Value;

use super::{
    model::{Ranges, Word},
    observe::{Base, Elements, ObservedRule, normal},
    plan::{Allow, CHAIN, Change, Extent, PRIORITY, Protocol, Ruleset, TABLE},
};

/// Counter of packets that no rule let in.
pub(super) const DROPPED: &str = "dropped";
/// Counter of packets that belong to no connection and cannot start one.
pub(super) const INVALID: &str = "invalid";
/// Counter of packets that a source was let in with.
#[must_use]
pub(super) fn counter_of(source: &str) -> String {
    format!("from_{source}")
}

/// Pings answered in a second, and at once after a pause.
const PINGS_PER_SECOND: u32 = 10;
const PINGS_BURST: u32 = 20;
const FAMILY: NfFamily = NfFamily::INet;

type Statements = Vec<Statement<'static>>;

/// The transaction as nft reads it on standard input.
///
/// # Errors
/// Never for a change that can exist; the type of the encoder's error.
pub fn transaction(change: &Change) -> Result<Vec<u8>, serde_json::Error> {
    let mut batch = Batch::new();
    let sets = change.want.kernel_sets();
    batch.add(table());
    match &change.extent {
        Extent::Sets(names) => {
            for (name, elements) in sets.iter().filter(|(n, _)| names.contains(*n)) {
                refill(&mut batch, name, elements);
            }
        }
        Extent::Rules { rebuild_chain, drop_chains, drop_sets, drop_counters } => {
            let ours = rebuild_chain.then_some(CHAIN);
            let chains: Vec<&str> = drop_chains.iter().map(String::as_str).chain(ours).collect();
            // Rules go first: what they refer to cannot be deleted before them.
            for name in &chains {
                batch.add_cmd(NfCmd::Flush(FlushObject::Chain(bare_chain(name))));
            }
            if !rebuild_chain {
                batch.add(NfListObject::Chain(our_chain()));
                batch.add_cmd(NfCmd::Flush(FlushObject::Chain(bare_chain(CHAIN))));
            }
            for name in &chains {
                batch.delete(NfListObject::Chain(bare_chain(name)));
            }
            for name in drop_sets {
                batch.delete(NfListObject::Set(Box::new(bare_set(name))));
            }
            for name in drop_counters {
                batch.delete(NfListObject::Counter(counter(name)));
            }
            whole(&mut batch, &change.want);
        }
        Extent::Nothing => batch.delete(table()),
        Extent::Table => {
            batch.delete(table());
            batch.add(table());
            whole(&mut batch, &change.want);
        }
    }
    serde_json::to_vec(&batch.to_nftables())
}

/// Everything but the table itself. The chain is there and empty, or not there.
fn whole(batch: &mut Batch<'static>, want: &Ruleset) {
    for (name, elements) in want.kernel_sets() {
        if let Some(set) = set(&name, &elements) {
            batch.add(NfListObject::Set(Box::new(set)));
        }
    }
    for name in want.counters() {
        batch.add(NfListObject::Counter(counter(&name)));
    }
    batch.add(NfListObject::Chain(our_chain()));
    for (comment, statements) in rules(want) {
        batch.add(NfListObject::Rule(Rule {
            family: FAMILY,
            table: TABLE.into(),
            chain: CHAIN.into(),
            expr: statements.into(),
            handle: None,
            index: None,
            comment: Some(comment.into()),
        }));
    }
    for (name, elements) in want.kernel_sets() {
        refill(batch, &name, &elements);
    }
}

fn refill(batch: &mut Batch<'static>, name: &str, elements: &Elements) {
    batch.add_cmd(NfCmd::Flush(FlushObject::Set(Box::new(bare_set(name)))));
    let elem: Vec<Expression<'static>> = match elements {
        Elements::V4(r) => intervals(r),
        Elements::V6(r) => intervals(r),
        Elements::Strange(_) => Vec::new(),
    };
    if !elem.is_empty() {
        batch.add(NfListObject::Element(schema::Element {
            family: FAMILY,
            table: TABLE.into(),
            name: name.to_owned().into(),
            elem: elem.into(),
        }));
    }
}

fn intervals<W: Word>(ranges: &Ranges<W>) -> Vec<Expression<'static>> {
    let address = |w: W| Expression::String(w.address().to_string().into());
    ranges
        .iter()
        .map(|(first, last)| {
            let one: Ranges<W> = std::iter::once((first, last)).collect();
            let mut cidrs = one.cidrs();
            match (cidrs.next(), cidrs.next()) {
                (Some(c), None) if c.len < W::BITS => prefix_expr(address(first), c.len.into()),
                (Some(_), None) => address(first),
                _ => Expression::Range(Box::new(Range { range: [address(first), address(last)] })),
            }
        })
        .collect()
}

/// Our rules as they will be read back.
#[must_use]
pub(super) fn expected_rules(want: &Ruleset) -> Vec<ObservedRule> {
    rules(want)
        .into_iter()
        .map(|(comment, statements)| ObservedRule {
            comment,
            statements: normal(serde_json::to_value(statements).unwrap_or(Value::Null)),
        })
        .collect()
}

/// Whether a chain is hooked in where ours is.
#[must_use]
pub(super) fn is_our_hook(base: &Base) -> bool {
    base.kind == "filter" && base.hook == "input" && base.priority == i64::from(PRIORITY)
}

/// Our rules with a comment each, in order.
fn rules(want: &Ruleset) -> Vec<(String, Statements)> {
    let mut all: Vec<(String, Statements)> = host_rules()
        .into_iter()
        .map(|(comment, statements)| (comment.to_owned(), statements))
        .collect();
    for allow in &want.rules {
        for (family, suffix) in [("ip", "v4"), ("ip6", "v6")] {
            let comment = rule_text(allow, suffix);
            let set = Expression::String(format!("@{}_{suffix}", allow.source).into());
            all.push((
                comment,
                vec![
                    is(field(protocol(allow.protocol), "dport"), ports(allow)),
                    is(field(family, "saddr"), set),
                    count(counter_of(&allow.source)),
                    Statement::Accept(None),
                ],
            ));
        }
    }
    all.push(("all else is dropped".to_owned(), vec![count(DROPPED), Statement::Drop(None)]));
    all
}

/// The rules that do not depend on the configuration.
fn host_rules() -> Vec<(&'static str, Statements)> {
    let accept = || Statement::Accept(None);
    let icmp = |types: &[&'static str]| is(field("icmp", "type"), words(types));
    let icmp6 = |types: &[&'static str]| is(field("icmpv6", "type"), words(types));
    let from_link = || {
        let link = prefix_expr(Expression::String("fe80::".into()), 10);
        is(field("ip6", "saddr"), link)
    };
    let udp = |from: u32, to: u32| {
        [
            is(field("udp", "sport"), Expression::Number(from)),
            is(field("udp", "dport"), Expression::Number(to)),
        ]
    };
    let [dhcp_from, dhcp_to] = udp(67, 68);
    let [dhcp6_from, dhcp6_to] = udp(547, 546);
    // Packets for neighbours carry the highest hop limit, so none of them came through a router.
    let near = || is(field("ip6", "hoplimit"), Expression::Number(255));
    vec![
        ("loopback", vec![is(meta(MetaKey::Iif), Expression::String("lo".into())), accept()]),
        ("replies", vec![state(&["established", "related"]), accept()]),
        ("no connection", vec![state(&["invalid"]), count(INVALID), Statement::Drop(None)]),
        (
            "icmp errors",
            vec![
                icmp(&["destination-unreachable", "time-exceeded", "parameter-problem"]),
                accept(),
            ],
        ),
        ("ping", vec![icmp(&["echo-request"]), ping_limit(), accept()]),
        (
            "icmpv6 errors",
            vec![
                icmp6(&[
                    "destination-unreachable",
                    "packet-too-big",
                    "time-exceeded",
                    "parameter-problem",
                ]),
                accept(),
            ],
        ),
        ("ping", vec![icmp6(&["echo-request"]), ping_limit(), accept()]),
        (
            "neighbours",
            vec![
                near(),
                icmp6(&["nd-neighbor-solicit", "nd-neighbor-advert", "nd-router-advert"]),
                accept(),
            ],
        ),
        ("multicast listeners", vec![from_link(), icmp6(&["mld-listener-query"]), accept()]),
        ("dhcp", vec![dhcp_from, dhcp_to, accept()]),
        ("dhcpv6", vec![from_link(), dhcp6_from, dhcp6_to, accept()]),
    ]
}

/// The rules in words, for `plan`.
#[must_use]
pub(super) fn rule_texts(want: &Ruleset) -> Vec<String> {
    rules(want).into_iter().map(|(comment, _)| comment).collect()
}

fn rule_text(allow: &Allow, suffix: &str) -> String {
    let ports: Vec<String> = allow.ports.iter().map(u16::to_string).collect();
    let text = format!("{} {} from {}_{suffix}", allow.protocol, ports.join(","), allow.source);
    // The kernel takes comments of up to 128 bytes.
    text.chars().take(120).collect()
}

fn protocol(p: Protocol) -> &'static str {
    match p {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn ports(allow: &Allow) -> Expression<'static> {
    let mut ports = allow.ports.iter().map(|p| Expression::Number((*p).into()));
    match (allow.ports.len(), ports.next()) {
        (1, Some(only)) => only,
        (_, first) => set_of(first.into_iter().chain(ports)),
    }
}

fn words(types: &[&'static str]) -> Expression<'static> {
    match types {
        [only] => Expression::String((*only).into()),
        all => set_of(all.iter().map(|t| Expression::String((*t).into()))),
    }
}

fn set_of(items: impl Iterator<Item = Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Set(items.map(SetItem::Element).collect()))
}

fn is(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn state(states: &[&'static str]) -> Statement<'static> {
    let key = CT { key: "state".into(), family: None, dir: None };
    let right = match states {
        [only] => Expression::String((*only).into()),
        all => Expression::List(all.iter().map(|s| Expression::String((*s).into())).collect()),
    };
    Statement::Match(Match {
        left: Expression::Named(NamedExpression::CT(key)),
        right,
        op: Operator::IN,
    })
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn prefix_expr(addr: Expression<'static>, len: u32) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix { addr: Box::new(addr), len }))
}

fn count(name: impl Into<Cow<'static, str>>) -> Statement<'static> {
    Statement::Counter(stmt::Counter::Named(name.into()))
}

fn ping_limit() -> Statement<'static> {
    Statement::Limit(stmt::Limit {
        rate: PINGS_PER_SECOND,
        rate_unit: None,
        per: Some("second".into()),
        burst: Some(PINGS_BURST),
        burst_unit: None,
        inv: None,
    })
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(schema::Table { family: FAMILY, name: TABLE.into(), handle: None })
}

fn bare_chain(name: &str) -> schema::Chain<'static> {
    schema::Chain {
        family: FAMILY,
        table: TABLE.into(),
        name: name.to_owned().into(),
        ..schema::Chain::default()
    }
}

fn our_chain() -> schema::Chain<'static> {
    schema::Chain {
        _type: Some(NfChainType::Filter),
        hook: Some(NfHook::Input),
        prio: Some(PRIORITY),
        policy: Some(NfChainPolicy::Drop),
        ..bare_chain(CHAIN)
    }
}

fn bare_set(name: &str) -> schema::Set<'static> {
    schema::Set {
        family: FAMILY,
        table: TABLE.into(),
        name: name.to_owned().into(),
        ..schema::Set::default()
    }
}

fn set(name: &str, elements: &Elements) -> Option<schema::Set<'static>> {
    let of = match elements {
        Elements::V4(_) => SetType::Ipv4Addr,
        Elements::V6(_) => SetType::Ipv6Addr,
        Elements::Strange(_) => return None,
    };
    Some(schema::Set {
        set_type: SetTypeValue::Single(of),
        flags: Some(HashSet::from([SetFlag::Interval])),
        ..bare_set(name)
    })
}

fn counter(name: &str) -> schema::Counter<'static> {
    schema::Counter {
        family: FAMILY,
        table: TABLE.into(),
        name: name.to_owned().into(),
        ..schema::Counter::default()
    }
}
