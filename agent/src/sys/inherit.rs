//! Open files that were there before this program: handed on by the one before us under the same pid,
//! or kept by the service manager.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Open files by name.
pub type NamedFds = BTreeMap<String, OwnedFd>;

/// The variable that names the files handed on over an exec: a JSON object of names and numbers.
pub const FDS: &str = "PALISADE_FDS";

/// Takes over what the program before us handed on: `value` is that of [`FDS`].
///
/// # Errors
/// When the variable is garbled or names a file that is not open or not handed on: then nothing is
/// taken over.
pub fn from_exec(value: Option<OsString>) -> io::Result<NamedFds> {
    let Some(value) = value else { return Ok(NamedFds::new()) };
    let text = value.into_string().map_err(|_| io::Error::other(format!("{FDS} is not text")))?;
    let numbers: BTreeMap<String, RawFd> = serde_json::from_str(&text)?;
    let take = |(name, number)| match take_one(number) {
        Some(fd) => Ok((name, fd)),
        None => Err(io::Error::other(format!("{FDS} names file {number} as {name}"))),
    };
    numbers.into_iter().map(take).collect()
}

/// The files that the service manager gave us: the values of `LISTEN_PID`, `LISTEN_FDS` and
/// `LISTEN_FDNAMES`.
#[must_use]
pub fn from_service_manager(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
) -> NamedFds {
    let own = std::process::id().to_string();
    if pid != Some(own.as_str()) {
        return NamedFds::new();
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
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};

    use super::*;

    /// A number that looks as it does after an exec: open, and not to be closed by one.
    fn handed_on() -> RawFd {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        file.into_raw_fd()
    }

    #[test]
    fn files_are_taken_over_by_name_once() {
        let number = handed_on();
        let text = OsString::from(format!("{{\"control\":{number}}}"));
        let taken = from_exec(Some(text.clone())).unwrap();
        assert_eq!(taken["control"].as_raw_fd(), number);
        assert!(from_exec(Some(text)).is_err(), "taken twice");
        assert!(from_exec(None).unwrap().is_empty());
    }

    #[test]
    fn nonsense_and_other_peoples_files_are_refused() {
        let own = tempfile::tempfile().unwrap();
        let own = format!("{{\"a\":{}}}", own.as_raw_fd());
        for bad in [own.as_str(), "{\"a\":1}", "{\"a\":99999}", "nonsense"] {
            assert!(from_exec(Some(bad.into())).is_err(), "{bad}");
        }
        let twice = handed_on();
        assert!(from_exec(Some(format!("{{\"a\":{twice},\"b\":{twice}}}").into())).is_err());
        assert!(from_service_manager(Some("1"), Some("1"), Some("x")).is_empty());
        let own = std::process::id().to_string();
        assert!(from_service_manager(Some(&own), Some("x"), None).is_empty());
    }
}
