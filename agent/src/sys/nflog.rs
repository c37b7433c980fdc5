//! The packets that rules log, as the kernel hands them to one program for each group.
//!
//! A group belongs to the socket that asked for it first, until that is closed. What the kernel could
//! not hand over is known by the gaps in its numbers.

mod wire;

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
        socket,
    },
};
use tokio::io::unix::AsyncFd;

use super::netns;
use crate::firewall::drops::{BadLog, Batch, DropLog, Dropped};

/// The kernel sends at most what it was told to collect: 32 packets of 128 bytes and what belongs to
/// them. More would be cut, and the rest of the datagram be counted as lost by its numbers.
const BUFFER: usize = 64 << 10;
/// Datagrams read in a row before others get their turn.
const IN_A_ROW: usize = 16;

/// The packet log of a network namespace.
#[derive(Debug)]
pub struct Nflog {
    namespace: Option<PathBuf>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    fd: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    numbers: Numbers,
}

impl Nflog {
    /// The log of this network namespace.
    #[must_use]
    pub const fn here() -> Self {
        Self { namespace: None, open: None }
    }

    /// The log of another network namespace, given by a path such as `/run/netns/NAME`.
    #[must_use]
    pub fn of(namespace: &Path) -> Self {
        Self { namespace: Some(namespace.to_owned()), open: None }
    }
}

impl DropLog for Nflog {
    fn open(&mut self, group: u16) -> Result<(), BadLog> {
        // The group of before is given back first: it may be the same one.
        self.open = None;
        let fd = match self.namespace.clone() {
            None => subscribe(group)?,
            Some(namespace) => {
                netns::inside(&namespace, move || subscribe(group)).map_err(BadLog::Failed)??
            }
        };
        #[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
        // SAFETY: the descriptor is owned by what is registered: it is open, and stays the same, until
        // that is dropped. Nothing here takes it out or closes it.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(|e| BadLog::Failed(e.into()))?;
        self.open = Some(Open { fd, buffer: vec![0; BUFFER], numbers: Numbers::default() });
        Ok(())
    }

    async fn next(&mut self, batch: &mut Batch) -> io::Result<()> {
        let Some(open) = &mut self.open else { return std::future::pending().await };
        loop {
            if open.take(batch)? {
                return Ok(());
            }
            // Nothing was taken out of the socket yet, so ending the wait here loses nothing.
            open.fd.readable().await?.clear_ready();
        }
    }
}

impl Open {
    /// Takes what is there, up to a bound; whether there was anything.
    fn take(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let mut any = false;
        for _ in 0..IN_A_ROW {
            let fd = self.fd.get_ref().as_raw_fd();
            match recv(fd, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(n) => {
                    any = true;
                    self.numbers.read(self.buffer.get(..n).unwrap_or_default(), batch);
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // The buffer ran over. How many were lost, the next number tells.
                Err(Errno::ENOBUFS) => {
                    any = true;
                    batch.overruns += 1;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(any)
    }
}

/// The kernel's numbers, by which it is known what did not arrive. They begin at zero with each
/// binding.
#[derive(Debug, Default)]
struct Numbers {
    next: u32,
}

impl Numbers {
    fn read(&mut self, datagram: &[u8], batch: &mut Batch) {
        for message in wire::messages(datagram) {
            match message {
                wire::Message::Packet(p) => {
                    batch.lost += self.gap(p.sequence);
                    batch.packets.push(Dropped {
                        reason: p.prefix,
                        source: p.source,
                        protocol: p.protocol,
                        port: p.port,
                    });
                }
                wire::Message::Unclear { sequence } => {
                    batch.lost += self.gap(sequence);
                    batch.unclear += 1;
                }
                // Asked for once, at the beginning.
                wire::Message::Answer(_) => {}
            }
        }
    }

    /// How many are missing before this number. After 2^32 comes zero; a number from before the one
    /// expected is no gap.
    fn gap(&mut self, number: Option<u32>) -> u64 {
        let Some(number) = number else { return 0 };
        let expected = std::mem::replace(&mut self.next, number.wrapping_add(1));
        Some(number.wrapping_sub(expected)).filter(|gap| *gap <= u32::MAX / 2).unwrap_or(0).into()
    }
}

fn subscribe(group: u16) -> Result<OwnedFd, BadLog> {
    let failed = |e: Errno| BadLog::Failed(e.into());
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkNetFilter,
    )
    .map_err(failed)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed)?;
    let request = wire::bind(group);
    sendto(fd.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(failed)?;
    let mut buffer = [0; 1024];
    // The kernel answers before sending returns, so that nothing is waited for. A packet may have come
    // already; it is one that is not counted.
    for _ in 0..IN_A_ROW {
        let n = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).map_err(failed)?;
        let mut answers = wire::messages(buffer.get(..n).unwrap_or_default());
        let answer = answers.find_map(|m| match m {
            wire::Message::Answer(e) => Some(e),
            wire::Message::Packet(_) | wire::Message::Unclear { .. } => None,
        });
        match answer {
            Some(0) => return Ok(fd),
            Some(e) => return Err(refused(e)),
            None => {}
        }
    }
    Err(BadLog::Failed(io::Error::other("the kernel did not answer")))
}

/// What the kernel means.
fn refused(error: i32) -> BadLog {
    match Errno::from_raw(error) {
        // To somebody who may not, it says the same as to somebody who comes second.
        Errno::EPERM if !may_ask() => BadLog::NotAllowed,
        Errno::EPERM | Errno::EBUSY => BadLog::Taken,
        // It looked for a module and there is none.
        Errno::EINVAL | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => BadLog::Missing,
        e => BadLog::Failed(e.into()),
    }
}

/// Whether we have `CAP_NET_ADMIN`, as far as `/proc` says.
fn may_ask() -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    effective
        .and_then(|h| u64::from_str_radix(h.trim(), 16).ok())
        .is_none_or(|c| c & NET_ADMIN != 0)
}

#[cfg(test)]
mod tests;
