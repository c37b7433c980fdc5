//! The systemd journal: read through libsystemd, which is looked for at run time, or else through
//! `journalctl`.
//!
//! Each following has a thread of its own, since libsystemd wants one handle used by one thread for its
//! whole life. It reads on as long as what it tells is taken, waits without polling, and ends when the
//! other side is dropped.

mod ctl;
mod export;
mod libsystemd;
mod native;

#[cfg(any(test, feature = "test-util"))]
pub use export::fuzz;
pub use export::{BadExport, Export};

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::mpsc;

use self::{ctl::Ctl, libsystemd::Library};
use super::{children::Children, proc};
use crate::logs::{JOURNAL_DROPPED, JournalAsk, JournalFollow, JournalTold, Journals};

/// Things told that nobody took yet; the thread waits beyond that. An entry is a few hundred bytes as a
/// rule, and 1 MiB at most.
const UNTAKEN: usize = 32;
/// Where `journalctl` is.
const JOURNALCTL: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];
/// A journal whose changes the kernel does not tell, on a network file system, is looked at this often.
const UNTOLD_MS: u16 = 2000;

/// The journal of this host, or of a directory.
#[derive(Debug)]
pub struct SystemJournal {
    directory: Option<PathBuf>,
    library: Option<Arc<Library>>,
    journalctl: Option<PathBuf>,
    children: Children,
}

impl SystemJournal {
    /// The journal of this host.
    #[must_use]
    pub fn of_host(children: Children) -> Self {
        let library = Library::load()
            .inspect_err(|e| tracing::debug!(error = %e, "the journal is read by journalctl"))
            .ok();
        let journalctl = JOURNALCTL.iter().map(PathBuf::from).find(|p| p.is_file());
        Self { directory: None, library: library.map(Arc::new), journalctl, children }
    }

    /// The journal files in a directory.
    #[must_use]
    pub fn of_directory(directory: &Path, children: Children) -> Self {
        Self { directory: Some(directory.to_owned()), ..Self::of_host(children) }
    }

    /// Reads by `journalctl`, though there may be a library.
    #[must_use]
    pub fn without_library(mut self) -> Self {
        self.library = None;
        self
    }

    /// Whether the library was found.
    #[must_use]
    pub fn has_library(&self) -> bool {
        self.library.is_some()
    }
}

impl Journals for SystemJournal {
    fn follow(&self, ask: JournalAsk) -> JournalFollow {
        let (tell, told) = mpsc::channel(UNTAKEN);
        let failed = |why: String| {
            let said = tell.try_send(JournalTold::Failed(why));
            debug_assert!(said.is_ok(), "a new channel has room");
        };
        let guard = match nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC) {
            Ok((ended, guard)) => {
                let teller = Teller { tell: tell.clone(), ended };
                if let Err(e) = self.start(ask, teller) {
                    failed(e.to_string());
                }
                Some(guard)
            }
            Err(e) => {
                failed(e.to_string());
                None
            }
        };
        drop(tell);
        JournalFollow { told, guard: Box::new(guard) }
    }

    fn own_unit(&self) -> Option<String> {
        let path = proc::cgroup_of(i32::try_from(std::process::id()).ok()?)?;
        unit_of(&path)
    }
}

impl SystemJournal {
    fn start(&self, ask: JournalAsk, teller: Teller) -> io::Result<()> {
        let directory = self.directory.clone();
        let thread = thread::Builder::new().name("journal".to_owned());
        match (&self.library, &self.journalctl) {
            (Some(library), _) => {
                let library = library.clone();
                thread.spawn(move || native::follow(&library, directory.as_deref(), &ask, &teller))
            }
            (None, Some(path)) => {
                let ctl = Ctl {
                    path: path.clone(),
                    directory,
                    children: self.children.clone(),
                    runtime: tokio::runtime::Handle::try_current().map_err(io::Error::other)?,
                };
                thread.spawn(move || ctl.follow(&ask, &teller))
            }
            (None, None) => {
                let what = "neither libsystemd.so.0 nor journalctl is on this host";
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
        }
        .map(drop)
    }
}

/// What a thread tells through, and how it hears that nobody listens any more.
#[derive(Debug)]
struct Teller {
    tell: mpsc::Sender<JournalTold>,
    /// Hung up by the other side when it is done.
    ended: OwnedFd,
}

impl Teller {
    /// False when nobody listens any more.
    fn tell(&self, what: JournalTold) -> bool {
        self.tell.blocking_send(what).is_ok()
    }

    /// Waits until `fd` has something, or after `timeout`; false when nobody listens any more.
    fn wait(&self, fd: BorrowedFd<'_>, timeout: PollTimeout) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(fd, PollFlags::POLLIN),
            PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
        ];
        loop {
            match poll(&mut fds, timeout) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(fds[1].revents().is_none_or(|r| r.is_empty()))
    }
}

/// What to ask for: several lists of matches, of which one must be met whole. None means everything.
fn matches(units: &[String]) -> Vec<Vec<String>> {
    if units.is_empty() {
        return Vec::new();
    }
    let mut any = Vec::new();
    for unit in units {
        any.push(vec![format!("_SYSTEMD_UNIT={unit}")]);
        // What systemd itself says of the unit.
        any.push(vec![format!("UNIT={unit}"), "_PID=1".to_owned()]);
    }
    any.push(vec![format!("MESSAGE_ID={JOURNAL_DROPPED}")]);
    any
}

/// The unit in a path of control groups, as systemd reads it: the first that is no slice.
fn unit_of(cgroup: &Path) -> Option<String> {
    let mut names = cgroup.iter().filter_map(|n| n.to_str());
    let unit = names.find(|n| n.ends_with(".service") || n.ends_with(".scope"))?;
    Some(unit.to_owned())
}

/// Which of `wanted` are among these.
fn found(wanted: &[u64], hashes: impl Iterator<Item = u64>) -> Vec<u64> {
    let wanted: BTreeSet<u64> = wanted.iter().copied().collect();
    hashes.filter(|h| wanted.contains(h)).take(wanted.len()).collect()
}

#[cfg(test)]
mod tests;
