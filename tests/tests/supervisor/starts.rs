//! When a process counts as started, as failed, as ended, and when it is tried again.

use palisade_e2e::agent::write_program;
use serde_json::json;

use crate::{Case, cases, rig::rest};

cases! {
    running_only_after_startsecs,
    startsecs_0_counts_as_running_at_once,
    one_that_ends_too_soon_is_tried_3_times_more_and_given_up,
    startretries_0_gives_up_after_the_first,
    an_expected_exit_stays_exited,
    an_unexpected_exit_code_is_started_again,
    exitcodes_name_what_is_expected,
    autorestart_false_never_starts_again,
    autorestart_true_starts_again_after_an_expected_exit,
    a_signal_is_never_expected,
    what_is_not_started_says_so,
    fatal_is_left_by_a_request,
    a_stop_ends_the_waiting_for_the_next_try,
    a_run_that_came_up_resets_the_tries,
    a_command_that_is_not_there,
    a_command_that_is_not_executable,
    a_directory_that_is_not_there,
    a_command_is_found_in_the_path_of_the_program,
    a_start_waits_and_says_that_it_failed,
    what_runs_is_already_started,
    an_empty_command_fails_at_its_start,
    an_unknown_name_is_a_fault,
}

/// Writes the time at which it starts.
macro_rules! stamp {
    ($rest:literal) => {
        concat!("command=/bin/sh -c \"date +%%s.%%N >> @DIR@/times; ", $rest, "\"\n")
    };
}

fn running_only_after_startsecs() -> Case {
    Case {
        conf: concat!("[program:a]\n", stamp!("exec sleep 100"), "startsecs=2\n"),
        check: |s| {
            assert_eq!(s.state("a"), "STARTING");
            s.running("a");
            let began = s.times("times")[0];
            let now = std::time::SystemTime::now();
            let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
            assert!(now - began >= 1.9, "RUNNING after {}", now - began);
        },
    }
}

fn startsecs_0_counts_as_running_at_once() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\nautostart=false\n",
        check: |s| {
            assert_eq!(s.rpc("startProcess", &[json!("a")]), json!(true));
            s.running("a");
        },
    }
}

fn one_that_ends_too_soon_is_tried_3_times_more_and_given_up() -> Case {
    Case {
        conf: concat!("[program:a]\n", stamp!("exit 0")),
        check: |s| {
            let info = s.wait("a", "FATAL");
            assert_eq!(info["spawnerr"], "Exited too quickly (process log may have details)");
            assert_eq!(info["pid"], 0);
            let times = s.times("times");
            assert_eq!(times.len(), 4);
            for (n, pair) in times.windows(2).enumerate() {
                let gap = pair[1] - pair[0];
                assert!(gap >= 0.95 + f64::from(u32::try_from(n).unwrap()), "gap {n}: {gap}");
            }
        },
    }
}

fn startretries_0_gives_up_after_the_first() -> Case {
    Case {
        conf: concat!("[program:a]\nstartretries=0\n", stamp!("exit 1")),
        check: |s| {
            s.wait("a", "FATAL");
            assert_eq!(s.times("times").len(), 1);
        },
    }
}

fn an_expected_exit_stays_exited() -> Case {
    Case {
        conf: concat!("[program:a]\nstartsecs=0\n", stamp!("exit 0")),
        check: |s| {
            let info = s.wait("a", "EXITED");
            assert_eq!((&info["exitstatus"], &info["spawnerr"]), (&json!(0), &json!("")));
            rest(1500);
            assert_eq!(s.times("times").len(), 1);
        },
    }
}

fn an_unexpected_exit_code_is_started_again() -> Case {
    Case {
        conf: concat!("[program:a]\nstartsecs=0\n", stamp!("exit 3")),
        check: |s| {
            s.wait_lines("times", 3);
        },
    }
}

fn exitcodes_name_what_is_expected() -> Case {
    Case {
        conf: concat!("[program:a]\nstartsecs=0\nexitcodes=0,3\n", stamp!("exit 3")),
        check: |s| {
            assert_eq!(s.wait("a", "EXITED")["exitstatus"], 3);
        },
    }
}

fn autorestart_false_never_starts_again() -> Case {
    Case {
        conf: concat!("[program:a]\nstartsecs=0\nautorestart=false\n", stamp!("exit 7")),
        check: |s| {
            let info = s.wait("a", "EXITED");
            assert_eq!(info["exitstatus"], 7);
            assert_eq!(info["spawnerr"], "Bad exit code 7");
            rest(1500);
            assert_eq!(s.times("times").len(), 1);
        },
    }
}

fn autorestart_true_starts_again_after_an_expected_exit() -> Case {
    Case {
        conf: concat!("[program:a]\nstartsecs=0\nautorestart=true\n", stamp!("exit 0")),
        check: |s| {
            s.wait_lines("times", 3);
        },
    }
}

fn a_signal_is_never_expected() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nautorestart=false\ncommand=/bin/sh -c \"kill -9 $$$$\"\n\
               [program:b]\nstartsecs=0\ncommand=/bin/sh -c \"echo x >> @DIR@/b; kill -9 $$\"\n\
               [program:c]\nstartsecs=0\nautorestart=false\ncommand=/bin/sh -c \"kill -9 $$\"\n",
        check: |s| {
            assert_eq!(s.wait("c", "EXITED")["exitstatus"], -1);
            s.wait_lines("b", 2);
        },
    }
}

fn what_is_not_started_says_so() -> Case {
    Case {
        conf: "[program:a]\nautostart=false\ncommand=/bin/sleep 100\n",
        check: |s| {
            let info = s.info("a");
            assert_eq!(info["statename"], "STOPPED");
            assert_eq!(info["description"], "Not started");
            assert_eq!((&info["start"], &info["stop"]), (&json!(0), &json!(0)));
        },
    }
}

fn fatal_is_left_by_a_request() -> Case {
    Case {
        conf: concat!(
            "[program:a]\nstartretries=0\nautostart=false\n",
            stamp!("test -e @DIR@/good && exec sleep 100; exit 1")
        ),
        check: |s| {
            s.try_rpc("startProcess", &[json!("a")]).unwrap_err();
            s.wait("a", "FATAL");
            s.write("good", "");
            s.rpc("startProcess", &[json!("a")]);
            s.running("a");
        },
    }
}

fn a_stop_ends_the_waiting_for_the_next_try() -> Case {
    Case {
        conf: concat!("[program:a]\nstartretries=50\n", stamp!("exit 1")),
        check: |s| {
            s.wait_lines("times", 3);
            s.wait("a", "BACKOFF");
            s.rpc("stopProcess", &[json!("a")]);
            assert_eq!(s.state("a"), "STOPPED");
        },
    }
}

fn a_run_that_came_up_resets_the_tries() -> Case {
    Case {
        // Two fail, the third runs two seconds and fails, and two more fail: more than the three
        // tries that there are in a row.
        conf: concat!(
            "[program:a]\nstartretries=2\n",
            stamp!(
                "n=$(wc -l < @DIR@/times); test $n = 3 && sleep 2; test $n = 6 && exec sleep 100; exit 1"
            )
        ),
        check: |s| {
            s.wait_lines("times", 6);
            s.running("a");
        },
    }
}

fn a_command_that_is_not_there() -> Case {
    Case {
        conf: "[program:a]\ncommand=/no/such/program\nstartretries=0\nautostart=false\n\
               [program:b]\ncommand=/no/such/program\nstartretries=0\n",
        check: |s| {
            let (code, text) = s.try_rpc("startProcess", &[json!("a")]).unwrap_err();
            assert_eq!((code, text.starts_with("NO_FILE")), (20, true), "{text}");
            assert_eq!(s.wait("b", "FATAL")["spawnerr"], "can't find command '/no/such/program'");
        },
    }
}

fn a_command_that_is_not_executable() -> Case {
    Case {
        conf: "[program:a]\ncommand=@DIR@/plain\nstartretries=0\nautostart=false\n",
        check: |s| {
            s.write("plain", "text");
            let (code, text) = s.try_rpc("startProcess", &[json!("a")]).unwrap_err();
            assert_eq!((code, text.starts_with("NOT_EXECUTABLE")), (21, true), "{text}");
        },
    }
}

fn a_directory_that_is_not_there() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\ndirectory=/no/such/dir\nstartretries=0\n",
        check: |s| {
            s.wait("a", "FATAL");
        },
    }
}

fn a_command_is_found_in_the_path_of_the_program() -> Case {
    Case {
        conf: "[program:a]\ncommand=mine\nautostart=false\nenvironment=PATH=\"@DIR@/bin:/bin\"\n",
        check: |s| {
            std::fs::create_dir(s.path("bin")).unwrap();
            std::os::unix::fs::symlink("/bin/sleep", s.path("bin/other")).unwrap();
            write_program(&s.path("bin/mine"), "#!/bin/sh\nexec sleep 100\n");
            s.rpc("startProcess", &[json!("a")]);
            s.running("a");
        },
    }
}

fn a_start_waits_and_says_that_it_failed() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sh -c \"sleep 0.4; exit 1\"\nautostart=false\nstartretries=0\n",
        check: |s| {
            let (code, text) = s.try_rpc("startProcess", &[json!("a")]).unwrap_err();
            assert_eq!((code, text.as_str()), (50, "SPAWN_ERROR: a"));
        },
    }
}

fn what_runs_is_already_started() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n",
        check: |s| {
            s.running("a");
            let fault = s.try_rpc("startProcess", &[json!("a")]).unwrap_err();
            assert_eq!(fault, (60, "ALREADY_STARTED: a".to_owned()));
        },
    }
}

fn an_empty_command_fails_at_its_start() -> Case {
    Case {
        conf: "[program:a]\ncommand=\nstartretries=0\n[program:b]\ncommand=/bin/sleep 100\n",
        check: |s| {
            s.wait("a", "FATAL");
            s.running("b");
        },
    }
}

fn an_unknown_name_is_a_fault() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\n",
        check: |s| {
            let names = ["b", "a:b", "b:*", ""];
            for name in names {
                let fault = s.try_rpc("startProcess", &[json!(name)]).unwrap_err();
                assert_eq!(fault, (10, format!("BAD_NAME: {name}")));
            }
        },
    }
}
