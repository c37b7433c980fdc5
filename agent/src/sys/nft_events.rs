//! Word from the kernel that our table was changed, and by whom.
//!
//! The kernel multicasts one message for each object of a transaction and then one that ends it,
//! with the process id and name of whoever made it. A transaction that names no object of our table
//! is not passed on. When the socket's buffer runs over, what was lost may have been ours, so an
//! overrun counts as a change.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use tokio::io::unix::AsyncFd;

use super::{culprit, netns, nftables::wire::messages};
use crate::firewall::{Changed, Changes, TABLE};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWGEN`: the end of a transaction.
const NEWGEN: u16 = 15;
/// `NFTA_GEN_PROC_PID` and `NFTA_GEN_PROC_NAME`.
const GEN_PID: u16 = 2;
const GEN_NAME: u16 = 3;
/// Attribute 1 of every object is the name of its table.
const TABLE_NAME: u16 = 1;
/// The kernel sends datagrams of at most a page or two; more would be cut and seen as garbage.
const BUFFER: usize = 64 << 10;

/// Word of changes.
#[derive(Debug)]
pub struct NftEvents {
    fd: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    /// Whether the transaction being told of names our table.
    ours: bool,
    /// Whether the socket failed for good.
    broken: bool,
}

impl NftEvents {
    /// Word of this network namespace. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the kernel gives no such socket, as without `CAP_NET_ADMIN`.
    pub fn open() -> io::Result<Self> {
        Self::over(subscribe()?)
    }

    /// Word of another network namespace, given by a path such as `/run/netns/NAME`.
    ///
    /// # Errors
    /// As [`NftEvents::open`], and when the namespace cannot be entered.
    pub fn open_in(namespace: &Path) -> io::Result<Self> {
        Self::over(netns::inside(namespace, subscribe)??)
    }

    fn over(fd: OwnedFd) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
        // SAFETY: the descriptor is owned by what is registered: it is open, and stays the same, until
        // that is dropped. Nothing here takes it out or closes it.
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(Self { fd, buffer: vec![0; BUFFER], ours: false, broken: false })
    }

    /// Gives up: changes are then found by looking once a minute.
    fn fail(&mut self, e: &io::Error) {
        if !std::mem::replace(&mut self.broken, true) {
            tracing::error!(error = %e, "the kernel tells no more of firewall changes");
        }
    }

    /// The next change of our table that is there already.
    fn try_next(&mut self) -> io::Result<Option<Changed>> {
        loop {
            let fd = self.fd.get_ref().as_raw_fd();
            match recv(fd, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(n) => {
                    let datagram = self.buffer.get(..n).unwrap_or_default();
                    if let Some(mut changed) = read_datagram(datagram, &mut self.ours) {
                        // At once: the program may be about to end.
                        changed.place =
                            changed.by.as_ref().and_then(|(pid, n)| culprit::look(*pid, n));
                        return Ok(Some(changed));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => {
                    self.ours = false;
                    return Ok(Some(Changed::default()));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn subscribe() -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
    Ok(fd)
}

impl Changes for NftEvents {
    async fn next(&mut self) -> Changed {
        loop {
            match self.try_next() {
                Ok(Some(changed)) => return changed,
                Ok(None) => {}
                Err(e) => {
                    self.fail(&e);
                    return std::future::pending().await;
                }
            }
            // Nothing was taken out of the socket yet, so ending the wait here loses nothing.
            match self.fd.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(e) => {
                    self.fail(&e);
                    return std::future::pending().await;
                }
            }
        }
    }

    fn is_watching(&self) -> bool {
        !self.broken
    }

    fn drain(&mut self) -> Option<Changed> {
        std::iter::from_fn(|| self.try_next().ok().flatten()).last()
    }
}

/// Reads one datagram; a change if it ends a transaction that names our table.
fn read_datagram(bytes: &[u8], ours: &mut bool) -> Option<Changed> {
    let mut changed = None;
    for message in messages(bytes).filter(|m| m.kind >> 8 == SUBSYSTEM) {
        let attributes = message.attributes();
        if message.kind & 0xff == NEWGEN {
            if std::mem::take(ours) {
                let pid = attributes.u32(GEN_PID);
                changed = Some(Changed { by: pid.zip(attributes.text(GEN_NAME)), place: None });
            }
        } else if attributes.text(TABLE_NAME).as_deref() == Some(TABLE) {
            *ours = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::nftables::wire::Writer;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.bytes(kind, value);
        writer.finish()
    }

    fn message(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.message(SUBSYSTEM << 8 | kind, 0, 0, (0, 0), |w| w.raw(&attributes.concat()));
        writer.finish()
    }

    fn newgen(pid: u32, name: &[u8]) -> Vec<u8> {
        message(
            NEWGEN,
            &[
                attr(1, &7_u32.to_be_bytes()),
                attr(GEN_PID, &pid.to_be_bytes()),
                attr(GEN_NAME, name),
            ],
        )
    }

    #[test]
    fn a_transaction_on_our_table_is_told_with_its_maker() {
        let mut ours = false;
        let set = message(9, &[attr(TABLE_NAME, b"palisade\0"), attr(2, b"x\0")]);
        assert_eq!(read_datagram(&set, &mut ours), None);
        let by = Some((4711, "nft".to_owned()));
        assert_eq!(
            read_datagram(&newgen(4711, b"nft\0"), &mut ours),
            Some(Changed { by, place: None })
        );
        assert_eq!(read_datagram(&newgen(4712, b"nft\0"), &mut ours), None);
        let both = [set, newgen(1, b"python3\0")].concat();
        assert!(read_datagram(&both, &mut ours).is_some());
    }

    #[test]
    fn a_transaction_on_other_tables_is_not_told() {
        let mut ours = false;
        let other = message(0, &[attr(TABLE_NAME, b"palisade2\0")]);
        assert_eq!(read_datagram(&[other, newgen(1, b"nft\0")].concat(), &mut ours), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail_or_hang(bytes in any::<Vec<u8>>(), cut in 0..80_usize) {
            let mut ours = true;
            read_datagram(&bytes, &mut ours);
            let good = [message(9, &[attr(1, b"palisade\0")]), newgen(1, b"nft\0")].concat();
            read_datagram(&good[..cut.min(good.len())], &mut ours);
        }
    }
}
