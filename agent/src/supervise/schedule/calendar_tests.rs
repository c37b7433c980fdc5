//! Calendars against an oracle that asks each minute of two years, and the notations word by word.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn calendar(text: &str, in_zone: &str) -> Calendar {
    Calendar::new(text, Notation::Either, zone(in_zone)).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_secs(text.parse::<Moment>().unwrap().as_second())
}

/// The next times after a moment, in local time with offset.
fn next(calendar: &Calendar, after: &str, count: usize) -> Vec<String> {
    let mut t = at(after);
    let mut out = Vec::new();
    for _ in 0..count {
        let Some(found) = calendar.next_after(t) else { break };
        t = found;
        let moment = Moment::from_second(t.as_secs()).unwrap();
        let local = moment.to_zoned(calendar.zone.clone());
        out.push(local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
    }
    out
}

#[test]
fn a_time_that_the_clock_jumps_over_comes_later_and_one_shown_twice_comes_once() {
    let night = calendar("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        next(&night, "2026-03-27T12:00:00Z", 3),
        ["2026-03-28T02:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]
    );
    assert_eq!(
        next(&night, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    );
}

#[test]
fn two_times_that_a_jump_brings_together_are_one() {
    let both = calendar("30 2,3 * * *", "Europe/Berlin");
    assert_eq!(
        next(&both, "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]
    );
}

#[test]
fn what_takes_every_hour_counts_real_time() {
    let hourly = calendar("*-*-* *:30", "Europe/Berlin");
    assert_eq!(
        next(&hourly, "2026-10-25T00:00:00Z", 3),
        ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"]
    );
    assert_eq!(
        next(&hourly, "2026-03-29T00:00:00Z", 2),
        ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"]
    );
}

#[test]
fn crons_fields_mean_what_cron_says() {
    let cases = [
        ("0 3 * * *", "2026-01-01T03:00:00+00:00"),
        ("*/15 * * * *", "2026-01-01T00:15:00+00:00"),
        ("5-59/20 * * * *", "2026-01-01T00:05:00+00:00"),
        ("0 9 * * mon-fri", "2026-01-01T09:00:00+00:00"),
        ("0 9 * * SAT-sun", "2026-01-03T09:00:00+00:00"),
        ("0 9 * * 7", "2026-01-04T09:00:00+00:00"),
        ("0 9 * * 0", "2026-01-04T09:00:00+00:00"),
        // A day by its number or by its weekday, whichever comes first.
        ("0 0 13 * fri", "2026-01-02T00:00:00+00:00"),
        // But a field that begins with a star restricts, as in cron.
        ("0 0 */13 * fri", "2026-02-27T00:00:00+00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
        ("0 0 1 jan,Jul *", "2026-07-01T00:00:00+00:00"),
        ("@hourly", "2026-01-01T01:00:00+00:00"),
        ("@weekly", "2026-01-04T00:00:00+00:00"),
        ("@yearly", "2027-01-01T00:00:00+00:00"),
    ];
    for (text, want) in cases {
        assert_eq!(next(&calendar(text, "UTC"), "2026-01-01T00:00:00Z", 1), [want], "{text}");
    }
}

#[test]
fn systemds_calendars_mean_what_its_manual_says() {
    let cases = [
        ("daily", "2026-01-02T00:00:00+00:00"),
        ("weekly", "2026-01-05T00:00:00+00:00"),
        ("quarterly", "2026-04-01T00:00:00+00:00"),
        ("semiannually", "2026-07-01T00:00:00+00:00"),
        ("minutely", "2026-01-01T00:01:00+00:00"),
        ("Mon..Fri *-*-* 03:00:00", "2026-01-01T03:00:00+00:00"),
        ("Mon,Tue *-01..04-* 12:00", "2026-01-05T12:00:00+00:00"),
        ("Saturday", "2026-01-03T00:00:00+00:00"),
        ("05:40", "2026-01-01T05:40:00+00:00"),
        ("*:0/10", "2026-01-01T00:10:00+00:00"),
        ("*:*:0/15", "2026-01-01T00:00:15+00:00"),
        ("12-24 18:00", "2026-12-24T18:00:00+00:00"),
        ("2027-03-05 05:40", "2027-03-05T05:40:00+00:00"),
        ("27-03-05", "2027-03-05T00:00:00+00:00"),
        // The last day of the month, the third but last, and the last Monday of May.
        ("*-*~01 23:00", "2026-01-31T23:00:00+00:00"),
        ("*-02~03", "2026-02-26T00:00:00+00:00"),
        ("Mon *-05~07/1", "2026-05-25T00:00:00+00:00"),
        ("*-*-1,15", "2026-01-15T00:00:00+00:00"),
        ("03:00 Asia/Tokyo", "2026-01-02T03:00:00+09:00"),
        ("daily UTC", "2026-01-02T00:00:00+00:00"),
    ];
    for (text, want) in cases {
        assert_eq!(next(&calendar(text, "UTC"), "2026-01-01T00:00:00Z", 1), [want], "{text}");
    }
}

#[test]
fn a_text_that_is_no_calendar_says_what_would_be_one() {
    let cases = [
        ("", "must be five fields"),
        ("whenever", "must be a weekday"),
        ("noonly daily", "must be a weekday"),
        ("60 * * * *", "minute \"60\" must be *, or 0 to 59"),
        ("* 24 * * *", "hour \"24\" must be *, or 0 to 23"),
        ("* * 0 * *", "day of the month \"0\" must be *, or 1 to 31"),
        ("* * * foo *", "must be *, or 1 to 12 or jan to dec"),
        ("* * * * 8", "weekday \"8\" must be *, or 0 to 7 or sun to sat"),
        ("5/15 * * * *", "a step needs a range, such as 5-59/5"),
        ("*/0 * * * *", "the step must be a number from 1"),
        ("0 0 * * fri-mon", "runs backwards"),
        ("0 0 L * *", "day of the month \"L\""),
        ("* * * * * *", "has 6 fields and must have five"),
        ("0 0 30 2 *", "never comes"),
        ("*-02-30", "never comes"),
        ("2020-02-30 03:00", "never comes"),
        ("2021..2023-02-29", "never comes"),
        ("@reboot", "is started with the agent"),
        ("@every 5m", "must be one of @hourly"),
        ("Fri..Mon", "runs backwards"),
        ("25:00", "hour \"25\" must be *, or 0 to 23"),
        ("03:00:00.5", "fractions"),
        ("1-2-3-4 03:00", "must be a date"),
        ("+5 * * * *", "minute \"+5\""),
    ];
    for (text, want) in cases {
        let error = Calendar::new(text, Notation::Either, TimeZone::UTC).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
    let error = Calendar::new("daily", Notation::Cron, TimeZone::UTC).unwrap_err().to_string();
    assert!(error.contains("has 1 fields"), "{error}");
}

#[test]
fn a_calendar_whose_years_are_over_is_never_due_again() {
    let past = calendar("2020-01-01 03:00", "UTC");
    assert_eq!(past.next_after(at("2026-01-01T00:00:00Z")), None);
    assert_eq!(past.next_after(at("2019-01-01T00:00:00Z")), Some(at("2020-01-01T03:00:00Z")));
}

#[test]
fn a_rare_day_is_found_however_far_it_is() {
    let rare = calendar("Mon *-02-29", "UTC");
    assert_eq!(next(&rare, "2072-03-01T00:00:00Z", 1), ["2112-02-29T00:00:00+00:00"]);
}

/// Every minute from `from` to `to`, asked one by one.
fn oracle(calendar: &Calendar, from: Moment, to: Moment) -> BTreeSet<i64> {
    let mut due = BTreeSet::new();
    let day = 86_400;
    if calendar.pattern.names_hours() {
        // Each local minute, and the one moment that stands for it.
        let local = |t: i64| Offset::UTC.to_datetime(Moment::from_second(t).unwrap());
        for t in ((from.as_second() - day)..(to.as_second() + day)).step_by(60) {
            if calendar.pattern.has(local(t)) {
                let found = calendar.zone.to_ambiguous_zoned(local(t)).compatible().unwrap();
                due.insert(found.timestamp().as_second());
            }
        }
    } else {
        for t in (from.as_second()..to.as_second()).step_by(60) {
            let moment = Moment::from_second(t).unwrap();
            if calendar.pattern.has(calendar.zone.to_datetime(moment)) {
                due.insert(t);
            }
        }
    }
    due.retain(|t| (from.as_second()..to.as_second()).contains(t));
    due
}

fn agrees_with_the_oracle(text: &str, in_zone: &str) {
    let calendar = calendar(text, in_zone);
    let (from, to) = ("2025-12-31T00:00:00Z", "2028-01-02T00:00:00Z");
    let (from, to): (Moment, Moment) = (from.parse().unwrap(), to.parse().unwrap());
    let mut found = BTreeSet::new();
    let mut t = Timestamp::from_secs(from.as_second() - 1);
    while let Some(next) = calendar.next_after(t).filter(|n| n.as_secs() < to.as_second()) {
        assert!(next > t, "{text} in {in_zone}: {next} after {t}");
        found.insert(next.as_secs());
        t = next;
    }
    let want = oracle(&calendar, from, to);
    let differ: Vec<_> = want.symmetric_difference(&found).take(5).collect();
    assert!(differ.is_empty(), "{text} in {in_zone}: {differ:?}");
}

#[test]
fn it_agrees_with_an_oracle_that_asks_every_minute_of_two_years() {
    // Lord Howe's clock jumps by half an hour, Casablanca's twice around a month, Kiritimati's never.
    for in_zone in
        ["Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Kiritimati"]
    {
        agrees_with_the_oracle("15,35,50 2,3 * * *", in_zone);
        agrees_with_the_oracle("*/20 * * * *", in_zone);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn any_calendar_in_any_zone_agrees_with_the_oracle(
        minutes in proptest::collection::btree_set(0_u8..60, 1..4),
        hours in proptest::collection::btree_set(0_u8..24, 0..4),
        days in proptest::option::of(1_u8..31),
        weekday in proptest::option::of(0_u8..8),
        in_zone in proptest::sample::select(vec![
            "America/New_York", "America/St_Johns", "Europe/London", "Australia/Lord_Howe",
            "Asia/Kathmandu", "America/Santiago", "Antarctica/Troll", "UTC",
        ]),
    ) {
        let list = |set: &BTreeSet<u8>| {
            let all: Vec<_> = set.iter().map(ToString::to_string).collect();
            if all.is_empty() { "*".to_owned() } else { all.join(",") }
        };
        let one = |n: Option<u8>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let text = format!("{} {} {} * {}", list(&minutes), list(&hours), one(days), one(weekday));
        agrees_with_the_oracle(&text, in_zone);
    }
}

proptest! {
    /// Later questions have later answers, every answer is after its question, and there is nothing
    /// between the two.
    #[test]
    fn answers_are_in_the_order_of_the_questions(
        a in 0_i64..4_000_000_000, ahead in 0_i64..10_000_000, seconds in 0_u8..60,
    ) {
        let text = format!("*-*-* 2,3:10/25:{seconds}");
        let calendar = calendar(&text, "Europe/Berlin");
        let (a, b) = (Timestamp::from_secs(a), Timestamp::from_secs(a + ahead));
        let (next_a, next_b) = (calendar.next_after(a).unwrap(), calendar.next_after(b).unwrap());
        prop_assert!(next_a > a && next_b > b && next_b >= next_a);
        prop_assert_eq!(next_a <= b, next_a != next_b);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ -~]{0,40}") {
        if let Ok(calendar) = Calendar::new(&text, Notation::Either, TimeZone::UTC) {
            let now = Timestamp::from_secs(1_700_000_000);
            prop_assert!(calendar.next_after(now).is_none_or(|next| next > now));
        }
    }
}
