//! Logs as the client shows, follows and empties them.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use palisade_e2e::{agent::CAP, wait::wait_until};

use super::{PROGRAMS, command, ctl, is, ready};
use crate::{Case, cases, rig::Subject};

cases! {
    tail_shows_the_end_of_a_log,
    tail_follows_a_log,
    maintail_shows_what_happened,
    maintail_follows,
    clear_empties_logs,
}

fn tail_shows_the_end_of_a_log() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            wait_until("both logs", CAP, || {
                s.read("up.log") == "one\ntwo\n" && s.read("up.err") == "bad\n"
            });
            for (args, text, code) in [
                (vec!["tail", "up"], "one\ntwo\n\n", 0),
                (vec!["tail", "-4", "up"], "two\n\n", 0),
                (vec!["tail", "up", "stderr"], "bad\n\n", 0),
                (vec!["tail", "gone"], "\n", 0),
                (vec!["tail", "down"], "down: ERROR (no log file)\n", 1),
                (vec!["tail", "nosuch"], "nosuch: ERROR (no such process name)\n", 1),
                (vec!["tail", "up", "foo"], "Error: bad channel 'foo'\n", 1),
            ] {
                assert_eq!(ctl(s, &args), is(text, code), "{args:?}");
            }
        },
    }
}

/// Follows with `args`, and returns the lines up to one that holds `last`.
fn follow(s: &Subject, args: &[&str], meanwhile: impl FnOnce(), last: &str) -> Vec<String> {
    let mut child = command(s, args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    assert_eq!(first, "==> Press Ctrl-C to exit <==");
    let mut seen = vec![lines.next().unwrap()];
    meanwhile();
    while !seen.last().unwrap().contains(last) {
        seen.push(lines.next().unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    seen
}

fn tail_follows_a_log() -> Case {
    Case {
        conf: "[program:talk]\nstdout_logfile=@DIR@/talk.log\n\
               command=/bin/sh -c \"echo first; while [ ! -e @DIR@/go ]; do sleep 0.1; done; echo second; exec sleep 100\"\n",
        check: |s| {
            s.running("talk");
            wait_until("the first line", CAP, || s.read("talk.log") == "first\n");
            let seen = follow(s, &["tail", "-f", "talk"], || s.write("go", ""), "second");
            assert_eq!(seen, ["first", "second"]);
            let (text, _) = ctl(s, &["tail", "-f", "nosuch"]);
            assert!(text.contains("Cannot read, status code 404"), "{text}");
        },
    }
}

fn maintail_shows_what_happened() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            let pid = s.running("up");
            s.rpc("stopProcess", &["up".into()]);
            s.try_rpc("startProcess", &["quick".into()]).unwrap_err();
            s.wait("quick", "FATAL");
            let lines = [
                format!("INFO spawned: 'up' with pid {pid}"),
                "INFO success: up entered RUNNING state, process has stayed up for > than 1 seconds \
                 (startsecs)"
                    .to_owned(),
                "INFO success: a entered RUNNING state, process has stayed up for > than 0 seconds \
                 (startsecs)"
                    .to_owned(),
                "WARN stopped: up (terminated by SIGTERM)".to_owned(),
                "WARN exited: quick (exit status 2; not expected)".to_owned(),
                "INFO gave up: quick entered FATAL state, too many start retries too quickly"
                    .to_owned(),
            ];
            wait_until("all lines", CAP, || {
                let (text, code) = ctl(s, &["maintail", "-20000"]);
                code == 0 && lines.iter().all(|l| text.contains(l))
            });
            let (text, code) = ctl(s, &["maintail", "-11"]);
            assert_eq!((text.len(), code), (12, 0), "{text}");
            assert_eq!(s.rpc("clearLog", &[]), true);
            assert!(!ctl(s, &["maintail"]).0.contains("spawned"));
        },
    }
}

fn maintail_follows() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            let restart = || {
                s.rpc("stopProcess", &["down".into()]);
            };
            s.rpc("startProcess", &["down".into()]);
            let seen = follow(s, &["maintail", "-f"], restart, "stopped: down");
            assert!(seen.iter().any(|l| l.contains("spawned: 'down' with pid")), "{seen:?}");
        },
    }
}

fn clear_empties_logs() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            wait_until("both logs", CAP, || {
                s.read("up.log") == "one\ntwo\n" && s.read("up.err") == "bad\n"
            });
            assert_eq!(ctl(s, &["clear", "up"]), is("up: cleared\n", 0));
            assert_eq!((s.read("up.log"), s.read("up.err")), Default::default());
            let unknown = "nosuch: ERROR (no such process)\n";
            assert_eq!(ctl(s, &["clear", "nosuch"]), is(unknown, 1));
            let all = "g:b: cleared\ng:a: cleared\ndown: cleared\ngone: cleared\nquick: cleared\n\
                       up: cleared\n";
            assert_eq!(ctl(s, &["clear", "all"]), is(all, 0));
        },
    }
}
