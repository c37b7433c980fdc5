//! A change as one batch of netlink messages. Pure.

use std::collections::BTreeMap;

use super::{numbers::*, wire::Writer};
use crate::firewall::{
    Chain, Change, Comparison, Elements, Extent, Instruction, PRIORITY, Policy, Refill, TABLE,
    Word, chains, expected, hook_number,
};

/// Elements of one message: attributes hold 64 KiB, and an IPv6 range takes 80 bytes.
const CHUNK: usize = 500;

/// Messages that the kernel carries out wholly or not at all.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Sequence number of the first message.
    pub(super) first: u32,
    /// What each message is about, in order.
    pub(super) about: Vec<String>,
}

struct Messages {
    writer: Writer,
    first: u32,
    about: Vec<String>,
}

impl Messages {
    fn begin(first: u32, generation: Option<u32>) -> Self {
        let mut all = Self { writer: Writer::default(), first, about: Vec::new() };
        let seq = all.seq("the transaction");
        let to = (0, NFNL_SUBSYS_NFTABLES);
        all.writer.message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, seq, to, |w| {
            if let Some(generation) = generation {
                w.u32(NFNL_BATCH_GENID, generation);
            }
        });
        all
    }

    fn seq(&mut self, about: impl Into<String>) -> u32 {
        let n = u32::try_from(self.about.len()).unwrap_or(u32::MAX);
        self.about.push(about.into());
        self.first.wrapping_add(n)
    }

    fn put(
        &mut self,
        msg: Msg,
        flags: u16,
        about: impl Into<String>,
        fill: impl FnOnce(&mut Writer),
    ) {
        let seq = self.seq(about);
        self.writer.message(kind(msg), NLM_F_REQUEST | flags, seq, (NFPROTO_INET, 0), fill);
    }

    fn end(mut self) -> Batch {
        let seq = self.seq("the end of the transaction");
        let to = (0, NFNL_SUBSYS_NFTABLES);
        self.writer.message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, seq, to, |_| {});
        Batch { bytes: self.writer.finish(), first: self.first, about: self.about }
    }
}

/// The batch of a change. `flags` are those of the table; `now` is in milliseconds since boot.
pub(super) fn batch(change: &Change, flags: u32, now: u64, first: u32) -> Batch {
    let mut all = Messages::begin(first, change.generation);
    // The kernel tells of the outcome once it is known, by the answer to this.
    table(&mut all, flags, NLM_F_ACK);
    let sets = change.want.kernel_sets();
    match &change.extent {
        Extent::Sets(refills) => {
            for (name, how) in refills {
                match (how, sets.get(name)) {
                    (Refill::Whole, Some(elements)) => fill(&mut all, name, elements, now),
                    (Refill::Some { out, into }, _) => {
                        put_elements(&mut all, Msg::DelSetElem, name, out, now);
                        put_elements(&mut all, Msg::NewSetElem, name, into, now);
                    }
                    (Refill::Whole, None) => {}
                }
            }
        }
        Extent::Rules { drop_chains, drop_sets, drop_counters } => {
            let wanted = chains(&change.want);
            // Rules go first: what they refer to cannot be deleted before them.
            for chain in &wanted {
                let name = chain.hook.name();
                if drop_chains.contains(name) {
                    flush_chain(&mut all, name);
                } else {
                    new_chain(&mut all, chain);
                    flush_chain(&mut all, name);
                }
            }
            let ours = |name: &String| wanted.iter().any(|c| c.hook.name() == name);
            drop_chains.iter().filter(|n| !ours(n)).for_each(|n| flush_chain(&mut all, n));
            for name in drop_chains {
                all.put(Msg::DelChain, 0, format!("delete chain {name}"), |w| {
                    w.text(NFTA_CHAIN_TABLE, TABLE);
                    w.text(NFTA_CHAIN_NAME, name);
                });
            }
            for name in drop_sets {
                all.put(Msg::DelSet, 0, format!("delete set {name}"), |w| {
                    w.text(NFTA_SET_TABLE, TABLE);
                    w.text(NFTA_SET_NAME, name);
                });
            }
            for name in drop_counters {
                counter(&mut all, Msg::DelObj, 0, name);
            }
            content(&mut all, change, &sets, now);
        }
        Extent::Table => {
            delete_table(&mut all);
            table(&mut all, flags, 0);
            content(&mut all, change, &sets, now);
        }
        Extent::Nothing => delete_table(&mut all),
    }
    all.end()
}

fn table(all: &mut Messages, flags: u32, ack: u16) {
    all.put(Msg::NewTable, NLM_F_CREATE | ack, "the table", |w| {
        w.text(NFTA_TABLE_NAME, TABLE);
        // Without this, flags that are there stay.
        if flags != 0 {
            w.u32(NFTA_TABLE_FLAGS, flags);
        }
    });
}

fn delete_table(all: &mut Messages) {
    all.put(Msg::DelTable, 0, "delete the table", |w| w.text(NFTA_TABLE_NAME, TABLE));
}

/// A table of any name with these flags, and nothing in it; or its end.
pub(super) fn probe(name: &str, flags: Option<u32>, first: u32) -> Batch {
    let mut all = Messages::begin(first, None);
    let msg = if flags.is_some() { Msg::NewTable } else { Msg::DelTable };
    all.put(msg, NLM_F_CREATE | NLM_F_ACK, "a table to try with", |w| {
        w.text(NFTA_TABLE_NAME, name);
        if let Some(flags) = flags {
            w.u32(NFTA_TABLE_FLAGS, flags);
        }
    });
    all.end()
}

/// Sets, counters, chains and rules. Chains are there and empty, or not there.
fn content(all: &mut Messages, change: &Change, sets: &BTreeMap<String, Elements>, now: u64) {
    for (nth, (name, elements)) in sets.iter().enumerate() {
        new_set(all, name, elements, u32::try_from(nth).unwrap_or(0));
    }
    for name in change.want.counters() {
        counter(all, Msg::NewObj, NLM_F_CREATE, &name);
    }
    for chain in chains(&change.want) {
        new_chain(all, &chain);
        for rule in expected(&chain) {
            let about = format!("rule {:?} of chain {}", rule.comment, chain.hook.name());
            all.put(Msg::NewRule, NLM_F_CREATE | NLM_F_APPEND, about, |w| {
                w.text(NFTA_RULE_TABLE, TABLE);
                w.text(NFTA_RULE_CHAIN, chain.hook.name());
                w.nested(NFTA_RULE_EXPRESSIONS, |w| {
                    rule.steps.iter().for_each(|step| expression(w, step));
                });
                w.bytes(NFTA_RULE_USERDATA, &comment(&rule.comment));
            });
        }
    }
    for (name, elements) in sets {
        fill(all, name, elements, now);
    }
}

fn new_chain(all: &mut Messages, chain: &Chain) {
    let name = chain.hook.name();
    all.put(Msg::NewChain, NLM_F_CREATE, format!("chain {name}"), |w| {
        w.text(NFTA_CHAIN_TABLE, TABLE);
        w.text(NFTA_CHAIN_NAME, name);
        w.nested(NFTA_CHAIN_HOOK, |w| {
            w.u32(NFTA_HOOK_HOOKNUM, hook_number(chain.hook));
            w.bytes(NFTA_HOOK_PRIORITY, &PRIORITY.to_be_bytes());
        });
        let policy = match chain.policy {
            Policy::Accept => NF_ACCEPT,
            Policy::Drop => NF_DROP,
        };
        w.u32(NFTA_CHAIN_POLICY, policy);
        w.text(NFTA_CHAIN_TYPE, "filter");
    });
}

fn flush_chain(all: &mut Messages, name: &str) {
    all.put(Msg::DelRule, 0, format!("the rules of chain {name}"), |w| {
        w.text(NFTA_RULE_TABLE, TABLE);
        w.text(NFTA_RULE_CHAIN, name);
    });
}

fn counter(all: &mut Messages, msg: Msg, flags: u16, name: &str) {
    all.put(msg, flags, format!("counter {name}"), |w| {
        w.text(NFTA_OBJ_TABLE, TABLE);
        w.text(NFTA_OBJ_NAME, name);
        w.u32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
        w.nested(NFTA_OBJ_DATA, |_| {});
    });
}

fn new_set(all: &mut Messages, name: &str, elements: &Elements, id: u32) {
    let (flags, of, length) = match elements {
        Elements::V4(_) => (NFT_SET_INTERVAL, TYPE_IPADDR, 4),
        Elements::V6(_) => (NFT_SET_INTERVAL, TYPE_IP6ADDR, 16),
        Elements::Timed4(_) => (NFT_SET_TIMEOUT, TYPE_IPADDR, 4),
        Elements::Timed6(_) => (NFT_SET_TIMEOUT, TYPE_IP6ADDR, 16),
        Elements::Ports(_) => (0, TYPE_INET_SERVICE, 2),
        Elements::Strange(_) => return,
    };
    all.put(Msg::NewSet, NLM_F_CREATE, format!("set {name}"), |w| {
        w.text(NFTA_SET_TABLE, TABLE);
        w.text(NFTA_SET_NAME, name);
        w.u32(NFTA_SET_FLAGS, flags);
        w.u32(NFTA_SET_KEY_TYPE, of);
        w.u32(NFTA_SET_KEY_LEN, length);
        w.u32(NFTA_SET_ID, id);
    });
}

/// All elements out, then all in.
fn fill(all: &mut Messages, name: &str, elements: &Elements, now: u64) {
    all.put(Msg::DelSetElem, 0, format!("the elements of set {name}"), |w| {
        w.text(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        w.text(NFTA_SET_ELEM_LIST_SET, name);
    });
    put_elements(all, Msg::NewSetElem, name, elements, now);
}

fn put_elements(all: &mut Messages, msg: Msg, set: &str, elements: &Elements, now: u64) {
    match elements {
        Elements::V4(ranges) => {
            let all_of: Vec<_> = ranges.iter().collect();
            in_chunks(all, msg, set, &all_of, |w, (first, last)| {
                interval(w, &first.to_be_bytes(), last.checked_add(1).map(u32::to_be_bytes));
            });
        }
        Elements::V6(ranges) => {
            let all_of: Vec<_> = ranges.iter().collect();
            in_chunks(all, msg, set, &all_of, |w, (first, last)| {
                interval(w, &first.to_be_bytes(), last.checked_add(1).map(u128::to_be_bytes));
            });
        }
        Elements::Timed4(ends) => timed(all, msg, set, ends, now, |a| a.to_be_bytes().to_vec()),
        Elements::Timed6(ends) => timed(all, msg, set, ends, now, |a| a.to_be_bytes().to_vec()),
        Elements::Ports(ports) => {
            let all_of: Vec<u16> = ports.iter().copied().collect();
            in_chunks(all, msg, set, &all_of, |w, port| element(w, &port.to_be_bytes(), |_| {}));
        }
        Elements::Strange(_) => {}
    }
}

fn in_chunks<T: Copy>(
    all: &mut Messages,
    msg: Msg,
    set: &str,
    elements: &[T],
    put: impl Fn(&mut Writer, T),
) {
    for chunk in elements.chunks(CHUNK) {
        let flags = if msg == Msg::NewSetElem { NLM_F_CREATE } else { 0 };
        all.put(msg, flags, format!("elements of set {set}"), |w| {
            w.text(NFTA_SET_ELEM_LIST_TABLE, TABLE);
            w.text(NFTA_SET_ELEM_LIST_SET, set);
            w.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                chunk.iter().for_each(|one| put(w, *one));
            });
        });
    }
}

/// Elements that end by themselves. What has ended already is not put: a time of zero would be none.
fn timed<W: Word>(
    all: &mut Messages,
    msg: Msg,
    set: &str,
    ends: &BTreeMap<W, u64>,
    now: u64,
    key: impl Fn(W) -> Vec<u8>,
) {
    let live = ends.iter().map(|(at, end)| (*at, end.saturating_sub(now)));
    let live: Vec<(W, u64)> = live.filter(|(_, left)| *left > 0).collect();
    in_chunks(all, msg, set, &live, |w, (at, left)| {
        element(w, &key(at), |w| w.u64(NFTA_SET_ELEM_TIMEOUT, left));
    });
}

/// A range: its first address, and the one after its last, unless it goes to the end of all.
fn interval(w: &mut Writer, first: &[u8], end: Option<impl AsRef<[u8]>>) {
    element(w, first, |_| {});
    if let Some(end) = end {
        element(w, end.as_ref(), |w| w.u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END));
    }
}

fn element(w: &mut Writer, key: &[u8], more: impl FnOnce(&mut Writer)) {
    w.nested(NFTA_LIST_ELEM, |w| {
        w.nested(NFTA_SET_ELEM_KEY, |w| w.bytes(NFTA_DATA_VALUE, key));
        more(w);
    });
}

/// A comment as nft writes it: kind, length, text with a zero at its end.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = vec![UDATA_COMMENT, length];
    bytes.extend(text.as_bytes().iter().take(usize::from(length) - 1));
    bytes.push(0);
    bytes
}

fn expression(w: &mut Writer, step: &Instruction) {
    let name = match step {
        Instruction::Meta(_) => "meta",
        Instruction::Connection(..) => "ct",
        Instruction::Payload { .. } => "payload",
        Instruction::Mask(_) => "bitwise",
        Instruction::Compare(..) => "cmp",
        Instruction::Lookup(..) => "lookup",
        Instruction::Count(_) => "objref",
        Instruction::Limit(..) => "limit",
        Instruction::Log(..) => "log",
        Instruction::Verdict(_) => "immediate",
        Instruction::Reset => "reject",
        Instruction::Other(_) => return,
    };
    w.nested(NFTA_LIST_ELEM, |w| {
        w.text(NFTA_EXPR_NAME, name);
        w.nested(NFTA_EXPR_DATA, |w| operands(w, step));
    });
}

fn operands(w: &mut Writer, step: &Instruction) {
    match step {
        Instruction::Meta(key) => {
            w.u32(NFTA_LOAD_DREG, NFT_REG_1);
            w.u32(NFTA_LOAD_KEY, *key);
        }
        Instruction::Connection(key, direction) => {
            w.u32(NFTA_LOAD_DREG, NFT_REG_1);
            w.u32(NFTA_LOAD_KEY, *key);
            if let Some(direction) = direction {
                w.u8(NFTA_CT_DIRECTION, *direction);
            }
        }
        Instruction::Payload { base, offset, length } => {
            w.u32(NFTA_PAYLOAD_DREG, NFT_REG_1);
            w.u32(NFTA_PAYLOAD_BASE, *base);
            w.u32(NFTA_PAYLOAD_OFFSET, *offset);
            w.u32(NFTA_PAYLOAD_LEN, *length);
        }
        Instruction::Mask(mask) => {
            w.u32(NFTA_BITWISE_SREG, NFT_REG_1);
            w.u32(NFTA_BITWISE_DREG, NFT_REG_1);
            w.u32(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(0));
            w.nested(NFTA_BITWISE_MASK, |w| w.bytes(NFTA_DATA_VALUE, mask));
            let xor = vec![0; mask.len()];
            w.nested(NFTA_BITWISE_XOR, |w| w.bytes(NFTA_DATA_VALUE, &xor));
        }
        Instruction::Compare(how, value) => {
            w.u32(NFTA_CMP_SREG, NFT_REG_1);
            let how = match how {
                Comparison::Equal => NFT_CMP_EQ,
                Comparison::Different => NFT_CMP_NEQ,
                Comparison::AtLeast => NFT_CMP_GTE,
                Comparison::AtMost => NFT_CMP_LTE,
            };
            w.u32(NFTA_CMP_OP, how);
            w.nested(NFTA_CMP_DATA, |w| w.bytes(NFTA_DATA_VALUE, value));
        }
        Instruction::Lookup(set, inside) => {
            w.text(NFTA_LOOKUP_SET, set);
            w.u32(NFTA_LOOKUP_SREG, NFT_REG_1);
            if !inside {
                w.u32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
            }
        }
        Instruction::Count(name) => {
            w.u32(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
            w.text(NFTA_OBJREF_IMM_NAME, name);
        }
        Instruction::Limit(rate, seconds, burst) => {
            w.u64(NFTA_LIMIT_RATE, *rate);
            w.u64(NFTA_LIMIT_UNIT, *seconds);
            w.u32(NFTA_LIMIT_BURST, *burst);
            w.u32(NFTA_LIMIT_TYPE, 0);
            w.u32(NFTA_LIMIT_FLAGS, 0);
        }
        Instruction::Log(group, prefix) => {
            w.u16(NFTA_LOG_GROUP, *group);
            w.text(NFTA_LOG_PREFIX, prefix);
        }
        Instruction::Verdict(accept) => {
            w.u32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            let code = if *accept { NF_ACCEPT } else { NF_DROP };
            w.nested(NFTA_IMMEDIATE_DATA, |w| {
                w.nested(NFTA_DATA_VERDICT, |w| w.u32(NFTA_VERDICT_CODE, code));
            });
        }
        Instruction::Reset => w.u32(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST),
        Instruction::Other(_) => {}
    }
}
