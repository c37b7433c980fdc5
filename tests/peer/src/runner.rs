//! Runs a rendered script on an instance, as the agent's `aws:runShellScript` does.

use std::{io, process::Stdio, time::Duration};

use nix::{sys::signal, unistd::Pid};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    sync::watch,
    time,
};

use crate::{config::Instance, documents::Script};

/// Most bytes of output that are kept of each stream; the rest is read and dropped.
const MOST: usize = 1 << 20;

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// It took longer than the document allows.
    TimedOut,
    /// The command was cancelled.
    Cancelled,
    /// It could not be started.
    NotStarted(String),
}

/// What a script left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) ended: Ended,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `script` of command `id`; `cancelled` turning true ends it with its children.
pub(crate) async fn run(
    instance: &Instance,
    id: &str,
    region: &str,
    script: &Script,
    mut cancelled: watch::Receiver<bool>,
) -> Outcome {
    let failed = |e: io::Error| Outcome {
        ended: Ended::NotStarted(e.to_string()),
        stdout: String::new(),
        stderr: e.to_string(),
    };
    let shell = ["/bin/sh", "-c", &script.text];
    let mut words = instance.runner.prefix.iter().map(String::as_str).chain(shell);
    let Some(program) = words.next() else { return failed(io::Error::other("no program")) };
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .envs(&instance.runner.env)
        .env("SSM_COMMAND_ID", id)
        .env("AWS_SSM_INSTANCE_ID", &instance.id)
        .env("AWS_SSM_REGION_NAME", region)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(folder) = &script.folder {
        command.current_dir(folder);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return failed(e),
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (stdout, stderr, status) = tokio::join!(all(out), all(err), child.wait());
        (stdout, stderr, status)
    };
    let limit = Duration::from_secs(script.timeout_s);
    let ended = tokio::select! {
        (stdout, stderr, status) = work => {
            return match status {
                Ok(status) => {
                    let code = status.code().unwrap_or(-1);
                    Outcome { ended: Ended::Exited(code), stdout, stderr }
                }
                Err(e) => failed(e),
            };
        }
        () = time::sleep(limit) => Ended::TimedOut,
        true = turned(&mut cancelled) => Ended::Cancelled,
    };
    if let Some(group) = group {
        // It may have ended at this moment.
        signal::killpg(group, signal::Signal::SIGKILL).unwrap_or_default();
    }
    Outcome { ended, stdout: String::new(), stderr: String::new() }
}

/// Waits for true.
async fn turned(value: &mut watch::Receiver<bool>) -> bool {
    if value.wait_for(|v| *v).await.is_err() {
        return std::future::pending().await;
    }
    true
}

async fn all(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let room = MOST.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(&buffer[..room]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
