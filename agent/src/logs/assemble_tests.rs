//! Events from lines that come in whatever portions, of one stream or of two.

use proptest::prelude::*;

use super::*;
use crate::logs::content::Zone;

const T: Timestamp = Timestamp::from_secs(1_787_411_825);

fn rules(multiline: Multiline) -> LineRules {
    LineRules { multiline, timestamps: None }
}

/// One reading of the lines from `from` to `upto`, each of which is one position long: the events with
/// the position after each, and where to go on.
fn read(
    rules: &LineRules,
    lines: &[(u8, String)],
    from: u64,
    upto: usize,
    still: bool,
) -> (Vec<(String, u64)>, u64) {
    let mut batch = Batch::new(1, from);
    let mut assembler = Assembler::new(rules, i64::MAX, &batch, from);
    let begin = usize::try_from(from).unwrap();
    for (i, (stream, text)) in lines[begin..upto].iter().enumerate() {
        let start = from + i as u64;
        let line = Line { stream: *stream, text, at: T, start, end: start + 1 };
        assembler.add(&mut batch, line, &mut 0).unwrap();
    }
    let back = assembler.end(&mut batch, T, still).unwrap();
    let position = back.unwrap_or(upto as u64);
    assert_eq!(batch.upto(), position);
    let texts = batch.events().map(|(_, t)| serde_json::from_slice::<String>(t).unwrap());
    let events = texts.enumerate().map(|(i, t)| (t, batch.end_of(i + 1))).collect();
    (events, position)
}

/// All of it, by what is there at each cut.
fn read_all(rules: &LineRules, lines: &[(u8, String)], cuts: &[usize]) -> Vec<String> {
    let (mut events, mut position) = (Vec::new(), 0);
    for upto in cuts.iter().copied().chain([lines.len()]) {
        let (more, next) = read(rules, lines, position, upto, false);
        events.extend(more);
        position = next;
    }
    let (rest, position) = read(rules, lines, position, lines.len(), true);
    assert_eq!(position, lines.len() as u64);
    events.extend(rest);
    events.into_iter().map(|(text, _)| text).collect()
}

fn of(stream: u8, text: &str) -> Vec<(u8, String)> {
    text.lines().map(|l| (stream, l.to_owned())).collect()
}

const TRACE: &str = "ERROR boom\nTraceback (most recent call last):\n  File \"a.py\"\nKeyError: 1";

#[test]
fn an_event_that_may_go_on_is_left_and_nothing_before_its_end_is_acknowledged() {
    let python = rules(Multiline::Python);
    let lines = of(1, &format!("INFO up\n{TRACE}\nINFO on"));
    for upto in 2..=5 {
        let (events, position) = read(&python, &lines, 0, upto, false);
        assert_eq!((events, position), (vec![("INFO up".to_owned(), 1)], 1));
    }
    let (events, position) = read(&python, &lines, 1, 6, false);
    assert_eq!((events, position), (vec![(TRACE.to_owned(), 5)], 5));
    // Where nothing comes for a while it is whole.
    assert_eq!(read(&python, &lines, 1, 5, true), (vec![(TRACE.to_owned(), 5)], 5));
}

#[test]
fn two_streams_of_a_process_do_not_mix_and_are_acknowledged_together() {
    let python = rules(Multiline::Python);
    let (out, err) = (of(1, "GET /1\nGET /2\nGET /3\nGET /4"), of(2, TRACE));
    let mixed: Vec<_> = err.into_iter().zip(out).flat_map(|(e, o)| [e, o]).collect();
    let (events, position) = read(&python, &mixed, 0, 8, false);
    // The traceback is open from the first line on: nothing is sure yet.
    assert_eq!((events.len(), position), (0, 0));
    let (mut events, position) = read(&python, &mixed, 0, 8, true);
    assert_eq!(position, 8);
    // Only behind the last of them is nothing open.
    assert!(events.iter().rev().skip(1).all(|(_, end)| *end == 0), "{events:?}");
    events.sort();
    let texts: Vec<&str> = events.iter().map(|(t, _)| t.as_str()).collect();
    assert_eq!(texts, [TRACE, "GET /1", "GET /2", "GET /3", "GET /4"]);
}

#[test]
fn a_second_without_a_line_ends_an_event() {
    let python = rules(Multiline::Python);
    let mut batch = Batch::new(1, 0);
    let mut assembler = Assembler::new(&python, i64::MAX, &batch, 0);
    let later = |ms| Timestamp::from_millis(T.as_millis() + ms);
    let mut add = |batch: &mut Batch, n: u64, text: &str, at| {
        let line = Line { stream: 1, text, at, start: n, end: n + 1 };
        assembler.add(batch, line, &mut 0).unwrap();
    };
    add(&mut batch, 0, "ERROR x", T);
    add(&mut batch, 1, "  more", later(1000));
    add(&mut batch, 2, "  too late", later(2001));
    assert_eq!((batch.len(), batch.upto()), (1, 2));
    assert_eq!(assembler.end(&mut batch, later(3001), false).unwrap(), Some(2));
    let mut assembler = Assembler::new(&python, i64::MAX, &batch, 2);
    let line = Line { stream: 1, text: "  too late", at: later(2001), start: 2, end: 3 };
    assembler.add(&mut batch, line, &mut 0).unwrap();
    assert_eq!(assembler.end(&mut batch, later(3002), false).unwrap(), None);
    assert_eq!(batch.len(), 2);
}

#[test]
fn a_line_longer_than_any_event_is_cut_and_comes_between() {
    let python = rules(Multiline::Python);
    let long = "y".repeat(1_200_000);
    let lines = [(1, "a".to_owned()), (1, long.clone()), (1, "b".to_owned())];
    let (mut texts, mut position, mut pieces) = (Vec::new(), 0, 0);
    while position < 3 {
        let mut batch = Batch::new(1, position);
        let mut assembler = Assembler::new(&python, i64::MAX, &batch, position);
        let mut full = false;
        for (n, (stream, text)) in lines.iter().enumerate().skip(usize::try_from(position).unwrap())
        {
            let line = Line { stream: *stream, text, at: T, start: n as u64, end: n as u64 + 1 };
            full = assembler.add(&mut batch, line, &mut pieces).is_err();
            if full {
                break;
            }
        }
        let back = match full {
            true => assembler.cut(&mut batch),
            false => assembler.end(&mut batch, T, true).unwrap(),
        };
        position = back.unwrap_or(3);
        assert_eq!(batch.upto(), position);
        texts.extend(batch.events().map(|(_, t)| serde_json::from_slice::<String>(t).unwrap()));
    }
    assert_eq!(texts.first().unwrap(), "a");
    assert_eq!(texts.last().unwrap(), "b");
    assert_eq!(texts[1..texts.len() - 1].concat(), long);
}

#[test]
fn an_event_bears_the_time_of_its_first_line() {
    let zone = Some(Zone::named("UTC").unwrap());
    let timed = LineRules { multiline: Multiline::Timestamp, timestamps: zone };
    let mut batch = Batch::new(1, 0);
    let mut assembler = Assembler::new(&timed, i64::MAX, &batch, 0);
    let texts = ["2026-08-22T15:00:00Z a", "2 more", "2026-08-22 15:10:00,5 b", "no time"];
    for (n, text) in texts.iter().enumerate() {
        let line = Line { stream: 1, text, at: T, start: n as u64, end: n as u64 + 1 };
        assembler.add(&mut batch, line, &mut 0).unwrap();
    }
    assembler.end(&mut batch, T, true).unwrap();
    let times: Vec<String> = batch.events().map(|(at, _)| at.to_string()).collect();
    assert_eq!(times, ["2026-08-22T15:00:00.000Z", "2026-08-22T15:10:00.500Z"]);
}

fn line() -> impl Strategy<Value = (u8, String)> {
    let text = prop::sample::select(vec![
        "INFO x",
        "Traceback (most recent call last):",
        "  File \"a.py\"",
        "ValueError: y",
        "During handling of the above exception, another exception occurred:",
        "",
        "{",
        "}",
        "2026-08-22 x",
    ]);
    (1_u8..3, text.prop_map(str::to_owned))
}

proptest! {
    #[test]
    fn events_do_not_depend_on_how_the_lines_came_in(
        multiline in prop::sample::select(vec![Multiline::Python, Multiline::Json, Multiline::Timestamp]),
        lines in prop::collection::vec(line(), 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let rules = rules(multiline);
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(lines.len() + 1)).collect();
        cuts.sort_unstable();
        let mut events = read_all(&rules, &lines, &cuts);
        let mut want = Vec::new();
        for stream in 1..3 {
            let alone: Vec<_> = lines.iter().filter(|(s, _)| *s == stream).cloned().collect();
            want.extend(read_all(&rules, &alone, &[]));
        }
        events.sort();
        want.sort();
        prop_assert_eq!(events, want);
    }

    /// Whatever part of a batch is acknowledged when the agent dies: going on from there, every line
    /// comes in an event, and none is missing.
    #[test]
    fn a_restart_at_any_acknowledged_place_reads_every_event_whole(
        lines in prop::collection::vec(line(), 1..40),
        upto in any::<prop::sample::Index>(),
    ) {
        let rules = rules(Multiline::Python);
        let (events, _) = read(&rules, &lines, 0, lines.len(), true);
        prop_assume!(!events.is_empty());
        let kept = upto.index(events.len()) + 1;
        let from = events[kept - 1].1;
        let (again, _) = read(&rules, &lines, from, lines.len(), true);
        let mut got: Vec<String> = events[..kept].iter().chain(&again).map(|(t, _)| t.clone()).collect();
        let mut all: Vec<String> = events.iter().map(|(t, _)| t.clone()).collect();
        got.sort();
        all.sort();
        // What comes twice comes whole; nothing is missing.
        for event in all {
            let at = got.iter().position(|g| *g == event);
            prop_assert!(at.is_some(), "{} is missing", event);
            got.remove(at.unwrap());
        }
        for event in got {
            prop_assert!(events[..kept].iter().any(|(t, _)| *t == event), "{} came torn", event);
        }
    }
}
