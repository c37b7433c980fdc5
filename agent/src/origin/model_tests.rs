use proptest::prelude::*;

use super::*;
use crate::origin::testutil::{at, offered, secret};

const LEAVE: Leave =
    Leave { unused_for: Duration::from_secs(600), at_most: Duration::from_secs(86_400) };

fn ids(s: &Secrets) -> Vec<u32> {
    let number = |a: &Accepted| (1..20).find(|n| secret(*n) == a.secret).unwrap();
    s.accepted().iter().map(number).collect()
}

fn hit(n: u32, seconds: i64) -> Hit {
    Hit { at: at(seconds), key: Some(secret(n).id()), requests: 1 }
}

/// 1 was in use and is not any more; 2 is since second 100.
fn rotated() -> Secrets {
    let mut s = Secrets::default();
    s.take(&[offered(1, Stage::Current)], at(0)).unwrap();
    s.take(&[offered(1, Stage::Current), offered(2, Stage::Pending)], at(50)).unwrap();
    s.take(&[offered(2, Stage::Current)], at(100)).unwrap();
    s
}

#[test]
fn a_rotation_accepts_the_next_at_once_and_keeps_the_old_while_it_is_used() {
    let mut s = Secrets::default();
    let first = s.take(&[offered(1, Stage::Current)], at(0)).unwrap();
    assert_eq!(first, [Change::Added(secret(1).id())]);
    let both = [offered(1, Stage::Current), offered(2, Stage::Pending)];
    assert_eq!(s.take(&both, at(50)).unwrap(), [Change::Added(secret(2).id())]);
    assert_eq!(s.take(&both, at(60)).unwrap(), []);
    let left = s.take(&[offered(2, Stage::Current)], at(100)).unwrap();
    assert_eq!(left, [Change::Left(secret(1).id())]);
    assert_eq!(ids(&s), [1, 2]);
    assert_eq!(s.current().unwrap().secret, secret(2));

    // Used again and again: it stays, up to the longest time.
    for t in (100..86_000).step_by(500) {
        s.count([hit(1, t), hit(2, t + 1)]);
        assert_eq!(s.expire(&LEAVE, at(t), Some(at(t))), []);
    }
    let gone = s.expire(&LEAVE, at(100 + 86_400), Some(at(86_500)));
    assert_eq!(gone, [Change::Dropped(secret(1).id(), Why::TooLong)]);
    assert_eq!(ids(&s), [2]);
}

#[test]
fn an_old_secret_goes_once_nobody_used_it_while_others_used_the_new_one() {
    let mut s = rotated();
    s.count([hit(1, 200), hit(2, 210)]);
    assert_eq!(s.expire(&LEAVE, at(799), Some(at(799))), []);
    let gone = s.expire(&LEAVE, at(800), Some(at(800)));
    assert_eq!(gone, [Change::Dropped(secret(1).id(), Why::Unused)]);
}

#[test]
fn silence_alone_drops_nothing() {
    // No traffic at all, or none that is counted.
    let mut s = rotated();
    assert_eq!(s.expire(&LEAVE, at(5000), Some(at(5000))), []);
    // The new one was used only before the old one was last used.
    s.count([hit(2, 150), hit(1, 160)]);
    assert_eq!(s.expire(&LEAVE, at(5000), Some(at(5000))), []);
    // Used, but requests were counted only until soon after.
    s.count([hit(2, 170)]);
    assert_eq!(s.expire(&LEAVE, at(5000), Some(at(700))), []);
    assert_eq!(s.expire(&LEAVE, at(5000), None), []);
    assert_eq!(s.expire(&LEAVE, at(5000), Some(at(760))).len(), 1);
}

#[test]
fn the_source_may_change_its_mind() {
    let mut s = rotated();
    let back = s.take(&[offered(1, Stage::Current)], at(200)).unwrap();
    assert_eq!(back, [Change::Back(secret(1).id()), Change::Left(secret(2).id())]);
    assert_eq!(ids(&s), [1, 2]);
}

#[test]
fn a_previous_version_is_accepted_by_whoever_comes_late_and_does_not_come_back() {
    let mut s = Secrets::default();
    let both = [offered(2, Stage::Current), offered(1, Stage::Previous)];
    s.take(&both, at(0)).unwrap();
    assert_eq!(ids(&s), [1, 2]);
    s.count([hit(2, 10)]);
    assert_eq!(s.expire(&LEAVE, at(700), Some(at(700))).len(), 1);
    assert_eq!(s.take(&both, at(800)).unwrap(), []);
    assert_eq!(ids(&s), [2]);
    // As the current one it is welcome.
    s.take(&[offered(1, Stage::Current)], at(900)).unwrap();
    assert_eq!(ids(&s), [2, 1]);
}

#[test]
fn of_too_many_the_one_that_requests_have_stays() {
    let mut s = Secrets::default();
    s.take(&[offered(1, Stage::Current)], at(0)).unwrap();
    s.count([hit(1, 10)]);
    // Somebody's script puts one value after another, and none of them gets to the requests.
    for n in 2..9 {
        s.take(&[offered(n, Stage::Current)], at(100 * i64::from(n))).unwrap();
    }
    assert_eq!(ids(&s), [1, 5, 6, 7, 8]);
}

#[test]
fn nothing_current_changes_nothing() {
    let mut s = rotated();
    let before = s.clone();
    assert_eq!(s.take(&[], at(200)), Err(NothingCurrent));
    assert_eq!(s.take(&[offered(3, Stage::Pending)], at(200)), Err(NothingCurrent));
    assert_eq!(s, before);
}

#[test]
fn an_operator_may_drop_what_was_left_and_nothing_else() {
    let mut s = rotated();
    let id = |n| secret(n).id();
    assert_eq!(s.drop_asked(&id(2)), Err(DropRefusal::Offered(id(2))));
    assert_eq!(s.drop_asked(&id(9)), Err(DropRefusal::Unknown(id(9))));
    assert_eq!(s.drop_asked(&id(1)), Ok(Change::Dropped(id(1), Why::Asked)));
    assert_eq!(s.drop_asked(&id(2)), Err(DropRefusal::Last(id(2))));
}

#[test]
fn no_text_has_a_known_secret_after_scrubbing() {
    let s = rotated();
    let text = format!("bad \"~^{}$\" in {}", secret(1).expose(), secret(2).expose());
    let clean = s.scrub(&text);
    assert!(!clean.contains(secret(1).expose()) && !clean.contains(secret(2).expose()), "{clean}");
    assert!(clean.contains(secret(1).id().as_str()), "{clean}");
}

#[derive(Clone, Debug)]
enum Event {
    Offer(u32, Option<u32>, Option<u32>),
    Hit(u32),
    Expire,
    Drop(u32),
    Wait(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let n = 1..9_u32;
    let maybe = || proptest::option::of(1..9_u32);
    prop_oneof![
        (n.clone(), maybe(), maybe()).prop_map(|(a, b, c)| Event::Offer(a, b, c)),
        n.clone().prop_map(Event::Hit),
        Just(Event::Expire),
        n.prop_map(Event::Drop),
        (0..50_000_i64).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_what_the_source_has_is_accepted_and_something_is(
        events in proptest::collection::vec(event(), 0..60)
    ) {
        let mut s = Secrets::default();
        let (mut now, mut offer) = (0, Vec::new());
        for e in events {
            match e {
                Event::Offer(current, pending, previous) => {
                    offer = vec![offered(current, Stage::Current)];
                    offer.extend(pending.map(|n| offered(n, Stage::Pending)));
                    offer.extend(previous.map(|n| offered(n, Stage::Previous)));
                    s.take(&offer, at(now)).unwrap();
                }
                Event::Hit(n) => s.count([hit(n, now)]),
                Event::Expire => drop(s.expire(&LEAVE, at(now), Some(at(now)))),
                Event::Drop(n) => drop(s.drop_asked(&secret(n).id())),
                Event::Wait(seconds) => now += seconds,
            }
            prop_assert!(s.accepted().len() <= MAX_ACCEPTED);
            for o in offer.iter().filter(|o| o.stage != Stage::Previous) {
                prop_assert!(s.accepted().iter().any(|a| a.secret == o.secret));
            }
            let mut all = ids(&s);
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), s.accepted().len());
        }
    }
}
