//! Fleet verbs, grants, hosts and login against the strict peer.
#![expect(clippy::disallowed_methods, reason = "a test starts programs")]

#[expect(dead_code, reason = "this file uses a part of it")]
mod common;

use std::{
    fs,
    process::{Command, Stdio},
};

use common::{INSTANCE, good, lab_with, many, output, stderr, stdout, until};
use palisade_peer::config::{Ping, Trouble};

#[test]
fn too_many_failures_end_with_code_1_and_name_the_hosts() {
    let Some(lab) = many(3, |_, _| {}) else { return };
    let out = lab.run(&["exec", "tag:Role=web", "--max-errors", "3", "--", "exit 9"]);
    assert_eq!(out.status.code(), Some(0), "three are allowed: {}", stderr(&out));
    let out = lab.run(&["exec", "web0", "web1", "--concurrency", "1", "--", "exit 9"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        stdout(&out).contains("== i-00000000000000000: Failed, exit code 9"),
        "{}",
        stdout(&out)
    );
    assert!(stderr(&out).contains("0 of 2 hosts succeeded"), "{}", stderr(&out));
}

#[test]
fn long_output_is_marked_as_cut_and_control_characters_are_filtered() {
    let Some(lab) = many(1, |_, _| {}) else { return };
    let line = "printf '\\033[31mred\\n'; head -c 30000 /dev/zero | tr '\\0' x";
    let out = lab.run(&["exec", "web0", "--", line]);
    good(&out);
    assert!(stdout(&out).contains("cut by SSM"), "the output was cut");
    assert!(!out.stdout.contains(&0x1b));
}

/// G32.
#[test]
fn a_host_that_does_not_answer_in_time_is_cancelled_and_told() {
    let Some(lab) = many(2, |n, one| {
        if n == 1 {
            one.runner.trouble = Trouble::NeverDelivered;
        }
    }) else {
        return;
    };
    let out = lab.run(&["exec", "tag:Role=web", "--timeout", "3s", "--", "echo here"]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stdout(&out).contains("here"), "the other host's result is there");
    assert!(
        stderr(&out).contains("1 hosts have not ended within 3s: cancelled"),
        "{}",
        stderr(&out)
    );
}

#[test]
fn an_interrupted_command_is_cancelled_on_its_hosts() {
    let Some(lab) = many(2, |_, _| {}) else { return };
    let line = "touch $LAB/began-$INSTANCE; sleep 60; touch $LAB/ended-$INSTANCE";
    let mut child = lab
        .bastionctl()
        .args(["exec", "tag:Role=web", "--", line])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = |n: u8| lab.file(&format!("began-i-{n:017x}")).exists();
    assert!(until(|| began(0) && began(1)));
    let mut kill = Command::new("kill");
    assert!(kill.args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert!(until(|| matches!(child.try_wait(), Ok(Some(_)))));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let journal = format!("{:?}", lab.peer.journal());
    assert!(journal.contains("CancelCommand"), "{journal}");
}

#[test]
fn hosts_of_both_services_are_listed_and_a_lost_one_is_told_apart() {
    let Some(lab) = many(2, |n, one| {
        if n == 1 {
            one.ping = Ping::ConnectionLost;
        }
    }) else {
        return;
    };
    let out = lab.run(&["hosts"]);
    good(&out);
    assert!(
        stdout(&out).contains("web0") && stdout(&out).contains("ConnectionLost"),
        "{}",
        stdout(&out)
    );
    let out = lab.run(&["hosts", "--json"]);
    let rows: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    let out = lab.run(&["ssh", "web1", "--", "true"]);
    assert_eq!(out.status.code(), Some(4), "{}", stderr(&out));
    assert!(stderr(&out).contains("ConnectionLost"), "{}", stderr(&out));
}

#[test]
fn grants_are_listed_and_one_is_revoked_by_its_id() {
    let Some(lab) = common::lab() else { return };
    let id = "7d1f7c1e-2f55-4a1b-9d6c-3a1c0d9e7b10";
    let row = serde_json::json!([{"id": id, "user": "deploy", "fingerprint": "SHA256:x", "only": "shell",
        "owner": "arn:aws:iam::123456789012:user/alice", "source": "session", "reason": "why not",
        "granted_at": 1, "expires_at": 4_000_000_000_u64, "state": "live", "sessions": []}]);
    fs::write(lab.file("rows.json"), row.to_string()).unwrap();
    let out = lab.run(&["grants", INSTANCE]);
    good(&out);
    assert!(stdout(&out).contains(id) && stdout(&out).contains("why not"), "{}", stdout(&out));
    let out = lab.run(&["revoke", INSTANCE, id]);
    good(&out);
    assert_eq!(fs::read_to_string(lab.file("revoked.log")).unwrap().trim(), id);
    let out = lab.run(&["revoke", INSTANCE, "; rm -rf /"]);
    assert_eq!(out.status.code(), Some(2));
}

/// Throttling and errors of the service are waited out; a session with MFA is kept for the next run.
#[test]
fn a_login_with_mfa_is_kept_and_a_wrong_code_is_not() {
    let Some(lab) = lab_with(|config| config.keys[0].needs_mfa = vec!["ssm:SendCommand".into()])
    else {
        return;
    };
    let home = lab.file("home");
    fs::create_dir_all(home.join(".aws")).unwrap();
    fs::write(
        home.join(".aws/credentials"),
        "[prod]\naws_access_key_id = AKIDEXAMPLE\n\
        aws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n",
    )
    .unwrap();
    fs::write(
        home.join(".aws/config"),
        "[profile prod]\nmfa_serial = arn:aws:iam::123456789012:mfa/alice\n",
    )
    .unwrap();
    let run = |args: &[&str]| {
        let mut command = lab.bastionctl();
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        output(command.args(["--profile", "prod"]).args(args))
    };
    let denied = run(&["exec", INSTANCE, "--", "true"]);
    assert_eq!(denied.status.code(), Some(5), "{}", stderr(&denied));
    let wrong = run(&["login", "--mfa", "000000"]);
    assert_ne!(wrong.status.code(), Some(0));
    good(&run(&["login", "--mfa", "123456"]));
    lab.peer.faults(|f| {
        f.throttle = 2;
        f.break_calls = 0;
    });
    good(&run(&["exec", INSTANCE, "--", "true"]));
}

#[test]
fn a_host_without_a_line_is_unreachable_among_the_results_and_counts_as_failed() {
    let Some(lab) = many(2, |n, one| {
        if n == 1 {
            one.ping = Ping::ConnectionLost;
        }
    }) else {
        return;
    };
    let out = lab.run(&["exec", "tag:Role=web", "--", "echo here"]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stdout(&out).contains("here"), "{}", stdout(&out));
    assert!(stdout(&out).contains("== i-00000000000000001: Unreachable"), "{}", stdout(&out));
    assert!(stderr(&out).contains("1 of 2 hosts succeeded"), "{}", stderr(&out));
    good(&lab.run(&["exec", "tag:Role=web", "--max-errors", "1", "--", "echo here"]));
}

#[test]
fn a_result_that_cannot_be_read_is_unknown_and_the_command_is_told_all_the_same() {
    let Some(lab) =
        lab_with(|config| config.keys[0].needs_mfa = vec!["ssm:GetCommandInvocation".into()])
    else {
        return;
    };
    let out = lab.run(&["exec", INSTANCE, "--", "true"]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stdout(&out).contains(&format!("== {INSTANCE}: Unknown")), "{}", stdout(&out));
    assert!(stderr(&out).contains("could not be read: GetCommandInvocation"), "{}", stderr(&out));
}

#[test]
fn a_profile_that_was_asked_for_wins_over_keys_of_the_environment() {
    let Some(lab) = common::lab() else { return };
    let aws = lab.file("home").join(".aws");
    fs::create_dir_all(&aws).unwrap();
    fs::write(
        aws.join("credentials"),
        "[prod]\naws_access_key_id = AKIDEXAMPLE\n\
        aws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n",
    )
    .unwrap();
    let run = |args: &[&str]| {
        let mut command = lab.bastionctl();
        command.env("AWS_ACCESS_KEY_ID", "AKIDNOBODY").env("AWS_SECRET_ACCESS_KEY", "wrong");
        output(command.args(args).args(["exec", INSTANCE, "--", "true"]))
    };
    assert_ne!(run(&[]).status.code(), Some(0), "the environment's keys are nobody's");
    good(&run(&["--profile", "prod"]));
}
