//! Packets made by hand, as nobody's kernel would send them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recv,
        sendto, socket,
    },
};

use super::{ORIGIN4, ORIGIN6};

/// Sends one echo request and waits for its reply.
pub(super) fn ping(from: IpAddr, to: IpAddr) -> bool {
    let (family, protocol, request, reply, header) = match from {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129, 0),
    };
    let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0))).unwrap();
    // Type, code, checksum, identifier, sequence. For IPv6 the kernel fills in the checksum.
    let sum = if from.is_ipv4() { !(0x0800_u16 + 0x5041 + 1) } else { 0 }.to_be_bytes();
    let echo = [request, 0, sum[0], sum[1], 0x50, 0x41, 0, 1];
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(fd.as_raw_fd(), &echo, &to, MsgFlags::empty()).unwrap();
    let mut got = [0; 100];
    loop {
        let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(3000_u16)) != Ok(1) {
            return false;
        }
        recv(fd.as_raw_fd(), &mut got, MsgFlags::empty()).unwrap();
        // Raw sockets see neighbour discovery too.
        if got[header] == reply && got[header + 4..header + 6] == [0x50, 0x41] {
            return true;
        }
    }
}

/// Sends the origin a datagram to port 443 that claims to come from `from`.
pub(crate) fn forge_udp(from: IpAddr) {
    forge_udp_ports(from, 4096, 443);
}

/// Sends the origin an empty datagram that claims to come from `from`.
pub(crate) fn forge_udp_ports(from: IpAddr, source: u16, destination: u16) {
    // Ports, length, and for IPv4 no checksum. IPv6 must have one, but rules do not look at it.
    let udp = [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[0, 8, 0, 0]].concat();
    forge(from, 17, 64, &udp);
}

/// Tells the origin, as `here`, that a packet of its connection with it was too big.
pub(crate) fn forge_too_big(here: SocketAddr, there: SocketAddr) {
    let ports = [&there.port().to_be_bytes()[..], &here.port().to_be_bytes(), &[0; 4]].concat();
    match (here.ip(), there.ip()) {
        (IpAddr::V4(here), IpAddr::V4(there)) => {
            let head = [0x45, 0, 5, 0xdc, 0, 0, 0x40, 0, 64, 6, 0, 0];
            let mut inner = [&head[..], &there.octets(), &here.octets()].concat();
            let sum = checksum(&inner);
            inner[10..12].copy_from_slice(&sum);
            // Destination unreachable, fragmentation needed, for packets of 1,400 bytes.
            let mut message = [&[3, 4, 0, 0, 0, 0, 5, 0x78][..], &inner, &ports].concat();
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum);
            forge(here.into(), 1, 64, &message);
        }
        (IpAddr::V6(here), IpAddr::V6(there)) => {
            let head = [0x60, 0, 0, 0, 5, 0xdc, 6, 64];
            let inner = [&head[..], &there.octets(), &here.octets(), &ports].concat();
            let mut body = vec![0, 0, 5, 0x78];
            body.extend(inner);
            icmp6(here, 2, 64, &body);
        }
        mixed => unreachable!("{mixed:?}"),
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()).to_be_bytes()
}

/// Sends the origin an ICMPv6 message of a kind over so many hops that claims to come from `from`.
pub(crate) fn forge_icmp6(from: Ipv6Addr, kind: u8, hops: u8) {
    icmp6(from, kind, hops, &[0; 20]);
}

fn icmp6(from: Ipv6Addr, kind: u8, hops: u8, body: &[u8]) {
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let to: Ipv6Addr = ORIGIN6.parse().unwrap();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, 58], &message].concat();
    let sum = checksum(&pseudo);
    message[2..4].copy_from_slice(&sum);
    forge(from.into(), 58, hops, &message);
}

fn forge(from: IpAddr, protocol: u8, hops: u8, body: &[u8]) {
    let length = u16::try_from(body.len()).unwrap();
    let (family, to, packet) = match from {
        IpAddr::V4(from) => {
            let to: Ipv4Addr = ORIGIN4.parse().unwrap();
            // Version, length (filled in by the kernel), no fragments, hops, protocol.
            let head = [0x45, 0, 0, 0, 0, 0, 0, 0, hops, protocol, 0, 0];
            let packet = [&head[..], &from.octets(), &to.octets(), body].concat();
            (AddressFamily::Inet, IpAddr::V4(to), packet)
        }
        IpAddr::V6(from) => {
            let to: Ipv6Addr = ORIGIN6.parse().unwrap();
            let length = length.to_be_bytes();
            let head = [0x60, 0, 0, 0, length[0], length[1], protocol, hops];
            let packet = [&head[..], &from.octets(), &to.octets(), body].concat();
            (AddressFamily::Inet6, IpAddr::V6(to), packet)
        }
    };
    let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
}
