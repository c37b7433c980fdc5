//! Our own `NOTIFY_SOCKET`: where programs say that they are ready.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{fs::PermissionsExt as _, net::UnixDatagram},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt},
};
use tokio::io::unix::AsyncFd;

/// A longer message is cut; systemd's own limit.
const LONGEST: usize = 4096;

/// The socket.
#[derive(Debug)]
pub struct NotifySocket {
    path: PathBuf,
    is_inherited: bool,
    fd: AsyncFd<OwnedFd>,
}

impl NotifySocket {
    /// Makes the socket at `path`, in place of one that an earlier agent left, or goes on with the
    /// earlier agent's own.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(path: &Path, inherited: Option<OwnedFd>) -> io::Result<Self> {
        // One whose file is gone is reached by nobody.
        let inherited = inherited.filter(|_| path.exists());
        let is_inherited = inherited.is_some();
        let fd: OwnedFd = match inherited {
            Some(fd) => fd,
            None => {
                match fs::remove_file(path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
                let socket = UnixDatagram::bind(path)?;
                // Programs of any user write here; the kernel tells us who they are.
                fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
                socket.into()
            }
        };
        setsockopt(&fd, sockopt::PassCred, &true)?;
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        let fd = super::watched::readable(fd)?;
        Ok(Self { path: path.to_owned(), is_inherited, fd })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the earlier agent's own.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    /// A second reference, to hand over.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.fd.get_ref().try_clone()
    }

    /// The next message and the pid of its sender. Loses nothing when it is dropped before it ends.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn receive(&self) -> io::Result<(i32, String)> {
        loop {
            let mut guard = self.fd.readable().await?;
            match receive(self.fd.get_ref()) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// None for a message without a sender.
fn receive(fd: &OwnedFd) -> nix::Result<Option<(i32, String)>> {
    let mut buf = [0_u8; LONGEST];
    // Room for as many descriptors as the kernel lets anybody send (SCM_MAX_FD), so that none is cut
    // off unseen and stays open: those that are sent are closed here, not kept.
    let mut space = nix::cmsg_space!(nix::sys::socket::UnixCredentials, [std::os::fd::RawFd; 253]);
    let (length, pid) = {
        let mut parts = [io::IoSliceMut::new(&mut buf)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<()>(fd.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let mut pid = None;
        for message in got.cmsgs()? {
            match message {
                ControlMessageOwned::ScmCredentials(who) => pid = Some(who.pid()),
                ControlMessageOwned::ScmRights(fds) => fds.into_iter().for_each(close),
                _ => {}
            }
        }
        (got.bytes, pid)
    };
    let text = String::from_utf8_lossy(buf.get(..length).unwrap_or_default()).into_owned();
    Ok(pid.map(|pid| (pid, text)))
}

fn close(fd: std::os::fd::RawFd) {
    use std::os::fd::FromRawFd as _;
    #[expect(unsafe_code, reason = "the kernel gave us a bare number")]
    // SAFETY: the descriptor came with the message, so it is ours and nobody else's.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_comes_with_the_pid_that_the_kernel_saw() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::open(&path, None).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1\nSTATUS=up", &path).unwrap();
        let (pid, text) = socket.receive().await.unwrap();
        assert_eq!(pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(text, "READY=1\nSTATUS=up");
    }

    #[tokio::test]
    async fn a_message_sent_between_two_agents_is_heard_by_the_second() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let first = NotifySocket::open(&path, None).unwrap();
        let kept = first.duplicate().unwrap();
        drop(first);
        UnixDatagram::unbound().unwrap().send_to(b"READY=1", &path).unwrap();
        let second = NotifySocket::open(&path, Some(kept)).unwrap();
        assert_eq!(second.receive().await.unwrap().1, "READY=1");
        assert!(second.is_inherited());
        // One that nobody can reach any more is no use.
        let kept = second.duplicate().unwrap();
        fs::remove_file(&path).unwrap();
        let third = NotifySocket::open(&path, Some(kept)).unwrap();
        UnixDatagram::unbound().unwrap().send_to(b"READY=1", &path).unwrap();
        assert_eq!(
            (third.receive().await.unwrap().1, third.is_inherited()),
            ("READY=1".into(), false)
        );
    }
}
