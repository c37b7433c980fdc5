//! Frames with the first packet of a TCP connection, and what answers say. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HERE4, HERE6};
use crate::firewall::safety::Verdict;

/// A link address.
pub(super) type Mac = [u8; 6];

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const SYN_ACK: u8 = 0x12;

/// A frame with the first packet of a connection from an address and port to one of our ports.
pub(super) fn first(to: Mac, by: Mac, from: IpAddr, port_of: u16, port: u16) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(20);
    tcp.extend(port_of.to_be_bytes());
    tcp.extend(port.to_be_bytes());
    // Sequence number, nothing acknowledged, five words of header, the largest window, no checksum yet,
    // nothing urgent.
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    let mut frame = [to, by].concat();
    match from {
        IpAddr::V4(from) => {
            let sum = checksum(&[&from.octets(), &HERE4.octets(), &[0, TCP, 0, 20], &tcp]);
            put(&mut tcp, 16, sum);
            let mut head = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0];
            head.extend(from.octets());
            head.extend(HERE4.octets());
            let sum = checksum(&[&head]);
            put(&mut head, 10, sum);
            frame.extend(IPV4);
            frame.extend(head);
        }
        IpAddr::V6(from) => {
            let length = [0, 0, 0, 20, 0, 0, 0, TCP];
            let sum = checksum(&[&from.octets(), &HERE6.octets(), &length, &tcp]);
            put(&mut tcp, 16, sum);
            frame.extend(IPV6);
            frame.extend([0x60, 0, 0, 0, 0, 20, TCP, 64]);
            frame.extend(from.octets());
            frame.extend(HERE6.octets());
        }
    }
    frame.extend(tcp);
    frame
}

/// Whom a frame answers, at which port of theirs, and what it says. None if it is no answer.
pub(super) fn answer(frame: &[u8]) -> Option<(IpAddr, u16, Verdict)> {
    let kind = frame.get(12..14)?;
    let packet = frame.get(14..)?;
    let (to, tcp) = if kind == IPV4 {
        let words = usize::from(packet.first()? & 0x0f);
        (*packet.get(9)? == TCP).then_some(())?;
        let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
        (IpAddr::V4(Ipv4Addr::from(to)), packet.get(words * 4..)?)
    } else if kind == IPV6 {
        (*packet.get(6)? == TCP).then_some(())?;
        let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
        (IpAddr::V6(Ipv6Addr::from(to)), packet.get(40..)?)
    } else {
        return None;
    };
    let port = u16::from_be_bytes(tcp.get(2..4)?.try_into().ok()?);
    let flags = *tcp.get(13)?;
    let verdict = match flags {
        f if f & SYN_ACK == SYN_ACK => Verdict::Accepted,
        f if f & RST != 0 => Verdict::Rejected,
        _ => return None,
    };
    Some((to, port, verdict))
}

fn put(bytes: &mut [u8], at: usize, word: u16) {
    if let Some(two) = bytes.get_mut(at..at + 2) {
        two.copy_from_slice(&word.to_be_bytes());
    }
}

/// The Internet's checksum over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|p| p.chunks_exact(2));
    let mut sum: u32 = words
        .map(|w| match w {
            [a, b] => u32::from(u16::from_be_bytes([*a, *b])),
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_a_whole_packet_come_to_nothing() {
        let frame = first([1; 6], [2; 6], "203.0.113.9".parse().unwrap(), 40_000, 443);
        assert_eq!(frame.len(), 54);
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        assert_eq!(checksum(&[&frame[26..34], &[0, TCP, 0, 20], &frame[34..]]), 0);
        let frame = first([1; 6], [2; 6], "2001:db8:1::9".parse().unwrap(), 40_000, 443);
        assert_eq!(frame.len(), 74);
        assert_eq!(checksum(&[&frame[22..54], &[0, 0, 0, 20, 0, 0, 0, TCP], &frame[54..]]), 0);
    }

    #[test]
    fn answers_are_told_by_their_flags_and_all_else_is_none() {
        let mut frame = first([1; 6], [2; 6], "198.18.255.1".parse().unwrap(), 443, 40_000);
        assert_eq!(answer(&frame), None, "a first packet is no answer");
        frame[47] = 0x12;
        let here = IpAddr::V4(HERE4);
        assert_eq!(answer(&frame), Some((here, 40_000, Verdict::Accepted)));
        frame[47] = 0x14;
        assert_eq!(answer(&frame), Some((here, 40_000, Verdict::Rejected)));
        frame[23] = 17;
        assert_eq!(answer(&frame), None);
        for cut in 0..frame.len() {
            assert_eq!(answer(&frame[..cut]), None);
        }
    }
}
