//! Listening sockets that the agent holds for its programs.

use std::{
    fs, io,
    net::TcpListener,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

use nix::sys::socket::{
    Backlog, SockaddrLike as _, SockaddrStorage, UnixAddr, getsockname, getsockopt, listen, sockopt,
};

use crate::supervise::ListenAddr;

/// As for the sockets of systemd: who may connect is a matter of the directory.
const UNIX_MODE: u32 = 0o666;

/// Makes a socket that listens.
///
/// # Errors
/// What the kernel says; `AddrInUse` if somebody listens there already.
pub fn open(addr: &ListenAddr) -> io::Result<OwnedFd> {
    let fd: OwnedFd = match addr {
        ListenAddr::Tcp(a) => TcpListener::bind(a)?.into(),
        ListenAddr::Unix(path) => unix(path)?.into(),
    };
    // As long a queue as the kernel allows: it holds the connections while a program restarts.
    listen(&fd, Backlog::MAXALLOWABLE)?;
    Ok(fd)
}

fn unix(path: &Path) -> io::Result<UnixListener> {
    if let Ok(m) = fs::symlink_metadata(path)
        && m.file_type().is_socket()
        && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    {
        // Left by a process that is no more.
        fs::remove_file(path)?;
    }
    if let Some(dir) = path.parent() {
        super::files::ensure_dir(dir, 0o755)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(UNIX_MODE))?;
    Ok(listener)
}

/// Whether this is a socket that listens at `addr`.
#[must_use]
pub fn is_listening(fd: BorrowedFd<'_>, addr: &ListenAddr) -> bool {
    if !matches!(getsockopt(&fd, sockopt::AcceptConn), Ok(true)) {
        return false;
    }
    match addr {
        ListenAddr::Tcp(want) => {
            let Ok(have) = getsockname::<SockaddrStorage>(fd.as_raw_fd()) else { return false };
            match want {
                std::net::SocketAddr::V4(v4) => {
                    have.as_sockaddr_in().is_some_and(|h| std::net::SocketAddrV4::from(*h) == *v4)
                }
                std::net::SocketAddr::V6(v6) => have
                    .as_sockaddr_in6()
                    .is_some_and(|h| (h.ip(), h.port()) == (*v6.ip(), v6.port())),
            }
        }
        ListenAddr::Unix(path) => getsockname::<UnixAddr>(fd.as_raw_fd())
            .is_ok_and(|have| have.len() > 0 && have.path() == Some(path)),
    }
}

/// Removes the file of a UNIX socket.
pub fn clean_up(addr: &ListenAddr) {
    if let ListenAddr::Unix(path) = addr
        && let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), error = %e, "socket file not removed");
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn a_held_socket_is_recognised_by_its_address() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addr = ListenAddr::Tcp(free);
        let fd = open(&addr).unwrap();
        assert!(is_listening(fd.as_fd(), &addr));
        assert!(!is_listening(fd.as_fd(), &ListenAddr::Tcp("127.0.0.1:1".parse().unwrap())));
        let stream = TcpStream::connect(free).unwrap();
        assert!(!is_listening(stream.as_fd(), &addr));
        assert_eq!(open(&addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_file_left_behind_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let addr = ListenAddr::Unix(path.clone());
        drop(open(&addr).unwrap());
        let fd = open(&addr).unwrap();
        assert!(is_listening(fd.as_fd(), &addr));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, UNIX_MODE);
        assert_eq!(open(&addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(fd);
        clean_up(&addr);
        assert!(!path.exists());
    }
}
