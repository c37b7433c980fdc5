use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    let t: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_millis(t.as_millisecond())
}

fn window(days: &[Weekday], start: &str, minutes: u64, zone: &str) -> Windows {
    let length = Duration::from_secs(minutes * 60);
    let zone = TimeZone::get(zone).unwrap();
    Windows(vec![Window::new(days.to_vec(), start.parse().unwrap(), length, zone).unwrap()])
}

const ALL: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

#[test]
fn a_window_is_open_from_its_start_until_before_its_end_in_its_own_zone() {
    // 2026-11-24 is a Tuesday; Berlin is an hour ahead of UTC then.
    let w = window(&[Weekday::Tuesday], "03:00", 120, "Europe/Berlin");
    for (time, open) in [
        ("2026-11-24T01:59:59Z", false),
        ("2026-11-24T02:00:00Z", true),
        ("2026-11-24T03:59:59Z", true),
        ("2026-11-24T04:00:00Z", false),
        ("2026-11-25T02:30:00Z", false),
    ] {
        assert_eq!(w.open_at(at(time)).is_some(), open, "{time}");
    }
    assert_eq!(w.next_after(at("2026-11-24T02:00:00Z")).unwrap().start, at("2026-12-01T02:00:00Z"));
}

#[test]
fn a_window_crosses_midnight_and_the_end_of_the_week() {
    // Sunday 2026-11-29 23:00 to Monday 03:00.
    let w = window(&[Weekday::Sunday], "23:00", 240, "UTC");
    let open = w.open_at(at("2026-11-30T02:59:00Z")).unwrap();
    assert_eq!(open.start, at("2026-11-29T23:00:00Z"));
    assert!(w.open_at(at("2026-11-30T23:30:00Z")).is_none());
}

#[test]
fn a_start_that_the_clock_jumps_over_is_as_much_later_and_keeps_its_length() {
    // Berlin, 2027-03-28: 02:00 becomes 03:00, so 02:30 is 03:30 summer time, 01:30 UTC.
    let w = window(&[Weekday::Sunday], "02:30", 60, "Europe/Berlin");
    let open = w.next_after(at("2027-03-27T12:00:00Z")).unwrap();
    assert_eq!(
        open,
        Opening { start: at("2027-03-28T01:30:00Z"), end: at("2027-03-28T02:30:00Z") }
    );
}

#[test]
fn a_start_that_happens_twice_is_the_first_and_only_once() {
    // Berlin, 2026-10-25: 02:30 is at 00:30 and at 01:30 UTC.
    let w = window(&[Weekday::Sunday], "02:30", 60, "Europe/Berlin");
    let open = w.next_after(at("2026-10-24T12:00:00Z")).unwrap();
    assert_eq!(
        open,
        Opening { start: at("2026-10-25T00:30:00Z"), end: at("2026-10-25T01:30:00Z") }
    );
    assert_eq!(w.next_after(open.start).unwrap().start, at("2026-11-01T01:30:00Z"));
}

#[test]
fn of_several_open_windows_the_one_that_ends_last_counts() {
    let mut w = window(&ALL, "01:00", 60, "UTC");
    w.0.extend(window(&ALL, "01:30", 120, "UTC").0);
    assert_eq!(w.open_at(at("2026-11-24T01:45:00Z")).unwrap().end, at("2026-11-24T03:30:00Z"));
}

#[test]
fn nothing_begins_after_last_call_and_a_cutoff_longer_than_the_window_closes_it() {
    let open = Opening { start: Timestamp::from_secs(0), end: Timestamp::from_secs(3600) };
    assert_eq!(open.last_call(Duration::from_secs(900)), Timestamp::from_secs(2700));
    assert_eq!(open.last_call(Duration::from_secs(9000)), open.start);
}

#[test]
fn a_window_that_never_opens_or_never_ends_cannot_be_built() {
    let zone = TimeZone::UTC;
    let hour = Duration::from_secs(3600);
    let start = Time::midnight();
    assert_eq!(Window::new(vec![], start, hour, zone.clone()), Err(BadWindow::NoDays));
    for length in [Duration::ZERO, hour * 25] {
        let built = Window::new(ALL.to_vec(), start, length, zone.clone());
        assert_eq!(built, Err(BadWindow::Length));
    }
}

#[test]
fn a_host_begins_at_its_own_time_and_hosts_spread_over_the_splay() {
    let splay = Duration::from_secs(600);
    assert_eq!(delay("i-0aa", splay), delay("i-0aa", splay));
    let delays: Vec<_> = (0..400).map(|n| delay(&format!("i-{n:08x}"), splay)).collect();
    assert!(delays.iter().all(|d| *d <= splay));
    for quarter in 0..4 {
        let (from, to) = (splay * quarter / 4, splay * (quarter + 1) / 4);
        let here = delays.iter().filter(|d| **d >= from && **d < to).count();
        assert!(
            (60..=140).contains(&here),
            "{here} of 400 hosts begin between {from:?} and {to:?}"
        );
    }
}

fn any_window() -> impl Strategy<Value = Windows> {
    let zones =
        ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"];
    (1_u8..128, 0_i8..24, 0_i8..60, 1_u64..=1440, proptest::sample::select(zones.to_vec()))
        .prop_map(|(mask, h, m, minutes, zone)| {
            let days: Vec<_> = (0..7).filter(|i| mask & (1 << i) != 0).map(|i| ALL[i]).collect();
            window(&days, &format!("{h:02}:{m:02}"), minutes, zone)
        })
}

proptest! {
    // Two years from 2026 on, so that every kind of jump is met.
    #[test]
    fn the_next_opening_is_in_the_future_has_its_length_and_is_open(
        w in any_window(),
        now in 1_767_225_600_i64..1_830_297_600,
    ) {
        let now = Timestamp::from_secs(now);
        let next = w.next_after(now).unwrap();
        prop_assert!(next.start > now);
        prop_assert_eq!(next.end.since(next.start), w.0[0].length);
        prop_assert!(w.open_at(next.start).is_some());
        // At most a week and the largest jump away.
        prop_assert!(next.start.since(now) <= Duration::from_secs(7 * 86_400 + 3600));
    }

    #[test]
    fn no_opening_is_skipped_between_now_and_the_next(
        w in any_window(),
        now in 1_767_225_600_i64..1_830_297_600,
        into in 0.0_f64..1.0,
    ) {
        let now = Timestamp::from_secs(now);
        let next = w.next_after(now).unwrap();
        let moment = now.plus(next.start.since(now).mul_f64(into));
        if let Some(open) = w.open_at(moment) {
            prop_assert!(open.start <= now || open.start == next.start);
        }
    }
}
