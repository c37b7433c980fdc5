//! Waiting for children by number of the signal that ended them.
//!
//! nix names signals and has no names for the real-time ones: its `waitid` reaps such a child and then
//! says that it failed.

use nix::errno::Errno;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dead {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Whom to wait for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// Any child.
    Any,
    /// The child of this pid.
    Pid(i32),
    /// The child of this pidfd.
    PidFd(std::os::fd::RawFd),
}

/// Whether a dead child stays to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is gone.
    Reap,
    /// It stays.
    Leave,
}

/// A dead child, if there is one now.
pub(super) fn wait(who: Who, then: Then) -> Result<Option<(i32, Dead)>, Errno> {
    let (kind, id) = match who {
        Who::Any => (libc::P_ALL, 0),
        Who::Pid(pid) => (libc::P_PID, pid),
        Who::PidFd(fd) => (libc::P_PIDFD, fd),
    };
    let id = libc::id_t::try_from(id).map_err(|_| Errno::EINVAL)?;
    let leave = if then == Then::Leave { libc::WNOWAIT } else { 0 };
    loop {
        #[expect(unsafe_code, reason = "plain data for the kernel to fill in")]
        // SAFETY: all bytes zero is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        #[expect(unsafe_code, reason = "the call that nix has only by named signals")]
        // SAFETY: `info` is valid for writing and lives over the call.
        let done =
            unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | libc::WNOHANG | leave) };
        match Errno::result(done) {
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e),
            Ok(_) => {}
        }
        #[expect(unsafe_code, reason = "fields of a union")]
        // SAFETY: waitid fills in the fields of SIGCHLD, or leaves all zero.
        let pid = unsafe { info.si_pid() };
        #[expect(unsafe_code, reason = "fields of a union")]
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        let dead = if info.si_code == libc::CLD_EXITED {
            Dead::Code(status)
        } else {
            Dead::Signal(status)
        };
        return Ok((pid != 0).then_some((pid, dead)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a child that nobody else waits for")]
    #[expect(clippy::zombie_processes, reason = "reaped by the function under test")]
    fn a_child_that_a_real_time_signal_ended_is_seen_left_and_reaped() {
        let mut shell = std::process::Command::new("/bin/sh");
        let child = shell.args(["-c", "kill -40 $$"]).spawn().unwrap();
        let who = Who::Pid(i32::try_from(child.id()).unwrap());
        let seen = loop {
            if let Some((_, dead)) = wait(who, Then::Leave).unwrap() {
                break dead;
            }
            std::thread::yield_now();
        };
        assert_eq!(seen, Dead::Signal(40));
        assert_eq!(wait(who, Then::Reap).unwrap().map(|(_, dead)| dead), Some(Dead::Signal(40)));
        assert_eq!(wait(who, Then::Reap), Err(Errno::ECHILD));
    }
}
