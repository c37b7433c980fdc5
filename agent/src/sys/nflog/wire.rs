//! The kernel's packet log as bytes: what is asked, and what is answered. Pure, and without a name
//! of ours, so that the fuzzer takes it as it is.
//!
//! A datagram holds messages, a message holds attributes, one of which is the beginning of a packet.
//! Lengths are whatever they say; nothing is read beyond its end, and each step goes on by at least
//! four bytes.

use std::net::IpAddr;

/// `NFNL_SUBSYS_ULOG`, in the high byte of a message's kind.
const SUBSYSTEM: u8 = 4;
/// `NFULNL_MSG_PACKET` and `NFULNL_MSG_CONFIG`.
const PACKET: u8 = 0;
const CONFIG: u8 = 1;
/// `NLMSG_ERROR`: also how the kernel says that all is well.
const ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_ACK: u16 = 1 | 4;
/// Bytes of a netlink message header, and of netfilter's own after it.
const HEADER: usize = 16;
const NF_HEADER: usize = 4;

/// `NFULA_CFG_*`: what can be set.
const CFG_CMD: u16 = 1;
const CFG_MODE: u16 = 2;
const CFG_TIMEOUT: u16 = 4;
const CFG_THRESHOLD: u16 = 5;
const CFG_FLAGS: u16 = 6;
/// `NFULNL_CFG_CMD_BIND`.
const BIND: u8 = 1;
/// `NFULNL_COPY_PACKET`.
const COPY_PACKET: u8 = 2;
/// `NFULNL_CFG_F_SEQ`: packets are numbered.
const NUMBERED: u16 = 1;

/// `NFULA_*`: what a packet comes with.
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
const SEQUENCE: u16 = 12;

/// Bytes of a packet that are wanted: an IPv6 header, a few extensions, and the ports.
const COPY: u32 = 128;
/// The kernel sends when so many packets wait, or after so many hundredths of a second.
const THRESHOLD: u32 = 32;
const TIMEOUT: u32 = 50;
/// Extension headers of IPv6 that are walked through; a packet with more has no port for us.
const MAX_EXTENSIONS: usize = 8;
/// Bytes of a rule's prefix that are kept; the kernel allows 127.
const MAX_PREFIX: usize = 64;

/// One packet of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    /// The word of the rule that logged it.
    pub(crate) prefix: String,
    /// Its number within the group, where the kernel numbers.
    pub(crate) sequence: Option<u32>,
    /// Where it says it comes from.
    pub(crate) source: IpAddr,
    /// The IP protocol number.
    pub(crate) protocol: u8,
    /// The destination port, where the protocol has ports and the bytes reach so far.
    pub(crate) port: Option<u16>,
}

/// One message of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A packet.
    Packet(Logged),
    /// A packet of which we cannot tell the source: no IP, or cut.
    Unclear {
        /// Its number within the group.
        sequence: Option<u32>,
    },
    /// The answer to a request: zero, or an error number.
    Answer(i32),
}

/// The request to have the packets of a group.
#[must_use]
pub(crate) fn bind(group: u16) -> Vec<u8> {
    let mode = [&COPY.to_be_bytes()[..], &[COPY_PACKET, 0]].concat();
    let attributes = [
        attribute(CFG_CMD, &[BIND]),
        attribute(CFG_MODE, &mode),
        attribute(CFG_THRESHOLD, &THRESHOLD.to_be_bytes()),
        attribute(CFG_TIMEOUT, &TIMEOUT.to_be_bytes()),
        attribute(CFG_FLAGS, &NUMBERED.to_be_bytes()),
    ]
    .concat();
    let mut out = Vec::with_capacity(HEADER + NF_HEADER + attributes.len());
    let length = u32::try_from(HEADER + NF_HEADER + attributes.len()).unwrap_or(u32::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(u16::from_be_bytes([SUBSYSTEM, CONFIG]).to_ne_bytes());
    out.extend(REQUEST_ACK.to_ne_bytes());
    // Sequence and port: there is one request, and the kernel knows who we are.
    out.extend([0; 8]);
    // Family and version.
    out.extend([0; 2]);
    out.extend(group.to_be_bytes());
    out.extend(attributes);
    out
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut out = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The messages of a datagram, up to the first that cannot be one.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            let length = rest.first_chunk().map(|b| u32::from_ne_bytes(*b))?;
            let length = usize::try_from(length).ok().filter(|n| *n >= HEADER)?;
            let message = rest.get(..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if let Some(message) = read(message) {
                return Some(message);
            }
        }
    })
}

fn read(message: &[u8]) -> Option<Message> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let body = message.get(HEADER..)?;
    if kind == ERROR {
        return body
            .first_chunk()
            .map(|b| Message::Answer(i32::from_ne_bytes(*b).saturating_abs()));
    }
    if kind.to_be_bytes() != [SUBSYSTEM, PACKET] {
        return None;
    }
    Some(packet(body.get(NF_HEADER..)?))
}

fn packet(mut attributes: &[u8]) -> Message {
    let (mut payload, mut prefix, mut sequence) = (None, String::new(), None);
    while let Some([a, b, c, d]) = attributes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(value) = attributes.get(4..length) else { break };
        // The two high bits say how the value is written.
        match u16::from_ne_bytes([*c, *d]) & 0x3fff {
            PAYLOAD => payload = Some(value),
            PREFIX => prefix = text(value),
            SEQUENCE => sequence = value.first_chunk().map(|b| u32::from_be_bytes(*b)),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    match payload.and_then(ip) {
        Some((source, protocol, port)) => {
            Message::Packet(Logged { prefix, sequence, source, protocol, port })
        }
        None => Message::Unclear { sequence },
    }
}

/// Up to the first zero, in characters that print.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|b| *b == 0).next().unwrap_or_default();
    let shown = bytes.iter().take(MAX_PREFIX);
    shown.map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '?' }).collect()
}

/// Source, protocol and destination port of a packet that begins with its IP header.
fn ip(packet: &[u8]) -> Option<(IpAddr, u8, Option<u16>)> {
    match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet.first()? & 15) * 4;
            let protocol = *packet.get(9)?;
            let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
            let offset = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?) & 0x1fff;
            // Only the first fragment has the ports.
            let data = packet.get(header..).filter(|_| offset == 0 && header >= 20);
            Some((source.into(), protocol, data.and_then(|d| port(protocol, d))))
        }
        6 => {
            let source: [u8; 16] = *packet.get(8..)?.first_chunk()?;
            let (protocol, data) = after_extensions(*packet.get(6)?, packet.get(40..));
            Some((source.into(), protocol, data.and_then(|d| port(protocol, d))))
        }
        _ => None,
    }
}

/// The protocol behind the extension headers, and its bytes if they are there.
fn after_extensions(mut next: u8, mut data: Option<&[u8]>) -> (u8, Option<&[u8]>) {
    for _ in 0..MAX_EXTENSIONS {
        let Some([following, length]) = data.and_then(|d| d.first_chunk::<2>()).copied() else {
            break;
        };
        let length = match next {
            // Hop by hop, routing, destination options.
            0 | 43 | 60 => (usize::from(length) + 1) * 8,
            // Authentication.
            51 => (usize::from(length) + 2) * 4,
            // Fragment: only the first one has the ports.
            44 => {
                let place = data.and_then(|d| d.get(2..)?.first_chunk());
                if place.is_none_or(|p| u16::from_be_bytes(*p) >> 3 != 0) {
                    return (following, None);
                }
                8
            }
            _ => break,
        };
        data = data.and_then(|d| d.get(length..));
        next = following;
    }
    (next, data)
}

/// TCP, UDP, DCCP, SCTP and UDP-Lite have the destination port in the same place.
fn port(protocol: u8, data: &[u8]) -> Option<u16> {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
        .then(|| data.get(2..)?.first_chunk().map(|b| u16::from_be_bytes(*b)))?
}
