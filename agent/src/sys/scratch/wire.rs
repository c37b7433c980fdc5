//! The far end of the cable: frames go in, answers come out.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socket},
};

use super::packet::{self, Mac};
use crate::firewall::safety::{Probe, Verdict};

pub(super) const WIRE_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub(super) const FAR_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// The first port that packets come from; each of a batch has its own.
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 60_000;
/// Frames that are read after one batch, should something flood the cable.
const MAX_FRAMES: usize = 100_000;

/// The far end.
#[derive(Debug)]
pub(super) struct Wire {
    socket: OwnedFd,
    port: u16,
}

impl Wire {
    /// The far end is the link of this number.
    pub(super) fn open(index: u32) -> io::Result<Self> {
        // No protocol, so that nothing of other links comes before it is bound to one.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        let every_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
        let place = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
            sll_protocol: every_protocol,
            sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let size = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>());
        #[expect(unsafe_code, reason = "nix makes no address of a link")]
        // SAFETY: the pointer is to a whole `sockaddr_ll` of that size, which outlives the call.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const place).cast(), size.unwrap_or_default())
        };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, port: FIRST_PORT })
    }

    fn port_of(&self, i: usize) -> u16 {
        self.port.saturating_add(u16::try_from(i).unwrap_or(u16::MAX))
    }

    /// The next batch has ports of its own: nothing late is taken for an answer to it.
    pub(super) fn next_ports(&mut self, used: usize) {
        let next = self.port_of(used);
        self.port = if next > LAST_PORT { FIRST_PORT } else { next };
    }

    /// Sends the first packet of some probes.
    pub(super) fn send(&self, batch: &[Probe], which: &[usize]) -> io::Result<()> {
        for i in which {
            let Some(probe) = batch.get(*i) else { continue };
            let port_of = self.port_of(*i);
            let frame = packet::first(WIRE_MAC, FAR_MAC, probe.from, port_of, probe.port);
            send(self.socket.as_raw_fd(), &frame, MsgFlags::empty())?;
        }
        Ok(())
    }

    /// Takes answers until all have one, or none came for a while.
    pub(super) fn collect(
        &self,
        batch: &[Probe],
        answers: &mut BTreeMap<usize, Verdict>,
        quiet: Duration,
    ) -> io::Result<()> {
        let asked: BTreeMap<(IpAddr, u16), usize> =
            batch.iter().enumerate().map(|(i, p)| ((p.from, self.port_of(i)), i)).collect();
        let wait = PollTimeout::try_from(quiet).unwrap_or(PollTimeout::ZERO);
        let mut frame = [0; 2048];
        for _ in 0..MAX_FRAMES {
            if answers.len() == batch.len() {
                break;
            }
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(got) => {
                    let told = packet::answer(frame.get(..got).unwrap_or_default());
                    if let Some((to, port, verdict)) = told
                        && let Some(i) = asked.get(&(to, port))
                    {
                        answers.entry(*i).or_insert(verdict);
                    }
                }
                Err(Errno::EAGAIN) => {
                    let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
                    if poll(&mut fds, wait)? == 0 {
                        break;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}
