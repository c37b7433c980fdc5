//! The processes of a login: found by their parents, by the login's cgroup and its audit session; told,
//! signalled and looked at so that a pid that was used again is never mistaken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write as _,
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::PathBuf,
};

use nix::{fcntl::OFlag, sys::signal};

use super::{
    super::{pidfd, proc},
    trace::is_one_of,
};
use crate::access::{
    Grant, Login, Marks, Member, Process, Processes, Role, Session, Signal, Trail,
};

/// What the kernel says where no audit session was set.
const NO_SESSION: &str = "4294967295";

/// This host's processes.
#[derive(Clone, Debug)]
pub struct HostProcesses {
    /// Where sshd's programs are.
    pub sshd: Vec<PathBuf>,
}

impl Processes for HostProcesses {
    fn login(&self, grant: &Grant, session: &Session) -> Login {
        if !self.is_living(session.sshd) {
            return Login::Gone;
        }
        let pid = session.sshd.pid;
        if grant.uid == 0 {
            // For root sshd makes no process of the user's own: it names itself after the login.
            let named = format!("{}@", grant.user);
            let all = children(pid).into_iter().chain([pid]);
            let said = |p: i32| title(p).is_some_and(|t| t.contains(&named));
            return if all.into_iter().any(said) { Login::In } else { Login::Waits };
        }
        // Before the login sshd's child is sshd's own user; after it, the user.
        let users = |p: &i32| proc::user_of(*p) == Some(grant.uid);
        if children(pid).iter().any(users) { Login::In } else { Login::Waits }
    }

    fn follow(&self, trail: &mut Trail) -> Vec<Member> {
        let mut all: BTreeMap<i32, proc::Stat> =
            proc::pids().into_iter().filter_map(|p| Some((p, proc::stat(p).ok()?))).collect();
        all.retain(|_, s| s.zombie_status.is_none());
        trail
            .members
            .retain(|p, _| all.get(&p.pid).is_some_and(|s| s.start_ticks == p.start_ticks));
        let mut found: BTreeSet<i32> = BTreeSet::new();
        add_with_children(&mut found, trail.members.keys().map(|p| p.pid), &all);
        if trail.members.contains_key(&trail.sshd) {
            let parent = all.get(&trail.sshd.pid).map_or(0, |s| s.parent);
            let Marks { scopes, sessions } = marks(&found, parent);
            trail.marks.scopes.extend(scopes);
            trail.marks.sessions.extend(sessions);
        }
        // What left its parent, or lost it, is still in the login's scope and audit session.
        let marks = &trail.marks;
        let is_marked = |pid: &i32| {
            let in_scope = || scope(*pid).is_some_and(|s| marks.scopes.contains(&s));
            let in_session = || audit_session(*pid).is_some_and(|s| marks.sessions.contains(&s));
            in_scope() || in_session()
        };
        let is_users = |pid: &i32| proc::user_of(*pid) == Some(trail.uid);
        let any = !marks.scopes.is_empty() || !marks.sessions.is_empty();
        let left: Vec<i32> = all
            .keys()
            .copied()
            .filter(|p| any && !found.contains(p) && is_users(p) && is_marked(p))
            .collect();
        add_with_children(&mut found, left.into_iter(), &all);
        let member = |pid: i32| {
            let stat = all.get(&pid)?;
            Some(Member {
                process: Process { pid, start_ticks: stat.start_ticks },
                role: if is_one_of(pid, &self.sshd) { Role::Sshd } else { Role::User },
                tty: stat.pts,
            })
        };
        let mut members: Vec<Member> = found.into_iter().filter_map(member).collect();
        members.sort_by_key(|m| m.role != Role::Sshd);
        trail.members.extend(members.iter().map(|m| (m.process, m.role)));
        members
    }

    fn is_living(&self, process: Process) -> bool {
        proc::stat(process.pid)
            .is_ok_and(|s| s.start_ticks == process.start_ticks && s.zombie_status.is_none())
    }

    fn signal(&self, process: Process, signal: Signal) {
        let Ok(fd) = pidfd::open(process.pid) else { return };
        // Looked at through the number after it is held by a descriptor: it is this one or none.
        if process.pid <= 1 || process.pid == own_pid() || !self.is_living(process) {
            return;
        }
        let signal = match signal {
            Signal::Hangup => signal::Signal::SIGHUP,
            Signal::Terminate => signal::Signal::SIGTERM,
            Signal::Kill => signal::Signal::SIGKILL,
        };
        if let Err(e) = pidfd::send_signal(fd.as_fd(), signal) {
            tracing::debug!(pid = process.pid, error = %e, "a process of a login is gone");
        }
    }

    fn tell(&self, tty: u32, text: &str) {
        let mut open = OpenOptions::new();
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        open.write(true).custom_flags(flags.bits());
        let told = open.open(format!("/dev/pts/{tty}")).and_then(|mut file| {
            if !file.metadata()?.file_type().is_char_device() {
                return Err(std::io::Error::other("it is no terminal"));
            }
            file.write_all(text.as_bytes())
        });
        if let Err(e) = told {
            tracing::debug!(tty, error = %e, "a login could not be told");
        }
    }
}

/// Adds processes, and all that they started and that still has its parent.
fn add_with_children(
    found: &mut BTreeSet<i32>,
    first: impl Iterator<Item = i32>,
    all: &BTreeMap<i32, proc::Stat>,
) {
    let mut open: Vec<i32> = first.filter(|p| found.insert(*p)).collect();
    while let Some(parent) = open.pop() {
        for (pid, _) in all.iter().filter(|(_, s)| s.parent == parent) {
            if found.insert(*pid) {
                open.push(*pid);
            }
        }
    }
}

/// What the processes of a login are known by. An sshd that somebody started from a login of their own
/// shares theirs: nothing counts that sshd's parent or we have too.
fn marks(found: &BTreeSet<i32>, parent: i32) -> Marks {
    let others = [parent, own_pid()];
    let shared_scopes: Vec<PathBuf> = others.iter().filter_map(|p| scope(*p)).collect();
    let shared: Vec<String> = others.iter().filter_map(|p| audit_session(*p)).collect();
    let mut scopes: BTreeSet<PathBuf> = found.iter().filter_map(|p| scope(*p)).collect();
    scopes.retain(|s| !shared_scopes.contains(s));
    let mut sessions: BTreeSet<String> = found.iter().filter_map(|p| audit_session(*p)).collect();
    sessions.retain(|s| !shared.contains(s));
    Marks { scopes, sessions }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// The children of every thread of a process.
fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    lists
        .flat_map(|l| l.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// What a process calls itself.
pub(super) fn title(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

/// The scope that systemd-logind made for a login.
fn scope(pid: i32) -> Option<PathBuf> {
    let path = proc::cgroup_of(pid)?;
    let is_scope = |part: &std::ffi::OsStr| {
        part.to_str().is_some_and(|p| p.starts_with("session-") && p.ends_with(".scope"))
    };
    // Up to the scope, whatever a program made below it.
    let mut up = PathBuf::new();
    for part in path.iter() {
        up.push(part);
        if is_scope(part) {
            return Some(up);
        }
    }
    None
}

/// The audit session that PAM set for a login, and that no process can leave.
fn audit_session(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/sessionid")).ok()?;
    let text = text.trim();
    (!text.is_empty() && text != NO_SESSION).then(|| text.to_owned())
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
