//! Who is at the other end of the control socket.
//!
//! The socket's mode (0660) and group decide who may connect; this names them for the record.

use std::fmt;

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
    /// Whether it is the superuser, for whom some connections are kept free.
    #[must_use]
    pub fn is_root(self) -> bool {
        self.uid == 0
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, " pid {pid}"))
    }
}
