//! Who may use a key, by what is known; and what a state file says.

use proptest::prelude::*;

use super::{super::testutil::OWNER, *};

fn owner() -> Owner {
    OWNER.parse().unwrap()
}

fn through(owner: Result<&str, &str>) -> Traced {
    let owner = owner.map(str::to_owned).map_err(|e| Unknown(e.to_owned()));
    Traced { worker: Ok(Worker { session_id: "alice-1".to_owned(), owner }) }
}

#[test]
fn only_the_owners_own_session_is_admitted_without_a_word() {
    for policy in [Binding::Strict, Binding::Warn, Binding::Off] {
        let judged = judge(policy, &owner(), &through(Ok(OWNER)));
        let session_id = Some("alice-1".to_owned());
        assert_eq!(judged, Judged::Admit { session_id, unbound: None });
    }
}

#[test]
fn what_is_unknown_refuses_where_strict_and_is_told_where_warned() {
    let nobody = Traced { worker: Err(Unknown("no worker".to_owned())) };
    for traced in [nobody, through(Err("no state"))] {
        assert!(matches!(judge(Binding::Strict, &owner(), &traced), Judged::Refuse { .. }));
        let warned = judge(Binding::Warn, &owner(), &traced);
        assert!(matches!(warned, Judged::Admit { unbound: Some(_), .. }), "{warned:?}");
        let off = judge(Binding::Off, &owner(), &traced);
        assert!(matches!(off, Judged::Admit { unbound: None, .. }), "{off:?}");
    }
}

#[test]
fn somebody_elses_session_refuses_also_where_policy_only_warns() {
    let other = "arn:aws:sts::123456789012:assumed-role/Admin/alice2";
    for policy in [Binding::Strict, Binding::Warn] {
        let Judged::Refuse { session_owner, why, .. } =
            judge(policy, &owner(), &through(Ok(other)))
        else {
            panic!("admitted")
        };
        assert_eq!(session_owner.as_deref(), Some(other));
        assert!(why.contains(OWNER) && why.contains(other), "{why}");
    }
}

#[test]
fn the_owner_is_found_wherever_it_lies_and_must_be_one() {
    let nested = format!("{{\"a\":[{{\"Configuration\":{{\"SessionOwner\":\"{OWNER}\"}}}}]}}");
    assert_eq!(owner_in(nested.as_bytes()).unwrap(), OWNER);
    let twice = format!("[{nested},{nested},{{\"SessionOwner\":\"\"}}]");
    assert_eq!(owner_in(twice.as_bytes()).unwrap(), OWNER);
    for bad in [
        "{}",
        "",
        "{\"SessionOwner\":1}",
        "{\"SessionOwner\":{\"SessionOwner\":2}}",
        &format!("[{nested},{{\"SessionOwner\":\"other\"}}]"),
        &format!("{}{nested}{}", "[".repeat(40), "]".repeat(40)),
    ] {
        assert!(owner_in(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn an_id_of_a_session_cannot_lead_out_of_its_directory() {
    for good in ["alice-0123456789abcdef0", "a.b@example.com-0a1b", "user+x=1,2_3-4"] {
        assert!(is_session_id(good), "{good}");
    }
    for bad in ["", ".", "..", ".x", "a/b", "../x", "a b", "a\0", "ä", &"a".repeat(97)] {
        assert!(!is_session_id(bad), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_state_file_panics(bytes in any::<Vec<u8>>()) {
        let found = owner_in(&bytes);
        prop_assert!(found.is_err() || !bytes.is_empty());
    }
}
