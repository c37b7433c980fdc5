//! What the file says reaches the process: names, numbers, expansions, environment, place, user.

use std::os::unix::fs::MetadataExt as _;

use palisade_e2e::{agent::CAP, wait::wait_until};
use serde_json::json;

use crate::{Case, cases};

cases! {
    numprocs_makes_so_many,
    numprocs_start_and_formats_count,
    expansions_reach_the_command,
    environment_wins_in_supervisors_order,
    inline_comments_end_a_value,
    includes_are_read_and_here_is_theirs,
    directory_and_umask_hold,
    a_process_has_three_open_files,
    a_program_becomes_its_user,
    groups_take_programs_out_of_their_own,
    relative_commands_are_found_in_the_path,
    the_variables_of_supervisor_are_set,
    minfds_is_inherited,
    a_fastcgi_socket_is_standard_input,
}

fn names(s: &crate::rig::Subject) -> Vec<String> {
    let all = s.rpc("getAllProcessInfo", &[]);
    let name = |p: &serde_json::Value| {
        format!("{}:{}", p["group"].as_str().unwrap(), p["name"].as_str().unwrap())
    };
    all.as_array().unwrap().iter().map(name).collect()
}

fn numprocs_makes_so_many() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nnumprocs=3\nprocess_name=a_%(process_num)s\n",
        check: |s| assert_eq!(names(s), ["a:a_0", "a:a_1", "a:a_2"]),
    }
}

fn numprocs_start_and_formats_count() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nnumprocs=2\nnumprocs_start=9\n\
               process_name=%(program_name)s_%(process_num)03d\n",
        check: |s| assert_eq!(names(s), ["a:a_009", "a:a_010"]),
    }
}

fn expansions_reach_the_command() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0\nautorestart=false\nenvironment=HERE=\"%(here)s\"\n\
               command=/bin/sh -c \"echo '%(program_name)s %(group_name)s %(process_num)02d \
               %(numprocs)d %(here)s %(ENV_FROM_OUTSIDE)s 100%%' > @DIR@/out\"\n",
        check: |s| {
            let line = s.wait_lines("out", 1).remove(0);
            let dir = s.path("").display().to_string();
            let dir = dir.trim_end_matches('/');
            assert_eq!(line, format!("a a 00 1 {dir} outer 100%"));
        },
    }
}

fn environment_wins_in_supervisors_order() -> Case {
    Case {
        conf: "[supervisord]\nenvironment=A=\"all\",B=\"all\",FROM_OUTSIDE=\"all\"\n\
               [program:a]\nstartsecs=0\nautorestart=false\nenvironment=B=\"own\",D=\"a,b\"\n\
               command=/bin/sh -c \"echo $A $B $FROM_OUTSIDE $D > @DIR@/out\"\n",
        check: |s| assert_eq!(s.wait_lines("out", 1), ["all own all a,b"]),
    }
}

fn inline_comments_end_a_value() -> Case {
    Case {
        conf: "[program:a]\nstartsecs=0 ; at once\nautorestart=false # never\n\
               command=/bin/sh -c 'echo a;echo b#c > @DIR@/out'\n",
        check: |s| assert_eq!(s.wait_lines("out", 1), ["b#c"]),
    }
}

fn includes_are_read_and_here_is_theirs() -> Case {
    Case {
        conf: "[include]\nfiles = sub/*.conf\n",
        check: |s| {
            std::fs::create_dir(s.path("sub")).unwrap();
            s.write("sub/b.conf", "[program:b]\ncommand=/bin/sleep 100\n");
            s.write(
                "sub/a.conf",
                "[program:a]\nautorestart=false\nstartsecs=0\n\
                 command=/bin/sh -c \"echo %(here)s > @DIR@/out\"\n",
            );
            assert_eq!(s.rpc("reloadConfig", &[]), json!([[["a", "b"], [], []]]));
            s.rpc("addProcessGroup", &[json!("a")]);
            assert_eq!(s.wait_lines("out", 1), [s.path("sub").display().to_string()]);
            assert_eq!(names(s), ["a:a"]);
        },
    }
}

fn directory_and_umask_hold() -> Case {
    Case {
        conf: "[program:a]\nautorestart=false\nstartsecs=0\ndirectory=@DIR@/childlog\numask=077\n\
               command=/bin/sh -c \"pwd > here; echo done > @DIR@/out\"\n",
        check: |s| {
            s.wait_lines("out", 1);
            assert_eq!(s.lines("childlog/here"), [s.path("childlog").display().to_string()]);
            let mode = std::fs::metadata(s.path("childlog/here")).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600);
        },
    }
}

fn a_process_has_three_open_files() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n",
        check: |s| {
            let pid = s.running("a");
            wait_until("three files", CAP, || {
                let mut open: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
                    .unwrap()
                    .map(|e| e.unwrap().file_name().into_string().unwrap())
                    .collect();
                open.sort();
                open == ["0", "1", "2"]
            });
            for fd in 0..3 {
                let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
                let link = link.display().to_string();
                assert!(link.starts_with("pipe:") || link.contains("/run/"), "{fd}: {link}");
            }
        },
    }
}

fn a_program_becomes_its_user() -> Case {
    Case {
        conf: "[program:a]\nuser=nobody\nautorestart=false\nstartsecs=0\n\
               stdout_logfile=@DIR@/out\n\
               command=/bin/sh -c \"id -un; id -gn; id -Gn; echo $HOME\"\n",
        check: |s| {
            let home = std::env::var("HOME").unwrap_or_default();
            let lines = s.wait_lines("out", 4);
            assert_eq!(lines, ["nobody", "nogroup", "nogroup", home.as_str()]);
        },
    }
}

fn groups_take_programs_out_of_their_own() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\npriority=5\n[program:b]\ncommand=/bin/sleep 100\n\
               priority=1\n[program:c]\ncommand=/bin/sleep 100\n[group:g]\nprograms=a,b\npriority=2000\n",
        check: |s| {
            assert_eq!(names(s), ["c:c", "g:a", "g:b"]);
            s.try_rpc("getProcessInfo", &[json!("a")]).unwrap_err();
            assert_eq!(s.info("g:a")["group"], "g");
        },
    }
}

fn relative_commands_are_found_in_the_path() -> Case {
    Case {
        conf: "[program:a]\ncommand=sleep 100\nstartsecs=0\n",
        check: |s| {
            s.running("a");
        },
    }
}

fn the_variables_of_supervisor_are_set() -> Case {
    Case {
        conf: "[program:w]\nnumprocs=1\nprocess_name=w-%(process_num)d\nautorestart=false\nstartsecs=0\n\
               command=/bin/sh -c \"echo $SUPERVISOR_ENABLED $SUPERVISOR_PROCESS_NAME \
               $SUPERVISOR_GROUP_NAME $SUPERVISOR_SERVER_URL > @DIR@/out\"\n[group:g]\nprograms=w\n",
        check: |s| {
            let url = format!("unix://{}", s.path("sup.sock").display());
            assert_eq!(s.wait_lines("out", 1), [format!("1 w-0 g {url}")]);
        },
    }
}

fn minfds_is_inherited() -> Case {
    Case {
        conf: "[supervisord]\nminfds=4321\n[program:a]\nautorestart=false\nstartsecs=0\n\
               command=/bin/bash -c \"ulimit -Sn > @DIR@/out\"\n",
        check: |s| {
            let limit = s.wait_lines("out", 1).remove(0);
            assert!(limit == "unlimited" || limit.parse::<u64>().unwrap() >= 4321, "{limit}");
        },
    }
}

fn a_fastcgi_socket_is_standard_input() -> Case {
    Case {
        conf: "[fcgi-program:f]\nsocket=unix://@DIR@/f.sock\nsocket_mode=0600\nnumprocs=2\n\
               process_name=f%(process_num)d\nstartsecs=0\n\
               command=/usr/bin/python3 -c \"import socket\n  s=socket.socket(fileno=0)\n  \
               while True:\n    c,_=s.accept(); c.sendall(b'hello'); c.close()\"\n",
        check: |s| {
            s.write(
                "serve.py",
                "import os, socket\ns = socket.socket(fileno=0)\nwhile True:\n    c, _ = s.accept()\n    \
                 c.sendall(str(os.getpid()).encode())\n    c.close()\n",
            );
            s.configure(
                "[fcgi-program:f]\nsocket=unix://@DIR@/f.sock\nsocket_mode=0600\nnumprocs=2\n\
                 process_name=f%(process_num)d\nstartsecs=0\n\
                 command=/usr/bin/python3 @DIR@/serve.py\n",
            );
            s.rpc("reloadConfig", &[]);
            s.rpc("stopProcessGroup", &[json!("f")]);
            s.rpc("removeProcessGroup", &[json!("f")]);
            s.rpc("addProcessGroup", &[json!("f")]);
            let pids = [s.running("f:f0"), s.running("f:f1")].map(|p| p.to_string());
            let mode = std::fs::metadata(s.path("f.sock")).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600);
            for _ in 0..10 {
                let mut text = String::new();
                let mut c = std::os::unix::net::UnixStream::connect(s.path("f.sock")).unwrap();
                std::io::Read::read_to_string(&mut c, &mut text).unwrap();
                assert!(pids.contains(&text), "{text} of {pids:?}");
            }
            s.rpc("stopProcessGroup", &[json!("f")]);
            let connect = || std::os::unix::net::UnixStream::connect(s.path("f.sock"));
            wait_until("the socket to be closed", CAP, || connect().is_err());
        },
    }
}
