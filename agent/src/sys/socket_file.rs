//! Listening sockets in the file system, and the group they are opened to.

use std::{
    io,
    os::{fd::AsRawFd as _, unix::net::UnixListener},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
        stat::{Mode, umask},
    },
    unistd::Group,
};

/// Listens at a path that only its owner may connect to, from the moment it exists.
///
/// The mode comes from the process's umask, which is set for the length of one system call: to be
/// used before other threads make files.
///
/// # Errors
/// Whatever the kernel says.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new(path)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = bind(fd.as_raw_fd(), &address);
    umask(before);
    bound?;
    listen(&fd, Backlog::new(128)?)?;
    Ok(UnixListener::from(fd))
}

/// The number of a group, if there is one of that name or number.
///
/// # Errors
/// When the databases of groups cannot be read.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let found = Group::from_name(name).map_err(|e: Errno| io::Error::from(e))?;
    Ok(found.map(|g| g.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nobody_else_may_connect_and_the_umask_is_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let before = umask(Mode::from_bits_truncate(0o022));
        let _listener = bind_private(&path).unwrap();
        assert_eq!(umask(before), Mode::from_bits_truncate(0o022));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn groups_are_found_by_name_and_by_number() {
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert_eq!(group_id("77").unwrap(), Some(77));
        assert_eq!(group_id("no-such-group").unwrap(), None);
    }
}
