//! What listeners hear, word for word, and what becomes of an event that one does not take.

use palisade_e2e::{agent::CAP, wait::wait_until};
use serde_json::{Value, json};

use crate::{
    Case, cases,
    rig::{Subject, rest},
};

cases! {
    a_life_is_told_state_by_state,
    an_end_says_whether_it_was_expected,
    failed_starts_count_their_tries,
    headers_number_events_and_name_pools,
    groups_that_come_and_go_are_told,
    output_is_told_where_it_is_wanted,
    what_stands_between_the_marks_is_a_communication,
    a_remote_communication_is_passed_on,
    time_passes_in_ticks,
    an_event_that_failed_comes_again,
    an_event_comes_again_after_its_listener_died,
    a_listener_that_talks_nonsense_hears_no_more,
    a_parent_stands_for_all_below_it,
}

/// A listener that writes down each header and body, one line each. `$2` says what it answers.
const LISTENER: &str = r#"
import os, sys
out, how = sys.argv[1], sys.argv[2]
def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()
times = 0
while True:
    say("READY\n")
    line = sys.stdin.readline()
    header = dict(pair.split(":", 1) for pair in line.split())
    body = sys.stdin.read(int(header["len"]))
    with open(out, "a") as f:
        f.write(line.strip() + " | " + body.replace("\n", "\\n") + "\n")
    times += 1
    if how == "die" and not os.path.exists(out + ".died"):
        open(out + ".died", "w").close()
        os._exit(1)
    if how == "nonsense":
        say("hello?\n")
    elif how == "fail" and times == 1:
        say("RESULT 4\nFAIL")
    else:
        say("RESULT 2\nOK")
"#;

/// Starts the listener, which is there from the beginning but finds its script only now.
fn listen(s: &Subject) {
    s.write("listen.py", LISTENER);
    s.rpc("startProcess", &[json!("l")]);
}

/// Everything heard: name, header, body.
fn heard(s: &Subject, count: usize) -> Vec<(String, String, String)> {
    let split = |line: String| {
        let (header, body) = line.split_once(" | ").unwrap();
        let name = header.split("eventname:").nth(1).unwrap().split(' ').next().unwrap();
        (name.to_owned(), header.to_owned(), body.to_owned())
    };
    s.wait_lines("events", count).into_iter().map(split).collect()
}

/// A listener `l` of these events; `how` it answers.
macro_rules! listener {
    ($events:literal, $how:literal) => {
        concat!(
            "[eventlistener:l]\ncommand=/usr/bin/python3 @DIR@/listen.py @DIR@/events ",
            $how,
            "\nautostart=false\nstartsecs=0\nevents=",
            $events,
            "\n"
        )
    };
}

/// A body without what differs from run to run.
fn without_pids(body: &str) -> String {
    let Some((before, after)) = body.split_once(" pid:") else { return body.to_owned() };
    format!("{before} pid:N{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

fn a_life_is_told_state_by_state() -> Case {
    Case {
        conf: concat!(
            listener!("PROCESS_STATE", "ok"),
            "[program:a]\ncommand=/bin/sleep 100\nautostart=false\n"
        ),
        check: |s| {
            listen(s);
            s.running("l");
            s.rpc("startProcess", &[json!("a")]);
            s.rpc("stopProcess", &[json!("a")]);
            let all = heard(s, 6);
            let of_a: Vec<_> = all
                .iter()
                .filter(|(_, _, body)| body.contains("processname:a "))
                .map(|(name, _, body)| format!("{name} {}", without_pids(body)))
                .collect();
            let who = "processname:a groupname:a from_state:";
            assert_eq!(
                of_a,
                [
                    format!("PROCESS_STATE_STARTING {who}STOPPED tries:0"),
                    format!("PROCESS_STATE_RUNNING {who}STARTING pid:N"),
                    format!("PROCESS_STATE_STOPPING {who}RUNNING pid:N"),
                    format!("PROCESS_STATE_STOPPED {who}STOPPING pid:N"),
                ]
            );
        },
    }
}

fn an_end_says_whether_it_was_expected() -> Case {
    Case {
        conf: concat!(
            listener!("PROCESS_STATE_EXITED", "ok"),
            "[program:good]\ncommand=/bin/sh -c \"sleep 0.2; exit 0\"\nautostart=false\nstartsecs=0\nautorestart=false\n\
             [program:bad]\ncommand=/bin/sh -c \"sleep 0.2; exit 5\"\nautostart=false\nstartsecs=0\nautorestart=false\n"
        ),
        check: |s| {
            listen(s);
            s.rpc("startProcess", &[json!("good")]);
            heard(s, 1);
            s.rpc("startProcess", &[json!("bad")]);
            let bodies: Vec<_> = heard(s, 2).iter().map(|(_, _, b)| without_pids(b)).collect();
            assert_eq!(
                bodies,
                [
                    "processname:good groupname:good from_state:RUNNING expected:1 pid:N",
                    "processname:bad groupname:bad from_state:RUNNING expected:0 pid:N",
                ]
            );
        },
    }
}

fn failed_starts_count_their_tries() -> Case {
    Case {
        conf: concat!(
            listener!("PROCESS_STATE_STARTING,PROCESS_STATE_BACKOFF,PROCESS_STATE_FATAL", "ok"),
            "[program:a]\ncommand=/bin/sh -c \"exit 1\"\nautostart=false\nstartretries=1\n"
        ),
        check: |s| {
            listen(s);
            s.running("l");
            s.try_rpc("startProcess", &[json!("a"), json!(false)]).ok();
            s.wait("a", "FATAL");
            let all = heard(s, 6);
            let of_a: Vec<_> = all
                .iter()
                .filter(|(_, _, body)| body.contains("processname:a "))
                .map(|(name, _, body)| {
                    format!("{name} {}", body.rsplit_once("from_state:").unwrap().1)
                })
                .collect();
            assert_eq!(
                of_a,
                [
                    "PROCESS_STATE_STARTING STOPPED tries:0",
                    "PROCESS_STATE_BACKOFF STARTING tries:1",
                    "PROCESS_STATE_STARTING BACKOFF tries:1",
                    "PROCESS_STATE_BACKOFF STARTING tries:2",
                    "PROCESS_STATE_FATAL BACKOFF",
                ]
            );
        },
    }
}

fn headers_number_events_and_name_pools() -> Case {
    Case {
        conf: listener!("REMOTE_COMMUNICATION", "ok"),
        check: |s| {
            listen(s);
            s.running("l");
            for n in 0..3 {
                s.rpc("sendRemoteCommEvent", &[json!("t"), json!(n.to_string())]);
            }
            for (n, (_, header, body)) in heard(s, 3).iter().enumerate() {
                let keys: Vec<_> =
                    header.split(' ').map(|w| w.split(':').next().unwrap()).collect();
                assert_eq!(
                    keys,
                    ["ver", "server", "serial", "pool", "poolserial", "eventname", "len"]
                );
                assert!(header.starts_with("ver:3.0 server:test serial:"), "{header}");
                assert!(header.contains(&format!(" pool:l poolserial:{n} ")), "{header}");
                assert!(
                    header.ends_with(&format!(" len:{}", body.replace("\\n", "n").len())),
                    "{header}"
                );
            }
        },
    }
}

fn groups_that_come_and_go_are_told() -> Case {
    Case {
        conf: concat!(
            listener!("PROCESS_GROUP", "ok"),
            "[program:a]\ncommand=/bin/sleep 100\nautostart=false\n"
        ),
        check: |s| {
            listen(s);
            s.running("l");
            s.rpc("removeProcessGroup", &[json!("a")]);
            s.rpc("addProcessGroup", &[json!("a")]);
            // The first two are those of the beginning.
            let all = heard(s, 4);
            let told: Vec<_> = all.iter().map(|(n, _, b)| format!("{n} {b}")).collect();
            let end = &told[told.len() - 2..];
            assert_eq!(
                end,
                ["PROCESS_GROUP_REMOVED groupname:a\\n", "PROCESS_GROUP_ADDED groupname:a\\n",]
            );
        },
    }
}

fn output_is_told_where_it_is_wanted() -> Case {
    Case {
        conf: concat!(
            listener!("PROCESS_LOG", "ok"),
            "[program:a]\ncommand=/bin/sh -c \"echo out; sleep 1; echo err >&2; sleep 100\"\nautostart=false\n\
             startsecs=0\nstdout_events_enabled=true\nstderr_events_enabled=true\n\
             [program:b]\ncommand=/bin/sh -c \"echo never; sleep 100\"\nautostart=false\nstartsecs=0\n"
        ),
        check: |s| {
            listen(s);
            s.running("l");
            s.rpc("startProcess", &[json!("b")]);
            s.rpc("startProcess", &[json!("a")]);
            let all = heard(s, 2);
            let told: Vec<_> =
                all.iter().map(|(n, _, b)| format!("{n} {}", without_pids(b))).collect();
            assert_eq!(
                told,
                [
                    "PROCESS_LOG_STDOUT processname:a groupname:a pid:N channel:stdout\\nout\\n",
                    "PROCESS_LOG_STDERR processname:a groupname:a pid:N channel:stderr\\nerr\\n",
                ]
            );
        },
    }
}

fn what_stands_between_the_marks_is_a_communication() -> Case {
    Case {
        conf: concat!(
            listener!("PROCESS_COMMUNICATION", "ok"),
            "[program:a]\nautostart=false\nstartsecs=0\nstdout_logfile=@DIR@/out\nstdout_capture_maxbytes=1MB\n\
             command=/bin/sh -c \"echo before; printf '<!--XSUPERVISOR:BEG'; sleep 0.3; \
             printf 'IN-->secret<!--XSUPERVISOR:END-->'; echo after what nobody but a listener sees; sleep 100\"\n"
        ),
        check: |s| {
            listen(s);
            s.running("l");
            s.rpc("startProcess", &[json!("a")]);
            let all = heard(s, 1);
            assert_eq!(all[0].0, "PROCESS_COMMUNICATION_STDOUT");
            assert_eq!(without_pids(&all[0].2), "processname:a groupname:a pid:N\\nsecret");
            assert_eq!(s.wait_lines("out", 2), ["before", "after what nobody but a listener sees"]);
        },
    }
}

fn a_remote_communication_is_passed_on() -> Case {
    Case {
        conf: listener!("REMOTE_COMMUNICATION", "ok"),
        check: |s| {
            listen(s);
            s.running("l");
            let sent = s.rpc("sendRemoteCommEvent", &[json!("deploy"), json!("done <now>")]);
            assert_eq!(sent, Value::Bool(true));
            assert_eq!(heard(s, 1)[0].2, "type:deploy\\ndone <now>");
        },
    }
}

fn time_passes_in_ticks() -> Case {
    Case {
        conf: listener!("TICK_5", "ok"),
        check: |s| {
            listen(s);
            let all = heard(s, 2);
            for (name, _, body) in &all {
                assert_eq!(name, "TICK_5");
                let when: i64 = body.trim_start_matches("when:").parse().unwrap();
                assert_eq!(when % 5, 0);
            }
        },
    }
}

fn an_event_that_failed_comes_again() -> Case {
    Case {
        conf: listener!("REMOTE_COMMUNICATION", "fail"),
        check: |s| {
            listen(s);
            s.running("l");
            s.rpc("sendRemoteCommEvent", &[json!("t"), json!("x")]);
            let all = heard(s, 2);
            assert_eq!(all[0].2, all[1].2);
            rest(1500);
            assert_eq!(s.lines("events").len(), 2);
        },
    }
}

fn an_event_comes_again_after_its_listener_died() -> Case {
    Case {
        conf: listener!("REMOTE_COMMUNICATION", "die"),
        check: |s| {
            listen(s);
            s.running("l");
            s.rpc("sendRemoteCommEvent", &[json!("t"), json!("x")]);
            let all = heard(s, 2);
            assert_eq!(all[0].2, all[1].2);
        },
    }
}

fn a_listener_that_talks_nonsense_hears_no_more() -> Case {
    Case {
        conf: listener!("REMOTE_COMMUNICATION", "nonsense"),
        check: |s| {
            listen(s);
            s.running("l");
            for _ in 0..3 {
                s.rpc("sendRemoteCommEvent", &[json!("t"), json!("x")]);
                rest(700);
            }
            assert_eq!(s.lines("events").len(), 1);
        },
    }
}

fn a_parent_stands_for_all_below_it() -> Case {
    Case {
        conf: concat!(
            listener!("EVENT", "ok"),
            "[program:a]\ncommand=/bin/sleep 100\nautostart=false\nstartsecs=0\n"
        ),
        check: |s| {
            listen(s);
            s.running("l");
            s.rpc("sendRemoteCommEvent", &[json!("t"), json!("x")]);
            s.rpc("startProcess", &[json!("a")]);
            // How much the listener hears of its own beginning is a matter of moments.
            let is_last = |l: &String| {
                l.contains("eventname:PROCESS_STATE_RUNNING ") && l.contains("processname:a ")
            };
            wait_until("the last of them", CAP, || s.lines("events").iter().any(is_last));
            let all = heard(s, 1);
            let names: Vec<_> = all.iter().map(|(n, _, _)| n.as_str()).collect();
            for name in ["REMOTE_COMMUNICATION", "PROCESS_STATE_STARTING"] {
                assert!(names.contains(&name), "{names:?}");
            }
        },
    }
}
