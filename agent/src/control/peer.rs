//! Who is at the other end of the control socket.
//!
//! The socket's mode (0660) and group decide who may connect; this names them for the record.

use std::{
    fmt, io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::net::UnixStream;

/// The process that connected, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    uid: u32,
    pid: Option<i32>,
}

impl Peer {
    /// The other end of this connection (`SO_PEERCRED`).
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let cred = stream.peer_cred()?;
        Ok(Self { uid: cred.uid(), pid: cred.pid() })
    }
}

impl Peer {
    /// Its process, where the kernel said.
    #[must_use]
    pub fn pid(self) -> Option<i32> {
        self.pid
    }

    /// Whether it is the superuser, for whom some connections are kept free.
    #[must_use]
    pub fn is_root(self) -> bool {
        self.uid == 0
    }
}

/// A connection, to look whether somebody is still at its other end: while an answer is being sent nothing
/// is read from it.
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<OwnedFd>);

impl Line {
    /// The line of this connection.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        Ok(Self(Arc::new(stream.as_fd().try_clone_to_owned()?)))
    }

    /// Whether the other end has hung up.
    pub(super) fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        let asked = poll(&mut fds, PollTimeout::ZERO);
        let over = PollFlags::POLLHUP | PollFlags::POLLERR;
        asked.is_err() || fds.iter().any(|f| f.revents().is_some_and(|r| r.intersects(over)))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, " pid {pid}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_gone_once_its_other_end_is_closed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let line = Line::of(&ours).unwrap();
        assert!(!line.is_gone());
        theirs.try_write(b"unread").unwrap();
        assert!(!line.is_gone());
        drop(theirs);
        assert!(line.is_gone());
    }
}
