//! Real processes: found with all they started, told at their terminal, ended by what they are.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

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
