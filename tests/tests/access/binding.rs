//! Who else holds the key: from where it is refused.

use crate::{
    lab::{ALICE, Lab, MALLORY, out},
    needs_sshd,
};

#[test]
fn a_stolen_key_is_refused_outside_of_its_owners_session() {
    needs_sshd!();
    let lab = Lab::new("");
    let key = lab.key("k");
    lab.grant(&lab.request(&key));
    lab.session("mallory-0001", MALLORY);
    // Straight to the port, as a local user would.
    let straight = lab.run_by(&key, None, "alice", "id");
    assert_eq!(straight.status.code(), Some(255), "{}", out(&straight));
    // Through a session of somebody else, and through one that the SSM agent does not know.
    for session in ["mallory-0001", "unknown-0001"] {
        let through = lab.run_by(&key, Some(session), "alice", "id");
        assert_eq!(through.status.code(), Some(255), "{session}: {}", out(&through));
    }
    let refused = palisade_e2e::wait::wait_for("the refusals", palisade_e2e::agent::CAP, || {
        Some(lab.audited("login_refused")).filter(|all| all.len() >= 3)
    });
    let whys: Vec<_> = refused.iter().map(|l| l["why"].as_str().unwrap()).collect();
    assert!(whys[0].contains("not come from an SSM session"), "{whys:?}");
    let other = refused.iter().find(|l| l["session_owner"] == MALLORY).expect("it is told");
    assert_eq!(
        (other["owner"].as_str(), other["session_id"].as_str()),
        (Some(ALICE), Some("mallory-0001"))
    );
    assert!(whys.iter().any(|w| w.contains("has no state of session unknown-0001")), "{whys:?}");
    assert!(lab.audited("login").is_empty());
    assert_eq!(out(&lab.run(&key, "id -un")), "alice\n", "the owner's own session was refused");
}

#[test]
fn a_state_file_that_says_nothing_refuses_where_strict_and_is_told_where_warned() {
    needs_sshd!();
    let lab = Lab::new("  require_session_binding: warn\n");
    let state = lab.dir().join("ssm/i-0abc/document/state/current/alice-0001");
    palisade_agent::sys::files::write_atomic(&state, b"{\"Changed\":1}", 0o600).unwrap();
    let key = lab.key("k");
    lab.grant(&lab.request(&key));
    lab.session("mallory-0001", MALLORY);
    assert_eq!(out(&lab.run(&key, "id -un")), "alice\n");
    let other = lab.run_by(&key, Some("mallory-0001"), "alice", "id");
    assert_eq!(other.status.code(), Some(255), "known to be somebody else's: {}", out(&other));
    palisade_e2e::wait::wait_until("the login in the log", palisade_e2e::agent::CAP, || {
        lab.audited("login").len() == 1
    });
    let login = lab.audited("login").remove(0);
    assert!(login["unbound"].as_str().unwrap().contains("names no owner"), "{login}");

    let text = std::fs::read_to_string(lab.agent.config())
        .unwrap()
        .replace("binding: warn", "binding: strict");
    palisade_agent::sys::files::write_atomic(&lab.agent.config(), text.as_bytes(), 0o644).unwrap();
    lab.agent.ok(&["update"]);
    assert_eq!(lab.grants().len(), 1, "an update of the settings lost the grant");
    assert_eq!(lab.run(&key, "id").status.code(), Some(255));
}

#[test]
fn a_grant_for_an_address_is_good_from_there_only_and_only_where_policy_names_the_network() {
    needs_sshd!();
    let lab = Lab::new("  sources: [127.0.0.0/8]\n");
    let key = lab.key("k");
    let mut request = lab.request(&key);
    request["source"] = "10.9.9.10/32".into();
    let refused = lab.send(&request);
    assert_eq!(refused.status.code(), Some(5), "{}", out(&refused));
    request["source"] = "127.0.0.0/24".into();
    assert_eq!(lab.send(&request).status.code(), Some(5), "more than one address");
    request["source"] = "127.0.0.9/32".into();
    lab.grant(&request);
    assert_eq!(lab.run_by(&key, None, "alice", "id").status.code(), Some(255));
    let mut ssh = lab.ssh("/usr/bin/ssh", &key, None);
    let there = ssh.args(["-b", "127.0.0.9", "alice@127.0.0.1", "id -un"]).output().unwrap();
    assert_eq!(out(&there), "alice\n");
}
