//! From one helper of sshd to the next, in the same process.

use std::{ffi::OsString, io, os::unix::process::CommandExt as _, path::Path, process::Command};

/// Becomes another helper, which the kernel ends after so many seconds. Returns only if that failed.
#[must_use]
pub fn become_helper(program: &Path, words: &[OsString], within_s: u32) -> io::Error {
    // An alarm outlives exec(2), and nothing that is not expecting one survives it.
    nix::unistd::alarm::set(within_s);
    #[expect(clippy::disallowed_methods, reason = "no child is started: this process becomes it")]
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .exec()
}
