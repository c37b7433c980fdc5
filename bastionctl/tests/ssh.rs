//! Logins, files and their ends, over a real sshd behind the strict peer.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test starts programs and tells its figures"
)]

#[expect(dead_code, reason = "this file uses a part of it")]
mod common;

use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use common::{INSTANCE, good, lab, lab_with, output, pattern, stderr, stdout, until};

/// Nothing is left behind: no session, no key on disk, no scratch directory; the grant was revoked.
#[track_caller]
fn nothing_is_left(lab: &common::Lab) {
    assert!(lab.all_sessions_end(), "{:?}", lab.peer.sessions());
    assert!(until(|| lab.lines("revoked.log") == lab.lines("ids")), "a grant is left");
    assert_eq!(lab.peer.violations(), []);
    let run = lab.file("home/run/bastionctl");
    let left: Vec<_> =
        fs::read_dir(run).into_iter().flatten().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_command_runs_on_the_host_and_its_exit_code_and_output_come_back() {
    let Some(lab) = lab() else { return };
    let began = Instant::now();
    let out = lab.run(&["-v", "ssh", INSTANCE, "--", "echo 'one  two'; echo err >&2; exit 7"]);
    println!("a command over ssh took {} ms", began.elapsed().as_millis());
    println!("{}", stderr(&out));
    assert_eq!(out.status.code(), Some(7), "{}", stderr(&out));
    assert_eq!(stdout(&out), "one  two\n");
    assert!(stderr(&out).contains("err"));
    nothing_is_left(&lab);
    let grant = fs::read_to_string(lab.file("grants.log")).unwrap();
    assert!(grant.contains("arn:aws:iam::123456789012:user/alice"), "{grant}");
    // G38: the session's record names the grant.
    let ids = fs::read_to_string(lab.file("ids")).unwrap();
    let id = ids.split(' ').next().unwrap();
    let reason = lab.peer.sessions().remove(0).reason;
    assert_eq!(reason, format!("palisade grant {id}"));
}

#[test]
fn words_arrive_as_they_were_typed_and_a_name_finds_the_host() {
    let Some(lab) = lab() else { return };
    let out = lab.run(&["ssh", "web1", "--", "printf", "%s|", "a b", "$HOME", "it's"]);
    good(&out);
    assert_eq!(stdout(&out), "a b|$HOME|it's|");
    nothing_is_left(&lab);
}

#[test]
fn a_grant_that_the_host_refuses_is_told_in_its_words_and_the_session_is_ended() {
    let Some(lab) = lab() else { return };
    fs::write(lab.file("refuse"), "").unwrap();
    let out = lab.run(&["ssh", INSTANCE, "--", "true"]);
    assert_eq!(out.status.code(), Some(5), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("not allowed by policy\nhint: ask your admin"),
        "{}",
        stderr(&out)
    );
    assert!(lab.all_sessions_end());
}

/// G36.
#[test]
fn a_host_with_another_key_than_its_agent_told_is_refused_and_both_are_shown() {
    let Some(lab) = lab() else { return };
    let key = lab.file("other_key");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let out = lab.run(&["ssh", INSTANCE, "--", "echo in"]);
    assert_eq!((out.status.code(), stdout(&out).as_str()), (Some(255), ""));
    let print = |name: &str| {
        let out = output(Command::new("ssh-keygen").arg("-lf").arg(lab.file(name)));
        stdout(&out).split(' ').nth(1).unwrap().to_owned()
    };
    let said = stderr(&out);
    assert!(said.contains(&print("host_key.pub")), "what it offered: {said}");
    assert!(said.contains(&print("other_key.pub")), "what its agent told: {said}");
    nothing_is_left(&lab);
}

/// G30.
#[test]
fn a_missing_permission_is_named_and_no_half_of_an_access_is_left() {
    for action in [
        "ssm:StartSession",
        "ssm:SendCommand",
        "ssm:GetCommandInvocation",
        "ssmmessages:OpenDataChannel",
    ] {
        let lab = lab_with(|config| config.keys[0].deny = vec![action.to_owned()]);
        let Some(lab) = lab else { return };
        let out = lab.run(&["ssh", INSTANCE, "--", "echo in"]);
        let said = stderr(&out);
        assert_eq!(stdout(&out), "", "{action}");
        assert_ne!(out.status.code(), Some(0), "{action}: {said}");
        assert!(said.contains(action), "{action}: {said}");
        if action != "ssmmessages:OpenDataChannel" {
            assert_eq!(out.status.code(), Some(5), "{action}: {said}");
        }
        assert!(lab.all_sessions_end(), "{action}");
        if action != "ssm:SendCommand" {
            assert!(until(|| lab.lines("revoked.log") == lab.lines("ids")), "{action}");
        }
    }
}

/// G31.
#[test]
fn a_host_that_is_not_there_or_not_alone_is_told_and_nothing_is_granted() {
    let Some(lab) = lab() else { return };
    let second = common::instance(lab.dir.path(), "i-0fedcba9876543210", "web1", lab.ssh_port);
    lab.peer.put_instance(second);
    for (host, part, code) in [
        ("nobody", "no host matches nobody in us-east-1", 1),
        ("web1", "web1 is 2 hosts: i-0", 2),
        ("tag:Role=web", "is 2 hosts", 2),
        ("i-0000000000000000f", "EC2 does not know it in us-east-1", 4),
    ] {
        let out = lab.run(&["ssh", host, "--", "true"]);
        assert!(stderr(&out).contains(part), "{host}: {}", stderr(&out));
        assert_eq!(out.status.code(), Some(code), "{host}: {}", stderr(&out));
    }
    assert_eq!(lab.lines("grants.log"), 0);
    assert!(lab.all_sessions_end());
}

/// G33.
#[test]
fn an_address_of_somebody_else_gets_no_token() {
    let Some(lab) = lab() else { return };
    // Without the test's endpoint the address that the service names would be dialled; a cleartext
    // endpoint that is not this machine is refused.
    let mut command = Command::new(env!("CARGO_BIN_EXE_bastionctl"));
    lab.environment(&mut command);
    command.args(["--ssmmessages-endpoint", "ws://evil.example", "ssh", INSTANCE, "--", "true"]);
    let out = output(&mut command);
    assert_ne!(out.status.code(), Some(0));
    assert!(stderr(&out).contains("--ssmmessages-endpoint"), "{}", stderr(&out));
    assert!(lab.all_sessions_end());
    assert!(until(|| lab.lines("revoked.log") == lab.lines("ids")));
}

#[test]
fn files_travel_by_sftp_scp_and_both_ways() {
    let Some(lab) = lab() else { return };
    let (from, there, back) = (lab.file("from"), lab.file("there"), lab.file("back"));
    let bytes = pattern(300_000);
    fs::write(&from, &bytes).unwrap();
    let path = |p: &std::path::Path| p.display().to_string();
    good(&lab.run(&["scp", "-q", &path(&from), &format!("web1:{}", path(&there))]));
    assert_eq!(fs::read(&there).unwrap(), bytes);
    let batch = lab.file("batch");
    fs::write(&batch, format!("get {} {}\n", path(&there), path(&back))).unwrap();
    good(&lab.run(&["sftp", "web1", "--", "-q", "-b", &path(&batch)]));
    assert_eq!(fs::read(&back).unwrap(), bytes);
    // The grant was for files only.
    assert!(fs::read_to_string(lab.file("grants.log")).unwrap().contains("\"only\":\"sftp\""));
    nothing_is_left(&lab);
}

#[test]
fn a_host_behind_a_bastion_is_reached_with_a_grant_on_each_and_a_tunnel_only_on_the_bastion() {
    let Some(lab) = lab() else { return };
    let id = "i-0fedcba9876543210";
    let mut behind = common::instance(lab.dir.path(), id, "db", lab.ssh_port);
    behind.ip = "127.0.0.1".to_owned();
    // No session gets there.
    behind.dialer.ports.insert("localhost:22".into(), "127.0.0.1:1".into());
    lab.peer.put_instance(behind);
    let port = lab.ssh_port.to_string();
    let out = lab.run(&["ssh", "--via", "web1", "--ssh-port", &port, "db", "--", "echo behind"]);
    assert_eq!(
        (out.status.code(), stdout(&out).as_str()),
        (Some(0), "behind\n"),
        "{}",
        stderr(&out)
    );
    let grants = fs::read_to_string(lab.file("grants.log")).unwrap();
    assert!(grants.contains("\"source\":\"10.0.0.10/32\""), "{grants}");
    assert!(grants.contains(&format!("\"target\":\"127.0.0.1:{port}\"")), "{grants}");
    assert_eq!(lab.lines("ids"), 2);
    nothing_is_left(&lab);
}

/// G35.
#[test]
fn escape_sequences_of_the_other_side_do_not_reach_the_terminal() {
    let Some(lab) = lab() else { return };
    let script = fs::read_to_string(lab.file("palisade")).unwrap();
    let evil = script.replace("not allowed by policy", "\u{1b}[2Jno\u{7}");
    fs::write(lab.file("palisade"), evil).unwrap();
    fs::write(lab.file("refuse"), "").unwrap();
    let out = lab.run(&["ssh", INSTANCE, "--", "true"]);
    assert!(stderr(&out).contains("[2Jno"), "{}", stderr(&out));
    assert!(!out.stderr.contains(&0x1b) && !out.stderr.contains(&7), "{}", stderr(&out));
}

/// G27, G29: what a signal ends is ended everywhere, and secrets are in no argument or environment.
#[test]
fn a_terminated_login_leaves_no_session_and_no_grant_and_shows_no_secret() {
    let Some(lab) = lab() else { return };
    let mut child = lab
        .bastionctl()
        .args(["ssh", INSTANCE, "--", "echo ready; sleep 60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let children = output(Command::new("ps").args(["-eo", "args"]));
    assert!(!stdout(&children).contains("wJalrXUtnFEMI"), "a secret in arguments");
    assert!(!stdout(&children).contains("PRIVATE"), "a key in arguments");
    let mut kill = Command::new("kill");
    assert!(kill.args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let began = Instant::now();
    let status = child.wait().unwrap();
    println!("ended {} ms after SIGTERM", began.elapsed().as_millis());
    assert_eq!(status.code(), Some(143));
    nothing_is_left(&lab);
}

/// G40 in small, and what VS Code, Ansible, rsync and git do: any ssh goes through `proxy`.
#[test]
fn parallel_logins_by_a_plain_ssh_share_one_grant() {
    let Some(lab) = lab() else { return };
    let out = lab.run(&["ssh-config", "web1", "--ttl", "90s"]);
    good(&out);
    let config = lab.file("ssh.conf");
    fs::write(&config, &out.stdout).unwrap();
    let one = |n: usize| {
        let mut ssh = Command::new("ssh");
        lab.environment(&mut ssh);
        ssh.arg("-F").arg(&config).args(["web1", &format!("echo {n}")]);
        let mut child = ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        move || {
            let ended = until(|| matches!(child.try_wait(), Ok(Some(_))));
            if !ended {
                child.kill().unwrap();
            }
            let out = child.wait_with_output().unwrap();
            assert!(ended && out.status.success(), "{}", stderr(&out));
            assert_eq!(stdout(&out), format!("{n}\n"));
        }
    };
    let waits: Vec<_> = (0..6).map(one).collect();
    waits.into_iter().for_each(|wait| wait());
    assert_eq!(lab.lines("ids"), 1, "one grant for all");
    // A grant that was revoked is handed out to nobody.
    let ids = fs::read_to_string(lab.file("ids")).unwrap();
    good(&lab.run(&["revoke", "web1", ids.split(' ').next().unwrap()]));
    one(7)();
    assert_eq!(lab.lines("ids"), 2, "another grant");
    assert!(lab.all_sessions_end());
    assert_eq!(lab.peer.violations(), []);
}

#[test]
fn a_plain_ssh_finds_an_sshd_on_another_port_than_the_usual_one() {
    let Some(lab) = lab_with(|config| {
        let ports = &mut config.instances[0].dialer.ports;
        let sshd = ports.insert("localhost:22".into(), "127.0.0.1:1".into()).unwrap();
        ports.insert("localhost:2222".into(), sshd);
    }) else {
        return;
    };
    fs::write(lab.file("ssh_port"), "2222").unwrap();
    let out = lab.run(&["ssh-config", "web1"]);
    good(&out);
    let config = lab.file("ssh.conf");
    fs::write(&config, &out.stdout).unwrap();
    let mut ssh = Command::new("ssh");
    lab.environment(&mut ssh);
    let out = output(ssh.arg("-F").arg(&config).args(["web1", "echo here"]));
    good(&out);
    assert_eq!(stdout(&out), "here\n");
}
