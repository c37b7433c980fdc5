//! What Supervisor fails at: these cases are put to the agent alone.

use palisade_e2e::{agent::CAP, wait::wait_until};
use serde_json::json;

use crate::{Case, cases, rig::rest};

cases! {
    the_death_of_the_supervisor_touches_no_process,
    a_second_start_makes_no_second_copy,
    one_that_writes_lives_on_while_nobody_reads,
    a_log_that_is_deleted_is_made_again,
    a_member_that_changes_restarts_alone,
    another_number_of_processes_restarts_none,
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
               command=/bin/sh -c \"i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done\"\n",
        check: |s| {
            let pid = s.running("a");
            s.wait_lines("out", 5);
            s.kill_it();
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

/// Runs a verb of the agent's own command line.
fn palisade(s: &crate::rig::Subject, args: &[&str]) -> bool {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_palisade-under-test"))
        .arg("-c")
        .arg(s.path("palisade.yaml"))
        .args(args)
        .output()
        .unwrap();
    done.status.success()
}
