//! Where one guest's files are: a folder with a short path, since sockets are in it. It goes with its
//! owner; if that was killed, the next guest removes it and ends the QEMU that works in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::owned::{Owned, sweep};

const PREFIX: &str = "palisade-vm";

/// The folder.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    owned: Owned,
}

impl Place {
    pub(super) fn new() -> Result<Self> {
        sweep(PREFIX, |name, _| clear(&dir_of(name)));
        let owned = Owned::new(PREFIX)?;
        let dir = dir_of(owned.name());
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self { dir, owned })
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// A short name that nobody else on this machine has, for devices.
    pub(super) fn number(&self) -> &str {
        self.owned.name().trim_start_matches(PREFIX).trim_start_matches('-')
    }

    /// Who works in the folder, for whoever has to sweep it.
    pub(super) fn works(&self, pid: u32) -> Result<()> {
        fs::write(self.dir.join("pid"), pid.to_string()).context("write QEMU's pid")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn dir_of(name: &str) -> PathBuf {
    Path::new("/var/tmp").join(name)
}

/// Best effort: what cannot be removed stays, and harms nobody.
fn clear(dir: &Path) {
    if let Some(pid) = worker(dir) {
        // It may end by itself this instant.
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
    drop(fs::remove_dir_all(dir));
}

/// The pid that the folder names, if that process works in this folder.
fn worker(dir: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&line).contains(dir.to_str()?).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Cmd;

    #[test]
    fn clearing_ends_whoever_works_in_the_folder_and_nobody_else() {
        let all = tempfile::tempdir().unwrap();
        let [ours, other] = ["ours", "other"].map(|name| all.path().join(name));
        fs::create_dir(&ours).unwrap();
        let log = all.path().join("log");
        let mut workers = [&ours, &other].map(|dir| {
            Cmd::new("sh").args(["-c", "sleep 60; true"]).arg(dir).daemon(&log).unwrap()
        });
        // A pid that another program has by now.
        fs::write(ours.join("pid"), workers[1].id().to_string()).unwrap();
        assert_eq!(worker(&ours), None);
        fs::write(ours.join("pid"), workers[0].id().to_string()).unwrap();
        clear(&ours);
        assert!(!ours.exists());
        assert!(!workers[0].wait().unwrap().success());
        assert!(workers[1].try_wait().unwrap().is_none());
        workers[1].kill().unwrap();
        workers[1].wait().unwrap();
    }
}
