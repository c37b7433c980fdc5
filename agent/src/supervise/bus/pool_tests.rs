//! A pool against a naive model: whatever listeners do, nothing is lost unseen, doubled or overtaken.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn pool(buffer_size: u32) -> Pool {
    Pool::new("mail".parse().unwrap(), Listener::new(["EVENT".to_owned()].into(), buffer_size))
}

fn name(n: u8) -> ProcessName {
    format!("mail_{n}").parse().unwrap()
}

fn event() -> BusEvent {
    BusEvent::tick(EventName::Tick5, 5)
}

fn serials(pool: &Pool) -> Vec<u64> {
    pool.waiting().map(|e| e.pool_serial).collect()
}

#[test]
fn the_envelope_is_supervisors() {
    let mut pool = pool(10);
    pool.accept(41, BusEvent::remote("é", "x"));
    let envelope = pool.envelope(pool.waiting().next().unwrap());
    assert_eq!(
        envelope,
        "ver:3.0 server:supervisor serial:41 pool:mail poolserial:0 \
         eventname:REMOTE_COMMUNICATION len:8\ntype:é\nx"
    );
}

#[test]
fn the_oldest_goes_when_a_pool_is_full_and_a_refused_event_never_does() {
    let mut pool = pool(2);
    pool.join(name(0), 7, None);
    pool.set_up(&name(0), true);
    pool.accept(0, event());
    pool.ready(&name(0));
    pool.sent(&name(0));
    pool.accept(1, event());
    pool.accept(2, event());
    assert_eq!(pool.accept(3, event())[0].pool_serial, 1);
    let gone = pool.refused(&name(0));
    assert_eq!((gone[0].pool_serial, serials(&pool)), (2, vec![0, 3]));
}

#[test]
fn large_events_push_out_old_ones_however_many_may_wait() {
    let mut pool = pool(1000);
    let large = BusEvent::remote("x", &"y".repeat(MAX_BYTES / 2));
    assert!(pool.accept(0, large.clone()).is_empty());
    assert_eq!(pool.accept(1, large).len(), 1);
    assert_eq!(serials(&pool), [1]);
}

#[test]
fn a_listener_that_is_not_up_or_not_ready_is_sent_nothing() {
    let mut pool = pool(10);
    pool.accept(0, event());
    pool.join(name(0), 7, None);
    pool.ready(&name(0));
    assert!(pool.next_send().is_none(), "not up");
    pool.set_up(&name(0), true);
    assert!(pool.next_send().is_some());
    pool.give_up(&name(0));
    assert!(pool.next_send().is_none(), "given up");
}

#[derive(Clone, Debug)]
enum Move {
    Happens,
    Joins(u8),
    Dies(u8),
    SaysReady(u8),
    Answers(u8, bool),
    Babbles(u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let who = || 0..3_u8;
    let one = prop_oneof![
        3 => Just(Move::Happens),
        1 => who().prop_map(Move::Joins),
        1 => who().prop_map(Move::Dies),
        3 => who().prop_map(Move::SaysReady),
        3 => (who(), any::<bool>()).prop_map(|(w, ok)| Move::Answers(w, ok)),
        1 => who().prop_map(Move::Babbles),
    ];
    proptest::collection::vec(one, 0..120)
}

proptest! {
    /// Each event is in exactly one place: answered, waiting, with one listener, or dropped. A pool
    /// of one listener deals with its events in order.
    #[test]
    fn no_event_is_lost_doubled_or_overtaken(moves in moves(), size in 1_u32..6, listeners in 1_u8..4) {
        let mut pool = pool(size);
        let (mut made, mut answered, mut dropped) = (0_u64, Vec::new(), Vec::new());
        let mut drop_these = |gone: Vec<Numbered>| dropped.extend(gone.iter().map(|e| e.pool_serial));
        for m in moves {
            match m {
                Move::Happens => {
                    drop_these(pool.accept(made + 100, event()));
                    made += 1;
                }
                Move::Joins(n) if pool.member(&name(n % listeners)).is_none() => {
                    pool.join(name(n % listeners), 1, None);
                    pool.set_up(&name(n % listeners), true);
                }
                Move::Dies(n) => drop_these(pool.leave(&name(n % listeners))),
                Move::SaysReady(n) if pool.phase(&name(n % listeners)) == Some(Phase::Acknowledged) => {
                    pool.ready(&name(n % listeners));
                }
                Move::Answers(n, ok) if pool.phase(&name(n % listeners)) == Some(Phase::Busy) => {
                    let who = name(n % listeners);
                    let serial = pool.in_hand(&who).unwrap().pool_serial;
                    if ok {
                        answered.push(serial);
                        pool.done(&who);
                    } else {
                        drop_these(pool.refused(&who));
                    }
                }
                Move::Babbles(n) => drop_these(pool.give_up(&name(n % listeners))),
                Move::Joins(_) | Move::SaysReady(_) | Move::Answers(..) => {}
            }
            while let Some((who, _)) = pool.next_send() {
                let who = who.clone();
                pool.sent(&who);
            }
            prop_assert!(pool.waiting().len() <= usize::try_from(size).unwrap());
            for member in pool.members.values() {
                prop_assert_eq!(member.event.is_some(), member.phase == Phase::Busy);
            }
        }
        let held = pool.members.values().filter_map(|m| m.event.as_ref()).map(|(e, _)| e.pool_serial);
        let places: Vec<u64> =
            answered.iter().copied().chain(dropped.iter().copied()).chain(serials(&pool)).chain(held).collect();
        prop_assert_eq!(places.len(), usize::try_from(made).unwrap());
        prop_assert_eq!(places.into_iter().collect::<BTreeSet<_>>().len(), usize::try_from(made).unwrap());
        if listeners == 1 {
            prop_assert!(answered.is_sorted(), "{:?}", answered);
        }
    }
}
