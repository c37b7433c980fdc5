//! Supervisor's own client, unmodified: what it prints and how it exits must be the same against both.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Command, Output, Stdio},
};

use palisade_e2e::{agent::CAP, wait::wait_until};

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
    tail_shows_the_end_of_a_log,
    tail_follows_a_log,
    maintail_shows_what_happened,
    maintail_follows,
    clear_empties_logs,
    avail_lists_what_is_configured,
    reread_and_update_by_group,
    add_and_remove_by_hand,
    update_of_one_group_leaves_the_rest,
    reload_starts_all_anew_under_the_same_pid,
    shutdown_ends_the_supervisor,
    fg_sends_lines_and_shows_what_comes_back,
    version_and_words_that_are_none,
    a_multicall_has_each_result_or_fault,
    the_methods_are_supervisors,
    a_broken_request_is_refused_and_a_method_is_only_its_whole_name,
    ansibles_module_works,
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

fn avail_lists_what_is_configured() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            let line = |name: &str, rest: &str| format!("{name:<33}{rest}\n");
            let auto = |prio: &str| format!("in use    auto      {prio}");
            let all = [
                line("g:a", &auto("5:20")),
                line("g:b", &auto("5:10")),
                line("down", "in use    manual    999:999"),
                line("gone", "in use    manual    999:999"),
                line("quick", "in use    manual    999:999"),
                line("up", &auto("999:999")),
            ];
            assert_eq!(ctl(s, &["avail"]), is(&all.concat(), 0));
            s.configure(&format!("{PROGRAMS}[program:new]\ncommand=/bin/sleep 100\n"));
            ctl(s, &["reread"]);
            let (text, _) = ctl(s, &["avail"]);
            assert!(text.contains(&line("new", "avail     auto      999:999")), "{text}");
        },
    }
}

/// `up` changed, `quick` gone, `new` there.
fn changed() -> String {
    let gone = "[program:quick]\ncommand=/bin/sh -c \"exit 2\"\nautostart=false\nstartretries=0\n";
    assert!(PROGRAMS.contains(gone));
    let text = PROGRAMS.replace(gone, "").replacen("exec sleep 100", "exec sleep 200", 1);
    format!("{text}[program:new]\ncommand=/bin/sleep 100\nstartsecs=0\n")
}

fn reread_and_update_by_group() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            let (up, a) = (s.running("up"), s.running("g:a"));
            assert_eq!(ctl(s, &["reread"]), is("No config updates to processes\n", 0));
            s.configure(&changed());
            let told = "new: available\nquick: disappeared\nup: changed\n";
            assert_eq!(ctl(s, &["reread"]), is(told, 0));
            assert_eq!(s.running("up"), up, "nothing is done yet");
            assert_eq!(ctl(s, &["update", "nosuch"]), is("ERROR: no such group: nosuch\n", 1));
            let done = "quick: stopped\nquick: removed process group\nup: stopped\n\
                        up: updated process group\nnew: added process group\n";
            assert_eq!(ctl(s, &["update"]), is(done, 0));
            assert_eq!(ctl(s, &["update"]), is("", 0));
            s.running("new");
            assert_ne!(s.running("up"), up);
            assert_eq!(s.running("g:a"), a, "nobody else was touched");
            s.configure("[program:x]\ncommand=/bin/true\nautostart=maybe\n");
            let (text, code) = ctl(s, &["reread"]);
            assert!(text.starts_with("ERROR: CANT_REREAD: "), "{text}");
            assert_eq!(code, 1);
        },
    }
}

fn update_of_one_group_leaves_the_rest() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            let up = s.running("up");
            s.configure(&changed());
            assert_eq!(ctl(s, &["update", "new"]), is("new: added process group\n", 0));
            s.running("new");
            assert_eq!(s.running("up"), up);
            assert_eq!(s.state("quick"), "STOPPED");
        },
    }
}

fn add_and_remove_by_hand() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            assert_eq!(ctl(s, &["add", "up"]), is("ERROR: process group already active\n", 0));
            let unknown = "ERROR: no such process/group: nosuch\n";
            assert_eq!(ctl(s, &["add", "nosuch"]), is(unknown, 1));
            assert_eq!(ctl(s, &["remove", "nosuch"]), is(unknown, 1));
            let runs = "ERROR: process/group still running: up\n";
            assert_eq!(ctl(s, &["remove", "up"]), is(runs, 1));
            assert_eq!(ctl(s, &["stop", "up"]).1, 0);
            assert_eq!(ctl(s, &["remove", "up"]), is("up: removed process group\n", 0));
            assert_eq!(ctl(s, &["status", "up"]).1, 4);
            assert_eq!(ctl(s, &["add", "up"]), is("up: added process group\n", 0));
            s.running("up");
        },
    }
}

fn reload_starts_all_anew_under_the_same_pid() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            let (pid, up) = (s.pid(), s.running("up"));
            s.rpc("startProcess", &["down".into()]);
            s.rpc("stopProcess", &["g:a".into()]);
            s.configure(&changed());
            assert_eq!(ctl(s, &["reload"]), is("Restarted supervisord\n", 0));
            wait_until("the new program", CAP, || ctl(s, &["status", "new"]).0.contains("RUNNING"));
            assert_ne!(s.running("up"), up);
            s.running("g:a");
            assert_eq!(s.state("down"), "STOPPED", "only what starts by itself");
            assert_eq!(ctl(s, &["pid"]), (format!("{pid}\n"), 0));
            assert_eq!(ctl(s, &["status", "quick"]).1, 4);
        },
    }
}

fn shutdown_ends_the_supervisor() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            ready(s);
            assert_eq!(ctl(s, &["shutdown"]), is("Shut down\n", 0));
            assert_eq!(s.wait_gone(), Some(0));
            let none = "unix://DIR/sup.sock no such file\n";
            assert_eq!(ctl(s, &["status"]), is(none, 4));
            assert_eq!(ctl(s, &["start", "up"]), is(none, 7));
            assert_eq!(ctl(s, &["pid"]), is(none, 7));
            let again = "ERROR: unix://DIR/sup.sock no such file (already shut down?)\n";
            assert_eq!(ctl(s, &["shutdown"]), is(again, 1));
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

fn a_multicall_has_each_result_or_fault() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            let fault = |code: i64, text: &str| serde_json::json!({ "faultCode": code, "faultString": text });
            let calls = serde_json::json!([
                { "methodName": "supervisor.getAPIVersion", "params": [] },
                { "methodName": "supervisor.getProcessInfo", "params": ["zzz"] },
                { "methodName": "system.multicall", "params": [] },
                { "params": [] },
                { "methodName": "supervisor.getPID", "params": [1] },
                { "methodName": "supervisor.nothing", "params": [] },
                { "methodName": "supervisor.stopProcess", "params": ["up"] },
            ]);
            ready(s);
            let wanted = serde_json::json!([
                "3.0",
                fault(10, "BAD_NAME: zzz"),
                fault(2, "INCORRECT_PARAMETERS: Recursive system.multicall forbidden"),
                fault(2, "INCORRECT_PARAMETERS: No methodName"),
                fault(2, "INCORRECT_PARAMETERS"),
                fault(1, "UNKNOWN_METHOD"),
                true,
            ]);
            assert_eq!(s.rpc("system.multicall", &[calls]), wanted);
            assert_eq!(s.state("up"), "STOPPED");
        },
    }
}

/// Each name with the types of its result and of its parameters.
const METHODS: &str = "\
addProcessGroup boolean string\nclearAllProcessLogs array\nclearLog boolean\n\
clearProcessLog boolean string\nclearProcessLogs boolean string\ngetAPIVersion string\n\
getAllConfigInfo array\ngetAllProcessInfo array\ngetIdentification string\ngetPID int\n\
getProcessInfo struct string\ngetState struct\ngetSupervisorVersion string\ngetVersion string\n\
readLog string int int\nreadMainLog string int int\nreadProcessLog string string int int\n\
readProcessStderrLog string string int int\nreadProcessStdoutLog string string int int\n\
reloadConfig array\nremoveProcessGroup boolean string\nrestart boolean\n\
sendProcessStdin boolean string string\nsendRemoteCommEvent boolean string string\n\
shutdown boolean\nsignalAllProcesses array string\nsignalProcess boolean string string\n\
signalProcessGroup array string string\nstartAllProcesses array boolean\n\
startProcess boolean string boolean\nstartProcessGroup array string boolean\n\
stopAllProcesses array boolean\nstopProcess boolean string boolean\n\
stopProcessGroup array string boolean\ntailProcessLog array string int int\n\
tailProcessStderrLog array string int int\ntailProcessStdoutLog array string int int";

fn the_methods_are_supervisors() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nautostart=false\n",
        check: |s| {
            let mut names = Vec::new();
            for line in METHODS.lines() {
                let mut words = line.split(' ');
                let name = format!("supervisor.{}", words.next().unwrap());
                let types: Vec<_> = words.map(str::to_owned).collect();
                let told = s.rpc("system.methodSignature", &[name.as_str().into()]);
                assert_eq!(told, serde_json::json!(types), "{name}");
                let help = s.rpc("system.methodHelp", &[name.as_str().into()]);
                assert!(help.as_str().unwrap().contains("@return"), "{help}");
                names.push(name);
            }
            let system = ["listMethods", "methodHelp", "methodSignature", "multicall"];
            names.extend(system.map(|n| format!("system.{n}")));
            assert_eq!(s.rpc("system.listMethods", &[]), serde_json::json!(names));
            let fault = s.try_rpc("system.methodHelp", &["x".into()]).unwrap_err();
            assert_eq!(fault, (4, "SIGNATURE_UNSUPPORTED".to_owned()));
        },
    }
}

fn a_broken_request_is_refused_and_a_method_is_only_its_whole_name() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nautostart=false\n",
        check: |s| {
            for name in [
                "supervisor.supervisord.options.execve",
                "supervisor.getPID.im_func",
                "system.namespaces.supervisor",
                "supervisor._update",
                "nothing.getPID",
            ] {
                let fault = s.try_rpc(name, &[]).unwrap_err();
                assert_eq!(fault, (1, "UNKNOWN_METHOD".to_owned()), "{name}");
            }
            for body in ["hello", "<methodCall/>", "<methodCall><methodName>x"] {
                let mut stream =
                    std::os::unix::net::UnixStream::connect(s.path("sup.sock")).unwrap();
                let head = "POST /RPC2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length:";
                stream
                    .write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes())
                    .unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                let status = answer.lines().next().unwrap_or_default();
                assert!(status.contains(" 400 "), "{body:?}: {status}");
            }
            s.rpc("getPID", &[]);
        },
    }
}

/// Runs Ansible's module as Ansible does on a host; what it answered.
fn ansible(s: &Subject, name: &str, state: &str) -> serde_json::Value {
    let args = serde_json::json!({ "ANSIBLE_MODULE_ARGS": {
        "name": name,
        "state": state,
        "signal": "WINCH",
        "stop_before_removing": true,
        "config": s.path("supervisord.conf"),
        "supervisorctl_path": venv().join("bin/supervisorctl"),
    } });
    s.write("ansible.json", &args.to_string());
    let out = Command::new(venv().join("bin/python"))
        .arg(venv().join("share/supervisorctl.py"))
        .arg(s.path("ansible.json"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let answer = text.lines().find_map(|l| serde_json::from_str(l).ok());
    assert!(answer.is_some(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    answer.unwrap()
}

fn ansibles_module_works() -> Case {
    Case {
        conf: PROGRAMS,
        check: |s| {
            if !venv().join("share/supervisorctl.py").exists() {
                println!("skipped: Ansible's module is not there; `cargo xtask setup` fetches it");
                return;
            }
            ready(s);
            let changes = |name: &str, state: &str| {
                let answer = ansible(s, name, state);
                assert_ne!(answer["failed"], true, "{name} {state}: {answer}");
                answer["changed"].as_bool().unwrap()
            };
            assert!(!changes("up", "present"));
            assert!(!changes("up", "started"));
            assert!(changes("up", "signalled"));
            assert!(changes("up", "stopped"));
            assert!(!changes("up", "stopped"));
            assert!(changes("up", "started"));
            let before = s.running("up");
            assert!(changes("up", "restarted"));
            assert_ne!(s.running("up"), before);
            assert!(changes("g:", "stopped"));
            assert_eq!((s.state("g:a"), s.state("g:b")), ("STOPPED".into(), "STOPPED".into()));
            assert!(changes("g:", "started"));
            assert!(changes("up", "absent"));
            assert!(s.try_rpc("getProcessInfo", &["up".into()]).is_err());
            assert!(changes("up", "present"));
            s.running("up");
            assert_eq!(ansible(s, "nosuch", "started")["failed"], true);
        },
    }
}
