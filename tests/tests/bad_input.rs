//! What a program asks for and cannot have: each is one state and one message, and the others go on.

#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]
#![expect(clippy::print_stdout, reason = "a test says why it is skipped")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use palisade_agent::sys::files::write_atomic;
use palisade_e2e::{
    agent::{Agent, CAP},
    wait::wait_until,
};
use palisade_types::ProcessState;

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");

fn run(command: &str, args: &[&str]) {
    let out = Command::new(command).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command} {}: {said}", args.join(" "));
}

/// How often the agent said it.
fn said(agent: &Agent, what: &str) -> usize {
    agent.log().matches(what).count()
}

#[test]
fn what_cannot_start_is_fatal_with_its_reason_and_the_rest_runs() {
    let hopeless = [
        ("gone", "command: /nowhere/bin/web", "can't find command '/nowhere/bin/web'"),
        ("plain", "command: '@DIR@/plain'", "not executable"),
        ("script", "command: '@DIR@/script'", "there is no \"/no/such/shell\", which runs it"),
        (
            "stranger",
            "command: /bin/sleep 1000\n    user: nobody-by-that-name",
            "nobody-by-that-name",
        ),
        ("nowhere", "command: /bin/sleep 1000\n    directory: /nowhere/at/all", "/nowhere/at/all"),
        (
            "taken",
            "command: /bin/sleep 1000\n    sockets: [{ name: web, listen: '203.0.113.1:80' }]",
            "203.0.113.1:80",
        ),
    ];
    let mut config = "programs:\n  good: { command: /bin/sleep 1000 }\n".to_owned();
    for (name, keys, _) in hopeless {
        config += &format!("  {name}:\n    {keys}\n    startretries: 1\n");
    }
    let mut agent = Agent::new(BINARY, &config);
    write_atomic(&agent.dir().join("plain"), b"just text", 0o644).unwrap();
    write_atomic(&agent.dir().join("script"), b"#!/no/such/shell\n", 0o755).unwrap();
    agent.start();
    let good = agent.wait_running("good");
    let mut others = Vec::new();
    for (name, _, why) in hopeless {
        let error = agent.wait_state(name, ProcessState::Fatal).error.unwrap_or_default();
        others.extend((!error.contains(why)).then(|| format!("{name}: {error}")));
    }
    assert!(others.is_empty(), "{others:#?}");
    // Mended, it is one request away.
    write_atomic(&agent.dir().join("script"), b"#!/bin/sh\nexec sleep 1000\n", 0o755).unwrap();
    assert_eq!(agent.ok(&["start", "script"]), "script: started\n");
    assert_eq!(agent.wait_running("good"), good);
}

#[test]
fn a_log_that_cannot_be_written_is_told_once_and_holds_nobody_up() {
    let mut agent = Agent::new(
        BINARY,
        "programs:\n  talker:\n    command: [/bin/sh, -c, 'while :; do echo line; sleep 0.01; done']\n    \
         stdout_logfile: '@DIR@/file/talker.log'\n  \
         link:\n    command: [/bin/sh, -c, 'while :; do echo line; sleep 0.01; done']\n    \
         stdout_logfile: '@DIR@/open/link.log'\n",
    );
    fs::write(agent.dir().join("file"), "not a directory").unwrap();
    fs::write(agent.dir().join("precious"), "as it was").unwrap();
    // Where anybody may write, anybody may have made the link.
    let open = agent.dir().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::symlink(agent.dir().join("precious"), open.join("link.log")).unwrap();
    agent.start();
    let pids = ["talker", "link"].map(|name| agent.wait_running(name));
    wait_until("both to be told", CAP, || said(&agent, "log file not written") == 2);
    // What is told once stays told once: the lines of a second are a hundred.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(said(&agent, "log file not written"), 2, "{}", agent.log());
    assert_eq!(["talker", "link"].map(|name| agent.wait_running(name)), pids);
    assert_eq!(agent.read("precious"), "as it was", "a link was followed");
    fs::remove_file(agent.dir().join("file")).unwrap();
    fs::create_dir(agent.dir().join("file")).unwrap();
    wait_until("the log to be written again", CAP, || {
        agent.read("file/talker.log").contains("line")
    });
}

/// A file system of its own, as large as given.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir(at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "none", at.to_str().unwrap()]);
        Self(at.to_path_buf())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_under_a_log_stops_no_program_and_the_gap_is_counted() {
    let mut agent = Agent::new(
        BINARY,
        "programs:\n  loud:\n    command: [/bin/sh, -c, 'i=0; while :; do i=$((i+1)); echo line $i; sleep \
         0.001; done']\n    stdout_logfile: '@DIR@/small/loud.log'\n  \
         other:\n    command: [/bin/sh, -c, 'while :; do echo line; sleep 0.05; done']\n    \
         stdout_logfile: '@DIR@/other.log'\n",
    );
    let small = agent.dir().join("small");
    let _disk = Disk::mount(&small, "64k");
    let ballast = small.join("ballast");
    fs::write(&ballast, vec![b'x'; 56 << 10]).unwrap();
    agent.start();
    let pids = ["loud", "other"].map(|name| agent.wait_running(name));
    wait_until("the disk to be full", CAP, || said(&agent, "log file not written") == 1);
    let before = agent.read("other.log").len();
    wait_until("the other to go on", CAP, || agent.read("other.log").len() > before + 10);
    fs::remove_file(&ballast).unwrap();
    wait_until("room to be used", CAP, || said(&agent, "log file written again") == 1);
    assert!(agent.log().contains("dropped_bytes="), "{}", agent.log());
    assert_eq!(["loud", "other"].map(|name| agent.wait_running(name)), pids);
    // Lines that are there are whole.
    let text = agent.read("small/loud.log");
    let (whole, _) = text.rsplit_once('\n').unwrap();
    assert!(whole.lines().all(|l| l.starts_with("line ")), "{whole}");
}

const TWO: &str = "programs:\n  web: { command: /bin/sleep 1000, startsecs: 0s, startretries: 1000 }\n  \
                   steady: { command: /bin/sleep 1000 }\n";

/// Kills `web` while the agent cannot start anything, and gives it what it needs once that was said.
fn starts_again(agent: &Agent, why: &str, take: impl FnOnce(), give: impl FnOnce()) {
    let (web, steady) = (agent.wait_running("web"), agent.wait_running("steady"));
    take();
    run("kill", &["-KILL", &web.to_string()]);
    wait_until("the start that fails", CAP, || agent.log().contains(why));
    give();
    assert_ne!(agent.wait_running("web"), web);
    assert_eq!(agent.wait_running("steady"), steady);
    assert_eq!(agent.program("web").unwrap().error, None, "an old reason is shown");
}

#[test]
fn without_descriptors_nothing_that_runs_is_lost_and_the_start_is_tried_again() {
    let mut agent = Agent::new(BINARY, TWO);
    agent.start();
    let limit =
        |n: &str| run("prlimit", &["--pid", &agent.pid().to_string(), &format!("--nofile={n}:")]);
    let before = fs::read_to_string(format!("/proc/{}/limits", agent.pid())).unwrap();
    let line = before.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let soft = line.split_whitespace().nth(3).unwrap().to_owned();
    starts_again(&agent, "Too many open files", || limit("5"), || limit(&soft));
}

/// A group of the kernel that holds no more than so many tasks.
struct Tasks(PathBuf);

impl Tasks {
    /// None, and a word why, where there is no such controller.
    fn new(pid: i32) -> Option<Self> {
        let here = [Path::new("/sys/fs/cgroup/pids"), Path::new("/sys/fs/cgroup")];
        let Some(root) = here.into_iter().find(|r| r.join("cgroup.procs").exists()) else {
            println!("skipped: no cgroup file system is mounted");
            return None;
        };
        let dir = root.join(format!("palisade-test-{pid}"));
        fs::create_dir(&dir).unwrap();
        let tasks = Self(dir);
        if !tasks.0.join("pids.max").exists() {
            println!("skipped: the pids controller is not on in {}", root.display());
            return None;
        }
        fs::write(tasks.0.join("cgroup.procs"), pid.to_string()).unwrap();
        Some(tasks)
    }

    fn limit(&self, most: &str) {
        fs::write(self.0.join("pids.max"), most).unwrap();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let parent = self.0.parent().unwrap().join("cgroup.procs");
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            fs::write(&parent, pid).ok();
        }
        fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn where_the_kernel_starts_no_process_the_start_is_tried_again() {
    let mut agent = Agent::new(BINARY, TWO);
    agent.start();
    let Some(tasks) = Tasks::new(agent.pid()) else { return };
    starts_again(
        &agent,
        "Resource temporarily unavailable",
        || tasks.limit("1"),
        || tasks.limit("max"),
    );
}
