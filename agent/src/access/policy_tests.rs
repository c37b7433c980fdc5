//! Each rule of policy refuses for its own reason, and only for that.

use palisade_types::grant::{GrantRequest, Only};

use super::{
    super::testutil::{NOON, at, person, request, settings},
    *,
};

fn judged(change: impl FnOnce(&mut GrantRequest), account: Option<Account>) -> Result<(), Refusal> {
    let mut request = request(1);
    change(&mut request);
    may(&request, &settings(), account.as_ref(), &Ledger::default(), at(0))
}

#[test]
fn a_good_request_of_a_person_is_granted() {
    assert_eq!(judged(|_| {}, Some(person())), Ok(()));
}

#[test]
fn only_configured_people_with_a_login_shell_are_granted() {
    let refused = |change: fn(&mut GrantRequest), account| judged(change, account).unwrap_err();
    let name = |n: &str| n.parse::<UserName>().unwrap();
    let with = |uid, shell: &str| Some(Account { uid, shell: shell.to_owned() });
    assert_eq!(
        refused(|r| r.user = "eve".parse().unwrap(), Some(person())),
        Refusal::User(name("eve"))
    );
    assert_eq!(refused(|_| {}, None), Refusal::NoUser(name("deploy")));
    let root = refused(|r| r.user = "root".parse().unwrap(), with(0, "/bin/bash"));
    assert_eq!(root, Refusal::System { user: name("root"), uid: 0 });
    // A person's name with a system user's number is a system user.
    assert!(matches!(refused(|_| {}, with(999, "/bin/sh")), Refusal::System { .. }));
    for shell in ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/true"] {
        assert!(matches!(refused(|_| {}, with(1001, shell)), Refusal::Shell { .. }), "{shell}");
    }
    assert_eq!(judged(|_| {}, with(1001, "")), Ok(()), "an empty shell is /bin/sh");
    assert_eq!(judged(|r| r.user = "backup".parse().unwrap(), with(34, "/bin/sh")), Ok(()));
}

#[test]
fn a_request_is_fresh_for_two_minutes_and_one_ahead() {
    let issued = |at: i64| judged(|r| r.issued_at = at, Some(person()));
    assert_eq!(issued(NOON - 120), Ok(()));
    assert_eq!(issued(NOON + 60), Ok(()));
    assert_eq!(issued(NOON - 121), Err(Refusal::Late { age_s: 121 }));
    assert_eq!(issued(NOON + 61), Err(Refusal::Early { ahead_s: 61 }));
    for wild in [i64::MIN, i64::MAX, 0] {
        assert!(issued(wild).is_err());
    }
}

#[test]
fn time_and_purpose_are_bounded_by_the_users_rule() {
    let long = judged(|r| r.ttl = 3601.try_into().unwrap(), Some(person())).unwrap_err();
    assert!(matches!(long, Refusal::Ttl { .. }), "{long}");
    let mut settings = settings();
    settings.users.get_mut(&request(1).user).unwrap().only = [Only::Sftp].into();
    let refused = may(&request(1), &settings, Some(&person()), &Ledger::default(), at(0));
    assert!(matches!(refused, Err(Refusal::Only { only: Only::Shell, .. })));
}

#[test]
fn a_source_is_one_address_of_a_named_network() {
    let from = |s: &str| {
        let source = s.parse().unwrap();
        judged(|r| r.source = source, Some(person()))
    };
    assert_eq!(from("10.20.0.7/32"), Ok(()));
    for bad in ["10.20.0.0/31", "10.20.0.0/24", "10.21.0.7/32", "0.0.0.0/0", "::1/128"] {
        assert!(matches!(from(bad), Err(Refusal::Source(_))), "{bad}");
    }
}

#[test]
fn an_id_and_a_key_are_granted_once_and_so_many_at_a_time() {
    let settings = settings();
    let mut ledger = Ledger::default();
    let person = person();
    let mut ask =
        |r: GrantRequest, now| ledger.admit(r, &settings, Some(&person), now).map(|g| g.id.clone());
    ask(request(1), at(0)).unwrap();
    assert!(matches!(ask(request(1), at(0)), Err(Refusal::Used(_))));
    let same_key = GrantRequest { id: request(2).id, ..request(1) };
    assert!(matches!(ask(same_key.clone(), at(0)), Err(Refusal::Key { .. })));
    // Another user's grant of the same key is a grant of its own.
    ask(GrantRequest { user: "admin".parse().unwrap(), ..same_key }, at(0)).unwrap();
    ask(request(3), at(0)).unwrap();
    ask(request(4), at(0)).unwrap();
    assert!(matches!(ask(request(5), at(0)), Err(Refusal::UserFull { max: 3, .. })));
    let other = GrantRequest { user: "admin".parse().unwrap(), ..request(6) };
    assert!(matches!(ask(other, at(0)), Err(Refusal::HostFull { max: 4 })));
    // The end of one makes room, and its id stays used.
    let later = GrantRequest { issued_at: NOON + 600, ..request(7) };
    ask(later, at(600)).unwrap();
    let replayed = GrantRequest { issued_at: NOON + 600, ..request(1) };
    assert!(matches!(ask(replayed, at(600)), Err(Refusal::Used(_))));
}

#[test]
fn after_a_lost_journal_nothing_is_granted_while_an_old_request_may_be_fresh() {
    let mut ledger = Ledger::default();
    ledger.forget_everything(at(0));
    let ask = |at_s: u64| {
        let issued_at = NOON + i64::try_from(at_s).unwrap();
        let r = GrantRequest { issued_at, ..request(1) };
        may(&r, &settings(), Some(&person()), &ledger, at(at_s))
    };
    assert_eq!(ask(179), Err(Refusal::Blind));
    assert_eq!(ask(180), Ok(()));
}

#[test]
fn every_refusal_has_a_hint_and_is_one_plain_line() {
    let all = [
        judged(|r| r.issued_at = 0, None).unwrap_err(),
        judged(|r| r.user = "eve".parse().unwrap(), None).unwrap_err(),
        judged(|_| {}, Some(Account { uid: 1001, shell: "/x/nologin".to_owned() })).unwrap_err(),
    ];
    for refusal in all {
        assert!(!refusal.hint().is_empty());
        assert!(refusal.to_string().chars().all(|c| !c.is_control()));
    }
}
