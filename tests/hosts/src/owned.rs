//! Things outside our process (directories, namespaces, cgroups) that must not outlive it. Each has a
//! name and a lock file that its owner holds; a lock that can be taken belongs to a dead owner.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

/// Where the locks of all owners on this machine are.
const LOCKS: &str = "/run/palisade-hosts";

/// A name that is ours until dropped.
#[derive(Debug)]
pub(crate) struct Owned {
    name: String,
    // Held for its lock.
    _lock: File,
}

impl Owned {
    /// A new name: `PREFIX-PID-NUMBER`.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-{number}", process::id());
        fs::create_dir_all(LOCKS).with_context(|| format!("create {LOCKS}"))?;
        let lock = File::create(lock_of(&name)).with_context(|| format!("create {name}.lock"))?;
        lock.lock().with_context(|| format!("lock {name}.lock"))?;
        Ok(Self { name, _lock: lock })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Leaves word for whoever sweeps up after us.
    pub(crate) fn note(&self, text: &str) -> Result<()> {
        fs::write(lock_of(&self.name), text).with_context(|| format!("write {}.lock", self.name))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        fs::remove_file(lock_of(&self.name)).ok();
    }
}

fn lock_of(name: &str) -> PathBuf {
    Path::new(LOCKS).join(name).with_extension("lock")
}

/// Hands every name of this prefix whose owner is dead to `remove`, with the owner's note, under its
/// lock.
pub(crate) fn sweep(prefix: &str, mut remove: impl FnMut(&str, &str)) {
    let Ok(entries) = fs::read_dir(LOCKS) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|f| f.strip_suffix(".lock")) else { continue };
        if !name.starts_with(prefix) {
            continue;
        }
        let Ok(lock) = File::open(entry.path()) else { continue };
        match lock.try_lock() {
            Ok(()) => {
                remove(name, &fs::read_to_string(entry.path()).unwrap_or_default());
                fs::remove_file(entry.path()).ok();
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::print_stdout, reason = "says why it did nothing")]
    fn only_what_a_dead_owner_left_is_swept() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: locks lie below /run, which needs root");
            return;
        }
        let alive = Owned::new("palisade-owned-test").unwrap();
        let dead = "palisade-owned-test-0-0";
        alive.note("/somewhere").unwrap();
        fs::write(lock_of(dead), "/elsewhere").unwrap();
        let mut swept = Vec::new();
        sweep("palisade-owned-test", |name, note| swept.push(format!("{name} {note}")));
        assert_eq!(swept, [format!("{dead} /elsewhere")]);
        assert!(!lock_of(dead).exists() && lock_of(alive.name()).exists());
    }
}
