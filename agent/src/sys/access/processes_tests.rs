//! Real processes: found with all they started, told at their terminal, ended by what they are.
#![expect(clippy::print_stdout, reason = "a test says why it is skipped")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use super::*;

#[expect(clippy::disallowed_methods, reason = "real processes to look at")]
fn shell(script: &str) -> (Child, Process) {
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so when all it starts is started.
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let start_ticks = proc::stat(pid).unwrap().start_ticks;
    (child, Process { pid, start_ticks })
}

/// Looks until something is found, for ten seconds.
fn found(host: &HostProcesses, trail: &mut Trail) -> Vec<Member> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let members = host.follow(trail);
        if !members.is_empty() || Instant::now() > until {
            return members;
        }
    }
}

#[test]
fn what_a_dead_sshd_left_behind_is_found_by_its_audit_session_and_what_that_started() {
    let host = HostProcesses { sshd: vec!["/usr/sbin/sshd".into()] };
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // One waits at the gate with nothing to tell it by; then it starts another and is gone.
    let script = format!(
        "echo 1001 2>&- >/proc/self/loginuid; (read x <{0}; (sleep 100 & wait) & ) & echo ready; wait",
        gate.display()
    );
    let (mut child, process) = shell(&script);
    if audit_session(process.pid).is_none() {
        println!("skipped: needs the kernel's audit sessions");
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    }
    let mut trail = Trail::new(process, 0);
    assert!(host.follow(&mut trail).len() >= 2);
    let known: Vec<Process> = trail.members.keys().copied().collect();
    assert_eq!(trail.marks.sessions.len(), 1, "{:?}", trail.marks);
    host.signal(process, Signal::Kill);
    child.wait().unwrap();
    // All that were seen are gone before there is another look.
    OpenOptions::new().write(true).open(&gate).unwrap().write_all(b"x\n").unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while known.iter().any(|p| host.is_living(*p)) && Instant::now() < until {
        std::thread::yield_now();
    }
    assert!(!known.iter().any(|p| host.is_living(*p)));
    let left = found(&host, &mut trail);
    assert!(!left.is_empty(), "nobody was found");
    assert!(left.iter().all(|m| !known.contains(&m.process) && m.role == Role::User), "{left:?}");
    assert!(host.members(process, 0).is_empty(), "without the marks it cannot be told");
    // Until nothing is left.
    let mut looks = 0;
    loop {
        let left = host.follow(&mut trail);
        if left.is_empty() {
            break;
        }
        left.iter().for_each(|m| host.signal(m.process, Signal::Kill));
        looks += 1;
        assert!(looks < 10_000, "{left:?}");
    }
}

#[test]
fn a_child_of_what_was_seen_is_found_after_sshd_is_gone_without_any_mark() {
    let host = HostProcesses { sshd: Vec::new() };
    let (mut child, process) = shell("(sleep 100 & echo ready; wait) & wait");
    let mut trail = Trail::new(process, 0);
    let members = host.follow(&mut trail);
    assert!(members.len() >= 3, "{members:?}");
    trail.members.retain(|p, _| p.pid != process.pid);
    trail.marks = Marks::default();
    host.signal(process, Signal::Kill);
    child.wait().unwrap();
    let left = host.follow(&mut trail);
    assert_eq!(left.len(), members.len() - 1, "{left:?}");
    left.iter().for_each(|m| host.signal(m.process, Signal::Kill));
}

#[test]
fn all_that_a_process_started_is_found_and_a_reused_pid_is_not_signalled() {
    let host = HostProcesses { sshd: vec!["/usr/sbin/sshd".into()] };
    let (mut child, process) = shell("sleep 100 & (sleep 100 & echo ready; wait) & wait");
    let members = host.members(process, u32::MAX);
    assert!(members.len() >= 4, "{members:?}");
    assert!(members.iter().all(|m| m.role == Role::User));
    assert!(!members.iter().any(|m| m.process.pid == own_pid()));
    let later = Process { start_ticks: process.start_ticks + 1, ..process };
    assert!(!host.is_living(later) && host.members(later, u32::MAX).is_empty());
    host.signal(later, Signal::Kill);
    assert!(host.is_living(process));
    for m in &members {
        host.signal(m.process, Signal::Kill);
    }
    child.wait().unwrap();
    assert!(!host.is_living(process));
    host.signal(Process { pid: 1, start_ticks: 0 }, Signal::Kill);
}
