//! Where output goes: files, their rotation, what can be read and emptied through the supervisor.

use palisade_e2e::{agent::CAP, wait::wait_until};
use serde_json::json;

use crate::{Case, cases};

cases! {
    a_log_rotates_and_keeps_its_backups,
    without_backups_a_log_is_emptied,
    no_line_is_lost_in_rotation,
    redirect_stderr_keeps_the_order,
    two_streams_have_two_files,
    none_is_no_file,
    an_automatic_file_is_below_childlogdir,
    a_log_is_read_from_an_offset_and_from_its_end,
    a_tail_tells_its_offset,
    a_log_is_emptied_by_request,
    a_log_is_appended_to_by_the_next_run,
    a_log_path_that_is_a_link_leads_to_its_file,
}

fn a_log_rotates_and_keeps_its_backups() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nautorestart=false\nstdout_logfile=@DIR@/out\n\
               stdout_logfile_maxbytes=1KB\nstdout_logfile_backups=2\n\
               command=/bin/sh -c \"for i in 1 2 3 4 5; do printf '%%01500d' $i; \
               while ! test -e @DIR@/go$i; do sleep 0.05; done; done; sleep 100\"\n",
        check: |s| {
            for n in ["1", "2", "3", "4", "5"] {
                wait_until("the next to rotate", CAP, || s.read("out.1").ends_with(n));
                s.write(&format!("go{n}"), "");
            }
            assert!(s.read("out.2").ends_with('4'));
            assert!(!s.path("out.3").exists());
        },
    }
}

fn without_backups_a_log_is_emptied() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nautorestart=false\nstdout_logfile=@DIR@/out\n\
               stdout_logfile_maxbytes=1KB\nstdout_logfile_backups=0\n\
               command=/bin/sh -c \"printf '%%0900d' 1; while ! test -e @DIR@/more; do sleep 0.05; done; \
               printf '%%0900d' 2; while ! test -e @DIR@/last; do sleep 0.05; done; echo last; sleep 100\"\n",
        check: |s| {
            wait_until("what fits", CAP, || s.read("out").len() == 900);
            s.write("more", "");
            wait_until("it to be emptied", CAP, || s.read("out").is_empty());
            s.write("last", "");
            wait_until("the last line", CAP, || s.read("out") == "last\n");
            assert!(!s.path("out.1").exists());
        },
    }
}

fn no_line_is_lost_in_rotation() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nautorestart=false\nstdout_logfile=@DIR@/out\n\
               stdout_logfile_maxbytes=50KB\nstdout_logfile_backups=50\n\
               command=/bin/sh -c \"seq 1 100000; echo end; sleep 100\"\n",
        check: |s| {
            // The newest file is empty for a moment if the last write filled it.
            let newest = || s.read("out") + &s.read("out.1");
            wait_until("the end", CAP, || newest().contains("end\n"));
            let mut all = String::new();
            for n in (1..=50).rev() {
                all.push_str(&s.read(&format!("out.{n}")));
            }
            all.push_str(&s.read("out"));
            let want: Vec<_> = (1..=100_000).map(|n| n.to_string()).collect();
            let got: Vec<_> = all.lines().filter(|l| *l != "end").collect();
            assert!(got == want, "{} lines", got.len());
        },
    }
}

fn redirect_stderr_keeps_the_order() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nautorestart=false\nstdout_logfile=@DIR@/out\nredirect_stderr=true\n\
               command=/bin/sh -c \"for i in 1 2 3; do echo out $i; echo err $i >&2; done; sleep 100\"\n",
        check: |s| {
            let lines = s.wait_lines("out", 6);
            assert_eq!(lines, ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3"]);
        },
    }
}

fn two_streams_have_two_files() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nautorestart=false\nstdout_logfile=@DIR@/out\n\
               stderr_logfile=@DIR@/errors\ncommand=/bin/sh -c \"echo out; echo err >&2; sleep 100\"\n",
        check: |s| {
            assert_eq!(s.wait_lines("out", 1), ["out"]);
            assert_eq!(s.wait_lines("errors", 1), ["err"]);
        },
    }
}

fn none_is_no_file() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nstdout_logfile=NONE\nstderr_logfile=NONE\n\
               command=/bin/sh -c \"echo out; sleep 100\"\n",
        check: |s| {
            s.running("a");
            assert_eq!(s.info("a")["stdout_logfile"], "");
            let read = s.try_rpc("readProcessStdoutLog", &[json!("a"), json!(0), json!(10)]);
            assert_eq!(read, Err((20, "NO_FILE".to_owned())));
        },
    }
}

fn an_automatic_file_is_below_childlogdir() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\ncommand=/bin/sh -c \"echo out; sleep 100\"\n",
        check: |s| {
            s.running("a");
            let path = s.info("a")["stdout_logfile"].as_str().unwrap().to_owned();
            assert!(path.starts_with(s.path("childlog").to_str().unwrap()), "{path}");
            let name = path.rsplit_once('/').unwrap().1;
            assert!(name.starts_with("a-stdout---test-") && name.ends_with(".log"), "{name}");
            wait_until("the line", CAP, || std::fs::read_to_string(&path).unwrap() == "out\n");
        },
    }
}

const TEN: &str = "[program:a]\nstartsecs=0\nstdout_logfile=@DIR@/out\n\
                   command=/bin/sh -c \"echo 0123456789; exec sleep 100\"\n";

fn a_log_is_read_from_an_offset_and_from_its_end() -> Case {
    Case {
        conf: TEN,
        check: |s| {
            s.wait_lines("out", 1);
            let read = |offset: i64, length: i64| {
                s.try_rpc("readProcessStdoutLog", &[json!("a"), json!(offset), json!(length)])
            };
            assert_eq!(read(2, 3), Ok(json!("234")));
            assert_eq!(read(-4, 0), Ok(json!("789\n")));
            assert_eq!(read(0, 0), Ok(json!("0123456789\n")));
            assert_eq!(read(100, 5), Ok(json!("")));
            assert_eq!(read(0, -1).unwrap_err().0, 3);
        },
    }
}

fn a_tail_tells_its_offset() -> Case {
    Case {
        conf: TEN,
        check: |s| {
            s.wait_lines("out", 1);
            let tail = |offset: i64, length: i64| {
                s.rpc("tailProcessStdoutLog", &[json!("a"), json!(offset), json!(length)])
            };
            assert_eq!(tail(0, 100), json!(["0123456789\n", 11, false]));
            assert_eq!(tail(0, 4), json!(["789\n", 11, true]));
            assert_eq!(tail(11, 4), json!(["", 11, false]));
        },
    }
}

fn a_log_is_emptied_by_request() -> Case {
    Case {
        conf: TEN,
        check: |s| {
            s.wait_lines("out", 1);
            assert_eq!(s.rpc("clearProcessLogs", &[json!("a")]), json!(true));
            wait_until("the file to be empty", CAP, || s.read("out").is_empty());
            s.rpc("stopProcess", &[json!("a")]);
            s.rpc("startProcess", &[json!("a")]);
            assert_eq!(s.wait_lines("out", 1), ["0123456789"]);
        },
    }
}

fn a_log_is_appended_to_by_the_next_run() -> Case {
    Case {
        conf: TEN,
        check: |s| {
            s.wait_lines("out", 1);
            s.rpc("stopProcess", &[json!("a")]);
            s.rpc("startProcess", &[json!("a")]);
            assert_eq!(s.wait_lines("out", 2), ["0123456789"; 2]);
        },
    }
}

fn a_log_path_that_is_a_link_leads_to_its_file() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nautostart=false\nstdout_logfile=@DIR@/out\n\
               command=/bin/sh -c \"echo hello; exec sleep 100\"\n",
        check: |s| {
            std::os::unix::fs::symlink("real", s.path("out")).unwrap();
            s.rpc("startProcess", &[json!("a")]);
            wait_until("its output", CAP, || s.read("real") == "hello\n");
            assert!(s.path("out").is_symlink());
            assert_eq!(
                s.rpc("readProcessStdoutLog", &[json!("a"), json!(0), json!(100)]),
                "hello\n"
            );
        },
    }
}
