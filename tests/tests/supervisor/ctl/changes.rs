//! Another configuration, taken over through the client.

use palisade_e2e::{agent::CAP, wait::wait_until};

use super::{PROGRAMS, ctl, is, ready};
use crate::{Case, cases};

cases! {
    avail_lists_what_is_configured,
    reread_and_update_by_group,
    update_of_one_group_leaves_the_rest,
    add_and_remove_by_hand,
    reload_starts_all_anew_under_the_same_pid,
    shutdown_ends_the_supervisor,
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
