//! Replacing the running program by the one at a path, in the same process, with open files handed on.
//!
//! Names and numbers of the open files travel in one environment variable, which `inherit` reads. The
//! kernel closes every other file at the exec, so what is not named is not leaked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    ffi::{CString, OsString},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStringExt as _,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    unistd::execve,
};

use super::inherit::{FDS, NamedFds};

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
}
