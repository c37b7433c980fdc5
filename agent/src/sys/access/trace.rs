//! From sshd's helper to the SSM session that its connection came through.
//!
//! ```text
//! helper ── parent ──> sshd ── fd ──> socket ── /proc/net/tcp ──> the other end ── fd ──> worker
//!                                                    state/current/SESSION: SessionOwner <── argv[1]
//! ```
//! Every process is named by pid and start, and looked at again at the end: a pid that was used anew in
//! between proves nothing. Files are opened without following links, and must be root's alone.

use std::{
    fs, io,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::{super::proc, tcp};
use crate::access::{Process, Traced, Tracer, Unknown, Worker, is_session_id, owner_in};

/// sshd starts the helper itself, or through one shell.
const GENERATIONS: usize = 3;
/// Files of a process that are looked at.
const MAX_FILES: usize = 4096;
/// Processes that are looked at.
const MAX_PROCESSES: usize = 65_536;
/// A table of connections that is larger is not read to its end.
pub(in crate::sys) const MAX_TABLE: u64 = 16 << 20;
/// A state file of a session has some kilobytes.
const MAX_STATE: u64 = 1 << 20;
/// Instances that the SSM agent may have state of: one, or a few after the image was cloned.
const MAX_INSTANCES: usize = 32;

/// Looks in `/proc` and in the state of the SSM agent.
#[derive(Clone, Debug)]
pub struct ProcTracer {
    /// Where sshd's programs are.
    pub sshd: Vec<PathBuf>,
    /// Where session workers are.
    pub workers: Vec<PathBuf>,
    /// The SSM agent's state: `/var/lib/amazon/ssm`.
    pub ssm_dir: PathBuf,
}

fn unknown(what: impl Into<String>) -> Unknown {
    Unknown(what.into())
}

impl Tracer for ProcTracer {
    fn sshd_of(&self, helper: i32) -> Result<Process, Unknown> {
        let mut pid = helper;
        for _ in 0..GENERATIONS {
            let parent = proc::stat(pid).map_err(|_| unknown("the asker is gone"))?.parent;
            if is_one_of(parent, &self.sshd) {
                if !proc::is_roots(parent) {
                    return Err(unknown("the asker's sshd is not root's"));
                }
                let start_ticks = proc::stat(parent)
                    .map_err(|_| unknown("the asker's sshd is gone"))?
                    .start_ticks;
                return Ok(Process { pid: parent, start_ticks });
            }
            if parent <= 1 {
                break;
            }
            pid = parent;
        }
        Err(unknown("it was not sshd that asked"))
    }

    fn trace(&self, sshd: Process) -> Traced {
        Traced { worker: self.worker(sshd) }
    }
}

impl ProcTracer {
    fn worker(&self, sshd: Process) -> Result<Worker, Unknown> {
        let socket = other_end(sshd.pid)?;
        is_still(sshd)?;
        let worker = self.owner_of(socket)?;
        if !proc::is_roots(worker.pid) {
            return Err(unknown("the session worker at the other end is not root's"));
        }
        let session_id = argument(worker.pid)
            .filter(|a| is_session_id(a))
            .ok_or_else(|| unknown("the session worker does not say which session it carries"))?;
        is_still(worker)?;
        Ok(Worker { owner: self.session_owner(&session_id), session_id })
    }

    /// The worker that holds a socket.
    fn owner_of(&self, socket: tcp::Connection) -> Result<Process, Unknown> {
        for pid in proc::pids().into_iter().take(MAX_PROCESSES) {
            if !is_one_of(pid, &self.workers) {
                continue;
            }
            let Ok(before) = proc::stat(pid) else { continue };
            if sockets(pid).any(|inode| inode == socket.inode) {
                return Ok(Process { pid, start_ticks: before.start_ticks });
            }
        }
        let who = format!("uid {} at {}", socket.uid, socket.local);
        Err(unknown(format!("the connection does not come from an SSM session but from {who}")))
    }

    fn session_owner(&self, session_id: &str) -> Result<String, Unknown> {
        let dir = &self.ssm_dir;
        let listed =
            fs::read_dir(dir).map_err(|e| unknown(format!("read {}: {e}", dir.display())))?;
        for instance in listed.flatten().take(MAX_INSTANCES) {
            let path = instance.path().join("document/state/current").join(session_id);
            match state(&path) {
                Ok(bytes) => return owner_in(&bytes),
                Err(e) if is_absent(&e) => {}
                Err(e) => return Err(unknown(format!("read {}: {e}", path.display()))),
            }
        }
        Err(unknown(format!("the SSM agent has no state of session {session_id}")))
    }
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A file that only root could have written.
fn state(path: &Path) -> io::Result<Vec<u8>> {
    let mut open = fs::OpenOptions::new();
    open.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits());
    let file = open.open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not a file that only root may write"));
    }
    if meta.len() > MAX_STATE {
        return Err(io::Error::other("it is too large"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_STATE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The other end of the one connection that an sshd holds, as the other end sees it.
fn other_end(sshd: i32) -> Result<tcp::Connection, Unknown> {
    let held: Vec<u64> = sockets(sshd).collect();
    let mut all = Vec::new();
    for table in ["tcp", "tcp6"] {
        let path = format!("/proc/{sshd}/net/{table}");
        let mut text = String::new();
        let read = fs::File::open(&path).and_then(|f| f.take(MAX_TABLE).read_to_string(&mut text));
        match read {
            Ok(_) => all.extend(tcp::parse(&text)),
            // A kernel without IPv6.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(unknown(format!("read {path}: {e}"))),
        }
    }
    let mut ours = all.iter().filter(|c| held.contains(&c.inode));
    let (Some(ours), None) = (ours.next(), ours.next()) else {
        return Err(unknown("sshd does not hold exactly one connection"));
    };
    let theirs = all.iter().find(|c| c.local == ours.remote && c.remote == ours.local);
    theirs.copied().ok_or_else(|| {
        unknown(format!("the connection comes from {}, which is not this host", ours.remote))
    })
}

/// Inodes of the sockets that a process holds.
pub(in crate::sys) fn sockets(pid: i32) -> impl Iterator<Item = u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    files.flatten().take(MAX_FILES).filter_map(|entry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

/// Whether a process runs one of these programs, also one that was replaced on disk since.
pub(in crate::sys) fn is_one_of(pid: i32, programs: &[PathBuf]) -> bool {
    let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let exe = match exe.to_str().and_then(|e| e.strip_suffix(" (deleted)")) {
        Some(before) => PathBuf::from(before),
        None => exe,
    };
    programs.iter().any(|p| fits(p, &exe))
}

/// Whether a path is the one that is meant, where `*` stands for one part: a snap's revision.
pub(super) fn fits(pattern: &Path, path: &Path) -> bool {
    let (mut want, mut have) = (pattern.components(), path.components());
    loop {
        match (want.next(), have.next()) {
            (None, None) => return true,
            (Some(w), Some(h)) if w == h || w.as_os_str() == "*" => {}
            _ => return false,
        }
    }
}

/// The first argument of a process.
fn argument(pid: i32) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/{pid}/cmdline")).ok()?.take(4096).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes.split(|b| *b == 0).nth(1)?.to_vec()).ok()
}

fn is_still(process: Process) -> Result<(), Unknown> {
    let now = proc::stat(process.pid).map(|s| s.start_ticks).ok();
    if now == Some(process.start_ticks) { Ok(()) } else { Err(unknown("a process is gone")) }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
