//! Where the programs' cgroups go, and what can be done with one: limits, and killing all in it.
//!
//! Only cgroup v2. One directory `p.NAME` for each process, below a root that was delegated to us;
//! the agent itself sits in a leaf `agent` beside them, because a cgroup that hands controllers down
//! must hold no process.

use std::{
    fs,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use palisade_types::ProcessName;
use tokio::time;

use super::{proc, usage};
use crate::supervise::{Cgroup, Limits};

/// How long the rest of a killed cgroup may take to be gone; a process stuck in the kernel is left.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// How the names of cgroups of commands around a start begin.
const HOOKS: &str = "h.";

/// All our cgroups.
#[derive(Clone, Debug)]
pub struct Cgroups {
    root: Option<PathBuf>,
}

/// The cgroup of one process.
#[derive(Clone, Debug)]
pub struct ProcessCgroup {
    dir: PathBuf,
}

/// What the kernel counted for a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The processes in it.
    pub(super) pids: Vec<i32>,
    /// CPU time so far, where the kernel tells.
    pub(super) cpu: Option<Duration>,
    /// Bytes of memory, where it has the controller for that.
    pub(super) memory: Option<u64>,
}

impl Cgroups {
    /// Finds or makes the root. Failure means: no cgroups, and a warning that says why.
    #[must_use]
    pub fn open(setting: &Cgroup) -> Self {
        let root = match setting {
            Cgroup::Off => Ok(None),
            Cgroup::At(dir) => at(dir).map(Some),
            Cgroup::Auto => auto(),
        };
        let root = root.unwrap_or_else(|e| {
            tracing::warn!(error = %e, "no cgroups; programs are held by process group only");
            None
        });
        if let Some(root) = &root {
            hand_controllers_down(root);
        }
        Self { root }
    }

    /// Where they are, if anywhere.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The cgroup of a process, whether it is there or not.
    #[must_use]
    pub fn of(&self, name: &ProcessName) -> Option<ProcessCgroup> {
        let root = self.root.as_ref()?;
        Some(ProcessCgroup { dir: root.join(format!("p.{name}")) })
    }

    /// The cgroup of the commands around the start of a process.
    #[must_use]
    pub fn of_hooks(&self, name: &ProcessName) -> Option<ProcessCgroup> {
        let root = self.root.as_ref()?;
        Some(ProcessCgroup { dir: root.join(format!("{HOOKS}{name}")) })
    }

    /// Kills all that is in cgroups of such commands, and removes those that are empty.
    pub fn end_hooks(&self) {
        let entries = self.root.as_ref().and_then(|root| fs::read_dir(root).ok());
        for entry in entries.into_iter().flatten().flatten() {
            let is_hooks = entry.file_name().to_str().is_some_and(|n| n.starts_with(HOOKS));
            if !is_hooks || !entry.path().is_dir() {
                continue;
            }
            let group = ProcessCgroup { dir: entry.path() };
            if group.is_populated()
                && let Err(e) = group.kill()
            {
                tracing::warn!(cgroup = %group.dir.display(), error = %e, "cgroup not killed");
            }
            group.remove();
        }
    }

    /// The cgroups of ours that these pids are in, whatever they are named after.
    #[must_use]
    pub fn of_pids(&self, pids: impl Iterator<Item = i32>) -> Vec<Option<ProcessCgroup>> {
        let place = self.root.as_deref().zip(mount());
        let find = |pid| {
            let (root, mount) = place.as_ref()?;
            let whole = mount.join(proc::cgroup_of(pid)?);
            let first = whole.strip_prefix(root).ok()?.components().next()?;
            let is_ours = first.as_os_str().as_encoded_bytes().starts_with(b"p.");
            is_ours.then(|| ProcessCgroup { dir: root.join(first) })
        };
        pids.map(find).collect()
    }

    /// The process that a pid belongs to by its cgroup.
    #[must_use]
    pub fn process_of(&self, pid: i32) -> Option<ProcessName> {
        let root = self.root.as_ref()?;
        let path = proc::cgroup_of(pid)?;
        let whole = mount()?.join(path);
        let below = whole.strip_prefix(root).ok()?;
        below.components().next()?.as_os_str().to_str()?.strip_prefix("p.")?.parse().ok()
    }
}

/// Where cgroup v2 is mounted.
pub(super) fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        (back.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })
}

fn at(dir: &Path) -> io::Result<PathBuf> {
    super::files::ensure_dir(dir, 0o755)?;
    if !dir.join("cgroup.procs").exists() {
        return Err(io::Error::other(format!("{} is not in a cgroup v2 tree", dir.display())));
    }
    Ok(dir.to_owned())
}

/// Our own cgroup if it was delegated to us: then the agent moves into a leaf of it.
fn auto() -> io::Result<Option<PathBuf>> {
    let Some(own) = mount().zip(proc::cgroup_of(own_pid())) else { return Ok(None) };
    let own = own.0.join(own.1);
    if is_delegated(&own) {
        let leaf = own.join("agent");
        super::files::ensure_dir(&leaf, 0o755)?;
        write(&leaf.join("cgroup.procs"), "0")?;
        return Ok(Some(own));
    }
    // After a re-exec, or when systemd put us in the leaf itself.
    match own.parent() {
        Some(parent) if own.ends_with("agent") && is_delegated(parent) => {
            Ok(Some(parent.to_owned()))
        }
        _ => Ok(None),
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// systemd marks what it delegates; the name of the mark depends on its version.
pub(super) fn is_delegated(dir: &Path) -> bool {
    ["trusted.delegate", "user.delegate"]
        .iter()
        .any(|name| xattr(dir, name).is_some_and(|value| value.starts_with(b"1")))
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    use std::{ffi::CString, os::unix::ffi::OsStrExt as _};
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let name = CString::new(name).ok()?;
    let mut value = vec![0_u8; 64];
    #[expect(unsafe_code, reason = "no safe wrapper of getxattr in nix")]
    // SAFETY: both strings end with zero, and the buffer is as long as we say.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// Controllers that are there are handed to the programs' cgroups; each on its own, so that one that
/// is refused keeps none of the others back.
fn hand_controllers_down(root: &Path) {
    let there = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    for controller in there.split_ascii_whitespace() {
        if !["memory", "cpu", "pids"].contains(&controller) {
            continue;
        }
        if let Err(e) = write(&root.join("cgroup.subtree_control"), &format!("+{controller}")) {
            tracing::warn!(controller, error = %e, "cgroup controller not handed down");
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

impl ProcessCgroup {
    /// Makes it, with these limits. Returns it opened, and what of the limits could not be had.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn prepare(&self, limits: &Limits) -> io::Result<(OwnedFd, Option<String>)> {
        // A fresh one each time: its counters begin anew, and a kernel may take the kill of an old
        // one for meant for what is cloned into it later.
        self.remove();
        super::files::ensure_dir(&self.dir, 0o755)?;
        let warning = self.limit(limits);
        let dir =
            fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&self.dir)?;
        Ok((dir.into(), warning))
    }

    /// Puts these limits in force. Returns what of them could not be had.
    #[must_use]
    pub fn limit(&self, limits: &Limits) -> Option<String> {
        let max = |n: Option<u64>| n.map_or_else(|| "max".to_owned(), |n| n.to_string());
        let cpu = limits.cpu_percent.map_or_else(
            || "max 100000".to_owned(),
            |percent| format!("{} 100000", u64::from(percent) * 1000),
        );
        let wanted = [
            ("memory.max", limits.memory.is_some(), max(limits.memory.map(|m| m.bytes()))),
            ("cpu.max", limits.cpu_percent.is_some(), cpu),
            ("pids.max", limits.pids.is_some(), max(limits.pids.map(u64::from))),
        ];
        let mut missing = Vec::new();
        for (file, is_set, value) in wanted {
            let path = self.dir.join(file);
            if !is_set && !path.exists() {
                continue;
            }
            if let Err(e) = write(&path, &value)
                && is_set
            {
                missing.push(format!("{file} ({e})"));
            }
        }
        (!missing.is_empty()).then(|| format!("limits not in force: {}", missing.join(", ")))
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_in(&self, pid: i32) -> io::Result<()> {
        write(&self.dir.join("cgroup.procs"), &pid.to_string())
    }

    /// Whether a living process is in it.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        fs::read_to_string(self.dir.join("cgroup.events"))
            .is_ok_and(|t| t.lines().any(|l| l == "populated 1"))
    }

    /// What the kernel counted for it; none if it is not there.
    pub(super) fn counts(&self) -> Option<Counts> {
        usage::counts(&self.dir)
    }

    /// How many of its processes the kernel killed for want of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let events = fs::read_to_string(self.dir.join("memory.events")).unwrap_or_default();
        let count = events.lines().find_map(|l| l.strip_prefix("oom_kill "));
        count.and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// Kills all that is in it.
    ///
    /// # Errors
    /// What the kernel says; kernels before 5.14 have no such file, and each process is killed then.
    pub fn kill(&self) -> io::Result<()> {
        match write(&self.dir.join("cgroup.kill"), "1") {
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.dir.exists() => self.kill_each(),
            done => done,
        }
    }

    fn kill_each(&self) -> io::Result<()> {
        for pid in fs::read_to_string(self.dir.join("cgroup.procs"))?.lines() {
            if let Ok(pid) = pid.parse() {
                // One that ended meanwhile is what was wanted.
                nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                )
                .unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Kills what is left in it and waits until it is gone. Can be dropped and called again.
    pub async fn empty(&self) {
        if !self.is_populated() {
            return;
        }
        let deadline = time::Instant::now() + GONE_WITHIN;
        while self.is_populated() {
            if let Err(e) = self.kill() {
                tracing::warn!(cgroup = %self.dir.display(), error = %e, "cgroup not killed");
                return;
            }
            if time::Instant::now() >= deadline {
                tracing::warn!(cgroup = %self.dir.display(), "killed processes do not go away");
                return;
            }
            time::sleep(LOOK).await;
        }
    }

    /// Removes it; it stays while something is in it.
    pub fn remove(&self) {
        match fs::remove_dir(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(cgroup = %self.dir.display(), error = %e, "cgroup not removed");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_cgroup_gives_none() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Cgroups::open(&Cgroup::At(dir.path().to_owned()));
        assert!(groups.root().is_none());
        assert!(groups.of(&"web".parse().unwrap()).is_none());
        assert!(Cgroups::open(&Cgroup::Off).root().is_none());
    }

    #[test]
    fn only_what_the_kernel_killed_for_want_of_memory_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let group = ProcessCgroup { dir: dir.path().to_owned() };
        assert_eq!(group.oom_kills(), 0);
        let events = b"low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n";
        crate::sys::files::write_atomic(&dir.path().join("memory.events"), events, 0o600).unwrap();
        assert_eq!(group.oom_kills(), 2);
    }

    #[test]
    fn what_is_not_marked_is_not_delegated() {
        assert!(!is_delegated(Path::new("/proc")));
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test says why it is skipped")]
    fn a_process_is_counted_in_the_cgroup_that_it_is_in() {
        let Some(mount) = mount() else { return eprintln!("skipped: no cgroup v2 mount") };
        let dir = mount.join(format!("palisade-pids-{}", std::process::id()));
        let groups = Cgroups::open(&Cgroup::At(dir.clone()));
        if groups.root().is_none() {
            return eprintln!("skipped: cgroup v2 is not ours to write");
        }
        // Not of the name that is asked for.
        let group = groups.of(&"other".parse().unwrap()).unwrap();
        drop(group.prepare(&Limits::default()).unwrap());
        #[expect(clippy::disallowed_methods, reason = "a process to count")]
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        group.take_in(pid).unwrap();
        let found = groups.of_pids([pid, own_pid()].into_iter());
        let counts = found[0].as_ref().unwrap().counts().unwrap();
        let name: ProcessName = "web".parse().unwrap();
        let read = usage::read(&groups, &[(name.clone(), pid)]);
        child.kill().unwrap();
        child.wait().unwrap();
        group.remove();
        fs::remove_dir(&dir).unwrap();
        assert_eq!(counts.pids, [pid]);
        assert!(counts.cpu.is_some(), "the kernel counts CPU for every cgroup");
        assert!(found[1].is_none(), "we are in none of ours");
        assert_eq!(read[&name].processes, 1);
        assert!(read[&name].memory > 0);
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test says why it is skipped")]
    fn limits_without_controller_are_a_warning_and_not_a_failure() {
        let Some(mount) = mount() else { return eprintln!("skipped: no cgroup v2 mount") };
        let dir = mount.join(format!("palisade-unit-{}", std::process::id()));
        let groups = Cgroups::open(&Cgroup::At(dir.clone()));
        if groups.root().is_none() {
            return eprintln!("skipped: cgroup v2 is not ours to write");
        }
        let group = groups.of(&"web".parse().unwrap()).unwrap();
        let limits = Limits { pids: Some(10), ..Limits::default() };
        let (_fd, warning) = group.prepare(&limits).unwrap();
        let has_pids = fs::read_to_string(dir.join("cgroup.controllers"))
            .is_ok_and(|t| t.split_ascii_whitespace().any(|c| c == "pids"));
        assert_eq!(warning.is_none(), has_pids, "{warning:?}");
        assert!(!group.is_populated());
        group.remove();
        fs::remove_dir(&dir).unwrap();
    }
}
