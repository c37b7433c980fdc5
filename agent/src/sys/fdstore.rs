//! systemd's file descriptor store, asked through `NOTIFY_SOCKET`.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        linux::net::SocketAddrExt as _,
        unix::{ffi::OsStrExt as _, net::SocketAddr, net::UnixDatagram},
    },
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::supervise::FdStore;

/// The store of the service manager that started us; without one, nothing is kept.
#[derive(Debug)]
pub struct SystemdStore {
    manager: Option<UnixDatagram>,
}

impl SystemdStore {
    /// `notify_socket` is the value of `NOTIFY_SOCKET`.
    #[must_use]
    pub fn new(notify_socket: Option<&std::ffi::OsStr>) -> Self {
        let manager = notify_socket.and_then(|path| match connect(path) {
            Ok(socket) => Some(socket),
            Err(e) => {
                tracing::warn!(error = %e, "service manager not reached; sockets are not kept by it");
                None
            }
        });
        Self { manager }
    }

    fn tell(&self, text: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let Some(manager) = &self.manager else { return Ok(()) };
        let fds: Vec<_> = fd.iter().map(|f| f.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        let parts = [io::IoSlice::new(text.as_bytes())];
        // Not waited for: a manager that is busy is no reason to stop minding programs.
        sendmsg::<()>(
            manager.as_raw_fd(),
            &parts,
            control,
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        Ok(())
    }
}

fn connect(path: &std::ffi::OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(path)?,
    }
    Ok(socket)
}

impl FdStore for SystemdStore {
    fn store(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        // The store keeps two under one name, so the old one goes first. FDPOLL=0: it is not to be
        // dropped when it hangs up.
        self.remove(name)?;
        self.tell(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), Some(fd))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    fn receive(manager: &UnixDatagram) -> (String, usize) {
        let mut buf = [0_u8; 256];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 2]);
        let mut parts = [io::IoSliceMut::new(&mut buf)];
        let got =
            recvmsg::<()>(manager.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())
                .unwrap();
        let fds = got
            .cmsgs()
            .unwrap()
            .map(|c| match c {
                ControlMessageOwned::ScmRights(fds) => fds.len(),
                _ => 0,
            })
            .sum();
        let bytes = got.bytes;
        (String::from_utf8_lossy(&buf[..bytes]).into_owned(), fds)
    }

    #[test]
    fn the_manager_is_told_to_keep_and_to_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let store = SystemdStore::new(Some(path.as_os_str()));
        let file = tempfile::tempfile().unwrap();
        store.store("socket-1", file.as_fd()).unwrap();
        assert_eq!(receive(&manager), ("FDSTOREREMOVE=1\nFDNAME=socket-1".to_owned(), 0));
        assert_eq!(receive(&manager), ("FDSTORE=1\nFDNAME=socket-1\nFDPOLL=0".to_owned(), 1));
    }

    #[test]
    fn without_a_manager_nothing_is_kept_and_nothing_fails() {
        let file = tempfile::tempfile().unwrap();
        for none in [None, Some(std::ffi::OsStr::new("/nonexistent/x"))] {
            let store = SystemdStore::new(none);
            assert!(store.store("x", file.as_fd()).is_ok());
            assert!(store.remove("x").is_ok());
        }
    }
}
