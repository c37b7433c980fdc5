//! As much of rtnetlink as a cable with an address takes: each request is acknowledged.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
        sockopt,
    },
    time::{TimeVal, TimeValLike as _},
};

use super::packet::Mac;

const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE_NEW: u16 = 0x200 | 0x400;
const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
/// Seconds that the kernel may take.
const WITHIN: i64 = 5;

/// A connection to the part of the kernel that has links, addresses and routes of this thread's network.
#[derive(Debug)]
pub(super) struct Rtnl {
    socket: OwnedFd,
    sequence: u32,
}

impl Rtnl {
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(WITHIN))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// A pair of links that are the ends of one cable.
    pub(super) fn cable(
        &mut self,
        near: &str,
        mac: Mac,
        far: &str,
        far_mac: Mac,
    ) -> io::Result<()> {
        let named = |name: &str, mac: Mac| {
            let name: Vec<u8> = name.bytes().chain([0]).collect();
            [attribute(3, &name), attribute(1, &mac)].concat()
        };
        let peer = attribute(1, &[link(0, 0, 0), named(far, far_mac)].concat());
        let info = [attribute(1, b"veth\0"), attribute(2, &peer)].concat();
        let body = [link(0, 0, 0), named(near, mac), attribute(18, &info)].concat();
        self.ask(NEW_LINK, CREATE_NEW, &body)
    }

    /// Sets a link up; `lone`: nobody is asked for link addresses of others there.
    pub(super) fn up(&mut self, index: u32, lone: bool) -> io::Result<()> {
        let (up, no_arp) = (0x1, 0x80);
        let flags = if lone { up | no_arp } else { up };
        self.ask(NEW_LINK, 0, &link(index, flags, flags))
    }

    /// Gives a link an address, at once.
    pub(super) fn address(&mut self, index: u32, ip: IpAddr) -> io::Result<()> {
        let (family, bytes) = octets(ip);
        let bits = u8::try_from(bytes.len() * 8).unwrap_or(u8::MAX);
        let no_duplicate_detection = 0x02;
        let head = [&[family, bits, no_duplicate_detection, 0][..], &index.to_ne_bytes()].concat();
        let body = [head, attribute(2, &bytes), attribute(1, &bytes)].concat();
        self.ask(NEW_ADDRESS, CREATE_NEW, &body)
    }

    /// All the world is at this link.
    pub(super) fn default_route(&mut self, index: u32, v4: bool) -> io::Result<()> {
        let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
        let family = u8::try_from(family).unwrap_or_default();
        // Main table, set by hand, everybody at the link itself, to one receiver.
        let (table, by, scope, kind) = (254, 3, 253, 1);
        let head = vec![family, 0, 0, 0, table, by, scope, kind, 0, 0, 0, 0];
        let body = [head, attribute(4, &index.to_ne_bytes())].concat();
        self.ask(NEW_ROUTE, CREATE_NEW, &body)
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST_ACK | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let got = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        acknowledged(answer.get(..got).unwrap_or_default())
    }
}

/// What an acknowledgement says.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let strange = || io::Error::other("the kernel's answer is no acknowledgement");
    let word = |at: usize| answer.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    if word(4) != Some(ERROR) {
        return Err(strange());
    }
    let code = answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match code.ok_or_else(strange)? {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut head = vec![0; 4];
    for word in [index, flags, change] {
        head.extend(word.to_ne_bytes());
    }
    head
}

fn octets(ip: IpAddr) -> (u8, Vec<u8>) {
    let family = |f: i32| u8::try_from(f).unwrap_or_default();
    match ip {
        IpAddr::V4(a) => (family(libc::AF_INET), a.octets().to_vec()),
        IpAddr::V6(a) => (family(libc::AF_INET6), a.octets().to_vec()),
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        assert_eq!(attribute(1, b"abcde").len(), 12);
        assert_eq!(attribute(1, b"abcde")[..2], 9_u16.to_ne_bytes());
    }

    #[test]
    fn an_answer_that_is_cut_or_strange_is_an_error() {
        let mut answer = vec![0; 20];
        answer[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        acknowledged(&answer).unwrap();
        assert!(acknowledged(&answer[..18]).is_err());
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer).unwrap_err().raw_os_error(), Some(1));
        assert!(acknowledged(&[]).is_err());
    }
}
