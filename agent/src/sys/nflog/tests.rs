//! The reader against bytes as the kernel writes them, and against any others.

use std::net::IpAddr;

use proptest::prelude::*;

use super::{Numbers, wire, wire::Message};
use crate::firewall::drops::Batch;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.resize(16, 0);
    out.extend(body);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn logged(number: u32, prefix: &str, payload: &[u8]) -> Vec<u8> {
    let attributes = [
        attribute(1, &[8, 0, 1, 0]),
        attribute(10, format!("{prefix}\0").as_bytes()),
        attribute(9, payload),
        attribute(12, &number.to_be_bytes()),
    ];
    message(0x0400, &[&[2, 0, 0, 5][..], &attributes.concat()].concat())
}

fn v4(protocol: u8, fragment: u16, options: usize, data: &[u8]) -> Vec<u8> {
    let mut p = vec![0x45 + u8::try_from(options).unwrap(), 0, 0, 40, 0, 0];
    p.extend(fragment.to_be_bytes());
    p.extend([64, protocol, 0, 0, 198, 51, 100, 7, 192, 0, 2, 1]);
    p.resize(20 + options * 4, 1);
    p.extend(data);
    p
}

fn v6(next: u8, data: &[u8]) -> Vec<u8> {
    let source: std::net::Ipv6Addr = "2001:db8:1::7".parse().unwrap();
    let mut p = vec![0x60, 0, 0, 0, 0, 8, next, 64];
    p.extend(source.octets());
    p.extend([0; 16]);
    p.extend(data);
    p
}

/// Source port 4096, destination port 443.
const PORTS: [u8; 4] = [0x10, 0, 1, 0xbb];

fn only(payload: &[u8]) -> Message {
    let all: Vec<Message> = wire::messages(&logged(0, "palisade drop", payload)).collect();
    let [one] = all.try_into().unwrap();
    one
}

fn told(payload: &[u8]) -> (String, u8, Option<u16>) {
    match only(payload) {
        Message::Packet(p) => (p.source.to_string(), p.protocol, p.port),
        other => panic!("{other:?}"),
    }
}

#[test]
fn source_protocol_and_port_are_found_behind_options_and_extensions() {
    let from4 = "198.51.100.7".to_owned();
    assert_eq!(told(&v4(6, 0, 0, &PORTS)), (from4.clone(), 6, Some(443)));
    assert_eq!(told(&v4(17, 0, 3, &PORTS)), (from4.clone(), 17, Some(443)));
    assert_eq!(told(&v4(6, 0x4000, 0, &PORTS)), (from4.clone(), 6, Some(443)), "don't fragment");
    assert_eq!(told(&v4(6, 3, 0, &PORTS)), (from4.clone(), 6, None), "a later fragment");
    assert_eq!(told(&v4(1, 0, 0, &PORTS)), (from4.clone(), 1, None), "ICMP has no ports");
    assert_eq!(told(&v4(6, 0, 0, &PORTS[..3])), (from4, 6, None), "cut");

    let from6 = "2001:db8:1::7".to_owned();
    assert_eq!(told(&v6(6, &PORTS)), (from6.clone(), 6, Some(443)));
    let hop_by_hop = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &PORTS].concat();
    assert_eq!(told(&v6(0, &hop_by_hop)), (from6.clone(), 17, Some(443)));
    let first = [&[6, 0, 0, 1, 0, 0, 0, 9][..], &PORTS].concat();
    assert_eq!(told(&v6(44, &first)), (from6.clone(), 6, Some(443)), "a first fragment");
    let later = [&[6, 0, 1, 1, 0, 0, 0, 9][..], &PORTS].concat();
    assert_eq!(told(&v6(44, &later)), (from6.clone(), 6, None), "a later fragment");
    let endless = [60, 0, 0, 0, 0, 0, 0, 0].repeat(20);
    assert_eq!(told(&v6(60, &endless)), (from6, 60, None));
}

#[test]
fn what_is_no_ip_is_counted_as_unclear_and_an_answer_is_an_answer() {
    for payload in [&[][..], &[0x45], &[0x60; 10], &[0x25; 40]] {
        assert_eq!(only(payload), Message::Unclear { sequence: Some(0) }, "{payload:?}");
    }
    let answer = message(2, &(-1_i32).to_ne_bytes());
    assert_eq!(wire::messages(&answer).collect::<Vec<_>>(), [Message::Answer(1)]);
    assert_eq!(wire::messages(&message(0x0a0f, &[0; 20])).count(), 0, "another subsystem");
}

#[test]
fn a_rule_cannot_put_what_a_terminal_obeys_into_its_word() {
    let all: Vec<_> = wire::messages(&logged(0, "a\x1b[31mb\n", &v4(6, 0, 0, &PORTS))).collect();
    let [Message::Packet(p)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(p.prefix, "a?[31mb?");
}

#[test]
fn gaps_in_the_numbers_are_what_was_lost() {
    let packet = v4(6, 0, 0, &PORTS);
    let mut numbers = Numbers::default();
    let mut batch = Batch::default();
    for number in [0, 1, 5, 6] {
        numbers.read(&logged(number, "x", &packet), &mut batch);
    }
    assert_eq!((batch.packets.len(), batch.lost), (4, 3));
    numbers.next = u32::MAX;
    numbers.read(&logged(u32::MAX, "x", &packet), &mut batch);
    numbers.read(&logged(1, "x", &packet), &mut batch);
    assert_eq!(batch.lost, 4, "zero comes after the last number");
    numbers.read(&logged(0, "x", &packet), &mut batch);
    assert_eq!(batch.lost, 4, "an earlier number is no gap");
}

#[test]
fn several_messages_of_a_datagram_are_all_read() {
    let one = logged(0, "a", &v4(6, 0, 0, &PORTS));
    let two = [one.clone(), message(3, &[]), logged(1, "b", &v6(17, &PORTS))].concat();
    let sources: Vec<IpAddr> = wire::messages(&two)
        .filter_map(|m| if let Message::Packet(p) = m { Some(p.source) } else { None })
        .collect();
    assert_eq!(sources.len(), 2);
    for cut in 0..one.len() {
        assert_eq!(wire::messages(&one[..cut]).count(), 0, "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_fail_or_hang(
        bytes in any::<Vec<u8>>(),
        at in 0..100_usize,
        flip in any::<u8>(),
    ) {
        wire::messages(&bytes).count();
        let payload = v6(0, &[&[60, 0, 1, 4, 0, 0, 0, 0][..], &bytes].concat());
        let mut good = logged(7, "palisade drop", &payload);
        let at = at % good.len();
        good[at] ^= flip;
        prop_assert!(wire::messages(&good).count() <= good.len() / 16);
    }
}
