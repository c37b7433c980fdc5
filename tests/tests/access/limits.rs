//! What a grant is for, and what is no request at all.

use std::net::{Ipv4Addr, TcpListener};

use palisade_e2e::{agent::CAP, wait::wait_until};
use serde_json::{Value, json};

use crate::{
    lab::{Lab, out, uuid},
    needs_sshd,
};

#[test]
fn a_tunnel_leads_to_its_target_and_does_nothing_else() {
    needs_sshd!();
    let lab = Lab::new("");
    let key = lab.key("k");
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = target.local_addr().unwrap().port();
    let mut request = lab.request(&key);
    request["only"] = "tunnel".into();
    request["target"] = format!("127.0.0.1:{port}").into();
    lab.grant(&request);
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = target.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"from the target").unwrap();
    });
    let forward = |to: String| {
        let mut ssh = lab.ssh("/usr/bin/ssh", &key, Some("alice-0001"));
        ssh.args(["-W", &to, "alice@127.0.0.1"]).output().unwrap()
    };
    assert_eq!(out(&forward(format!("127.0.0.1:{port}"))), "from the target");
    answering.join().unwrap();
    let other = forward(format!("127.0.0.1:{}", lab.port));
    assert!(out(&other).contains("administratively prohibited"), "{}", out(&other));

    let ran = lab.run(&key, "echo ran");
    assert!(!out(&ran).contains("ran"), "{}", out(&ran));
    for (args, what) in [
        (&["-tt", "alice@127.0.0.1"][..], "a terminal"),
        (&["-A", "alice@127.0.0.1", "echo $SSH_AUTH_SOCK"], "an agent"),
        (
            &["-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1", "alice@127.0.0.1"],
            "a listener",
        ),
        (
            &[
                "-o",
                "ExitOnForwardFailure=yes",
                "-N",
                "-R",
                "/run/palisade-e2e.sock:127.0.0.1:1",
                "alice@127.0.0.1",
            ],
            "a socket that listens",
        ),
    ] {
        let mut ssh = lab.ssh("/usr/bin/ssh", &key, Some("alice-0001"));
        let tried = ssh.args(args).output().unwrap();
        assert!(!tried.status.success(), "{what}: {}", out(&tried));
        assert!(!out(&tried).contains("/tmp/"), "{what}: {}", out(&tried));
    }
}

#[test]
fn files_only_means_files_only() {
    needs_sshd!();
    let lab = Lab::new("");
    let key = lab.key("k");
    let mut request = lab.request(&key);
    request["user"] = "bob".into();
    let shell = lab.send(&request);
    assert_eq!(shell.status.code(), Some(5), "bob may have files only: {}", out(&shell));
    request["id"] = uuid().into();
    request["only"] = "sftp".into();
    lab.grant(&request);
    let ran = lab.run_by(&key, Some("alice-0001"), "bob", "touch /tmp/palisade-test-ran; echo ran");
    assert!(!out(&ran).contains("ran"), "{}", out(&ran));
    let batch = lab.dir().join("batch");
    palisade_agent::sys::files::write_atomic(&batch, b"put /etc/hostname got\n", 0o644).unwrap();
    let mut sftp = lab.ssh("/usr/bin/sftp", &key, Some("alice-0001"));
    let put = sftp.arg("-b").arg(&batch).arg("bob@127.0.0.1").output().unwrap();
    assert!(put.status.success(), "{}", out(&put));
    let mut ssh = lab.ssh("/usr/bin/ssh", &key, Some("alice-0001"));
    let to = format!("127.0.0.1:{}", lab.port);
    let forwarded = ssh.args(["-W", &to, "bob@127.0.0.1"]).output().unwrap();
    assert!(!out(&forwarded).contains("SSH-2.0"), "{}", out(&forwarded));
}

#[test]
fn hostile_requests_are_refused_and_run_nothing_and_leave_one_plain_line_each() {
    needs_sshd!();
    let lab = Lab::new("");
    let key = lab.key("k");
    let good = lab.request(&key);
    let with = |field: &str, value: Value| {
        let mut request = good.clone();
        request["id"] = uuid().into();
        request[field] = value;
        request
    };
    let public = good["key"].as_str().unwrap();
    let now = good["issued_at"].as_u64().unwrap();
    let by_policy = [
        with("user", "root".into()),
        with("user", "svc".into()),
        with("user", "nolog".into()),
        with("user", "ghost".into()),
        with("user", "daemon".into()),
        with("ttl_s", 28_800.into()),
        with("issued_at", (now - 600).into()),
        with("issued_at", (now + 600).into()),
        with("source", "10.0.0.1/32".into()),
    ];
    let unreadable = [
        with("user", "../etc".into()),
        with("user", "-oProxyCommand=x".into()),
        with("user", "a b".into()),
        with("user", "$(touch /tmp/palisade-test-ran)".into()),
        with("user", "a".repeat(33).into()),
        with("user", "аlice".into()),
        with("key", format!("{public}\nssh-ed25519 {public}").into()),
        with("key", format!("{public}\r").into()),
        with("key", format!("{public}\0").into()),
        with("key", format!("command=\"id\" ssh-ed25519 {public}").into()),
        with("key", format!("ssh-ed25519 {public} comment").into()),
        with("key", "AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7".into()),
        with("key", public.get(..40).unwrap().into()),
        with("reason", "a\nb".into()),
        with("reason", "\",command=\"id".into()),
        with("owner", "arn:aws:iam::123456789012:user/x\" from=\"*".into()),
        with("more", 1.into()),
        with("ttl_s", 59.into()),
        with("target", "h:1".into()),
        Value::String("{".to_owned()),
        Value::String(format!("{{\"reason\":\"{}\"}}", "x".repeat(64 << 10))),
    ];
    for (code, requests) in [(5, &by_policy[..]), (2, &unreadable[..])] {
        for request in requests {
            let refused = lab.send(request);
            assert_eq!(refused.status.code(), Some(code), "{request}: {}", out(&refused));
            let said = String::from_utf8(refused.stderr).unwrap();
            assert!(said.starts_with("error: ") && said.contains("\nhint: "), "{said}");
            assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
        }
    }
    assert!(lab.grants().is_empty());
    wait_until("the refusals in the log", CAP, || {
        // A minute has room for thirty lines, and this is as many requests.
        lab.audited("refused").len() == by_policy.len() + unreadable.len()
    });
    let log = std::fs::read(lab.dir().join("state/access/audit.jsonl")).unwrap();
    assert!(
        log.iter().all(|b| *b == b'\n' || (0x20..0x7f).contains(b)),
        "a control character in the log"
    );
    assert!(!std::path::Path::new("/tmp/palisade-test-ran").exists());
    // And what is asked well is granted still.
    let reply = lab.grant(&with("reason", "INC-42: look at it".into()));
    assert_eq!(reply["v"], json!(1));
}

#[test]
fn a_user_has_eight_grants_at_most_and_each_key_is_granted_once() {
    needs_sshd!();
    let lab = Lab::new("");
    let keys: Vec<_> = (0..9).map(|i| lab.key(&format!("k{i}"))).collect();
    for key in &keys[..8] {
        lab.grant(&lab.request(key));
    }
    let ninth = lab.send(&lab.request(&keys[8]));
    assert_eq!(ninth.status.code(), Some(5));
    assert!(out(&ninth).contains("8 live grants"), "{}", out(&ninth));
    lab.agent.ok(&["access", "revoke", &lab.grants()[0].id.to_string()]);
    lab.grant(&lab.request(&keys[8]));
    let twice = lab.send(&lab.request(&keys[8]));
    assert_eq!(twice.status.code(), Some(5), "{}", out(&twice));
    // The same key for another user is a grant of its own, good for that user only.
    let mut bobs = lab.request(&keys[8]);
    bobs["user"] = "bob".into();
    bobs["only"] = "sftp".into();
    lab.agent.ok(&["access", "revoke", &lab.grants()[0].id.to_string()]);
    lab.grant(&bobs);
    let as_bob = lab.run_by(&keys[7], Some("alice-0001"), "bob", "id");
    assert_eq!(as_bob.status.code(), Some(255), "a key of alice's logged bob in");
}
