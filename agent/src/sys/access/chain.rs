//! From one helper of sshd to the next, for a bounded time.
//!
//! Invariant: the next helper has a pipe of ours and never sshd's own. sshd reads until nobody holds its
//! pipe any more, and a helper that is killed may have children that go on holding theirs.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

/// Lines beyond this are no answer: keys of one user.
const MAX_OUTPUT: u64 = 64 << 10;

/// What another helper said, and how it ended.
///
/// # Errors
/// When it cannot be started, says too much, or has not ended in time; then its process group is killed
/// and nothing that it said counts.
pub fn ask(
    program: &Path,
    words: &[OsString],
    within: Duration,
) -> io::Result<(ExitStatus, Vec<u8>)> {
    #[expect(clippy::disallowed_methods, reason = "no runtime: this process is sshd's helper")]
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let group = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
    let ended = said(&mut child, group, within);
    if ended.is_err() {
        // Not reaped yet, so that this number is nobody else's. It may just have ended by itself.
        killpg(group, Signal::SIGKILL).unwrap_or_default();
    }
    let status = child.wait()?;
    Ok((status, ended?))
}

/// All that a child says until it has ended; it is not reaped.
fn said(child: &mut Child, pid: Pid, within: Duration) -> io::Result<Vec<u8>> {
    let pipe = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
    let pipe = File::from(OwnedFd::from(pipe));
    let (tell, told) = mpsc::channel();
    let read = move || {
        let mut bytes = Vec::new();
        let all = pipe.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).and_then(|_| {
            waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
            Ok(bytes)
        });
        // Nobody waits any more after the deadline.
        tell.send(all).unwrap_or_default();
    };
    thread::Builder::new().spawn(read)?;
    let late = || Err(io::Error::from(io::ErrorKind::TimedOut));
    let bytes = told.recv_timeout(within).unwrap_or_else(|_| late())?;
    if bytes.len() as u64 > MAX_OUTPUT {
        return Err(io::Error::other("it says too much"));
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
