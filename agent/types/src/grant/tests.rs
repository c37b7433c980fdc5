//! What makes a request, and what does not.

use proptest::{prelude::*, string::string_regex};
use serde_json::{Value, json};

use super::*;

fn sample() -> Value {
    json!({
        "v": 1,
        "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "user": "deploy",
        "key": "AAAAC3NzaC1lZDI1NTE5AAAAIGVqNAXp4K6wkQ0RJMVLbZ4cLqyqiMh1bWwBhmQp1KuU",
        "ttl_s": 1800,
        "owner": "arn:aws:sts::123456789012:assumed-role/Admin/alice@example.com",
        "issued_at": 1_764_000_000,
        "reason": "TICKET-7: restart of the worker (hangs)"
    })
}

fn with(field: &str, value: Value) -> Result<GrantRequest, String> {
    let mut request = sample();
    request[field] = value;
    serde_json::from_value(request).map_err(|e| e.to_string())
}

#[test]
fn a_request_has_safe_defaults_and_reads_back() {
    let request: GrantRequest = serde_json::from_value(sample()).unwrap();
    assert_eq!(request.only, Only::Shell);
    assert_eq!(request.source, Source::Session);
    assert_eq!(request.target, None);
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<GrantRequest>(&text).unwrap(), request);
}

#[test]
fn each_field_is_refused_by_its_own_rule() {
    let hostile = [
        ("v", json!(2)),
        ("id", json!("0F8FAD5B-D9CB-469F-A165-70867728950E")),
        ("id", json!("0f8fad5b-d9cb-169f-a165-70867728950e")),
        ("user", json!("../etc")),
        ("user", json!("-oProxyCommand=x")),
        ("user", json!("a b")),
        ("user", json!("$(id)")),
        ("user", json!("a".repeat(33))),
        ("user", json!("r\u{043e}ot")),
        ("user", json!("")),
        ("key", json!("ssh-ed25519 AAAA")),
        ("ttl_s", json!(59)),
        ("ttl_s", json!(28_801)),
        ("ttl_s", json!(-1)),
        ("only", json!("root")),
        ("target", json!("db:3306")),
        ("source", json!("10.0.0.1")),
        ("source", json!("10.0.0.1/8")),
        ("source", json!("0.0.0.0/0 ")),
        ("owner", json!("alice")),
        ("owner", json!("arn:aws:sts::123456789012:assumed-role/Admin/a\",\"x")),
        ("reason", json!("a\nb")),
        ("reason", json!("say \"no\"")),
        ("reason", json!("x".repeat(201))),
        ("sudo", json!(true)),
    ];
    for (field, value) in hostile {
        let error = with(field, value.clone()).unwrap_err();
        assert!(!error.contains(['\n', '\0', '\u{1b}']), "{field}: {error:?}");
    }
    assert!(with("source", json!("10.20.0.10/32")).is_ok());
    assert!(with("source", json!("2001:db8::1/128")).is_ok());
}

#[test]
fn a_tunnel_has_a_target_and_nothing_else_has_one() {
    let tunnel = |target: &str| {
        let mut request = sample();
        request["only"] = json!("tunnel");
        request["target"] = json!(target);
        serde_json::from_value::<GrantRequest>(request).map_err(|e| e.to_string())
    };
    for good in ["db.internal:3306", "10.0.0.9:6379", "[2001:db8::7]:3306"] {
        let request = tunnel(good).unwrap();
        assert_eq!(request.target.unwrap().to_string(), good);
    }
    for bad in ["", "db", "db:0", "db:65536", "*:3306", "db:3306,x", "-db:1", "[::1:3306", "a:b:1"]
    {
        assert!(tunnel(bad).is_err(), "{bad}");
    }
    assert_eq!(
        tunnel("[2001:db8::7]:3306").unwrap().target.unwrap().parts(),
        ("2001:db8::7", 3306)
    );
}

#[test]
fn parameters_of_the_document_match_their_patterns() {
    let request: GrantRequest = serde_json::from_value(sample()).unwrap();
    for ((name, value), (_, pattern)) in request.parameters().iter().zip(GRANT_PARAMETERS) {
        assert!(regex::Regex::new(pattern).unwrap().is_match(value), "{name} {value}");
    }
}

/// What is the same on both sides of a field: its pattern admits it, its parser admits it.
fn agree<T: std::str::FromStr>(pattern: &str, text: &str) -> bool {
    regex::Regex::new(pattern).unwrap().is_match(text) == text.parse::<T>().is_ok()
}

proptest! {
    #[test]
    fn what_matches_a_pattern_is_parsed(
        id in string_regex(&bare(GrantId::PATTERN)).unwrap(),
        user in string_regex(&bare(UserName::PATTERN)).unwrap(),
        owner in string_regex(&bare(Owner::PATTERN)).unwrap(),
        reason in string_regex(&bare(Reason::PATTERN)).unwrap(),
        key in string_regex(&bare(crate::Ed25519Key::PATTERN)).unwrap(),
    ) {
        prop_assert!(id.parse::<GrantId>().is_ok(), "{id}");
        prop_assert!(user.parse::<UserName>().is_ok(), "{user}");
        prop_assert!(owner.parse::<Owner>().is_ok(), "{owner}");
        prop_assert!(reason.parse::<Reason>().is_ok(), "{reason}");
        // The last character of base64 may carry bits that nobody needs.
        if let Ok(key) = key.parse::<crate::Ed25519Key>() {
            prop_assert!(regex::Regex::new(crate::Ed25519Key::PATTERN).unwrap().is_match(&key.to_string()));
        }
    }

    #[test]
    fn whatever_comes_pattern_and_parser_agree(text in "[a-z0-9:/.@ \"\\\\$(){}\n_-]{0,40}") {
        prop_assert!(agree::<GrantId>(GrantId::PATTERN, &text));
        prop_assert!(agree::<UserName>(UserName::PATTERN, &text));
        prop_assert!(agree::<Owner>(Owner::PATTERN, &text));
        prop_assert!(agree::<Reason>(Reason::PATTERN, &text));
    }

    #[test]
    fn what_is_parsed_matches_its_pattern(text in "[a-z0-9:/.\\[\\]-]{1,40}") {
        if text.parse::<Target>().is_ok() {
            prop_assert!(regex::Regex::new(Target::PATTERN).unwrap().is_match(&text));
        }
        if text.parse::<Source>().is_ok() {
            prop_assert!(regex::Regex::new(Source::PATTERN).unwrap().is_match(&text));
        }
    }

    #[test]
    fn no_json_panics(text in "\\PC{0,200}") {
        serde_json::from_str::<GrantRequest>(&text).err();
    }
}

fn bare(pattern: &str) -> String {
    pattern.trim_start_matches('^').trim_end_matches('$').to_owned()
}
