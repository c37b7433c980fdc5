//! One netlink socket to the kernel's packet filter: batches, and questions with many answers.
//!
//! The kernel carries out what is sent while it is sent, so the answers are there when sending
//! returns; nothing here waits for anybody. A table that has an owner belongs to this socket.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
        recv, send, setsockopt, socket, sockopt,
    },
};

use super::{
    super::netns,
    encode::Batch,
    numbers::*,
    wire::{Message, Writer, messages},
};

/// The kernel answers in datagrams of at most 32 KiB.
const BUFFER: usize = 64 << 10;
/// Larger batches than this need room to be asked for; the kernel's usual room is 208 KiB.
const USUAL_ROOM: usize = 128 << 10;
/// Times that a question is asked anew because the answer changed while it was given.
const DUMPS: u32 = 8;

#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// The number by which the kernel knows this socket.
    port: u32,
    seq: u32,
    buffer: Vec<u8>,
}

/// Why a batch was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    /// The kernel refused a part of it.
    #[error("{about}")]
    Refused { about: String, source: io::Error },
    #[error("somebody else changed rules in the same moment")]
    Overtaken,
    #[error("send it")]
    Send(#[source] io::Error),
    #[error("the kernel did not answer")]
    Silent,
}

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Self::over(fd)
    }

    pub(super) fn open_in(namespace: &Path) -> io::Result<Self> {
        netns::inside(namespace, Self::open)?
    }

    /// One that was opened before, by this program or by the one before it.
    pub(super) fn over(fd: OwnedFd) -> io::Result<Self> {
        let address: NetlinkAddr = getsockname(fd.as_raw_fd())?;
        // Numbers of another life on the same socket must not be taken for ours.
        let seq = std::process::id().wrapping_mul(0x0001_0001);
        Ok(Self { port: address.pid(), fd, seq, buffer: vec![0; BUFFER] })
    }

    pub(super) fn port(&self) -> u32 {
        self.port
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The number that the next message is to have.
    pub(super) fn next_seq(&mut self, messages: usize) -> u32 {
        let first = self.seq;
        self.seq = self.seq.wrapping_add(u32::try_from(messages).unwrap_or(1)).wrapping_add(1);
        first
    }

    fn drain(&mut self) {
        while self.receive().is_ok() {}
    }

    fn receive(&mut self) -> nix::Result<usize> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EINTR) => {}
                other => return other,
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > USUAL_ROOM {
            // Twice: the kernel counts what it needs beside the bytes.
            setsockopt(&self.fd, sockopt::SndBufForce, &bytes.len().saturating_mul(2))?;
        }
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
                Ok(n) if n == bytes.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            }
        }
    }

    /// Has the kernel carry out a batch, wholly or not at all.
    pub(super) fn carry_out(&mut self, batch: &Batch) -> Result<(), BatchError> {
        self.drain();
        self.send(&batch.bytes).map_err(BatchError::Send)?;
        let mut done = false;
        loop {
            let n = match self.receive() {
                Ok(n) => n,
                Err(Errno::EAGAIN) => break,
                // There was more to say than fits, which is never said of success.
                Err(e) => return Err(BatchError::Send(e.into())),
            };
            for message in messages(self.buffer.get(..n).unwrap_or_default()) {
                let nth =
                    usize::try_from(message.seq.wrapping_sub(batch.first)).unwrap_or(usize::MAX);
                let (Some(about), Some(code)) = (batch.about.get(nth), error_code(&message)) else {
                    continue;
                };
                match code {
                    0 => done = true,
                    code if code == Errno::ERESTART as i32 => return Err(BatchError::Overtaken),
                    code => {
                        let source = io::Error::from_raw_os_error(code);
                        return Err(BatchError::Refused { about: about.clone(), source });
                    }
                }
            }
        }
        if done { Ok(()) } else { Err(BatchError::Silent) }
    }

    /// Asks for all things of a kind and hands each to `take`. `fill` writes what narrows it down.
    /// Nothing is asked for twice with a `take` that was used: it starts anew each time.
    pub(super) fn all<T: Default>(
        &mut self,
        msg: Msg,
        fill: impl Fn(&mut Writer),
        mut take: impl FnMut(&mut T, &Message<'_>),
    ) -> io::Result<T> {
        for _ in 0..DUMPS {
            let mut all = T::default();
            if self.dump(msg, &fill, |message| take(&mut all, message))? {
                return Ok(all);
            }
        }
        Err(io::Error::other("the kernel's rules change faster than they can be read"))
    }

    /// One answer to one question; none if the thing is not there.
    pub(super) fn one<T>(
        &mut self,
        msg: Msg,
        fill: impl Fn(&mut Writer),
        take: impl Fn(&Message<'_>) -> T,
    ) -> io::Result<Option<T>> {
        let seq = self.ask(msg, 0, &fill)?;
        let n = self.receive()?;
        let answer = messages(self.buffer.get(..n).unwrap_or_default()).find(|m| m.seq == seq);
        let Some(answer) = answer else {
            return Err(io::Error::other("the kernel did not answer the question"));
        };
        match error_code(&answer) {
            None => Ok(Some(take(&answer))),
            Some(code) if code == Errno::ENOENT as i32 => Ok(None),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }

    fn ask(&mut self, msg: Msg, flags: u16, fill: &impl Fn(&mut Writer)) -> io::Result<u32> {
        self.drain();
        let seq = self.next_seq(1);
        let mut question = Writer::default();
        question.message(kind(msg), NLM_F_REQUEST | flags, seq, (NFPROTO_INET, 0), fill);
        self.send(&question.finish())?;
        Ok(seq)
    }

    /// Whether the answers are of one moment.
    fn dump(
        &mut self,
        msg: Msg,
        fill: &impl Fn(&mut Writer),
        mut take: impl FnMut(&Message<'_>),
    ) -> io::Result<bool> {
        let seq = self.ask(msg, NLM_F_DUMP, fill)?;
        let mut whole = true;
        loop {
            let n = self.receive()?;
            for message in messages(self.buffer.get(..n).unwrap_or_default()) {
                if message.seq != seq {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match (message.kind, error_code(&message)) {
                    (NLMSG_DONE, _) | (_, Some(0)) => return Ok(whole),
                    // What was asked about went away meanwhile.
                    (_, Some(code)) if code == Errno::ENOENT as i32 => return Ok(whole),
                    (_, Some(code)) => return Err(io::Error::from_raw_os_error(code)),
                    (_, None) => take(&message),
                }
            }
        }
    }
}

/// The code of an answer that is one, zero for "done".
fn error_code(message: &Message<'_>) -> Option<i32> {
    (message.kind == NLMSG_ERROR).then_some(())?;
    message.body.first_chunk().map(|b| i32::from_ne_bytes(*b).saturating_neg())
}
