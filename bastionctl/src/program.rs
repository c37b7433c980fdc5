//! Programs of this machine that the tool runs: the only place that starts any.

use std::{ffi::OsStr, io};

use tokio::process::Command;

/// What signs in this user's name; no program that is started here needs it.
const SECRETS: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// A program by its name in PATH.
#[expect(clippy::disallowed_methods, reason = "this is where programs are started")]
pub(crate) fn command(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    for secret in SECRETS {
        command.env_remove(secret);
    }
    command
}

/// This program itself.
///
/// # Errors
/// When the system does not say where it is.
pub(crate) fn myself() -> io::Result<std::path::PathBuf> {
    std::env::current_exe()
}

/// Standard output of a short program, for tests that ask OpenSSH what it understood.
///
/// # Errors
/// When it cannot be started or fails.
#[cfg(test)]
pub(crate) async fn output(
    name: &str,
    args: &[&str],
    env: &[(&str, &std::path::Path)],
) -> io::Result<String> {
    let mut command = command(name);
    command.args(args).envs(env.iter().map(|(k, v)| (k, v))).kill_on_drop(true);
    let out = command.output().await?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        return Err(io::Error::other(format!("{name}: {}: {why}", out.status)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
