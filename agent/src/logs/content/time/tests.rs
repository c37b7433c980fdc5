//! Times of real lines, and lines that bear none.

use proptest::prelude::*;

use super::*;

/// 2026-08-22T15:17:05Z
const NOW: i64 = 1_787_411_825_000;
const TWO_WEEKS: i64 = 14 * 24 * 3600 * 1000;

fn read_in(zone: &str, line: &str, now: i64) -> Option<i64> {
    Reader::new(&Zone::named(zone).unwrap(), TWO_WEEKS).time_of(line.as_bytes(), now)
}

fn read(line: &str) -> Option<i64> {
    read_in("UTC", line, NOW)
}

#[test]
fn the_usual_forms_are_read_to_the_millisecond() {
    for (line, after) in [
        ("2026-08-22T15:17:05Z up", 0),
        ("2026-08-22T15:17:05.123456Z up", 123),
        ("2026-08-22T17:17:05.5+02:00 up", 500),
        ("2026-08-22 15:17:05 up", 0),
        ("2026-08-22 15:17:05,042 ERROR app boom", 42),
        ("2026-08-22 15:17:05.042 UTC [77] LOG:  ready", 42),
        ("[2026-08-22 15:17:05 +0000] [12] [INFO] Booting worker", 0),
        ("[2026-08-22 15:17:05,007: INFO/MainProcess] Task done", 7),
        ("2026/08/22 15:17:05 [error] 77#77: *1 open() failed", 0),
        ("2026-08-22T15:16:60Z leap", -1000 - 5000),
        ("203.0.113.9 - - [22/Aug/2026:17:17:05 +0200] \"GET / HTTP/1.1\" 200 5", 0),
        ("2001:db8::1 - bob [22/Aug/2026:15:17:05 +0000] \"GET /\" 200", 0),
        ("Aug 22 15:17:05 web-1 sshd[7]: Accepted", 0),
        ("<34>Aug 22 15:17:05 web-1 su: 'su root' failed", 0),
        ("<165>1 2026-08-22T15:17:05.003Z web-1 app - ID47 - hi", 3),
        (r#"{"ts":"2026-08-22T15:17:05.250Z","msg":"x"}"#, 250),
        (r#"{"level":"info","tags":{"a":[1,"}"]},"time":1787411825,"msg":"x"}"#, 0),
        (r#"{"time":1787411825.25}"#, 250),
        (r#"{"timestamp": 1787411825042, "x": 1}"#, 42),
        (r#"{"a\"b":null,"@timestamp":"2026-08-22 15:17:05.001"}"#, 1),
        (r#"{"time":"1787411825"}"#, 0),
        (r#"{"ts":1787411825042000000,"m":1}"#, 42),
    ] {
        assert_eq!(read(line), Some(NOW + after), "{line}");
    }
}

#[test]
fn what_is_unsure_is_not_taken() {
    for line in [
        "",
        "hello",
        "20260822151705 compact",
        "2026-08-22 only a date",
        "2026-13-22 15:17:05 month 13",
        "2026-02-30 15:17:05 no such day",
        "2026-08-22 25:17:05 hour 25",
        "2026-08-22T15:17:05ZZ",
        "2026/08-22 15:17:05",
        "at 2026-08-22 15:17:05 in the middle",
        "Foo 22 15:17:05",
        "Aug 32 15:17:05",
        "x [99/Aug/2026:15:17:05 +0000]",
        "x [22/Aug/2026:15:17:05]",
        "10.0.0.1 said [hello]",
        r#"{"msg":{"ts":"2026-08-22T15:17:05Z"}}"#,
        r#"{"ts":"yesterday"}"#,
        r#"{"ts":17}"#,
        r#"{"ts""#,
        "{",
        "{\"a\\",
    ] {
        assert_eq!(read(line), None, "{line}");
    }
}

#[test]
fn what_the_service_would_refuse_is_not_taken() {
    assert_eq!(read("2026-08-22 17:17:00 in two hours"), Some(NOW + 7_195_000));
    assert_eq!(read("2026-08-22 17:17:06 a second more"), None);
    assert_eq!(read("2026-08-08 15:17:05 two weeks ago"), Some(NOW - TWO_WEEKS));
    assert_eq!(read("2026-08-08 15:17:04 a second more"), None);
    assert_eq!(read("0001-01-01 00:00:00 x"), None);
}

#[test]
fn a_time_without_zone_is_of_the_zone_that_is_set() {
    assert_eq!(read_in("Europe/Berlin", "2026-08-22 17:17:05 x", NOW), Some(NOW));
    assert_eq!(read_in("America/New_York", "Aug 22 11:17:05 h p: x", NOW), Some(NOW));
}

#[test]
fn an_hour_that_the_clock_shows_twice_is_the_later_one_once_that_has_come() {
    // 2026-10-25, Berlin: 02:30 is 00:30 UTC and again 01:30 UTC.
    let first = 1_792_888_200_000;
    let second = first + 3_600_000;
    let line = "2026-10-25 02:30:00 x";
    assert_eq!(read_in("Europe/Berlin", line, first + 1000), Some(first));
    assert_eq!(read_in("Europe/Berlin", line, second + 1000), Some(second));
    // 02:30 on the 29th of March does not exist; it is some time near.
    let gap = 1_774_747_800_000;
    let read = read_in("Europe/Berlin", "2026-03-29 02:30:00 x", gap).unwrap();
    assert!((read - gap).abs() <= 3_600_000);
}

#[test]
fn a_date_without_a_year_is_the_last_one_there_was() {
    // 2027-01-01T00:00:30Z
    let new_year = 1_798_761_630_000;
    assert_eq!(read_in("UTC", "Dec 31 23:59:50 h p: x", new_year), Some(new_year - 40_000));
    assert_eq!(read_in("UTC", "Jan  1 00:00:30 h p: x", new_year), Some(new_year));
    // A clock a little ahead, over the same night.
    assert_eq!(
        read_in("UTC", "Jan  1 00:00:10 h p: x", new_year - 60_000),
        Some(new_year - 20_000)
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = Reader::new(&Zone::named("Europe/Berlin").unwrap(), TWO_WEEKS);
        if let Some(ms) = reader.time_of(&line, NOW) {
            prop_assert!((NOW - TWO_WEEKS..=NOW + AHEAD_MS).contains(&ms));
        }
    }

    #[test]
    fn any_time_of_the_window_reads_back_in_any_zone(
        age in -7_000_000_i64..TWO_WEEKS,
        zone in prop::sample::select(vec!["UTC", "Asia/Kathmandu", "America/St_Johns"]),
    ) {
        let at = Timestamp::from_millisecond(NOW - age).unwrap();
        let zone_of = TimeZone::get(zone).unwrap();
        let local = zone_of.to_datetime(at);
        for text in [format!("{at:.3} x"), local.strftime("%Y-%m-%d %H:%M:%S,%3f x").to_string()] {
            prop_assert_eq!(read_in(zone, &text, NOW), Some(NOW - age), "{}", text);
        }
        let z = at.to_zoned(zone_of);
        let text = z.strftime("h - - [%d/%b/%Y:%H:%M:%S %z] \"GET /\"").to_string();
        prop_assert_eq!(read_in("UTC", &text, NOW), Some((NOW - age).div_euclid(1000) * 1000));
    }
}
