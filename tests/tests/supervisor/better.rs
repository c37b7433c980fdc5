//! What Supervisor fails at: these cases are put to the agent alone.

use std::{
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, Output},
};

use palisade_e2e::{agent::CAP, wait::wait_until};
use serde_json::json;

use crate::{
    Case, cases,
    rig::{Subject, rest},
};

cases! {
    the_death_of_the_supervisor_touches_no_process,
    a_second_start_makes_no_second_copy,
    one_that_writes_lives_on_while_nobody_reads,
    a_log_that_is_deleted_is_made_again,
    a_member_that_changes_restarts_alone,
    another_number_of_processes_restarts_none,
    a_new_process_of_the_same_name_restarts_nobody,
    what_was_added_by_request_is_kept_for_a_start_with_a_broken_file,
    a_mistake_that_is_gone_is_no_longer_shown,
    only_its_own_socket_is_removed_and_it_comes_back,
    one_that_stops_may_be_started,
}

fn the_death_of_the_supervisor_touches_no_process() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n",
        check: |s| {
            let pid = s.running("a");
            s.kill_it();
            rest(300);
            assert!(std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
            s.launch();
            assert_eq!(s.running("a"), pid);
        },
    }
}

fn a_second_start_makes_no_second_copy() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\ncommand=/bin/sh -c \"echo up >> @DIR@/ups; exec sleep 100\"\n",
        check: |s| {
            s.running("a");
            s.wait_lines("ups", 1);
            for _ in 0..3 {
                s.kill_it();
                s.launch();
            }
            s.running("a");
            assert_eq!(s.lines("ups").len(), 1);
        },
    }
}

fn one_that_writes_lives_on_while_nobody_reads() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nautorestart=false\nstdout_logfile=@DIR@/out\n\
               command=/bin/sh -c \"i=0; while :; do while test -e @DIR@/hold; do sleep 0.02; done; \
               i=$((i+1)); echo $i; sleep 0.02; done\"\n",
        check: |s| {
            let pid = s.running("a");
            s.wait_lines("out", 5);
            // What is on its way in the moment of a kill comes twice: nothing is.
            s.write("hold", "");
            rest(500);
            s.kill_it();
            std::fs::remove_file(s.path("hold")).unwrap();
            rest(500);
            s.launch();
            assert_eq!(s.running("a"), pid);
            let seen = s.lines("out").len();
            let lines = s.wait_lines("out", seen + 20);
            for (n, line) in lines.iter().take(seen + 19).enumerate() {
                assert_eq!(*line, (n + 1).to_string());
            }
        },
    }
}

fn a_log_that_is_deleted_is_made_again() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nstdout_logfile=@DIR@/out\n\
               command=/bin/sh -c \"while :; do echo x; sleep 0.05; done\"\n",
        check: |s| {
            s.wait_lines("out", 3);
            std::fs::remove_file(s.path("out")).unwrap();
            s.wait_lines("out", 3);
        },
    }
}

fn a_member_that_changes_restarts_alone() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n\
               [program:b]\ncommand=/bin/sleep 100\nstartsecs=0\n[group:g]\nprograms=a,b\n",
        check: |s| {
            let (a, b) = (s.running("g:a"), s.running("g:b"));
            s.configure(
                "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n\
                 [program:b]\ncommand=/bin/sleep 200\nstartsecs=0\n[group:g]\nprograms=a,b\n",
            );
            let updated = palisade(s, &["update"]);
            assert!(updated, "{}", s.read("err"));
            wait_until("a new b", CAP, || {
                s.info("g:b")["pid"].as_i64().is_some_and(|p| p > 0 && p != b)
            });
            assert_eq!(s.running("g:a"), a);
        },
    }
}

fn another_number_of_processes_restarts_none() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\nnumprocs=2\nprocess_name=a%(process_num)d\n",
        check: |s| {
            let pids = [s.running("a:a0"), s.running("a:a1")];
            s.configure(
                "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\nnumprocs=3\n\
                 process_name=a%(process_num)d\n",
            );
            assert!(palisade(s, &["update"]), "{}", s.read("err"));
            s.wait("a:a2", "RUNNING");
            assert_eq!([s.running("a:a0"), s.running("a:a1")], pids);
            assert_eq!(s.rpc("reloadConfig", &[]), json!([[[], [], []]]));
        },
    }
}

const A: &str = "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n";

fn a_new_process_of_the_same_name_restarts_nobody() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\nprocess_name=one\n",
        check: |s| {
            let pid = s.running("a:one");
            let a = A.replace("startsecs", "process_name=one\nstartsecs");
            s.configure(&format!("{a}{}", a.replace("program:a", "program:b")));
            assert!(palisade(s, &["update"]), "{}", s.read("err"));
            let b = s.running("b:one");
            assert_eq!(s.running("a:one"), pid);
            s.kill_it();
            s.configure(&[a.replace(":a", ":0"), a.replace(":a", ":b"), a].concat());
            s.launch();
            s.running("0:one");
            assert_eq!([s.running("a:one"), s.running("b:one")], [pid, b]);
        },
    }
}

fn what_was_added_by_request_is_kept_for_a_start_with_a_broken_file() -> Case {
    Case {
        conf: A,
        check: |s| {
            let is_kept = |s: &Subject| s.read("state/config.last-good.json").contains("program:b");
            s.configure(&format!("{A}{}", A.replace("program:a", "program:b")));
            s.rpc("reloadConfig", &[]);
            assert!(!is_kept(s), "nobody has wanted it yet");
            s.rpc("addProcessGroup", &[json!("b")]);
            assert!(is_kept(s));
        },
    }
}

fn a_mistake_that_is_gone_is_no_longer_shown() -> Case {
    Case {
        conf: A,
        check: |s| {
            s.configure("[program:a]\ncommand=/bin/sleep 100\nstartsecs=soon\n");
            s.try_rpc("reloadConfig", &[]).unwrap_err();
            assert!(status(s).contains("soon"), "{}", status(s));
            s.configure(A);
            s.rpc("reloadConfig", &[]);
            assert!(!status(s).contains("soon"), "{}", status(s));
        },
    }
}

fn only_its_own_socket_is_removed_and_it_comes_back() -> Case {
    Case {
        conf: A,
        check: |s| {
            let pid = s.running("a");
            let yaml = s.read("palisade.yaml");
            let other = UnixListener::bind(s.path("other.sock")).unwrap();
            s.write("text", "precious");
            for taken in ["other.sock", "text"] {
                s.write("palisade.yaml", &yaml.replace("sup.sock", taken));
                assert!(palisade(s, &["update"]), "{}", s.read("err"));
                assert!(!s.path("sup.sock").exists());
                assert!(status(s).contains("in use"), "{}", status(s));
            }
            let _client = UnixStream::connect(s.path("other.sock")).unwrap();
            other.accept().unwrap();
            assert_eq!(s.read("text"), "precious");
            for _ in 0..2 {
                s.write("palisade.yaml", &yaml);
                assert!(palisade(s, &["update"]), "{}", s.read("err"));
                assert_eq!(s.running("a"), pid);
                std::fs::remove_file(s.path("sup.sock")).unwrap();
            }
        },
    }
}

fn one_that_stops_may_be_started() -> Case {
    Case {
        conf: "[program:a]\nstopwaitsecs=1\nstartsecs=0\n\
               command=/bin/sh -c \"trap '' TERM; echo up >> @DIR@/ups; while :; do sleep 0.1; done\"\n",
        check: |s| {
            s.wait_lines("ups", 1);
            s.rpc("stopProcess", &[json!("a"), json!(false)]);
            assert_eq!(s.state("a"), "STOPPING");
            assert_eq!(s.rpc("startProcess", &[json!("a")]), json!(true));
            s.wait_lines("ups", 2);
            assert_eq!(s.state("a"), "RUNNING");
        },
    }
}

/// Runs a verb of the agent's own command line.
fn palisade(s: &Subject, args: &[&str]) -> bool {
    let done = run(s, args);
    done.status.success()
}

/// What the agent's own command line says of it.
fn status(s: &Subject) -> String {
    let done = run(s, &["status"]);
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

fn run(s: &Subject, args: &[&str]) -> Output {
    let done = Command::new(env!("CARGO_BIN_EXE_palisade-under-test"))
        .arg("-c")
        .arg(s.path("palisade.yaml"))
        .args(args)
        .output();
    done.unwrap()
}
