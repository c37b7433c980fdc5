//! What the kernel says of a table, read back to what was meant. Pure, and without trust: what makes
//! no sense becomes something strange, which is never what is wanted.

use std::collections::BTreeMap;

use super::{
    numbers::*,
    wire::{Attributes, Message},
};
use crate::firewall::{
    Base, Comparison, Elements, Instruction, Owner, SeenChain, SeenRule, TABLE, Word,
};

/// Whether a message about something inside a table is about ours. The name of its table is the first
/// attribute of every such thing.
pub(super) fn is_ours(message: &Message<'_>) -> bool {
    let family = message.body.first();
    family == Some(&NFPROTO_INET)
        && message.attributes().text(NFTA_CHAIN_TABLE).as_deref() == Some(TABLE)
}

/// Flags of a table, and the port of its owner.
pub(super) fn table(a: Attributes<'_>, our_port: u32) -> (u32, Owner) {
    let flags = a.u32(NFTA_TABLE_FLAGS).unwrap_or(0);
    let owner = match a.u32(NFTA_TABLE_OWNER) {
        Some(port) if port == our_port => Owner::Us,
        Some(port) => Owner::Other(port),
        None => Owner::Nobody,
    };
    (flags, owner)
}

/// A chain without its rules. None if it belongs to a rule, with which it comes and goes.
pub(super) fn chain(a: Attributes<'_>) -> Option<(String, SeenChain)> {
    if a.u32(NFTA_CHAIN_FLAGS).unwrap_or(0) & NFT_CHAIN_BINDING != 0 {
        return None;
    }
    let hook = a.nested(NFTA_CHAIN_HOOK);
    let base = hook.u32(NFTA_HOOK_HOOKNUM).map(|number| Base {
        kind: a.text(NFTA_CHAIN_TYPE).unwrap_or_default(),
        hook: number,
        priority: hook
            .get(NFTA_HOOK_PRIORITY)
            .and_then(|b| b.first_chunk())
            .map_or(0, |b| i32::from_be_bytes(*b)),
        drops: a.u32(NFTA_CHAIN_POLICY) == Some(NF_DROP),
    });
    Some((a.text(NFTA_CHAIN_NAME)?, SeenChain { base, rules: Vec::new() }))
}

/// A rule, and the name of its chain.
pub(super) fn rule(a: Attributes<'_>) -> Option<(String, SeenRule)> {
    let all = a.nested(NFTA_RULE_EXPRESSIONS);
    let steps = all.map(|(_, one)| {
        let expression = Attributes(one);
        let name = expression.text(NFTA_EXPR_NAME).unwrap_or_default();
        step(&name, expression.nested(NFTA_EXPR_DATA)).unwrap_or(Instruction::Other(name))
    });
    let comment = comment(a.get(NFTA_RULE_USERDATA).unwrap_or_default());
    Some((a.text(NFTA_RULE_CHAIN)?, SeenRule { comment, steps: steps.collect() }))
}

/// The comment among a rule's user data: kind, length, value, one after the other.
fn comment(mut data: &[u8]) -> String {
    while let [kind, length, rest @ ..] = data {
        let length = usize::from(*length);
        let value = rest.get(..length).unwrap_or_default();
        if *kind == UDATA_COMMENT {
            let text = value.split(|b| *b == 0).next().unwrap_or_default();
            return String::from_utf8_lossy(text).into_owned();
        }
        data = rest.get(length..).unwrap_or_default();
    }
    String::new()
}

/// One step. None: it is not one of ours.
fn step(name: &str, a: Attributes<'_>) -> Option<Instruction> {
    let is = |kind, value| a.u32(kind) == Some(value);
    let one = |kind| is(kind, NFT_REG_1);
    let data = |kind| a.nested(kind).get(NFTA_DATA_VALUE).map(<[u8]>::to_vec);
    let step = match name {
        "meta" if one(NFTA_LOAD_DREG) => Instruction::Meta(a.u32(NFTA_LOAD_KEY)?),
        "ct" if one(NFTA_LOAD_DREG) => {
            Instruction::Connection(a.u32(NFTA_LOAD_KEY)?, a.u8(NFTA_CT_DIRECTION))
        }
        "payload" if one(NFTA_PAYLOAD_DREG) => Instruction::Payload {
            base: a.u32(NFTA_PAYLOAD_BASE)?,
            offset: a.u32(NFTA_PAYLOAD_OFFSET)?,
            length: a.u32(NFTA_PAYLOAD_LEN)?,
        },
        "bitwise" if one(NFTA_BITWISE_SREG) && one(NFTA_BITWISE_DREG) => {
            let plain = a.u32(NFTA_BITWISE_OP).unwrap_or(0) == 0;
            let no_xor = data(NFTA_BITWISE_XOR)?.iter().all(|b| *b == 0);
            (plain && no_xor).then_some(())?;
            Instruction::Mask(data(NFTA_BITWISE_MASK)?)
        }
        "cmp" if one(NFTA_CMP_SREG) => {
            let how = match a.u32(NFTA_CMP_OP)? {
                NFT_CMP_EQ => Comparison::Equal,
                NFT_CMP_NEQ => Comparison::Different,
                NFT_CMP_GTE => Comparison::AtLeast,
                NFT_CMP_LTE => Comparison::AtMost,
                _ => return None,
            };
            Instruction::Compare(how, data(NFTA_CMP_DATA)?)
        }
        "lookup" if one(NFTA_LOOKUP_SREG) && a.get(NFTA_LOOKUP_DREG).is_none() => {
            let inverted = a.u32(NFTA_LOOKUP_FLAGS).unwrap_or(0) & NFT_LOOKUP_F_INV != 0;
            Instruction::Lookup(a.text(NFTA_LOOKUP_SET)?, !inverted)
        }
        "objref" if is(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER) => {
            Instruction::Count(a.text(NFTA_OBJREF_IMM_NAME)?)
        }
        "limit"
            if a.u32(NFTA_LIMIT_TYPE).unwrap_or(0) == 0
                && a.u32(NFTA_LIMIT_FLAGS).unwrap_or(0) == 0 =>
        {
            Instruction::Limit(
                a.u64(NFTA_LIMIT_RATE)?,
                a.u64(NFTA_LIMIT_UNIT)?,
                a.u32(NFTA_LIMIT_BURST)?,
            )
        }
        "log" => Instruction::Log(a.u16(NFTA_LOG_GROUP)?, a.text(NFTA_LOG_PREFIX)?),
        "immediate" if is(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT) => {
            let verdict = a.nested(NFTA_IMMEDIATE_DATA).nested(NFTA_DATA_VERDICT);
            match verdict.u32(NFTA_VERDICT_CODE)? {
                NF_ACCEPT => Instruction::Verdict(true),
                NF_DROP => Instruction::Verdict(false),
                _ => return None,
            }
        }
        "reject" if is(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST) => Instruction::Reset,
        _ => return None,
    };
    Some(step)
}

/// A set without its elements. None if it belongs to a rule, with which it comes and goes.
pub(super) fn set(a: Attributes<'_>) -> Option<(String, Elements)> {
    let name = a.text(NFTA_SET_NAME)?;
    let flags = a.u32(NFTA_SET_FLAGS).unwrap_or(0);
    if flags & NFT_SET_ANONYMOUS != 0 {
        return None;
    }
    let odd = [NFTA_SET_TIMEOUT, NFTA_SET_EXPR, NFTA_SET_EXPRESSIONS];
    let kind = (flags, a.u32(NFTA_SET_KEY_LEN), a.u32(NFTA_SET_KEY_TYPE));
    let elements = match kind {
        _ if odd.iter().any(|k| a.get(*k).is_some()) => {
            Elements::Strange("it does something with its elements".to_owned())
        }
        (NFT_SET_INTERVAL, Some(4), Some(TYPE_IPADDR)) => Elements::V4([].into_iter().collect()),
        (NFT_SET_INTERVAL, Some(16), Some(TYPE_IP6ADDR)) => Elements::V6([].into_iter().collect()),
        (NFT_SET_TIMEOUT, Some(4), Some(TYPE_IPADDR)) => Elements::Timed4(BTreeMap::new()),
        (NFT_SET_TIMEOUT, Some(16), Some(TYPE_IP6ADDR)) => Elements::Timed6(BTreeMap::new()),
        (0, Some(2), Some(TYPE_INET_SERVICE)) => Elements::Ports([].into()),
        _ => Elements::Strange("it is not of a kind that we make".to_owned()),
    };
    Some((name, elements))
}

/// One element as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    key: Vec<u8>,
    /// Whether a range starts here, or has ended before. In this order, for ranges that touch.
    starts: bool,
    left: Option<u64>,
    odd: bool,
}

/// The elements in a message.
pub(super) fn elements(a: Attributes<'_>) -> impl Iterator<Item = Element> + '_ {
    a.nested(NFTA_SET_ELEM_LIST_ELEMENTS).filter_map(|(_, one)| {
        let one = Attributes(one);
        let key = one.nested(NFTA_SET_ELEM_KEY).get(NFTA_DATA_VALUE)?.to_vec();
        let flags = one.u32(NFTA_SET_ELEM_FLAGS).unwrap_or(0);
        let odd = [NFTA_SET_ELEM_EXPR, NFTA_SET_ELEM_EXPRESSIONS];
        Some(Element {
            key,
            starts: flags & NFT_SET_ELEM_INTERVAL_END == 0,
            left: one.u64(NFTA_SET_ELEM_EXPIRATION),
            odd: odd.iter().any(|k| one.get(*k).is_some())
                || flags & !NFT_SET_ELEM_INTERVAL_END != 0,
        })
    })
}

/// A set with what was read of its elements at `now`.
pub(super) fn with(set: &Elements, all: Vec<Element>, now: u64) -> Elements {
    let strange = || Elements::Strange("it holds something else than we put there".to_owned());
    if all.iter().any(|e| e.odd) {
        return strange();
    }
    let read =
        match set {
            Elements::V4(_) => ranges(all, |b| Some(u32::from_be_bytes(*b.first_chunk()?)))
                .map(|r| Elements::V4(r.into_iter().collect())),
            Elements::V6(_) => ranges(all, |b| Some(u128::from_be_bytes(*b.first_chunk()?)))
                .map(|r| Elements::V6(r.into_iter().collect())),
            Elements::Timed4(_) => ends(all, now, |b| Some(u32::from_be_bytes(*b.first_chunk()?)))
                .map(Elements::Timed4),
            Elements::Timed6(_) => ends(all, now, |b| Some(u128::from_be_bytes(*b.first_chunk()?)))
                .map(Elements::Timed6),
            Elements::Ports(_) => {
                let port = |e: Element| Some(u16::from_be_bytes(*e.key.first_chunk()?));
                all.into_iter().map(port).collect::<Option<_>>().map(Elements::Ports)
            }
            Elements::Strange(why) => Some(Elements::Strange(why.clone())),
        };
    read.unwrap_or_else(strange)
}

/// Ranges from starts and from addresses after ends, in any order.
fn ranges<W: Word>(mut all: Vec<Element>, key: impl Fn(&[u8]) -> Option<W>) -> Option<Vec<(W, W)>> {
    all.sort_unstable();
    let mut out = Vec::with_capacity(all.len() / 2);
    let mut open: Option<W> = None;
    for element in &all {
        let at = key(&element.key)?;
        match (open, element.starts) {
            (None, true) => open = Some(at),
            (Some(first), false) => {
                out.push((first, W::narrow(at.wide().checked_sub(1)?)));
                open = None;
            }
            // Nothing is open: some writers put an end before the first range.
            (None, false) => {}
            (Some(_), true) => return None,
        }
    }
    out.extend(open.map(|first| (first, W::narrow(u128::MAX))));
    Some(out)
}

/// Elements with their ends. One without an end would stay for ever, and is not ours.
fn ends<W: Ord>(
    all: Vec<Element>,
    now: u64,
    key: impl Fn(&[u8]) -> Option<W>,
) -> Option<BTreeMap<W, u64>> {
    all.into_iter().map(|e| Some((key(&e.key)?, now.saturating_add(e.left?)))).collect()
}

/// A counter and its packets; none if it is another kind of object.
pub(super) fn counter(a: Attributes<'_>) -> Option<(String, u64)> {
    (a.u32(NFTA_OBJ_TYPE) == Some(NFT_OBJECT_COUNTER)).then_some(())?;
    let packets = a.nested(NFTA_OBJ_DATA).u64(NFTA_COUNTER_PACKETS)?;
    Some((a.text(NFTA_OBJ_NAME)?, packets))
}
