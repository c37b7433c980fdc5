//! Our table in the words of nft's JSON interface, by the types of the `nftables` crate. Pure.
//!
//! For people: what `palisade firewall export` prints can be read, kept, and given to `nft -j -f -`
//! on a host whose agent does not run. The agent itself talks to the kernel. Addresses are written
//! as canonical numbers only, since nft would ask DNS for anything else.

use std::{borrow::Cow, collections::HashSet};

use nftables::{
    batch::Batch,
    expr::{
        CT, CTDir, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, Range,
    },
    schema::{self, NfListObject, SetFlag, SetType, SetTypeValue},
    stmt::{self, Match, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

use super::{
    instructions::log_prefix,
    model::{Ranges, Word},
    observe::Elements,
    plan::{PRIORITY, TABLE},
    rules::{self, Clause, Family, Hook, Limit, Policy, State},
    ruleset::{Protocol, Ruleset},
};

const FAMILY: NfFamily = NfFamily::INet;

/// The table as `nft -j -f -` takes it: whatever table of the name is there is replaced. Grants are
/// left out, since nothing would end them on time.
///
/// # Errors
/// Never for a ruleset that can exist; the type of the encoder's error.
pub fn export(want: &Ruleset) -> Result<Vec<u8>, serde_json::Error> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.add(table());
    for (name, elements) in want.kernel_sets() {
        batch.add(NfListObject::Set(Box::new(set(&name, &elements))));
    }
    for name in want.counters() {
        batch.add(NfListObject::Counter(schema::Counter {
            family: FAMILY,
            table: TABLE.into(),
            name: name.into(),
            ..schema::Counter::default()
        }));
    }
    for chain in rules::chains(want) {
        batch.add(NfListObject::Chain(base_chain(&chain)));
        for rule in chain.rules {
            batch.add(NfListObject::Rule(schema::Rule {
                family: FAMILY,
                table: TABLE.into(),
                chain: chain.hook.name().into(),
                expr: rule.clauses.iter().flat_map(statements).collect::<Vec<_>>().into(),
                handle: None,
                index: None,
                comment: Some(rule.comment.into()),
            }));
        }
    }
    serde_json::to_vec(&batch.to_nftables())
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(schema::Table { family: FAMILY, name: TABLE.into(), handle: None })
}

fn base_chain(chain: &rules::Chain) -> schema::Chain<'static> {
    schema::Chain {
        family: FAMILY,
        table: TABLE.into(),
        name: chain.hook.name().into(),
        _type: Some(NfChainType::Filter),
        hook: Some(match chain.hook {
            Hook::Input => NfHook::Input,
            Hook::Forward => NfHook::Forward,
            Hook::Output => NfHook::Output,
        }),
        prio: Some(PRIORITY),
        policy: Some(match chain.policy {
            Policy::Accept => NfChainPolicy::Accept,
            Policy::Drop => NfChainPolicy::Drop,
        }),
        ..schema::Chain::default()
    }
}

fn set(name: &str, elements: &Elements) -> schema::Set<'static> {
    let (of, flag, elem) = match elements {
        Elements::V4(r) => (SetType::Ipv4Addr, Some(SetFlag::Interval), intervals(r)),
        Elements::V6(r) => (SetType::Ipv6Addr, Some(SetFlag::Interval), intervals(r)),
        Elements::Timed4(_) => (SetType::Ipv4Addr, Some(SetFlag::Timeout), Vec::new()),
        Elements::Timed6(_) => (SetType::Ipv6Addr, Some(SetFlag::Timeout), Vec::new()),
        Elements::Ports(ports) => {
            let all = ports.iter().map(|p| Expression::Number((*p).into()));
            (SetType::InetService, None, all.collect())
        }
        Elements::Strange(_) => (SetType::Mark, None, Vec::new()),
    };
    schema::Set {
        family: FAMILY,
        table: TABLE.into(),
        name: name.to_owned().into(),
        set_type: SetTypeValue::Single(of),
        flags: flag.map(|f| HashSet::from([f])),
        elem: (!elem.is_empty()).then(|| elem.into()),
        ..schema::Set::default()
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
                (Some(c), None) if c.len < W::BITS => prefix(address(first), c.len.into()),
                (Some(_), None) => address(first),
                _ => Expression::Range(Box::new(Range { range: [address(first), address(last)] })),
            }
        })
        .collect()
}

/// A part in nft's words.
fn statements(clause: &Clause) -> Vec<Statement<'static>> {
    let one = |s| vec![s];
    match clause {
        Clause::FromLoopback => one(is(meta(MetaKey::Iif), word("lo"))),
        Clause::State(State::Known) => one(has(ct("state", None), &["established", "related"])),
        Clause::State(State::Invalid) => one(has(ct("state", None), &["invalid"])),
        Clause::Redirected => one(has(ct("status", None), &["dnat"])),
        Clause::OriginalPortIn(set) => vec![
            is(meta(MetaKey::L4proto), word("tcp")),
            is(ct("proto-dst", Some(CTDir::Original)), named(set)),
        ],
        Clause::PortIn(protocol, set) => {
            let protocol = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            };
            one(is(field(protocol, "dport"), named(set)))
        }
        Clause::Udp(from, to) => vec![
            is(field("udp", "sport"), Expression::Number((*from).into())),
            is(field("udp", "dport"), Expression::Number((*to).into())),
        ],
        Clause::SourceIn(family, set, true) => one(is(source(*family), named(set))),
        Clause::SourceIn(family, set, false) => one(is_not(source(*family), named(set))),
        Clause::SourceLoopback(Family::V4) => {
            one(is(source(Family::V4), prefix(word("127.0.0.0"), 8)))
        }
        Clause::SourceLoopback(Family::V6) => one(is(source(Family::V6), word("::1"))),
        Clause::SourceLinkLocal => one(is(source(Family::V6), prefix(word("fe80::"), 10))),
        Clause::ToMetadata(Family::V4) => one(is(field("ip", "daddr"), word("169.254.169.254"))),
        Clause::ToMetadata(Family::V6) => one(is(field("ip6", "daddr"), word("fd00:ec2::254"))),
        Clause::User(uid) => one(is(meta(MetaKey::Skuid), Expression::Number(*uid))),
        Clause::Icmp(family, first, last) => {
            let field = match family {
                Family::V4 => field("icmp", "type"),
                Family::V6 => field("icmpv6", "type"),
            };
            let [from, to] = [*first, *last].map(|n| Expression::Number(n.into()));
            let range = || Expression::Range(Box::new(Range { range: [from.clone(), to] }));
            one(is(field, if first == last { from.clone() } else { range() }))
        }
        Clause::HopLimit255 => one(is(field("ip6", "hoplimit"), Expression::Number(255))),
        Clause::AtMost(Limit { per_second, burst }) => one(Statement::Limit(stmt::Limit {
            rate: *per_second,
            rate_unit: None,
            per: Some("second".into()),
            burst: Some(*burst),
            burst_unit: None,
            inv: None,
        })),
        Clause::Count(name) => one(Statement::Counter(stmt::Counter::Named(name.clone().into()))),
        Clause::Log(group, word) => one(Statement::Log(Some(stmt::Log {
            prefix: Some(log_prefix(word).into()),
            group: Some((*group).into()),
            snaplen: None,
            queue_threshold: None,
            level: None,
            flags: None,
        }))),
        Clause::Accept => one(Statement::Accept(None)),
        Clause::Drop => one(Statement::Drop(None)),
        Clause::Reset => one(Statement::Reject(Some(stmt::Reject {
            _type: Some(stmt::RejectType::TCPReset),
            expr: None,
        }))),
    }
}

fn is(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn is_not(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::NEQ })
}

/// Whether bits of a value are set.
fn has(left: Expression<'static>, bits: &[&'static str]) -> Statement<'static> {
    let right = match bits {
        [only] => word(only),
        all => Expression::List(all.iter().map(|s| word(s)).collect()),
    };
    Statement::Match(Match { left, right, op: Operator::IN })
}

fn word(text: &'static str) -> Expression<'static> {
    Expression::String(text.into())
}

fn named(set: &str) -> Expression<'static> {
    Expression::String(Cow::Owned(format!("@{set}")))
}

fn ct(key: &'static str, dir: Option<CTDir>) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir }))
}

fn source(family: Family) -> Expression<'static> {
    match family {
        Family::V4 => field("ip", "saddr"),
        Family::V6 => field("ip6", "saddr"),
    }
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn prefix(addr: Expression<'static>, len: u32) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix { addr: Box::new(addr), len }))
}
