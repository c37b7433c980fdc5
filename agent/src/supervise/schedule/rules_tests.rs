//! Due times, clocks that jump, and agents that were away.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::supervise::{Calendar, Notation};

fn schedule(text: &str) -> Schedule {
    Schedule {
        when: Calendar::new(text, Notation::Either, TimeZone::UTC).unwrap(),
        overlap: Overlap::Skip,
        missed: Missed::Skip,
        retries: 0,
        retry_after: Duration::from_secs(60),
    }
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Midnight of some day.
const MIDNIGHT: i64 = 20_000 * DAY;
/// Three o'clock of that day.
const THREE: i64 = MIDNIGHT + 3 * HOUR;

fn t(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// A step, and what the task does about it: what is to start runs.
fn act(schedule: &Schedule, record: &mut Record, now: i64, is_alive: bool) -> Act {
    let (act, _) = step(schedule, record, t(now), is_alive);
    if act != Act::Wait {
        record.run = record.pending.take();
    }
    act
}

#[test]
fn a_time_that_came_begins_one_run() {
    let nightly = schedule("0 3 * * *");
    let mut record = Record::new(&nightly, t(MIDNIGHT));
    assert_eq!(act(&nightly, &mut record, THREE - 1, false), Act::Wait);
    assert_eq!(act(&nightly, &mut record, THREE, false), Act::Start);
    assert_eq!(act(&nightly, &mut record, THREE, false), Act::Wait);
    ended(&nightly, &mut record, t(THREE + 5), Outcome::Well("exit 0".to_owned()));
    assert_eq!(act(&nightly, &mut record, THREE + 6, false), Act::Wait);
    assert_eq!(next(&nightly, &record), Some(t(THREE + DAY)));
    assert_eq!(record.last.as_ref().map(|l| (l.ok, l.due)), Some((true, THREE * 1000)));
}

#[test]
fn a_run_that_goes_on_is_left_alone_or_waited_for_or_replaced() {
    let want =
        [(Overlap::Skip, Act::Wait), (Overlap::Queue, Act::Wait), (Overlap::Replace, Act::Replace)];
    for (overlap, wanted) in want {
        let hourly = Schedule { overlap, ..schedule("@hourly") };
        let mut record = Record::new(&hourly, t(MIDNIGHT));
        assert_eq!(act(&hourly, &mut record, MIDNIGHT + HOUR, false), Act::Start);
        assert_eq!(act(&hourly, &mut record, MIDNIGHT + 2 * HOUR, true), wanted, "{overlap:?}");
        assert_eq!(act(&hourly, &mut record, MIDNIGHT + 2 * HOUR + 5, true), Act::Wait);
        ended(&hourly, &mut record, t(MIDNIGHT + 2 * HOUR + 9), Outcome::Well(String::new()));
        let after = act(&hourly, &mut record, MIDNIGHT + 2 * HOUR + 10, false);
        assert_eq!(after == Act::Start, overlap == Overlap::Queue);
        assert_eq!(record.skipped, u64::from(overlap == Overlap::Skip));
    }
}

#[test]
fn a_run_started_by_hand_counts_as_one_that_goes_on() {
    let hourly = schedule("@hourly");
    let mut record = Record::new(&hourly, t(MIDNIGHT));
    assert_eq!(act(&hourly, &mut record, MIDNIGHT + HOUR, true), Act::Wait);
    assert_eq!(record.skipped, 1);
}

#[test]
fn missed_times_are_left_out_or_made_up_for_once() {
    for (missed, wanted) in [(Missed::Skip, Act::Wait), (Missed::Once, Act::Start)] {
        let nightly = Schedule { missed, ..schedule("0 3 * * *") };
        let mut record = Record::new(&nightly, t(MIDNIGHT));
        assert_eq!(act(&nightly, &mut record, MIDNIGHT + 5 * DAY, false), wanted);
        record.run = None;
        assert_eq!(act(&nightly, &mut record, MIDNIGHT + 5 * DAY + 1, false), Act::Wait);
        assert_eq!(record.missed, 1);
        assert_eq!(record.done, t(THREE + 4 * DAY));
    }
}

#[test]
fn an_agent_that_comes_back_within_a_minute_is_on_time() {
    let nightly = schedule("0 3 * * *");
    let mut record = Record::new(&nightly, t(MIDNIGHT));
    assert_eq!(act(&nightly, &mut record, THREE + 59, false), Act::Start);
    let mut record = Record::new(&nightly, t(MIDNIGHT));
    assert_eq!(act(&nightly, &mut record, THREE + 61, false), Act::Wait);
}

#[test]
fn a_clock_set_back_repeats_no_time_and_one_that_was_far_ahead_does_not_count() {
    let nightly = schedule("0 3 * * *");
    let mut record = Record::new(&nightly, t(MIDNIGHT));
    assert_eq!(act(&nightly, &mut record, THREE, false), Act::Start);
    record.run = None;
    for back in [2 * HOUR, 0, -1, -HOUR] {
        assert_eq!(act(&nightly, &mut record, THREE - back, false), Act::Wait, "{back}");
    }
    assert_eq!(act(&nightly, &mut record, THREE + DAY, false), Act::Start);
    record.run = None;
    // Ten years ahead for a moment, then right again: tomorrow's run is not put off for ten years.
    assert_eq!(act(&nightly, &mut record, THREE + 3650 * DAY, false), Act::Start);
    record.run = None;
    assert_eq!(act(&nightly, &mut record, THREE + DAY + HOUR, false), Act::Wait);
    assert_eq!(act(&nightly, &mut record, THREE + 2 * DAY, false), Act::Start);
}

#[test]
fn a_failed_run_is_tried_again_as_often_as_said_but_not_into_the_next_time() {
    let hourly = Schedule { retries: 2, ..schedule("@hourly") };
    let mut record = Record::new(&hourly, t(MIDNIGHT));
    let fail = |record: &mut Record, now: i64| {
        ended(&hourly, record, t(now), Outcome::Badly("exit 1".to_owned()))
    };
    let mut now = MIDNIGHT + HOUR;
    assert_eq!(act(&hourly, &mut record, now, false), Act::Start);
    for _ in 0..2 {
        let notes = fail(&mut record, now);
        assert!(matches!(notes.as_slice(), [Note::Failed { retry: Some(_), .. }]), "{notes:?}");
        assert_eq!(act(&hourly, &mut record, now + 59, false), Act::Wait);
        now += 60;
        assert_eq!(next(&hourly, &record), Some(t(now)));
        assert_eq!(act(&hourly, &mut record, now, false), Act::Start);
    }
    fail(&mut record, now);
    assert_eq!(act(&hourly, &mut record, now + 100, false), Act::Wait);
    // The next time begins with all its tries, and puts an end to the retry before.
    assert_eq!(act(&hourly, &mut record, MIDNIGHT + 2 * HOUR, false), Act::Start);
    fail(&mut record, MIDNIGHT + 3 * HOUR - 1);
    assert_eq!(act(&hourly, &mut record, MIDNIGHT + 3 * HOUR, false), Act::Start);
    assert_eq!(record.run.map(|r| (r.due, r.tries)), Some((t(MIDNIGHT + 3 * HOUR), 0)));
    // What was stopped is not wanted again.
    ended(&hourly, &mut record, t(MIDNIGHT + 3 * HOUR + 1), Outcome::Stopped(String::new()));
    assert_eq!(record.retry, None);
}

#[test]
fn a_run_that_was_about_to_begin_is_owed_until_it_is_seen_or_too_late() {
    let nightly = schedule("0 3 * * *");
    let mut record = Record::new(&nightly, t(MIDNIGHT));
    assert_eq!(step(&nightly, &mut record, t(THREE), false).0, Act::Start);
    let bytes = record.encode().unwrap();
    let after_death = || Record::decode(&bytes).unwrap();
    let mut seen = after_death();
    assert_eq!(resume(&nightly, &mut seen, t(THREE + 2), true).0, Act::Wait);
    assert_eq!(seen.run.map(|r| r.due), Some(t(THREE)));
    assert_eq!(resume(&nightly, &mut after_death(), t(THREE + 2), false).0, Act::Start);
    let mut late = after_death();
    assert_eq!(resume(&nightly, &mut late, t(THREE + HOUR), false).0, Act::Wait);
    assert_eq!((late.pending, late.missed), (None, 1));
    let once = Schedule { missed: Missed::Once, ..nightly };
    assert_eq!(resume(&once, &mut after_death(), t(THREE + HOUR), false).0, Act::Start);
}

#[test]
fn another_calendar_owes_nothing_from_before() {
    let mut record = Record::new(&schedule("0 3 * * *"), t(MIDNIGHT));
    let noon = Schedule { missed: Missed::Once, ..schedule("0 12 * * *") };
    record.adapt(&noon, t(MIDNIGHT + 20 * HOUR));
    assert_eq!(act(&noon, &mut record, MIDNIGHT + 21 * HOUR, false), Act::Wait);
    let done = record.done;
    record.adapt(&noon, t(MIDNIGHT + 30 * HOUR));
    assert_eq!(record.done, done);
}

#[test]
fn a_record_of_another_version_or_cut_short_is_not_believed() {
    let bytes = Record::new(&schedule("@daily"), t(0)).encode().unwrap();
    assert!(Record::decode(&bytes[..bytes.len() - 2]).is_err());
    let text = String::from_utf8(bytes).unwrap().replace("\"v\":1", "\"v\":2");
    assert!(Record::decode(text.as_bytes()).unwrap_err().contains("version 2"));
}

proptest! {
    /// Whatever the clock does and however often the agent dies, no due time begins two runs, unless it
    /// was of a clock that was more than a day ahead; and what begins is for a time that has come.
    #[test]
    fn no_time_begins_two_runs(
        steps in proptest::collection::vec((-20 * HOUR..40 * HOUR, any::<bool>(), any::<bool>()), 1..60),
        missed in prop_oneof![Just(Missed::Skip), Just(Missed::Once)],
        overlap in prop_oneof![Just(Overlap::Skip), Just(Overlap::Queue), Just(Overlap::Replace)],
    ) {
        let schedule = Schedule { missed, overlap, ..schedule("15 */5 * * *") };
        let mut record = Record::new(&schedule, t(MIDNIGHT));
        let mut begun = std::collections::BTreeSet::new();
        let mut now = MIDNIGHT;
        let mut highest = now;
        for (by, ends, dies) in steps {
            now += by;
            if t(now + DAY) < record.done {
                // A correction: what was begun in that future does not count.
                begun.clear();
                highest = now;
            }
            highest = highest.max(now);
            if dies {
                record = Record::decode(&record.encode().unwrap()).unwrap();
            }
            if ends && record.run.is_some() {
                ended(&schedule, &mut record, t(now), Outcome::Well(String::new()));
            }
            let is_alive = record.run.is_some();
            let (act, _) = step(&schedule, &mut record, t(now), is_alive);
            if act == Act::Wait {
                prop_assert_eq!(record.pending, None);
                continue;
            }
            let run = record.pending.take().unwrap();
            prop_assert!(begun.insert(run.due), "{} twice", run.due);
            prop_assert!(run.due <= t(highest));
            record.run = Some(run);
        }
    }
}
