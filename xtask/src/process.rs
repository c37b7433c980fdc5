//! Other processes, by their number.

use std::{fs, thread};

use anyhow::{Context as _, Result};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};

use crate::say;

/// Sends a signal.
pub(crate) fn signal(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to process {pid}"))
}

/// Its arguments with spaces between; empty if it is gone.
pub(crate) fn command_line(pid: i32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ").trim_end().to_owned()
}

/// The processes that it started and that still live.
pub(crate) fn children(pid: i32) -> Result<Vec<i32>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .with_context(|| format!("process {pid} is gone"))?;
    let mut found = Vec::new();
    for thread in threads {
        // A thread may end while we look; its children move to another.
        let list = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|p| p.parse::<i32>().ok()));
    }
    Ok(found)
}

/// On Ctrl-C, a hang-up or a request to end: `undo`, then our end with what it says.
#[expect(clippy::exit, reason = "other threads may be anywhere; all that must be undone is undone")]
pub(crate) fn at_end(undo: impl FnOnce() -> i32 + Send + 'static) -> Result<()> {
    use tokio::signal::unix::{self, SignalKind};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        let on = |kind| unix::signal(kind).context("listen for signals");
        (on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            // Whichever comes first ends the program; the others are not needed any more.
            tokio::select! {
                _ = signals.0.recv() => {}
                _ = signals.1.recv() => {}
                _ = signals.2.recv() => {}
            }
        });
        say::mute();
        std::process::exit(undo());
    });
    Ok(())
}

/// Kills all that we started and all that they started: with their parents gone they are ours.
/// Needs [`adopt_orphans`].
pub(crate) fn kill_children() {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    while let Ok(found) = children(me)
        && !found.is_empty()
    {
        for pid in found {
            drop(signal(pid, Signal::SIGKILL));
            waitpid(Pid::from_raw(pid), None).ok();
        }
    }
}

/// From now on what our children leave behind comes to us.
pub(crate) fn adopt_orphans() -> Result<()> {
    prctl::set_child_subreaper(true).context("become the parent of what is left behind")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{cmd::Cmd, host};

    #[test]
    fn a_child_is_found_named_and_ended() {
        let mut child = Cmd::new("sleep").arg("613").piped().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(children(me).unwrap().contains(&pid));
        host::wait_until("its new name", Duration::from_secs(5), || {
            anyhow::ensure!(command_line(pid) == "sleep 613", "{}", command_line(pid));
            Ok(())
        })
        .unwrap();
        signal(pid, Signal::SIGKILL).unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(command_line(pid), "");
    }
}
