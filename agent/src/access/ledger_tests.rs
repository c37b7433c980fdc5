//! The ledger beside a naive one: random grants, revocations, clocks and restarts.

use palisade_types::grant::GrantRequest;
use proptest::prelude::*;

use super::{
    super::{
        store,
        testutil::{at, attempt, person, request, settings, sshd},
    },
    *,
};
use crate::clock::Timestamp;

const SLACK: Duration = Duration::from_secs(600);

fn admit(ledger: &mut Ledger, n: u8, now: Moment) -> Result<(), Refusal> {
    let r = GrantRequest { issued_at: now.wall.as_secs(), ..request(n) };
    ledger.admit(r, &settings(), Some(&person()), now).map(|_| ())
}

#[test]
fn a_clock_that_is_put_back_extends_nothing_and_one_put_ahead_a_little_ends_nothing() {
    let mut ledger = Ledger::default();
    admit(&mut ledger, 1, at(0)).unwrap();
    let set = |boot_s: u64, by_s: i64| Moment {
        wall: Timestamp::from_secs(at(boot_s).wall.as_secs() + by_s),
        boot: at(boot_s).boot,
    };
    let live = |now| ledger.live(now, SLACK).count() == 1;
    assert!(live(set(599, -3600)));
    assert!(!live(set(600, -3600)), "put back: it lived on");
    // Correcting a clock that was wrong by up to the slack changes nothing.
    assert!(live(set(599, 600)));
    // A step beyond it may be a host that stood still: the grant ends when its end is the slack ago.
    assert!(live(set(0, 1199)));
    assert!(!live(set(0, 1200)));
    let how = ledger.clone().due(set(0, 1200), SLACK);
    assert_eq!(how, [Due::Ended { id: request(1).id, how: Ended::ClockAhead }]);
}

#[test]
fn each_warning_and_the_end_are_due_once_and_a_short_grant_has_no_warning() {
    let mut ledger = Ledger::default();
    admit(&mut ledger, 1, at(0)).unwrap();
    let mut seen = Vec::new();
    for s in 0..700 {
        for due in ledger.due(at(s), SLACK) {
            seen.push((s, matches!(due, Due::Ended { .. })));
        }
    }
    assert_eq!(seen, [(300, false), (540, false), (600, true)]);
    assert_eq!(ledger.next_due(), None);

    let short = GrantRequest { ttl: 60.try_into().unwrap(), ..request(2) };
    let mut ledger = Ledger::default();
    ledger.admit(short, &settings(), Some(&person()), at(0)).unwrap();
    let due: Vec<_> = (0..61).flat_map(|s| ledger.due(at(s), SLACK)).collect();
    assert_eq!(due, [Due::Ended { id: request(2).id, how: Ended::Expired }]);
}

#[test]
fn a_connection_counts_once_and_is_a_login_when_somebody_is_in() {
    let mut ledger = Ledger::default();
    admit(&mut ledger, 1, at(0)).unwrap();
    let id = request(1).id;
    assert_eq!(ledger.attempt(&id, attempt(10, at(0))), Attempted::New);
    assert_eq!(ledger.attempt(&id, attempt(10, at(0))), Attempted::Again);
    assert_eq!(ledger.attempt(&request(2).id, attempt(11, at(0))), Attempted::NoGrant);
    assert!(ledger.look(at(0), |_, _| Login::Waits).is_empty());
    let seen = ledger.look(at(1), |_, _| Login::In);
    assert!(matches!(seen.as_slice(), [Seen::Opened { .. }]), "{seen:?}");
    assert!(ledger.look(at(1), |_, _| Login::In).is_empty());
    let seen = ledger.look(at(2), |_, _| Login::Gone);
    assert!(matches!(seen.as_slice(), [Seen::Closed { .. }]), "{seen:?}");
}

#[test]
fn a_login_too_short_to_be_seen_is_told_and_a_mere_question_is_not() {
    let mut ledger = Ledger::default();
    admit(&mut ledger, 1, at(0)).unwrap();
    let id = request(1).id;
    ledger.attempt(&id, attempt(10, at(0)));
    ledger.attempt(&id, attempt(11, at(0)));
    ledger.attempt(&id, attempt(11, at(0)));
    let seen = ledger.look(at(0), |_, _| Login::Gone);
    let [Seen::Brief { session, .. }] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(session.sshd, sshd(11));
}

#[test]
fn an_attempt_ends_with_another_key_or_with_time_and_a_login_does_not() {
    let mut ledger = Ledger::default();
    admit(&mut ledger, 1, at(0)).unwrap();
    admit(&mut ledger, 2, at(0)).unwrap();
    let (first, second) = (request(1).id, request(2).id);
    ledger.attempt(&first, attempt(10, at(0)));
    // The second key of the same connection is the one that counts from now on.
    ledger.attempt(&second, attempt(10, at(0)));
    assert!(ledger.get(&first).unwrap().sessions.is_empty());
    assert!(ledger.forget_attempt(sshd(10), None));
    ledger.attempt(&first, attempt(12, at(0)));
    ledger.look(at(0), |_, _| Login::In);
    assert!(!ledger.forget_attempt(sshd(12), None), "an open login was forgotten");
    ledger.attempt(&first, attempt(13, at(0)));
    ledger.look(at(200), |_, s| if s.open { Login::In } else { Login::Waits });
    assert_eq!(ledger.get(&first).unwrap().sessions.len(), 1);
}

#[test]
fn an_ended_grant_is_kept_while_a_login_of_it_lives() {
    let mut ledger = Ledger::default();
    admit(&mut ledger, 1, at(0)).unwrap();
    let id = request(1).id;
    ledger.attempt(&id, attempt(10, at(0)));
    ledger.look(at(0), |_, _| Login::In);
    assert!(ledger.end(&id, Ended::Revoked).is_some());
    assert!(ledger.end(&id, Ended::Revoked).is_none(), "a grant ended twice");
    assert_eq!(ledger.attempt(&id, attempt(11, at(0))), Attempted::NoGrant);
    ledger.look(at(0), |_, _| Login::In);
    assert!(ledger.get(&id).is_some());
    ledger.look(at(0), |_, _| Login::Gone);
    assert!(ledger.get(&id).is_none());
    assert!(ledger.is_used(&id));
}

#[derive(Clone, Debug)]
enum Act {
    Grant(u8),
    Revoke(u8),
    Wait(u16),
    SetClock(i16),
    Restart,
    Reboot,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..12_u8).prop_map(Act::Grant),
        2 => (0..12_u8).prop_map(Act::Revoke),
        3 => (0..400_u16).prop_map(Act::Wait),
        1 => (-500..500_i16).prop_map(Act::SetClock),
        1 => Just(Act::Restart),
        1 => Just(Act::Reboot),
    ];
    proptest::collection::vec(act, 1..60)
}

/// What a person would keep on paper: each grant's number, and its end in seconds since boot.
#[derive(Default)]
struct Paper {
    live: BTreeMap<u8, u64>,
    used: BTreeMap<u8, u64>,
}

proptest! {
    #[test]
    fn whatever_happens_the_ledger_is_what_one_would_keep_on_paper(acts in acts()) {
        let (mut ledger, mut paper) = (Ledger::default(), Paper::default());
        // `off` is how far the wall clock is from the time since boot.
        let (mut now_s, mut off, mut boot) = (0_u64, 0_i64, 0_u32);
        for act in acts {
            let now = Moment {
                wall: Timestamp::from_secs(at(now_s).wall.as_secs() + off),
                boot: at(now_s).boot,
            };
            match act {
                Act::Grant(n) => {
                    let room = paper.live.len() < settings().max_per_user;
                    let fresh = !paper.used.contains_key(&n);
                    let given = admit(&mut ledger, n, now).is_ok();
                    prop_assert_eq!(given, room && fresh);
                    if given {
                        paper.live.insert(n, now_s + 600);
                        paper.used.insert(n, now_s + 600);
                    }
                }
                Act::Revoke(n) => {
                    let ended = ledger.end(&request(n).id, Ended::Revoked).is_some();
                    prop_assert_eq!(ended, paper.live.remove(&n).is_some());
                }
                Act::Wait(s) => now_s += u64::from(s),
                // Steps stay within the slack together, so that they change nothing.
                Act::SetClock(by) => off = i64::from(by) / 2,
                Act::Restart | Act::Reboot => {
                    let bytes = store::encode(&ledger, &boot.to_string()).unwrap();
                    if matches!(act, Act::Reboot) {
                        boot += 1;
                        paper = Paper::default();
                    }
                    let back = store::decode(&bytes, &boot.to_string()).unwrap();
                    if matches!(act, Act::Restart) {
                        prop_assert_eq!(&back, &ledger);
                    }
                    ledger = back;
                }
            }
            let now = Moment {
                wall: Timestamp::from_secs(at(now_s).wall.as_secs() + off),
                boot: at(now_s).boot,
            };
            ledger.due(now, SLACK);
            ledger.look(now, |_, _| Login::Gone);
            paper.live.retain(|_, end| now_s < *end);
            paper.used.retain(|_, end| now_s < *end);
            let live: Vec<_> = ledger.live(now, SLACK).map(|g| g.id.clone()).collect();
            let mut want: Vec<_> = paper.live.keys().map(|n| request(*n).id).collect();
            want.sort();
            prop_assert_eq!(live, want);
        }
    }
}

#[test]
fn a_journal_of_nonsense_or_of_a_later_version_is_an_error() {
    for bad in ["", "{}", "[]", "{\"v\":2,\"boot_id\":\"x\",\"grants\":[],\"spent\":{}}"] {
        assert!(store::decode(bad.as_bytes(), "x").is_err(), "{bad}");
    }
}
