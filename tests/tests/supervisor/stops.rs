//! How processes are asked to stop, who is asked, what happens to the deaf, and in which order.

use nix::sys::signal::Signal;
use palisade_e2e::{agent::CAP, wait::wait_until};
use serde_json::json;

use crate::{Case, cases, rig::rest};

cases! {
    term_is_the_default,
    a_stop_signal_by_name_and_by_number,
    one_that_is_deaf_is_killed_after_stopwaitsecs,
    stopping_can_be_seen,
    stopasgroup_reaches_the_whole_group,
    without_it_the_leader_alone_is_asked,
    killasgroup_kills_the_whole_group,
    stopasgroup_without_killasgroup_is_refused,
    a_process_leads_its_group_in_the_session_of_the_supervisor,
    the_end_stops_by_priority,
    the_start_follows_priority,
    what_was_stopped_by_hand_stays_stopped,
    what_does_not_run_cannot_be_stopped,
    a_signal_reaches_the_process,
    a_signal_that_is_none_is_a_fault,
    groups_and_all_are_stopped_and_started,
}

fn term_is_the_default() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sh -c \"trap 'echo TERM >> @DIR@/got; exit 0' TERM; \
               echo up >> @DIR@/got; while :; do sleep 0.1; done\"\n",
        check: |s| {
            s.wait_lines("got", 1);
            s.rpc("stopProcess", &[json!("a")]);
            assert_eq!(s.lines("got"), ["up", "TERM"]);
            assert_eq!(s.state("a"), "STOPPED");
        },
    }
}

fn a_stop_signal_by_name_and_by_number() -> Case {
    Case {
        conf: "[program:a]\nstopsignal=INT\ncommand=/bin/sh -c \"trap 'echo INT >> @DIR@/a; exit 0' INT; \
               echo up >> @DIR@/a; while :; do sleep 0.1; done\"\n\
               [program:b]\nstopsignal=3\ncommand=/bin/sh -c \"trap 'echo QUIT >> @DIR@/b; exit 0' QUIT; \
               echo up >> @DIR@/b; while :; do sleep 0.1; done\"\n\
               [program:c]\nstopsignal=SIGUSR1\ncommand=/bin/sh -c \"trap 'echo USR1 >> @DIR@/c; exit 0' USR1; \
               echo up >> @DIR@/c; while :; do sleep 0.1; done\"\n",
        check: |s| {
            for name in ["a", "b", "c"] {
                s.wait_lines(name, 1);
            }
            s.rpc("stopAllProcesses", &[]);
            assert_eq!(
                (s.lines("a"), s.lines("b")),
                (vec!["up".to_owned(), "INT".to_owned()], vec!["up".to_owned(), "QUIT".to_owned()])
            );
            assert_eq!(s.lines("c"), ["up", "USR1"]);
        },
    }
}

/// Notes each TERM and goes on.
const DEAF: &str = "[program:a]\nstopwaitsecs=2\ncommand=/bin/sh -c \"trap 'echo TERM >> @DIR@/got' TERM; \
                    echo up >> @DIR@/got; while :; do sleep 0.1; done\"\n";

fn one_that_is_deaf_is_killed_after_stopwaitsecs() -> Case {
    Case {
        conf: DEAF,
        check: |s| {
            s.wait_lines("got", 1);
            let began = std::time::Instant::now();
            s.rpc("stopProcess", &[json!("a")]);
            assert!(began.elapsed().as_secs_f64() >= 1.9, "{:?}", began.elapsed());
            let info = s.info("a");
            assert_eq!((&info["statename"], &info["exitstatus"]), (&json!("STOPPED"), &json!(-1)));
            assert_eq!(s.lines("got"), ["up", "TERM"]);
        },
    }
}

fn stopping_can_be_seen() -> Case {
    Case {
        conf: DEAF,
        check: |s| {
            s.wait_lines("got", 1);
            assert_eq!(s.rpc("stopProcess", &[json!("a"), json!(false)]), json!(true));
            assert_eq!(s.state("a"), "STOPPING");
            s.wait("a", "STOPPED");
        },
    }
}

/// A leader with a worker in its group; each notes what it is told.
macro_rules! family {
    ($options:literal) => {
        concat!("[program:a]\n", $options, "command=/bin/sh @DIR@/family\n")
    };
}

const FAMILY: &str = "trap 'echo leader TERM >> @DIR@/got; exit 0' TERM\n\
                      sh -c 'trap \"echo worker TERM >> @DIR@/got; exit 0\" TERM\n\
                      echo worker up $$ >> @DIR@/got; while :; do sleep 0.1; done' &\n\
                      while :; do sleep 0.1; done\n";

/// Starts the family and returns the worker's pid.
fn family(s: &crate::rig::Subject) -> String {
    s.write("family", FAMILY);
    s.rpc("startProcess", &[json!("a")]);
    let line = s.wait_lines("got", 1).remove(0);
    line.trim_start_matches("worker up ").to_owned()
}

fn stopasgroup_reaches_the_whole_group() -> Case {
    Case {
        conf: family!("autostart=false\nstopasgroup=true\n"),
        check: |s| {
            let worker = family(s);
            s.rpc("stopProcess", &[json!("a")]);
            wait_until("the worker to go", CAP, || !alive(&worker));
            let mut got = s.lines("got").split_off(1);
            got.sort();
            assert_eq!(got, ["leader TERM", "worker TERM"]);
        },
    }
}

fn without_it_the_leader_alone_is_asked() -> Case {
    Case {
        conf: family!("autostart=false\n"),
        check: |s| {
            family(s);
            s.rpc("stopProcess", &[json!("a")]);
            assert_eq!(s.lines("got").split_off(1), ["leader TERM"]);
        },
    }
}

fn killasgroup_kills_the_whole_group() -> Case {
    Case {
        conf: "[program:a]\nautostart=false\nkillasgroup=true\nstopwaitsecs=1\ncommand=/bin/sh @DIR@/family\n",
        check: |s| {
            let deaf = FAMILY.replace("TERM >> @DIR@/got; exit 0", "TERM >> @DIR@/got");
            s.write("family", &deaf);
            s.rpc("startProcess", &[json!("a")]);
            let line = s.wait_lines("got", 1).remove(0);
            let worker = line.trim_start_matches("worker up ").to_owned();
            s.rpc("stopProcess", &[json!("a")]);
            wait_until("the worker to go", CAP, || !alive(&worker));
        },
    }
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn stopasgroup_without_killasgroup_is_refused() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\n",
        check: |s| {
            s.configure(
                "[program:a]\ncommand=/bin/sleep 100\nstopasgroup=true\nkillasgroup=false\n",
            );
            let (code, _) = s.try_rpc("reloadConfig", &[]).unwrap_err();
            assert_eq!(code, 92);
            assert_eq!(s.command().output().unwrap().status.code(), Some(2));
        },
    }
}

fn a_process_leads_its_group_in_the_session_of_the_supervisor() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n",
        check: |s| {
            let pid = s.running("a");
            let fields = |pid: i64| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                let rest = stat.rsplit_once(") ").unwrap().1.to_owned();
                let all: Vec<_> = rest.split(' ').map(str::to_owned).collect();
                (all[2].parse::<i64>().unwrap(), all[3].clone())
            };
            assert_eq!(fields(pid).0, pid, "its own group");
            assert_eq!(fields(pid).1, fields(s.pid().into()).1, "the supervisor's session");
        },
    }
}

/// Three programs that note their start and, at TERM, their end.
const ORDERED: &str = "[program:last]\npriority=30\nautostart=false\nstartsecs=0\ncommand=/bin/sh @DIR@/noted last\n\
                       [program:first]\npriority=10\nautostart=false\nstartsecs=0\ncommand=/bin/sh @DIR@/noted first\n\
                       [program:middle]\npriority=20\nautostart=false\nstartsecs=0\ncommand=/bin/sh @DIR@/noted middle\n";

const NOTED: &str = "echo $1 up >> @DIR@/order\n\
                     trap 'sleep 0.3; echo '$1' down >> @DIR@/order; exit 0' TERM\n\
                     while :; do sleep 0.05; done\n";

fn the_end_stops_by_priority() -> Case {
    Case {
        conf: ORDERED,
        check: |s| {
            s.write("noted", NOTED);
            s.rpc("startAllProcesses", &[]);
            s.wait_lines("order", 3);
            s.signal(Signal::SIGTERM);
            assert_eq!(s.wait_gone(), Some(0));
            assert_eq!(s.lines("order").split_off(3), ["last down", "middle down", "first down"]);
        },
    }
}

fn the_start_follows_priority() -> Case {
    Case {
        conf: ORDERED,
        check: |s| {
            s.write("noted", NOTED);
            s.rpc("startAllProcesses", &[]);
            let pids = ["first", "middle", "last"].map(|name| s.running(name));
            // By the clock: numbers of processes begin anew some time.
            let began = pids.map(|pid| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                stat.rsplit(") ")
                    .next()
                    .unwrap()
                    .split(' ')
                    .nth(19)
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            });
            assert!(began.is_sorted(), "{pids:?} {began:?}");
            let config = s.rpc("getAllConfigInfo", &[]);
            let prio: Vec<_> =
                config.as_array().unwrap().iter().map(|p| (&p["name"], &p["group_prio"])).collect();
            assert_eq!(prio.len(), 3);
            assert!(prio.contains(&(&json!("first"), &json!(10))), "{config}");
        },
    }
}

fn what_was_stopped_by_hand_stays_stopped() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nautorestart=true\nstartsecs=0\n",
        check: |s| {
            s.running("a");
            s.rpc("stopProcess", &[json!("a")]);
            rest(1500);
            let info = s.info("a");
            assert_eq!((&info["statename"], &info["pid"]), (&json!("STOPPED"), &json!(0)));
            assert!(info["stop"].as_i64().unwrap() >= info["start"].as_i64().unwrap());
        },
    }
}

fn what_does_not_run_cannot_be_stopped() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nautostart=false\n",
        check: |s| {
            let fault = s.try_rpc("stopProcess", &[json!("a")]).unwrap_err();
            assert_eq!(fault, (70, "NOT_RUNNING: a".to_owned()));
            let fault = s.try_rpc("signalProcess", &[json!("a"), json!("HUP")]).unwrap_err();
            assert_eq!(fault, (70, "NOT_RUNNING: a".to_owned()));
        },
    }
}

fn a_signal_reaches_the_process() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\ncommand=/bin/sh -c \"trap 'echo HUP >> @DIR@/got' HUP; \
               echo up >> @DIR@/got; while :; do sleep 0.1; done\"\n",
        check: |s| {
            s.running("a");
            s.wait_lines("got", 1);
            for signal in ["HUP", "SIGHUP", "1"] {
                let before = s.lines("got").len();
                s.rpc("signalProcess", &[json!("a"), json!(signal)]);
                s.wait_lines("got", before + 1);
            }
        },
    }
}

fn a_signal_that_is_none_is_a_fault() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n",
        check: |s| {
            s.running("a");
            let fault = s.try_rpc("signalProcess", &[json!("a"), json!("NONE")]).unwrap_err();
            assert_eq!(fault, (11, "BAD_SIGNAL: NONE".to_owned()));
        },
    }
}

fn groups_and_all_are_stopped_and_started() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n\
               [program:b]\ncommand=/bin/sleep 100\nstartsecs=0\nnumprocs=2\n\
               process_name=%(program_name)s-%(process_num)d\n\
               [program:c]\ncommand=/bin/sleep 100\nstartsecs=0\n[group:g]\nprograms=a,b\n",
        check: |s| {
            for name in ["g:a", "g:b-0", "g:b-1", "c"] {
                s.running(name);
            }
            let done = s.rpc("stopProcessGroup", &[json!("g")]);
            let mut done: Vec<_> = done
                .as_array()
                .unwrap()
                .iter()
                .map(|d| (d["name"].to_string(), d["status"].clone(), d["description"].clone()))
                .collect();
            done.sort_by(|a, b| a.0.cmp(&b.0));
            let ok = |n: &str| (format!("\"{n}\""), json!(80), json!("OK"));
            assert_eq!(done, [ok("a"), ok("b-0"), ok("b-1")]);
            assert_eq!(s.state("c"), "RUNNING");
            s.rpc("startAllProcesses", &[]);
            for name in ["g:a", "g:b-0", "g:b-1"] {
                s.running(name);
            }
            let fault = s.try_rpc("startProcessGroup", &[json!("x")]).unwrap_err();
            assert_eq!(fault, (10, "BAD_NAME: x".to_owned()));
        },
    }
}
