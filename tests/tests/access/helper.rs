//! sshd's helper: without an agent, with one that hangs, beside another helper, and many at once.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use palisade_e2e::{
    agent::CAP,
    wait::{quickest, wait_for},
};

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
    quickest("an answer without an agent", Duration::from_secs(2), || {
        let helper = helper(&lab, "alice", "AAAA");
        assert!(!helper.status.success() && helper.stdout.is_empty(), "{}", out(&helper));
    });
    lab.start();
    assert_eq!(out(&lab.run(&granted, "id -un")), "alice\n");
}

/// The helper, as anybody may run it.
fn helper(lab: &Lab, user: &str, key: &str) -> std::process::Output {
    helper_then(lab, std::path::Path::new("/nonexistent"), user, key)
}

fn helper_then(lab: &Lab, next: &std::path::Path, user: &str, key: &str) -> std::process::Output {
    Command::new(lab.agent.binary())
        .arg("authorized-keys")
        .arg("--socket")
        .arg(lab.dir().join("run/authorized-keys.sock"))
        .arg("--then")
        .arg(next)
        .args([user, "ssh-ed25519", key, "SHA256:x"])
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
    quickest("an answer while the agent hangs", Duration::from_secs(2), || {
        let one = helper(&lab, "alice", "AAAA");
        assert!(!one.status.success() && one.stdout.is_empty(), "{}", out(&one));
    });
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
    assert_eq!(out(&logged_in), "alice\n");
    assert!(many.iter().all(|o| !o.status.success() && o.stdout.is_empty()));
    // They wait beside each other: one behind another, each for its 1.3 s, they would take a minute.
    assert!(all < Duration::from_secs(50), "{all:?}");
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
    // One that hangs is ended, also where a child of it goes on: as EC2 Instance Connect's does.
    for hangs in ["exec sleep 100", "timeout 20s sleep 100"] {
        let script = format!("#!/bin/sh\n{hangs}\n");
        palisade_agent::sys::files::write_atomic(&next, script.as_bytes(), 0o755).unwrap();
        quickest(hangs, Duration::from_secs(2), || {
            let said = helper_then(&lab, &next, "alice", "AAAA");
            assert!(!said.status.success() && said.stdout.is_empty(), "{}", out(&said));
        });
        let begun = Instant::now();
        assert_eq!(lab.run_by(&eic, None, "alice", "id").status.code(), Some(255));
        assert!(begun.elapsed() < Duration::from_secs(10), "{hangs}: {:?}", begun.elapsed());
    }
    lab.start();
}

#[test]
fn nobody_but_sshd_is_told_a_line() {
    needs_sshd!();
    let lab = Lab::new("");
    let key = lab.key("k");
    let request = lab.request(&key);
    lab.grant(&request);
    let asked = helper(&lab, "alice", request["key"].as_str().unwrap());
    assert!(asked.stdout.is_empty(), "{}", out(&asked));
    let why = wait_for("the refusal in the log", CAP, || lab.audited("login_refused").pop());
    assert!(why["why"].as_str().unwrap().contains("not sshd that asked"), "{why}");
}

/// Prints how long the helper takes; how fast a machine is, is no fact about us.
#[test]
fn a_thousand_answers_among_a_hundred_grants_are_right_and_leave_no_file_open() {
    needs_sshd!();
    // This process stands for sshd, and no session is looked for: the rest is as in a login.
    let us = std::env::current_exe().unwrap();
    let more = format!(
        "  sshd: [\"{}\"]\n  sources: [127.0.0.0/8]\n  max_per_user: 64\n  max_per_host: 100\n",
        us.display()
    );
    let lab = Lab::new(&more);
    let mut keys = Vec::new();
    for i in 0..100_u8 {
        let key = palisade_types::Ed25519Key::from_public([i; 32]).to_string();
        let mut request = lab.request_for(&key);
        request["source"] = "127.0.0.1/32".into();
        if i >= 50 {
            (request["user"], request["only"]) = ("bob".into(), "sftp".into());
        }
        lab.grant(&request);
        keys.push((request["user"].as_str().unwrap().to_owned(), key));
    }
    let files = || std::fs::read_dir(format!("/proc/{}/fd", lab.agent.pid())).unwrap().count();
    let before = files();
    let mut took: Vec<Duration> = (0..1000)
        .map(|i| {
            let (user, key) = &keys[i % keys.len()];
            let begun = Instant::now();
            let answer = helper(&lab, user, key);
            let took = begun.elapsed();
            assert!(answer.status.success(), "{}", out(&answer));
            let line = String::from_utf8(answer.stdout).unwrap();
            assert!(line.starts_with("restrict,") && line.contains(key.as_str()), "{line}");
            assert_eq!(line.lines().count(), 1);
            took
        })
        .collect();
    took.sort();
    println!("helper: p50 {:?}, p99 {:?}, most {:?}", took[500], took[990], took[999]);
    palisade_e2e::wait::wait_until("the questions to be over", palisade_e2e::agent::CAP, || {
        files() <= before + 2
    });
}

#[test]
fn a_real_sshd_asks_after_the_setup_and_no_more_after_the_removal() {
    needs_sshd!();
    let lab = Lab::new("");
    let key = lab.key("k");
    lab.grant(&lab.request(&key));
    let path = lab.dir().join("ssh/sshd_config");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> =
        text.lines().filter(|l| !l.contains("AuthorizedKeysCommand")).collect();
    let include = format!("Include {}/ssh/sshd_config.d/*.conf", lab.dir().display());
    lines.insert(0, &include);
    lines.push("AllowUsers alice bob");
    palisade_agent::sys::files::write_atomic(&path, lines.join("\n").as_bytes(), 0o600).unwrap();
    lab.reload_sshd();
    assert_eq!(lab.run(&key, "id").status.code(), Some(255), "nobody asked for the key");
    let setup = lab.in_users(&["access", "setup"]);
    assert!(setup.status.success(), "{}", out(&setup));
    assert!(out(&setup).contains("note: svc is not among AllowUsers"), "{}", out(&setup));
    lab.reload_sshd();
    assert_eq!(out(&lab.run(&key, "id -un")), "alice\n", "{}", lab.sshd_log());
    let removed = lab.in_users(&["access", "remove"]);
    assert!(removed.status.success(), "{}", out(&removed));
    lab.reload_sshd();
    assert_eq!(lab.run(&key, "id").status.code(), Some(255));
    // What sshd would not read is taken back at once.
    let broken = format!("{}\nNoSuchOption yes\n", std::fs::read_to_string(&path).unwrap());
    palisade_agent::sys::files::write_atomic(&path, broken.as_bytes(), 0o600).unwrap();
    let refused = lab.in_users(&["access", "setup"]);
    assert_eq!(refused.status.code(), Some(1), "{}", out(&refused));
    assert!(!lab.dir().join("ssh/sshd_config.d/50-palisade.conf").exists());
}
