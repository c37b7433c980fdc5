//! Open files over an exec of the agent: kept open and written down by name for the new program, or
//! given by the service manager.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Marks files to stay open over an exec, and returns them as text for [`take`]. A name may hold
/// anything but `=` and a line end.
///
/// # Errors
/// When the kernel refuses; all files are closed then.
pub fn keep_open(files: BTreeMap<String, OwnedFd>) -> io::Result<String> {
    for fd in files.values() {
        fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(files.into_iter().map(|(name, fd)| format!("{name}={}\n", fd.into_raw_fd())).collect())
}

/// Undoes [`keep_open`] when the exec failed, or takes the files in the new program. What is not an
/// open file is left out.
#[must_use]
pub fn take(text: &str) -> BTreeMap<String, OwnedFd> {
    text.lines()
        .filter_map(|line| line.rsplit_once('='))
        .filter_map(|(name, fd)| Some((name.to_owned(), take_one(fd.parse().ok()?)?)))
        .collect()
}

/// The files that the service manager gave us: the values of `LISTEN_PID`, `LISTEN_FDS` and
/// `LISTEN_FDNAMES`.
#[must_use]
pub fn from_service_manager(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
) -> BTreeMap<String, OwnedFd> {
    let own = std::process::id().to_string();
    if pid != Some(own.as_str()) {
        return BTreeMap::new();
    }
    let count: RawFd = count.and_then(|c| c.parse().ok()).unwrap_or(0);
    let mut names = names.unwrap_or_default().split(':');
    (3..3_i32.saturating_add(count))
        .filter_map(|fd| Some((names.next().unwrap_or_default().to_owned(), take_one(fd)?)))
        .collect()
}

/// Takes a descriptor by number if it is open, is not one of the first three, and is marked to
/// survive an exec, which nothing that this program opened for itself is.
fn take_one(fd: RawFd) -> Option<OwnedFd> {
    #[expect(unsafe_code, reason = "a bare number, checked before it is used")]
    // SAFETY: F_GETFD touches no memory and fails on a number that is no open file.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if fd < 3 || flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    #[expect(unsafe_code, reason = "inherited descriptors come as numbers")]
    // SAFETY: it is open, and no owner in this program has it: all that this program opens is closed
    // on exec, this one is not, and taking it marks it so.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    Some(owned)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::*;

    #[test]
    fn files_come_back_by_name_once() {
        let file = tempfile::tempfile().unwrap();
        let text =
            keep_open(BTreeMap::from([("output-a=b.stdout".to_owned(), file.into())])).unwrap();
        let mut back = take(&text);
        assert!(take(&text).is_empty(), "taken twice");
        let mut file = File::from(back.remove("output-a=b.stdout").unwrap());
        file.write_all(b"x").unwrap();
    }

    #[test]
    fn nonsense_and_other_peoples_files_are_left_out() {
        assert!(take("a=1\nb=99999\nc=x\nd\n").is_empty());
        assert!(from_service_manager(Some("1"), Some("1"), Some("x")).is_empty());
        let own = std::process::id().to_string();
        assert!(from_service_manager(Some(&own), Some("x"), None).is_empty());
    }
}
