//! Processes held by a descriptor, so that a pid used again is never mistaken for the old process.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};

use super::wait::{Dead, Then, Who, wait};
use crate::supervise::Exit;

/// Opens a process, living or dead and not yet reaped.
///
/// # Errors
/// When there is none.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "no safe wrapper of pidfd_open in nix")]
    // SAFETY: a system call that takes two integers and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    owned(fd)
}

/// Sends a signal.
///
/// # Errors
/// What the kernel says; `ESRCH` if the process was reaped.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe wrapper of pidfd_send_signal in nix")]
    // SAFETY: the null pointer stands for "as kill(2) would", and the rest are integers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as i32,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Copies an open file out of a process.
///
/// # Errors
/// When it has no such file, or we may not.
pub fn get_fd(pidfd: BorrowedFd<'_>, fd: RawFd) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "no safe wrapper of pidfd_getfd in nix")]
    // SAFETY: a system call that takes three integers and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
    owned(fd)
}

fn owned(fd: i64) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "the kernel returned a bare number")]
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the process has ended, reaped or not.
#[must_use]
pub fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// What [`reap`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// It was our child, and is no more.
    Ended(Exit),
    /// Our child, and not dead yet.
    NotYet,
    /// Somebody else's child.
    NotOurs,
}

/// Reaps a child that ended.
#[must_use]
pub fn reap(pidfd: BorrowedFd<'_>) -> Reaped {
    match wait(Who::PidFd(pidfd.as_raw_fd()), Then::Reap) {
        Ok(Some((_, Dead::Code(code)))) => Reaped::Ended(Exit::Code(code)),
        Ok(Some((_, Dead::Signal(signal)))) => Reaped::Ended(Exit::Signal(signal)),
        Ok(None) => Reaped::NotYet,
        Err(_) => Reaped::NotOurs,
    }
}

/// The kernel's `struct pidfd_info`, first version.
#[derive(Debug, Default)]
#[repr(C)]
struct Info {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const INFO_EXIT: u64 = 1 << 3;

mod info_ioctl {
    nix::ioctl_readwrite!(pidfd_get_info, 0xFF, 11, super::Info);
}

/// How somebody else's child ended, once its parent reaped it; from kernel 6.15 on.
#[must_use]
pub fn exit_info(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    #[expect(unsafe_code, reason = "an ioctl that fills a struct")]
    // SAFETY: `info` has the layout and size that the number of the ioctl says, and outlives it.
    let done = unsafe { info_ioctl::pidfd_get_info(pidfd.as_fd().as_raw_fd(), &raw mut info) };
    if done.is_err() || info.mask & INFO_EXIT == 0 {
        return None;
    }
    Some(from_status(info.exit_code))
}

/// An end as wait(2) writes it.
#[must_use]
pub fn from_status(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsFd as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a real child to look at")]
    fn sleeper() -> std::process::Child {
        Command::new("/bin/sleep").arg("100").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test says what it could not see")]
    #[expect(clippy::zombie_processes, reason = "reaped by the function under test")]
    fn a_child_is_signalled_seen_dead_and_reaped_through_its_descriptor() {
        let child = sleeper();
        let fd = open(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(!has_ended(fd.as_fd()));
        assert_eq!(reap(fd.as_fd()), Reaped::NotYet);
        send_signal(fd.as_fd(), Signal::SIGKILL).unwrap();
        while !has_ended(fd.as_fd()) {
            std::thread::yield_now();
        }
        assert_eq!(reap(fd.as_fd()), Reaped::Ended(Exit::Signal(9)));
        assert_eq!(reap(fd.as_fd()), Reaped::NotOurs);
        assert!(send_signal(fd.as_fd(), Signal::SIGTERM).is_err());
        if let Some(exit) = exit_info(fd.as_fd()) {
            assert_eq!(exit, Exit::Signal(9));
        } else {
            eprintln!("note: this kernel does not tell the end of another's child");
        }
    }

    #[test]
    fn an_open_file_is_copied_out_of_a_process() {
        let own = open(i32::try_from(std::process::id()).unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        let copy = get_fd(own.as_fd(), file.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), file.as_raw_fd());
        assert!(get_fd(own.as_fd(), 100_000).is_err());
        assert!(open(0).is_err());
    }
}
