//! This host as patching sees it: apt or dnf, systemd, `/proc`, and the files that runs are kept in.

mod apt;
mod dnf;
mod journal;
mod lock;
mod manager;
mod power;
mod services;
mod state;
mod transient;

pub use apt::Apt;
pub use dnf::Dnf;
pub use journal::DiskJournal;
pub use manager::Manager;
pub use power::HostPower;
pub use services::HostServices;
pub use transient::SystemdRun;

use std::time::Duration;

use super::{
    children::Children,
    exec::{self, Cmd, ExecError, Output},
};
use crate::patch::HostError;

/// How long a question to the package manager or to systemd may take.
const QUESTION: Duration = Duration::from_secs(120);

/// A helper in the C locale, whose answers can be read, and which asks nobody.
fn cmd(program: &str) -> Cmd {
    Cmd::new(program)
        .env("LC_ALL", "C.UTF-8")
        .env("LANGUAGE", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBIAN_PRIORITY", "critical")
        .env("APT_LISTCHANGES_FRONTEND", "none")
        .env("UCF_FORCE_CONFFOLD", "1")
        // Services are restarted once, at the end and in order, and not by a hook of every dpkg call.
        .env("NEEDRESTART_SUSPEND", "1")
        .deadline(QUESTION)
}

/// Runs it; an error names what was tried.
async fn run(children: &Children, what: &str, cmd: Cmd) -> Result<Output, HostError> {
    exec::run(children, cmd).await.map_err(|e: ExecError| HostError::because(what.to_owned(), e))
}

/// Runs it and takes a bad exit code for an error, with the last words of its complaint.
async fn run_well(children: &Children, what: &str, cmd: Cmd) -> Result<String, HostError> {
    let out = run(children, what, cmd).await?;
    if out.code == Some(0) {
        return Ok(text(&out.stdout));
    }
    Err(HostError::new(format!("{what}: {}", complaint(&out))))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a program complained of, on one line.
fn complaint(out: &Output) -> String {
    let all = text(&out.stderr);
    let lines: Vec<&str> = all.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join("; ");
    match (out.code, last.is_empty()) {
        (Some(code), true) => format!("exit code {code}"),
        (None, true) => "ended by a signal".to_owned(),
        (_, false) => last,
    }
}
