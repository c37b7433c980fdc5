//! How grants and logins end.

use std::{
    io::Read as _,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use palisade_e2e::{agent::CAP, wait::wait_until};

use crate::{
    lab::{ALICE, Lab, out},
    needs_sshd,
};

/// Reads what a login prints, on a thread, until it ends.
fn listen(child: &mut Child) -> std::thread::JoinHandle<String> {
    let mut stdout = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).ok();
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// A login at a terminal that stays until it is ended.
fn stay(lab: &Lab, key: &std::path::Path, user: &str) -> Child {
    let mut ssh = lab.ssh("/usr/bin/ssh", key, Some("alice-0001"));
    ssh.arg("-tt").arg(format!("{user}@127.0.0.1")).arg("echo here; sleep 1000 & wait");
    ssh.stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_grant_admits_logins_and_files_then_warns_and_ends_them_on_time() {
    needs_sshd!();
    let lab = Lab::new("");
    let key = lab.key("k");
    let mut request = lab.request(&key);
    // The warning comes a minute before the end: so long may the logins take.
    request["ttl_s"] = 80.into();
    let begun = Instant::now();
    let reply = lab.grant(&request);
    assert_eq!(reply["ttl_s"], 80);
    assert_eq!(reply["binding"], "strict");
    let host_key = lab.agent.read("ssh/ssh_host_ed25519_key.pub");
    assert!(host_key.starts_with(reply["host_keys"][0].as_str().unwrap()), "{reply}");
    for _ in 0..2 {
        let ran = lab.run(&key, "id -un");
        assert_eq!(out(&ran), "alice\n", "{}\n{}", lab.sshd_log(), lab.agent.log());
    }
    let mut sftp = lab.ssh("/usr/bin/sftp", &key, Some("alice-0001"));
    let batch = lab.dir().join("batch");
    palisade_agent::sys::files::write_atomic(&batch, b"put /etc/hostname got\n", 0o644).unwrap();
    sftp.arg("-b").arg(&batch).arg("alice@127.0.0.1");
    let put = sftp.output().unwrap();
    assert!(put.status.success(), "{}", out(&put));
    assert_eq!(lab.agent.read("home/alice/got"), std::fs::read_to_string("/etc/hostname").unwrap());

    let mut login = stay(&lab, &key, "alice");
    let said = listen(&mut login);
    wait_until("the login to be known", CAP, || lab.logins() == 1);
    let sshd = lab.grants()[0].sessions[0].pid;
    assert_eq!(lab.grants()[0].sessions[0].session_id, "alice-0001");
    let end = Duration::from_secs(80);
    wait_until("the login to end", end + Duration::from_secs(10), || {
        login.try_wait().unwrap().is_some()
    });
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(79), "ended early: {took:?}");
    assert!(took <= end + Duration::from_secs(5), "ended late: {took:?}");
    let said = said.join().unwrap();
    assert!(said.contains("ends in 1 min"), "{said:?}");
    assert!(said.contains("the grant expired"), "{said:?}");
    wait_until("sshd of the login to be gone", CAP, || {
        !std::path::Path::new(&format!("/proc/{sshd}")).exists()
    });
    let late = lab.run(&key, "id");
    assert_eq!(late.status.code(), Some(255), "{}", out(&late));
    wait_until("the end in the log", CAP, || lab.grants().is_empty());

    let logins = lab.audited("login");
    assert_eq!(logins.len(), 4, "two commands, one sftp, one that stayed: {logins:?}");
    for line in &logins {
        assert_eq!(
            (line["owner"].as_str(), line["session_id"].as_str()),
            (Some(ALICE), Some("alice-0001"))
        );
        assert_eq!(line["grant"], request["id"]);
    }
    assert_eq!(lab.audited("warned").len(), 1);
    assert_eq!(lab.audited("ended")[0]["how"], "expired");
    let ours = lab.audited("logout").iter().filter(|l| l["why"] == "the grant expired").count();
    assert_eq!(ours, 1);
    assert!(lab.agent.ok(&["access", "audit", "--verify"]).contains("is whole"));
}

#[test]
fn a_revocation_ends_its_own_login_within_two_seconds_and_no_other() {
    needs_sshd!();
    let lab = Lab::new("");
    let (mine, other) = (lab.key("mine"), lab.key("other"));
    lab.grant(&lab.request(&other));
    let mut staying = stay(&lab, &other, "alice");
    // Other work makes it slower and never quicker: one try is enough to show that it can be done.
    let (first, took) = (0..5)
        .map(|_| {
            let first = lab.request(&mine);
            lab.grant(&first);
            let mut ending = stay(&lab, &mine, "alice");
            wait_until("both logins", CAP, || lab.logins() == 2);
            let begun = Instant::now();
            let said = lab.agent.ok(&["access", "revoke", first["id"].as_str().unwrap(), "--json"]);
            assert!(said.contains("\"sessions_ended\":1"), "{said}");
            wait_until("the login to end", CAP, || ending.try_wait().unwrap().is_some());
            (first, begun.elapsed())
        })
        .find(|(_, took)| *took < Duration::from_secs(2))
        .expect("less than two seconds, once in five");
    println!("a revoked login ended after {took:?}");
    assert_eq!(lab.run(&mine, "id").status.code(), Some(255));
    assert_eq!(out(&lab.run(&other, "id -un")), "alice\n");
    assert!(staying.try_wait().unwrap().is_none(), "the other login ended too");
    staying.kill().unwrap();
    staying.wait().unwrap();
    let again = lab.agent.ctl(&["access", "revoke", first["id"].as_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "{}", out(&again));
}

#[test]
fn an_agent_that_was_upgraded_or_killed_knows_its_grants_its_logins_and_every_used_id() {
    needs_sshd!();
    let mut lab = Lab::new("");
    let key = lab.key("k");
    let request = lab.request(&key);
    lab.grant(&request);
    let mut login = stay(&lab, &key, "alice");
    wait_until("the login", CAP, || lab.logins() == 1);
    // Replaced in place, and then killed.
    lab.agent.ok(&["upgrade"]);
    wait_until("the new binary", CAP, || {
        String::from_utf8_lossy(&lab.agent.ctl(&["status"]).stdout).contains("in place 1 times")
    });
    assert_eq!(lab.logins(), 1);
    assert_eq!(out(&lab.run(&key, "id -un")), "alice\n");
    lab.agent.kill_agent();
    lab.start();
    assert!(login.try_wait().unwrap().is_none(), "the login ended with the agent");
    assert_eq!(lab.logins(), 1);
    assert_eq!(out(&lab.run(&key, "id -un")), "alice\n");
    let replayed = lab.send(&request);
    assert_eq!(replayed.status.code(), Some(5), "{}", out(&replayed));
    assert!(out(&replayed).contains("is used"), "{}", out(&replayed));
    // Ended by a life that did not see the login begin, after it ended while there was no agent.
    lab.agent.ok(&["access", "revoke", request["id"].as_str().unwrap()]);
    wait_until("the login to end", CAP, || login.try_wait().unwrap().is_some());
    assert_eq!(lab.send(&request).status.code(), Some(5), "a used id was granted again");
    assert!(lab.agent.ok(&["access", "audit", "--verify"]).contains("is whole"));
}
