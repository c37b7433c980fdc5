//! Rules as the kernel runs them: a value is loaded into one register, changed, and compared. Pure.
//!
//! What is read back is decoded to the same form, so that a rule in the kernel is compared with a
//! rule that is wanted as a value, whoever put it there.

use super::{
    rules::{Clause, Family, Limit, Rule, State},
    ruleset::Protocol,
};

/// One step of a rule. Every value goes through the first register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Load something about the packet that is not in it.
    Meta(u32),
    /// Load something about its connection, of a direction where there are two.
    Connection(u32, Option<u8>),
    /// Load bytes of the packet.
    Payload {
        /// Where counting starts: 1 network header, 2 transport header.
        base: u32,
        /// First byte.
        offset: u32,
        /// How many.
        length: u32,
    },
    /// Keep these bits.
    Mask(Vec<u8>),
    /// Go on if the value compares so.
    Compare(Comparison, Vec<u8>),
    /// Go on if the value is in a set, or is not.
    Lookup(String, bool),
    /// Count by a name.
    Count(String),
    /// Go on if not too often: packets in so many seconds, and at once.
    Limit(u64, u64, u32),
    /// Tell a log group.
    Log(u16, String),
    /// The packet's end: let through, or dropped.
    Verdict(bool),
    /// Answer with a TCP reset.
    Reset,
    /// Something that we never write, by its name.
    Other(String),
}

/// How values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Different.
    Different,
    /// Not less.
    AtLeast,
    /// Not more.
    AtMost,
}

/// `enum nft_meta_keys`.
const META_IIF: u32 = 4;
const META_SKUID: u32 = 10;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// `enum nft_ct_keys`.
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_PROTO_DST: u32 = 12;
/// `IP_CT_DIR_ORIGINAL`.
const ORIGINAL: u8 = 0;
/// Bits of `ct state`: invalid; established and related.
const STATE_INVALID: u32 = 1;
const STATE_KNOWN: u32 = 2 | 4;
/// `IPS_DST_NAT`.
const STATUS_REDIRECTED: u32 = 1 << 5;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const NFPROTO_V4: u8 = 2;
const NFPROTO_V6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Index of `lo`, which is the first interface of every network namespace.
const LOOPBACK: u32 = 1;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// 169.254.169.254 and fd00:ec2::254.
const METADATA_V4: [u8; 4] = [169, 254, 169, 254];
const METADATA_V6: [u8; 16] = [0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54];

/// The steps of a rule.
#[must_use]
pub(super) fn compile(rule: &Rule) -> Vec<Instruction> {
    rule.clauses.iter().flat_map(clause).collect()
}

fn clause(clause: &Clause) -> Vec<Instruction> {
    use Instruction as I;
    match clause {
        Clause::FromLoopback => vec![I::Meta(META_IIF), equal(LOOPBACK.to_ne_bytes())],
        Clause::State(state) => bits(
            CT_STATE,
            match state {
                State::Known => STATE_KNOWN,
                State::Invalid => STATE_INVALID,
            },
        ),
        Clause::Redirected => bits(CT_STATUS, STATUS_REDIRECTED),
        Clause::OriginalPortIn(set) => {
            let mut steps = transport(TCP);
            let load = I::Connection(CT_PROTO_DST, Some(ORIGINAL));
            steps.extend([load, I::Lookup(set.clone(), true)]);
            steps
        }
        Clause::PortIn(protocol, set) => {
            let mut steps = transport(match protocol {
                Protocol::Tcp => TCP,
                Protocol::Udp => UDP,
            });
            steps.extend([destination_port(), I::Lookup(set.clone(), true)]);
            steps
        }
        Clause::Udp(from, to) => {
            let mut steps = transport(UDP);
            let source = I::Payload { base: TRANSPORT, offset: 0, length: 2 };
            let (from, to) = (equal(from.to_be_bytes()), equal(to.to_be_bytes()));
            steps.extend([source, from, destination_port(), to]);
            steps
        }
        Clause::SourceIn(family, set, inside) => {
            let mut steps = source(*family);
            steps.push(I::Lookup(set.clone(), *inside));
            steps
        }
        Clause::SourceLoopback(Family::V4) => {
            let mut steps = network(Family::V4);
            let first = I::Payload { base: NETWORK, offset: 12, length: 1 };
            steps.extend([first, equal([127])]);
            steps
        }
        Clause::SourceLoopback(Family::V6) => {
            let mut steps = source(Family::V6);
            steps.push(equal(std::net::Ipv6Addr::LOCALHOST.octets()));
            steps
        }
        Clause::SourceLinkLocal => {
            let mut mask = vec![0; 16];
            let mut link = vec![0; 16];
            for (at, (m, l)) in [(0xff, 0xfe), (0xc0, 0x80)].into_iter().enumerate() {
                mask.splice(at..=at, [m]);
                link.splice(at..=at, [l]);
            }
            let mut steps = source(Family::V6);
            steps.extend([I::Mask(mask), equal(link)]);
            steps
        }
        Clause::ToMetadata(family) => {
            let mut steps = network(*family);
            let (offset, length, to) = match family {
                Family::V4 => (16, 4, METADATA_V4.to_vec()),
                Family::V6 => (24, 16, METADATA_V6.to_vec()),
            };
            steps.extend([I::Payload { base: NETWORK, offset, length }, equal(to)]);
            steps
        }
        Clause::User(uid) => vec![I::Meta(META_SKUID), equal(uid.to_ne_bytes())],
        Clause::Icmp(family, first, last) => icmp(*family, *first, *last),
        Clause::HopLimit255 => {
            let mut steps = network(Family::V6);
            steps.extend([I::Payload { base: NETWORK, offset: 7, length: 1 }, equal([255])]);
            steps
        }
        Clause::AtMost(Limit { per_second, burst }) => {
            vec![I::Limit((*per_second).into(), 1, *burst)]
        }
        Clause::Count(name) => vec![I::Count(name.clone())],
        Clause::Log(group, word) => vec![I::Log(*group, log_prefix(word))],
        Clause::Accept => vec![I::Verdict(true)],
        Clause::Drop => vec![I::Verdict(false)],
        Clause::Reset => vec![I::Reset],
    }
}

/// What stands before a packet in the log.
#[must_use]
pub(super) fn log_prefix(word: &str) -> String {
    format!("palisade {word}")
}

fn equal(value: impl Into<Vec<u8>>) -> Instruction {
    Instruction::Compare(Comparison::Equal, value.into())
}

fn bits(key: u32, wanted: u32) -> Vec<Instruction> {
    vec![
        Instruction::Connection(key, None),
        Instruction::Mask(wanted.to_ne_bytes().to_vec()),
        Instruction::Compare(Comparison::Different, 0_u32.to_ne_bytes().to_vec()),
    ]
}

fn transport(protocol: u8) -> Vec<Instruction> {
    vec![Instruction::Meta(META_L4PROTO), equal([protocol])]
}

fn network(family: Family) -> Vec<Instruction> {
    let family = match family {
        Family::V4 => NFPROTO_V4,
        Family::V6 => NFPROTO_V6,
    };
    vec![Instruction::Meta(META_NFPROTO), equal([family])]
}

fn destination_port() -> Instruction {
    Instruction::Payload { base: TRANSPORT, offset: 2, length: 2 }
}

fn source(family: Family) -> Vec<Instruction> {
    let (offset, length) = match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    };
    let mut steps = network(family);
    steps.push(Instruction::Payload { base: NETWORK, offset, length });
    steps
}

fn icmp(family: Family, first: u8, last: u8) -> Vec<Instruction> {
    let mut steps = network(family);
    steps.extend(transport(match family {
        Family::V4 => ICMP,
        Family::V6 => ICMPV6,
    }));
    steps.push(Instruction::Payload { base: TRANSPORT, offset: 0, length: 1 });
    if first == last {
        steps.push(equal([first]));
    } else {
        steps.push(Instruction::Compare(Comparison::AtLeast, vec![first]));
        steps.push(Instruction::Compare(Comparison::AtMost, vec![last]));
    }
    steps
}
