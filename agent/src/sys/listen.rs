//! Listening sockets that the agent holds for its programs.

use std::{
    fs, io,
    net::TcpListener,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::AtFlags,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrLike as _, SockaddrStorage, UnixAddr,
        bind, connect, getsockname, getsockopt, listen, socket, sockopt,
    },
    unistd::{Gid, Uid, fchownat},
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
            set_mode(&socket_file(path)?, UNIX_MODE)?;
            listen(&fd, Backlog::MAXALLOWABLE)?;
            Ok(fd)
        }
        ListenAddr::Nowhere { why, .. } => Err(io::Error::other(why.clone())),
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
        ListenAddr::Nowhere { why, .. } => return Err(io::Error::other(why.clone())),
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
        let file = socket_file(path)?;
        if let Some((uid, gid)) = owner.filter(|_| Uid::effective().is_root()) {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            fchownat(&file, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
        }
        set_mode(&file, shared.mode & 0o7777)?;
    }
    let backlog = shared.backlog.and_then(|n| i32::try_from(n).ok());
    // A number that the kernel does not take is one beyond its most.
    let backlog = backlog.and_then(|n| Backlog::new(n).ok()).unwrap_or(Backlog::MAXALLOWABLE);
    Ok(listen(&fd, backlog)?)
}

/// The socket at a path, which may lie where a program can write: whatever else was put in its place is not
/// touched, least of all what a link names.
fn socket_file(path: &Path) -> io::Result<fs::File> {
    let mut look = fs::OpenOptions::new();
    let file = look.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let m = file.metadata()?;
    if m.file_type().is_socket() && m.nlink() == 1 {
        Ok(file)
    } else {
        Err(io::Error::other(format!("{} is not the socket that was made there", path.display())))
    }
}

/// By the file itself: a path could mean another one by now.
fn set_mode(file: &fs::File, mode: u32) -> io::Result<()> {
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(itself, fs::Permissions::from_mode(mode))
}

/// Whether the file of a socket that is held is gone: then nobody can connect to it any more.
#[must_use]
pub fn is_gone(addr: &ListenAddr) -> bool {
    let ListenAddr::Unix(path) = addr else { return false };
    fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// Whether nobody listens at a path. Waits for nothing: whoever listens there may not be taking anybody in.
fn is_left_behind(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    Ok(connect(fd.as_raw_fd(), &UnixAddr::new(path)?) == Err(Errno::ECONNREFUSED))
}

/// Makes room for a socket: one that a process left which is no more is removed, and nothing else is.
///
/// # Errors
/// What the kernel says. It is no error that something else is there: that is found when binding.
pub fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(m) if m.file_type().is_socket() && is_left_behind(path)? => fs::remove_file(path),
        _ => Ok(()),
    }
}

/// A UNIX socket that has its path and does not listen yet.
fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    make_room(path)?;
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
        ListenAddr::Nowhere { .. } => false,
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
    use std::{net::TcpStream, os::unix::fs::symlink};

    use super::*;
    use crate::testing::once_closed;

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
    fn what_was_put_in_the_place_of_a_socket_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret) = (dir.path().join("fcgi.sock"), dir.path().join("secret"));
        super::super::files::write_atomic(&secret, b"x", 0o600).unwrap();
        let shared = SharedSocket {
            listen: ListenAddr::Unix(path.clone()),
            backlog: None,
            mode: 0o777,
            owner: Some("nobody".to_owned()),
        };
        let fd = share(&shared, None).unwrap();
        for put in [
            |secret: &Path, path: &Path| symlink(secret, path),
            |secret: &Path, path: &Path| fs::hard_link(secret, path),
        ] {
            fs::remove_file(&path).unwrap();
            put(&secret, &path).unwrap();
            adjust(&shared, None, fd.as_fd()).unwrap_err();
            let m = fs::metadata(&secret).unwrap();
            assert_eq!((m.mode() & 0o777, m.uid()), (0o600, Uid::effective().as_raw()));
        }
        fs::remove_file(&path).unwrap();
        assert!(is_gone(&shared.listen));
    }

    #[test]
    fn one_that_listens_and_takes_nobody_in_is_alive_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&fd, Backlog::new(0).unwrap()).unwrap();
        let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let refused = open(&ListenAddr::Unix(path)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_held_socket_is_recognised_by_its_address() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addr = ListenAddr::Tcp(free);
        let fd = once_closed(|| open(&addr));
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
        let fd = once_closed(|| open(&addr));
        assert!(is_listening(fd.as_fd(), &addr));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, UNIX_MODE);
        assert_eq!(open(&addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(fd);
        clean_up(&addr);
        assert!(!path.exists());
    }
}
