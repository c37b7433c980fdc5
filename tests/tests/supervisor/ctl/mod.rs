//! Supervisor's own client, unmodified: what it prints and how it exits must be the same against both.

pub(crate) mod changes;
pub(crate) mod rpc;
pub(crate) mod tails;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Output, Stdio},
};

use crate::{
    Case, cases,
    rig::{Subject, venv},
};

cases! {
    status_tells_every_process_and_its_exit_code,
    starts_and_stops_are_told_in_order,
    what_cannot_be_started_or_stopped_is_said,
    restart_starts_what_was_stopped,
    signals_are_told,
    pids_are_told,
    fg_sends_lines_and_shows_what_comes_back,
    version_and_words_that_are_none,
}

const PROGRAMS: &str = "[program:up]\n\
    command=/bin/sh -c \"echo one; echo two; echo bad >&2; exec sleep 100\"\n\
    stdout_logfile=@DIR@/up.log\nstderr_logfile=@DIR@/up.err\n\
    [program:down]\ncommand=/bin/sleep 100\nautostart=false\nstdout_logfile=NONE\nstartsecs=0\n\
    [program:gone]\ncommand=/nonexistent/program\nautostart=false\nstartretries=0\n\
    [program:quick]\ncommand=/bin/sh -c \"exit 2\"\nautostart=false\nstartretries=0\n\
    [program:a]\ncommand=/bin/sleep 100\npriority=20\nstartsecs=0\n\
    [program:b]\ncommand=/bin/sleep 100\npriority=10\nstartsecs=0\n\
    [group:g]\nprograms=a,b\npriority=5\n";

fn command(s: &Subject, args: &[&str]) -> Command {
    let mut command = Command::new(venv().join("bin/supervisorctl"));
    command.arg("-c").arg(s.path("supervisord.conf")).args(args);
    command.env("PYTHONUNBUFFERED", "1").stdin(Stdio::null());
    command
}

/// What the client printed, with the directory as `DIR`, and its exit code.
fn ctl(s: &Subject, args: &[&str]) -> (String, i32) {
    let Output { status, stdout, stderr } = command(s, args).output().unwrap();
    let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    (text.replace(s.path("").to_str().unwrap(), "DIR/"), status.code().unwrap())
}

/// The same with each number as `#`: pids and times differ from run to run.
fn masked(s: &Subject, args: &[&str]) -> (String, i32) {
    let (text, code) = ctl(s, args);
    let mut out = String::new();
    for c in text.chars() {
        match (c.is_ascii_digit(), out.ends_with('#')) {
            (true, true) => {}
            (true, false) => out.push('#'),
            (false, _) => out.push(c),
        }
    }
    (out, code)
}

/// The lines in order of name: Supervisor tells of those that stop together in no certain order.
fn sorted((text, code): (String, i32)) -> (String, i32) {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    (lines.join("\n"), code)
}

fn is(text: &str, code: i32) -> (String, i32) {
    (text.to_owned(), code)
}

/// All that starts by itself is up.
fn ready(s: &Subject) {
    for name in ["up", "g:a", "g:b"] {
        s.running(name);
    }
}

fn status_tells_every_process_and_its_exit_code() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            let line = |name: &str, rest: &str| format!("{name:<33}{rest}\n");
            let up = "RUNNING   pid #, uptime #:#:#";
            let all = [
                line("down", "STOPPED   Not started"),
                line("g:a", up),
                line("g:b", up),
                line("gone", "STOPPED   Not started"),
                line("quick", "STOPPED   Not started"),
                line("up", up),
            ];
            assert_eq!(masked(s, &["status"]), is(&all.concat(), 3));
            assert_eq!(masked(s, &["status", "all"]), is(&all.concat(), 3));
            assert_eq!(masked(s, &["status", "up"]), is(&line("up", up), 0));
            assert_eq!(masked(s, &["status", "g:*"]), is(&all[1..3].concat(), 0));
            let unknown = "nosuch: ERROR (no such process)\n";
            assert_eq!(ctl(s, &["status", "nosuch"]), is(unknown, 4));
            assert_eq!(ctl(s, &["status", "x:*"]), is("x: ERROR (no such group)\n", 4));
            let both = format!("{unknown}{}", line("up", up));
            assert_eq!(masked(s, &["status", "up", "nosuch"]), is(&both, 4));
            s.try_rpc("startProcess", &["quick".into()]).unwrap_err();
            s.wait("quick", "FATAL");
            let fatal = "FATAL     Exited too quickly (process log may have details)";
            assert_eq!(ctl(s, &["status", "quick"]), is(&line("quick", fatal), 3));
            s.rpc("stopProcess", &["up".into()]);
            let (text, code) = ctl(s, &["status", "up"]);
            let words: Vec<_> = text.split_whitespace().collect();
            assert_eq!((words[..2].join(" "), code), is("up STOPPED", 3));
            assert!(matches!(words[5], "AM" | "PM"), "{text}");
        },
    }
}

fn starts_and_stops_are_told_in_order() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            assert_eq!(ctl(s, &["stop", "up"]), is("up: stopped\n", 0));
            assert_eq!(ctl(s, &["start", "up"]), is("up: started\n", 0));
            assert_eq!(sorted(ctl(s, &["stop", "g:*"])), is("g:a: stopped\ng:b: stopped", 0));
            assert_eq!(ctl(s, &["start", "g:*"]), is("g:b: started\ng:a: started\n", 0));
            assert_eq!(ctl(s, &["stop", "g:a", "up"]), is("g:a: stopped\nup: stopped\n", 0));
            assert_eq!(ctl(s, &["stop", "all"]), is("g:b: stopped\n", 0));
            assert_eq!(ctl(s, &["stop", "all"]), is("", 0));
            let all = "g:b: started\ng:a: started\ndown: started\ngone: ERROR (no such file)\n\
                       quick: ERROR (spawn error)\nup: started\n";
            assert_eq!(ctl(s, &["start", "all"]), is(all, 7));
        },
    }
}

fn what_cannot_be_started_or_stopped_is_said() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            for (args, text, code) in [
                (["start", "up"], "up: ERROR (already started)\n", 0),
                (["stop", "down"], "down: ERROR (not running)\n", 0),
                (["start", "nosuch"], "nosuch: ERROR (no such process)\n", 1),
                (["stop", "nosuch"], "nosuch: ERROR (no such process)\n", 1),
                (["start", "gone"], "gone: ERROR (no such file)\n", 1),
                (["start", "quick"], "quick: ERROR (spawn error)\n", 7),
                (["start", "x:*"], "x: ERROR (no such group)\n", 2),
                (["stop", "x:*"], "x: ERROR (no such group)\n", 1),
                (["start", "g:nosuch"], "g:nosuch: ERROR (no such process)\n", 1),
            ] {
                assert_eq!(ctl(s, &args), is(text, code), "{args:?}");
            }
            assert_eq!(s.state("gone"), "STOPPED", "nothing was tried");
            let (text, code) = ctl(s, &["start"]);
            assert!(text.starts_with("Error: start requires a process name\n"), "{text}");
            assert_eq!(code, 2);
        },
    }
}

fn restart_starts_what_was_stopped() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            let before = s.running("up");
            assert_eq!(ctl(s, &["restart", "up"]), is("up: stopped\nup: started\n", 0));
            assert_ne!(s.running("up"), before);
            let down = "down: ERROR (not running)\ndown: started\n";
            assert_eq!(ctl(s, &["restart", "down"]), is(down, 0));
            let group = "g:a: started\ng:a: stopped\ng:b: started\ng:b: stopped";
            assert_eq!(sorted(ctl(s, &["restart", "g:*"])), is(group, 0));
        },
    }
}

fn signals_are_told() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            for (name, text, code) in [
                ("up", "up: signalled\n", 0),
                ("quick", "quick: ERROR (not running)\n", 7),
                ("nosuch", "nosuch: ERROR (no such process)\n", 1),
                ("g:*", "g:b: signalled\ng:a: signalled\n", 0),
                ("x:*", "x: ERROR (no such group)\n", 1),
                ("all", "g:b: signalled\ng:a: signalled\nup: signalled\n", 0),
            ] {
                assert_eq!(ctl(s, &["signal", "WINCH", name]), is(text, code), "{name}");
            }
            let bad = |names: &[&str]| {
                names.iter().map(|n| format!("{n}: ERROR (bad signal name)\n")).collect::<String>()
            };
            assert_eq!(ctl(s, &["signal", "FOO", "up"]), is(&bad(&["up"]), 1));
            assert_eq!(ctl(s, &["signal", "FOO", "g:*"]), is(&bad(&["g:b", "g:a"]), 1));
            assert_eq!(ctl(s, &["signal", "FOO", "all"]), is(&bad(&["g:b", "g:a", "up"]), 1));
        },
    }
}

fn pids_are_told() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            assert_eq!(ctl(s, &["pid"]), (format!("{}\n", s.pid()), 0));
            assert_eq!(ctl(s, &["pid", "up"]), (format!("{}\n", s.running("up")), 0));
            let (a, b) = (s.running("g:a"), s.running("g:b"));
            let all = format!("0\n{a}\n{b}\n0\n0\n{}\n", s.running("up"));
            assert_eq!(ctl(s, &["pid", "all"]), (all, 0));
            assert_eq!(ctl(s, &["pid", "quick"]), is("0\n", 7));
            assert_eq!(ctl(s, &["pid", "nosuch"]), is("No such process nosuch\n", 1));
        },
    }
}

fn fg_sends_lines_and_shows_what_comes_back() -> Case {
    Case {
        conf: "[program:echo]\ncommand=/bin/cat\nstdout_logfile=@DIR@/echo.log\n\
               [program:off]\ncommand=/bin/cat\nautostart=false\n",
        check: |s| {
            s.running("echo");
            let bad = "ERROR: bad process name supplied\n";
            assert_eq!(ctl(s, &["fg", "nosuch"]), is(bad, 1));
            assert_eq!(ctl(s, &["fg", "off"]), is("ERROR: process not running\n", 1));
            let mut child = command(s, &["fg", "echo"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(b"hello\nagain\n").unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let shown: Vec<_> = lines.by_ref().take(3).map(Result::unwrap).collect();
            assert_eq!(shown, ["==> Press Ctrl-C to exit <==", "hello", "again"]);
            // The client itself does not end with its input.
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(s.read("echo.log"), "hello\nagain\n");
        },
    }
}

fn version_and_words_that_are_none() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            assert_eq!(ctl(s, &["version"]), is("4.3.0\n", 0));
            assert_eq!(ctl(s, &["nonsense"]), is("*** Unknown syntax: nonsense\n", 1));
            assert_eq!(s.rpc("getIdentification", &[]), "test");
            assert_eq!(s.rpc("getState", &[])["statename"], "RUNNING");
        },
    }
}
