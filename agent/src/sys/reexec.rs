//! Replacing the running program by the one at a path, in the same process, with open files handed on.
//!
//! Names and numbers of the open files travel in one environment variable. The kernel closes every
//! other file at the exec, so what is not named is not leaked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    ffi::{CString, OsString},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStringExt as _,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    unistd::execve,
};

/// Open files by name.
pub type NamedFds = BTreeMap<String, OwnedFd>;

/// Names the files handed on: a JSON object of names and numbers.
const FDS: &str = "PALISADE_FDS";

/// Replaces this program. Returns only if the kernel refused, with the files still open and ours.
///
/// # Errors
/// Why the kernel refused, and the files.
pub fn exec(
    program: &Path,
    args: &[OsString],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    fds: NamedFds,
) -> Result<Infallible, (io::Error, NamedFds)> {
    match try_exec(program, args, env, &fds) {
        Ok(never) => match never {},
        Err(e) => {
            for fd in fds.values() {
                // Children started from now on must not inherit it; a failure changes nothing else.
                set_cloexec(fd, true).unwrap_or_default();
            }
            Err((e, fds))
        }
    }
}

fn try_exec(
    program: &Path,
    args: &[OsString],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    fds: &NamedFds,
) -> io::Result<Infallible> {
    let numbers: BTreeMap<&str, RawFd> =
        fds.iter().map(|(n, fd)| (n.as_str(), fd.as_raw_fd())).collect();
    let mut pairs: Vec<CString> = Vec::new();
    for (key, value) in env {
        if key != FDS {
            pairs.push(c_string([key, value].join("=".as_ref()))?);
        }
    }
    pairs.push(c_string(format!("{FDS}={}", serde_json::to_string(&numbers)?).into())?);
    let args = args.iter().cloned().map(c_string).collect::<io::Result<Vec<_>>>()?;
    let program = c_string(program.as_os_str().to_owned())?;
    for fd in fds.values() {
        set_cloexec(fd, false)?;
    }
    Ok(execve(&program, &args, &pairs)?)
}

fn c_string(s: OsString) -> io::Result<CString> {
    CString::new(s.into_vec()).map_err(io::Error::other)
}

fn set_cloexec(fd: &OwnedFd, on: bool) -> Result<(), Errno> {
    let flag = if on { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd, FcntlArg::F_SETFD(flag)).map(drop)
}

/// Takes over the files that an earlier program under this pid handed on, if it did. To be called
/// once, before anything else opens a file.
///
/// # Errors
/// When the variable is garbled or names a file that is not open: then nothing is taken over.
pub fn take_over(value: Option<OsString>) -> io::Result<NamedFds> {
    let Some(value) = value else { return Ok(NamedFds::new()) };
    let text = value.into_string().map_err(|_| io::Error::other("PALISADE_FDS is not text"))?;
    let numbers: BTreeMap<String, RawFd> = serde_json::from_str(&text)?;
    let mut taken = Vec::new();
    for number in numbers.values() {
        if *number < 3 || taken.contains(number) {
            return Err(io::Error::other(format!("PALISADE_FDS names file {number}")));
        }
        taken.push(*number);
    }
    let mut fds = NamedFds::new();
    for (name, number) in numbers {
        let fd = claim(number)?;
        set_cloexec(&fd, true)?;
        fds.insert(name, fd);
    }
    Ok(fds)
}

#[expect(unsafe_code, reason = "a number from the environment becomes an owned file")]
fn claim(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a borrow for the length of one fcntl, which fails cleanly if the number is not open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_GETFD)?;
    // SAFETY: the number is open, and by the contract of `take_over` nobody else owns it: the
    // program before us gave it away, and nothing of ours has opened files yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The name of the variable that [`take_over`] wants the value of.
#[must_use]
pub fn variable() -> &'static str {
    FDS
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_failed_exec_gives_the_files_back_closed_to_children() {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let fds = NamedFds::from([("a".to_owned(), read)]);
        let (e, fds) = exec(Path::new("/nonexistent"), &[], [], fds).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
        assert_eq!(fcntl(&fds["a"], FcntlArg::F_GETFD).unwrap(), FdFlag::FD_CLOEXEC.bits());
        std::fs::File::from(write).write_all(b"x").unwrap();
    }

    #[test]
    fn files_are_taken_over_by_name() {
        let (read, _write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(read);
        let fds = take_over(Some(format!("{{\"control\":{number}}}").into())).unwrap();
        assert_eq!(fds["control"].as_raw_fd(), number);
    }

    #[test]
    fn what_is_not_open_or_not_ours_is_refused() {
        for bad in ["{\"a\":1}", "{\"a\":99999}", "{\"a\":7,\"b\":7}", "nonsense"] {
            assert!(take_over(Some(bad.into())).is_err(), "{bad}");
        }
        assert!(take_over(None).unwrap().is_empty());
    }
}
