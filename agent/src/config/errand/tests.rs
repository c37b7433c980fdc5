//! What these keys make of a program, and what they say when they cannot be.

use std::path::PathBuf;

use super::*;
use crate::{config::check_texts, supervise::ProcessSpec};

fn with_program(keys: &str) -> Result<Vec<ProcessSpec>, Vec<String>> {
    let text = format!("version: 1\nprograms:\n  job:\n    command: /bin/job\n{keys}");
    check_texts(vec![(PathBuf::from("p.yaml"), text)].into())
        .map(|s| s.supervise.processes)
        .map_err(|m| m.all().iter().map(ToString::to_string).collect())
}

fn one(keys: &str) -> ProcessSpec {
    with_program(keys).unwrap().remove(0)
}

fn mistake(keys: &str) -> String {
    with_program(keys).unwrap_err().join("\n")
}

#[test]
fn a_schedule_is_a_text_or_a_map_and_the_program_is_not_kept_running() {
    let job = one("    schedule: \"0 3 * * *\"\n");
    let schedule = job.schedule.unwrap();
    assert_eq!((schedule.when.text(), schedule.when.zone()), ("0 3 * * *", "UTC"));
    assert_eq!((schedule.overlap, schedule.missed), (Overlap::Skip, Missed::Skip));
    assert_eq!((job.autostart, job.autorestart), (false, AutoRestart::Never));
    assert_eq!(job.startsecs, Duration::ZERO);
    let job = one(concat!(
        "    startsecs: 5s\n",
        "    schedule: { calendar: \"Mon..Fri 03:00\", timezone: Europe/Berlin, overlap: queue,\n",
        "      missed: once, retries: 2, retry_after: 5m }\n",
    ));
    let schedule = job.schedule.unwrap();
    assert_eq!((schedule.when.text(), schedule.when.zone()), ("Mon..Fri 03:00", "Europe/Berlin"));
    assert_eq!((schedule.overlap, schedule.missed), (Overlap::Queue, Missed::Once));
    assert_eq!((schedule.retries, schedule.retry_after), (2, Duration::from_secs(300)));
    assert_eq!(job.startsecs, Duration::from_secs(5));
    assert_eq!(one("    schedule: daily\n").schedule.unwrap().when.text(), "daily");
}

#[test]
fn a_schedule_that_cannot_be_says_where_and_what_would_be_right() {
    let cases = [
        ("    schedule: \"0 25 * * *\"\n", "p.yaml:5: programs.job.schedule: hour \"25\""),
        ("    schedule: { cron: daily }\n", "programs.job.schedule.cron: \"daily\" has 1 fields"),
        ("    schedule: {}\n", "programs.job.schedule: needs cron"),
        ("    schedule: { cron: \"* * * * *\", calendar: daily }\n", "cannot stand beside cron"),
        (
            "    schedule: { cron: \"@daily\", timezone: Europe/Berln }\n",
            "did you mean Europe/Berlin?",
        ),
        ("    schedule: { cron: \"@daily\", overlap: skp }\n", "did you mean skip?"),
        ("    schedule: { cron: \"@daily\", misssed: once }\n", "did you mean missed?"),
        ("    schedule: { cron: \"@daily\", retry_after: 0s }\n", "must be more than 0s"),
        (
            "    schedule: daily\n    autostart: true\n",
            "job.autostart: cannot be true with a schedule",
        ),
        (
            "    schedule: daily\n    autorestart: true\n",
            "schedule.retries tries a failed run again",
        ),
        ("    schedule: daily\n    oneshot: true\n", "exclude each other"),
        ("    schedule: 3\n", "must be text"),
    ];
    for (keys, want) in cases {
        let said = mistake(keys);
        assert!(said.contains(want), "{keys}{said}");
    }
}

#[test]
fn a_schedule_whose_last_time_is_over_is_no_mistake_and_there_is_a_warning() {
    let warnings = |when: &str| {
        let text = format!(
            "version: 1\nprograms:\n  job:\n    command: /bin/job\n    schedule: {when:?}\n"
        );
        check_texts(vec![(PathBuf::from("p.yaml"), text)].into()).unwrap().warnings
    };
    let over =
        "p.yaml:4: programs.job.schedule: \"2020-02-03 03:00\" is over, so it never runs again";
    assert_eq!(warnings("2020-02-03 03:00"), [over]);
    assert_eq!(warnings("*-02-03 03:00"), Vec::<String>::new());
}

#[test]
fn a_one_shot_keeps_its_tries_and_has_no_other_way_to_be_ready() {
    let job = one("    oneshot: true\n    startretries: 1\n");
    assert_eq!((job.oneshot, job.startretries), (true, 1));
    assert_eq!((job.autostart, job.autorestart), (true, AutoRestart::Unexpected));
    assert!(
        mistake("    oneshot: true\n    startsecs: 3s\n").contains("job.startsecs: has no meaning")
    );
    assert!(
        mistake("    oneshot: true\n    ready: notify\n").contains("job.ready: has no meaning")
    );
    assert!(mistake("    oneshot: true\n    autorestart: true\n").contains("runs to its end once"));
}

#[test]
fn hooks_are_commands_with_a_time_each_and_know_their_process() {
    let specs = with_program(concat!(
        "    numprocs: 2\n",
        "    hooks:\n",
        "      pre_start: [./prepare --slot %(process_num)d, { command: [a, \"b c\"], timeout: 5m }]\n",
        "      post_start: ./warm\n",
    ));
    let hooks = specs.unwrap().remove(1).hooks;
    let argv = |hooks: &[Hook]| hooks.iter().map(|h| h.argv.join("|")).collect::<Vec<_>>();
    assert_eq!(argv(&hooks.pre_start), ["./prepare|--slot|1", "a|b c"]);
    assert_eq!(argv(&hooks.post_start), ["./warm"]);
    assert_eq!(hooks.pre_start[0].timeout, Duration::from_secs(60));
    assert_eq!(hooks.pre_start[1].timeout, Duration::from_secs(300));
    assert!(
        mistake("    hooks: { pre_start: \"a 'b\" }\n").contains("hooks.pre_start: has a quote")
    );
    let post = "    hooks: { pre_start: a, post_start: b }\n";
    assert!(mistake(&format!("    oneshot: true\n{post}")).contains("post_start: would never run"));
    assert!(mistake(&format!("    schedule: daily\n{post}")).contains("post_start: would be cut"));
    assert!(mistake("    hooks: { pre_strt: a }\n").contains("did you mean pre_start?"));
    assert!(
        mistake("    hooks: { pre_start: { command: a, timeout: 25h } }\n").contains("at most 24h")
    );
    assert!(mistake("    hooks: { pre_start: \"x %(nope)s\" }\n").contains("%(nope) is not known"));
}
