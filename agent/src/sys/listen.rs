//! Listening sockets that the agent holds for its programs.

use std::{
    fs, io,
    net::TcpListener,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::UnixStream,
        },
    },
    path::Path,
};

use nix::{
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrLike as _, SockaddrStorage, UnixAddr,
        bind, getsockname, getsockopt, listen, socket, sockopt,
    },
    unistd::{Gid, Uid, chown},
};

use super::users;
use crate::supervise::{ListenAddr, SharedSocket};

/// As for the sockets of systemd: who may connect is a matter of the directory.
const UNIX_MODE: u32 = 0o666;

/// Makes a socket that listens.
///
/// # Errors
/// What the kernel says; `AddrInUse` if somebody listens there already.
pub fn open(addr: &ListenAddr) -> io::Result<OwnedFd> {
    match addr {
        ListenAddr::Tcp(a) => {
            let fd = TcpListener::bind(a)?.into();
            // As long a queue as the kernel allows: it holds the connections while a program restarts.
            listen(&fd, Backlog::MAXALLOWABLE)?;
            Ok(fd)
        }
        ListenAddr::Unix(path) => {
            let fd = bind_unix(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(UNIX_MODE))?;
            listen(&fd, Backlog::MAXALLOWABLE)?;
            Ok(fd)
        }
    }
}

/// Makes a socket that a group of FastCGI programs shares.
///
/// # Errors
/// What the kernel says; that there is no such user or group.
pub fn share(shared: &SharedSocket, user: Option<&str>) -> io::Result<OwnedFd> {
    let fd = match &shared.listen {
        ListenAddr::Tcp(a) => TcpListener::bind(a)?.into(),
        ListenAddr::Unix(path) => bind_unix(path)?,
    };
    // Nobody can connect before it listens, which is after it has its owner and mode.
    match adjust(shared, user, fd.as_fd()) {
        Ok(()) => Ok(fd),
        Err(e) => {
            clean_up(&shared.listen);
            Err(e)
        }
    }
}

/// Gives a shared socket the owner, mode and queue of its settings.
///
/// # Errors
/// What the kernel says; that there is no such user or group.
pub fn adjust(shared: &SharedSocket, user: Option<&str>, fd: BorrowedFd<'_>) -> io::Result<()> {
    if let ListenAddr::Unix(path) = &shared.listen {
        let owner = match (&shared.owner, user) {
            (Some(owner), _) => Some(users::owner(owner)?),
            (None, Some(user)) => Some(users::identity(user).map(|u| (u.uid, u.gid))?),
            (None, None) => None,
        };
        if let Some((uid, gid)) = owner.filter(|_| Uid::effective().is_root()) {
            chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(shared.mode & 0o7777))?;
    }
    let backlog = shared.backlog.and_then(|n| i32::try_from(n).ok());
    // A number that the kernel does not take is one beyond its most.
    let backlog = backlog.and_then(|n| Backlog::new(n).ok()).unwrap_or(Backlog::MAXALLOWABLE);
    Ok(listen(&fd, backlog)?)
}

/// A UNIX socket that has its path and does not listen yet.
fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
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
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
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
    use std::{net::TcpStream, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn a_shared_socket_has_the_mode_and_owner_of_its_settings_before_it_listens_and_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fcgi.sock");
        let mut shared = SharedSocket {
            listen: ListenAddr::Unix(path.clone()),
            backlog: Some(7),
            mode: 0o700,
            owner: Some("root:daemon".to_owned()),
        };
        let fd = share(&shared, Some("nobody")).unwrap();
        assert!(is_listening(fd.as_fd(), &shared.listen));
        let m = fs::metadata(&path).unwrap();
        assert_eq!(m.mode() & 0o777, 0o700);
        if Uid::effective().is_root() {
            assert_eq!((m.uid(), m.gid()), (0, 1));
        }
        shared.mode = 0o660;
        adjust(&shared, None, fd.as_fd()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        drop(fd);
        shared.owner = Some("no-such-user".to_owned());
        assert!(share(&shared, None).unwrap_err().to_string().contains("no-such-user"));
        assert!(!path.exists(), "left behind by a start that failed");
    }

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
