//! sshd's helper: without an agent, with one that hangs, beside another helper, and many at once.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    lab::{Lab, out},
    needs_sshd,
};

/// Puts a key where sshd looks by itself.
fn make_static(lab: &Lab, key: &std::path::Path) {
    let public = std::fs::read(key.with_extension("pub")).unwrap();
    let path = lab.dir().join("static/alice");
    palisade_agent::sys::files::write_atomic(&path, &public, 0o644).unwrap();
}

#[test]
fn without_an_agent_no_grant_logs_in_and_a_break_glass_key_does() {
    needs_sshd!();
    let mut lab = Lab::new("");
    let (granted, glass) = (lab.key("granted"), lab.key("glass"));
    lab.grant(&lab.request(&granted));
    make_static(&lab, &glass);
    assert_eq!(out(&lab.run(&granted, "id -un")), "alice\n");
    lab.agent.kill_agent();
    assert_eq!(lab.run(&granted, "id").status.code(), Some(255));
    assert_eq!(out(&lab.run_by(&glass, None, "alice", "id -un")), "alice\n");
    let begun = Instant::now();
    let helper = helper(&lab, "alice", "AAAA");
    assert!(!helper.status.success() && helper.stdout.is_empty(), "{}", out(&helper));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    lab.start();
    assert_eq!(out(&lab.run(&granted, "id -un")), "alice\n");
}

/// The helper, as anybody may run it.
fn helper(lab: &Lab, user: &str, key: &str) -> std::process::Output {
    Command::new(lab.agent.binary())
        .arg("authorized-keys")
        .arg("--socket")
        .arg(lab.dir().join("run/authorized-keys.sock"))
        .args(["--then", "/nonexistent", user, "ssh-ed25519", key, "SHA256:x"])
        .output()
        .unwrap()
}

#[test]
fn an_agent_that_hangs_holds_nobody_up_for_two_seconds() {
    needs_sshd!();
    let lab = Lab::new("");
    let glass = lab.key("glass");
    make_static(&lab, &glass);
    lab.agent.signal(Signal::SIGSTOP);
    let begun = Instant::now();
    let one = helper(&lab, "alice", "AAAA");
    let took = begun.elapsed();
    let logged_in = lab.run_by(&glass, None, "alice", "id -un");
    // As many as sshd has connections at once, each of which fills the socket's queue a bit more.
    let begun = Instant::now();
    let many: Vec<_> = (0..50)
        .map(|_| {
            let (binary, socket) =
                (lab.agent.binary().to_owned(), lab.dir().join("run/authorized-keys.sock"));
            std::thread::spawn(move || {
                Command::new(binary)
                    .arg("authorized-keys")
                    .arg("--socket")
                    .arg(socket)
                    .args(["--then", "/nonexistent", "alice", "ssh-ed25519", "AAAA", "SHA256:x"])
                    .output()
                    .unwrap()
            })
        })
        .collect();
    let many: Vec<_> = many.into_iter().map(|t| t.join().unwrap()).collect();
    let all = begun.elapsed();
    lab.agent.signal(Signal::SIGCONT);
    assert!(!one.status.success() && one.stdout.is_empty(), "{}", out(&one));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(out(&logged_in), "alice\n");
    assert!(many.iter().all(|o| !o.status.success() && o.stdout.is_empty()));
    // They wait beside each other and not behind.
    assert!(all < Duration::from_secs(10), "{all:?}");
}

#[test]
fn keys_that_no_grant_has_are_left_to_the_next_helper_also_without_an_agent() {
    needs_sshd!();
    let mut lab = Lab::new("");
    let (granted, eic) = (lab.key("granted"), lab.key("eic"));
    lab.grant(&lab.request(&granted));
    let public = std::fs::read_to_string(eic.with_extension("pub")).unwrap();
    // As EC2 Instance Connect's: told the user and the fingerprint, and unprivileged.
    let script = format!(
        "#!/bin/sh\n[ \"$(id -un)\" = palisade-keys ] || exit 1\n\
         [ \"$1\" = alice ] || exit 1\ncase $2 in SHA256:*) ;; *) exit 1 ;; esac\necho '{}'\n",
        public.trim()
    );
    let next = lab.dir().join("next-helper");
    palisade_agent::sys::files::write_atomic(&next, script.as_bytes(), 0o755).unwrap();
    assert_eq!(out(&lab.run_by(&eic, None, "alice", "id -un")), "alice\n", "{}", lab.sshd_log());
    assert_eq!(out(&lab.run(&granted, "id -un")), "alice\n");
    lab.agent.kill_agent();
    assert_eq!(out(&lab.run_by(&eic, None, "alice", "id -un")), "alice\n");
    assert_eq!(lab.run(&granted, "id").status.code(), Some(255));
    // One that hangs is ended.
    palisade_agent::sys::files::write_atomic(&next, b"#!/bin/sh\nexec sleep 100\n", 0o755).unwrap();
    let begun = Instant::now();
    assert_eq!(lab.run_by(&eic, None, "alice", "id").status.code(), Some(255));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    lab.start();
}

#[test]
fn nobody_but_sshd_is_told_a_line_and_no_question_leaves_a_file_open() {
    needs_sshd!();
    let lab = Lab::new("");
    let key = lab.key("k");
    let request = lab.request(&key);
    lab.grant(&request);
    let asked = helper(&lab, "alice", request["key"].as_str().unwrap());
    assert!(asked.stdout.is_empty(), "{}", out(&asked));
    assert!(
        lab.audited("login_refused")[0]["why"].as_str().unwrap().contains("not sshd that asked")
    );
    let files = || std::fs::read_dir(format!("/proc/{}/fd", lab.agent.pid())).unwrap().count();
    let before = files();
    for _ in 0..200 {
        helper(&lab, "alice", "AAAA");
    }
    palisade_e2e::wait::wait_until("the questions to be over", palisade_e2e::agent::CAP, || {
        files() <= before + 2
    });
}
