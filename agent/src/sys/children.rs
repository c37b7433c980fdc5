//! Which child processes are ours, so that reaping orphans takes nobody's exit status away.
//!
//! The agent is a child subreaper: grandchildren whose parent ended become its children and must be
//! reaped. A child that the agent started itself has somebody waiting for it, who registered its pid
//! here before the kernel could report it dead.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::wait::{Then, Who, wait};

/// The pids of children that somebody waits for. Cheap to clone; all clones are one registry.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    pids: BTreeSet<i32>,
    /// Orphans come to this process and are reaped; else the dead are left to whoever waits for them.
    reaps: bool,
}

/// A registered pid; dropping it, once the child was waited for, says that nobody waits any more.
#[derive(Debug)]
pub struct Ours {
    pid: i32,
    registry: Children,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.registry.lock().pids.remove(&self.pid);
        // Orphans that died behind this child could not be seen before it was gone, and no further
        // SIGCHLD tells of them.
        self.registry.reap_orphans();
    }
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a child by `start`, which returns it with its pid, and registers the pid before any
    /// reaping can happen.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn start<T>(&self, start: impl FnOnce() -> io::Result<(T, i32)>) -> io::Result<(T, Ours)> {
        let mut registry = self.lock();
        let (child, pid) = start()?;
        registry.pids.insert(pid);
        drop(registry);
        Ok((child, Ours { pid, registry: self.clone() }))
    }

    /// Registers a living child that an earlier program under this pid started (after a re-exec).
    #[must_use]
    pub fn adopt(&self, pid: i32) -> Ours {
        self.lock().pids.insert(pid);
        Ours { pid, registry: self.clone() }
    }

    /// Reaps orphans from now on: they come to this process, and all that it waits for is known here.
    pub fn reap_the_dead(&self) {
        self.lock().reaps = true;
    }

    /// Reaps nobody from now on, so that a program that ends during a hand-over is waited for by the
    /// next agent under this pid, with its exit status.
    pub fn leave_the_dead(&self) {
        self.lock().reaps = false;
    }

    /// Reaps every dead child that nobody waits for, and returns their pids.
    ///
    /// The kernel shows one dead child at a time, so the round ends early at one that is ours and
    /// not yet waited for; dropping its [`Ours`] begins another round.
    pub fn reap_orphans(&self) -> Vec<i32> {
        let registry = self.lock();
        let mut reaped = Vec::new();
        if !registry.reaps {
            return reaped;
        }
        while let Ok(Some((pid, _))) = wait(Who::Any, Then::Leave) {
            if registry.pids.contains(&pid) || wait(Who::Pid(pid), Then::Reap).is_err() {
                break;
            }
            reaped.push(pid);
        }
        reaped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_is_no_reaper_takes_nobody_elses_dead() {
        #[expect(clippy::disallowed_methods, reason = "a child that nobody registered")]
        #[expect(clippy::zombie_processes, reason = "reaped by the function under test")]
        let child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while wait(Who::Pid(pid), Then::Leave).unwrap().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(Children::default().reap_orphans(), Vec::<i32>::new());
        assert!(wait(Who::Pid(pid), Then::Reap).unwrap().is_some(), "it is still there");
    }
}
