//! What real programs print, put together.

use proptest::prelude::*;

use super::*;

/// The events of these lines.
fn join(rule: &Multiline, lines: &[&str]) -> Vec<String> {
    let mut joiner = Joiner::new(rule);
    let mut events = Vec::new();
    for line in lines {
        if joiner.ends_before(line) {
            events.push(joiner.text().to_owned());
            joiner.clear();
        }
        joiner.add(line);
        if joiner.is_whole() {
            events.push(joiner.text().to_owned());
            joiner.clear();
        }
    }
    events.push(joiner.text().to_owned());
    events.retain(|e| !e.is_empty());
    events
}

/// `text` holds events with a line `--` between.
fn check(rule: &Multiline, text: &str) {
    let want: Vec<&str> = text.split("\n--\n").collect();
    let lines: Vec<&str> = text.lines().filter(|l| *l != "--").collect();
    assert_eq!(join(rule, &lines), want);
}

#[test]
fn a_traceback_is_one_event_with_its_header_and_all_that_it_chains() {
    check(
        &Multiline::Python,
        "INFO ready\n--\nERROR root: boom\nTraceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\n    ~^^\nKeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"a.py\", line 3, in h\n    raise B from e\napp.errors.Broken: no\n\nThe above exception was the direct cause of the following exception:\n\nTraceback (most recent call last):\n  File \"a.py\", line 9\n    [Previous line repeated 996 more times]\nRecursionError: maximum recursion depth exceeded\n--\nINFO going on\n--\nINFO and on",
    );
}

#[test]
fn tracebacks_that_are_not_chained_are_several_events() {
    let one = "Traceback (most recent call last):\n  File \"a.py\", line 1\nKeyboardInterrupt";
    check(&Multiline::Python, &format!("{one}\n--\n{one}\n--\nERROR: next\n--\nWARNING: last"));
    // One that is cut off does not swallow what follows.
    check(
        &Multiline::Python,
        "x\nTraceback (most recent call last):\n  File \"a.py\", line 1\n--\nERROR: next\n--\n2026-08-22 15:17:05 INFO up",
    );
}

#[test]
fn exception_groups_notes_and_dumps_of_threads_stay_together() {
    check(
        &Multiline::Python,
        "ERROR in task\n  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 1\n  | ExceptionGroup: two (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n    |   File \"a.py\", line 2\n    | ValueError: 1\n    +------------------------------------\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"b.py\", line 1\nOSError\n--\nINFO: on\n--\nFatal Python error: Segmentation fault\n\nCurrent thread 0x00007f (most recent call first):\n  File \"c.py\", line 5 in f\nThread 0x00008f (most recent call first):\n  File \"d.py\", line 5 in g\n--\nINFO: on",
    );
}

#[test]
fn a_traceback_at_the_end_of_a_line_that_says_something_is_one_event() {
    check(
        &Multiline::Python,
        "failed: Traceback (most recent call last):\n  File \"a.py\", line 1\nValueError: x\n--\nnext",
    );
}

#[test]
fn events_begin_with_a_time_or_a_level() {
    check(
        &Multiline::Timestamp,
        "2026-08-22 15:17:05,042 ERROR boom\njava.lang.IllegalState: x\n\tat a.b.C(D.java:1)\nCaused by: y\n12 more lines\n--\n[2026-08-22T15:17:05Z] next\n--\n22/Aug/2026:15:17:05 next\nerror in line 3\nInfo about it\n--\n15:17:05.042 next\n--\nAug 22 15:17:05 host next\n--\n1787411825.042 next\n--\nERROR next\n--\n[Warning] next\n--\nInfo: next\n--\n<34>Aug 22 next\n--\n2026/08/22 15:17:05 [error] next\n<b>no</b>\nINFORMATION is prose",
    );
}

#[test]
fn a_json_document_is_one_event_and_text_beside_it_is_its_own() {
    check(
        &Multiline::Json,
        "{\n  \"a\": \"}\\\"\",\n  \"b\": [1, {\n  }]\n}\n--\n{\"one\": \"line\"}\n--\ntext } with { braces\n--\nmore text\n--\n[\n  {\n  },\n  2\n]\n--\n{ \"open\": {",
    );
}

#[test]
fn a_pattern_of_the_operators_begins_events() {
    let rule = Multiline::Start(Pattern::new(r"^#\d+ ").unwrap());
    check(&rule, "#1 a\nb\n# c\n--\n#2 d\n--\n#31 e\nf");
}

#[test]
fn an_event_ends_at_its_bounds() {
    let rule = Multiline::Start(Pattern::new("^start").unwrap());
    let lines = vec!["x"; 1_203];
    let events = join(&rule, &lines);
    assert_eq!(events.iter().map(|e| e.lines().count()).collect::<Vec<_>>(), [500, 500, 203]);
    let long = "y".repeat(400_000);
    let events = join(&rule, &[&long, &long, &long]);
    assert_eq!(events.iter().map(String::len).collect::<Vec<_>>(), [800_001, 400_000]);
}

fn rule() -> impl Strategy<Value = Multiline> {
    prop_oneof![
        Just(Multiline::Python),
        Just(Multiline::Timestamp),
        Just(Multiline::Json),
        Just(Multiline::Start(Pattern::new("[ab]").unwrap())),
    ]
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Traceback (most recent call last):".to_owned()),
        Just("During handling of the above exception, another exception occurred:".to_owned()),
        Just("  File \"a.py\", line 1".to_owned()),
        Just("ValueError: x".to_owned()),
        Just("2026-08-22 15:17:05 INFO x".to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just(String::new()),
        "[ -~é]{0,30}",
    ]
}

proptest! {
    #[test]
    fn events_joined_are_the_lines_again(rule in rule(), lines in prop::collection::vec(line(), 0..60)) {
        let refs: Vec<&str> = lines.iter().map(String::as_str).collect();
        let events = join(&rule, &refs);
        let back: Vec<&str> = events.iter().flat_map(|e| e.split('\n')).filter(|l| !l.is_empty()).collect();
        let came: Vec<&str> = refs.into_iter().filter(|l| !l.is_empty()).collect();
        prop_assert_eq!(back, came);
    }
}
