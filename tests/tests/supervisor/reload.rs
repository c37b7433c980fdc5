//! What changes of the file do, and when.

use serde_json::json;

use crate::{Case, cases};

cases! {
    nothing_changed_is_nothing_to_do,
    new_groups_are_added_by_request,
    changed_groups_are_told,
    gone_groups_are_removed_once_stopped,
    a_file_with_a_mistake_changes_nothing,
    a_group_that_is_active_is_not_added_again,
    a_group_added_again_starts_what_was_stopped_by_hand,
    a_process_may_move_between_groups,
    a_new_process_of_the_same_name_in_another_group_changes_nobody,
}

const A: &str = "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n";
const A_AND_B: &str = "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n\
                       [program:b]\ncommand=/bin/sleep 100\nstartsecs=0\n";

fn nothing_changed_is_nothing_to_do() -> Case {
    Case {
        conf: A,
        check: |s| {
            let pid = s.running("a");
            assert_eq!(s.rpc("reloadConfig", &[]), json!([[[], [], []]]));
            assert_eq!(s.running("a"), pid);
        },
    }
}

fn new_groups_are_added_by_request() -> Case {
    Case {
        conf: A,
        check: |s| {
            let pid = s.running("a");
            s.configure(A_AND_B);
            assert_eq!(s.rpc("reloadConfig", &[]), json!([[["b"], [], []]]));
            s.try_rpc("getProcessInfo", &[json!("b")]).unwrap_err();
            assert_eq!(s.rpc("addProcessGroup", &[json!("b")]), json!(true));
            s.running("b");
            assert_eq!(s.running("a"), pid);
        },
    }
}

fn changed_groups_are_told() -> Case {
    Case {
        conf: A_AND_B,
        check: |s| {
            let pid = s.running("a");
            s.configure(&A_AND_B.replacen("sleep 100", "sleep 200", 1));
            assert_eq!(s.rpc("reloadConfig", &[]), json!([[[], ["a"], []]]));
            assert_eq!(s.running("a"), pid, "not before it is asked for");
        },
    }
}

fn gone_groups_are_removed_once_stopped() -> Case {
    Case {
        conf: A_AND_B,
        check: |s| {
            s.running("b");
            s.configure(A);
            assert_eq!(s.rpc("reloadConfig", &[]), json!([[[], [], ["b"]]]));
            let fault = s.try_rpc("removeProcessGroup", &[json!("b")]).unwrap_err();
            assert_eq!(fault, (91, "STILL_RUNNING: b".to_owned()));
            s.rpc("stopProcessGroup", &[json!("b")]);
            assert_eq!(s.rpc("removeProcessGroup", &[json!("b")]), json!(true));
            s.try_rpc("getProcessInfo", &[json!("b")]).unwrap_err();
            let fault = s.try_rpc("removeProcessGroup", &[json!("b")]).unwrap_err();
            assert_eq!(fault, (10, "BAD_NAME: b".to_owned()));
        },
    }
}

fn a_file_with_a_mistake_changes_nothing() -> Case {
    Case {
        conf: A,
        check: |s| {
            let pid = s.running("a");
            s.configure("[program:a]\ncommand=/bin/sleep 100\nstartsecs=soon\n");
            let (code, text) = s.try_rpc("reloadConfig", &[]).unwrap_err();
            assert_eq!((code, text.starts_with("CANT_REREAD")), (92, true), "{text}");
            assert!(text.contains("soon"), "{text}");
            assert_eq!(s.running("a"), pid);
        },
    }
}

fn a_group_that_is_active_is_not_added_again() -> Case {
    Case {
        conf: A,
        check: |s| {
            let fault = s.try_rpc("addProcessGroup", &[json!("a")]).unwrap_err();
            assert_eq!(fault, (90, "ALREADY_ADDED: a".to_owned()));
            let fault = s.try_rpc("addProcessGroup", &[json!("x")]).unwrap_err();
            assert_eq!(fault, (10, "BAD_NAME: x".to_owned()));
        },
    }
}

fn a_group_added_again_starts_what_was_stopped_by_hand() -> Case {
    Case {
        conf: A,
        check: |s| {
            s.running("a");
            s.rpc("stopProcess", &[json!("a")]);
            s.configure(&A.replace("100", "200"));
            s.rpc("reloadConfig", &[]);
            s.rpc("removeProcessGroup", &[json!("a")]);
            s.rpc("addProcessGroup", &[json!("a")]);
            s.running("a");
        },
    }
}

const MOVED: &str = "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\n\
                     [program:b]\ncommand=/bin/sleep 100\nstartsecs=0\n\
                     [program:c]\ncommand=/bin/sleep 100\nstartsecs=0\n\
                     [group:g]\nprograms=c\n[group:z]\nprograms=a,b\n";

fn a_process_may_move_between_groups() -> Case {
    Case {
        conf: MOVED,
        check: |s| {
            let there = MOVED.replace("programs=c\n", "programs=c,a\n").replace("=a,b\n", "=b\n");
            // The group that takes it in comes first, as in the order of the client, or last.
            for groups in [["g", "z"], ["z", "g"]] {
                s.running("z:a");
                s.configure(&there);
                assert_eq!(s.rpc("reloadConfig", &[]), json!([[[], ["g", "z"], []]]));
                for group in groups {
                    s.rpc("stopProcessGroup", &[json!(group)]);
                    s.rpc("removeProcessGroup", &[json!(group)]);
                    s.rpc("addProcessGroup", &[json!(group)]);
                }
                for name in ["g:a", "g:c", "z:b"] {
                    s.running(name);
                }
                s.try_rpc("getProcessInfo", &[json!("z:a")]).unwrap_err();
                assert_eq!(s.rpc("reloadConfig", &[]), json!([[[], [], []]]));
                s.configure(MOVED);
                s.rpc("reloadConfig", &[]);
                for group in ["z", "g"] {
                    s.rpc("stopProcessGroup", &[json!(group)]);
                    s.rpc("removeProcessGroup", &[json!(group)]);
                    s.rpc("addProcessGroup", &[json!(group)]);
                }
            }
        },
    }
}

fn a_new_process_of_the_same_name_in_another_group_changes_nobody() -> Case {
    Case {
        conf: "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\nprocess_name=one\n",
        check: |s| {
            let pid = s.running("a:one");
            let a = "[program:a]\ncommand=/bin/sleep 100\nstartsecs=0\nprocess_name=one\n";
            s.configure(&format!("{a}{}", a.replace("program:a", "program:b")));
            assert_eq!(s.rpc("reloadConfig", &[]), json!([[["b"], [], []]]));
            s.rpc("addProcessGroup", &[json!("b")]);
            s.running("b:one");
            assert_eq!(s.running("a:one"), pid);
            assert_eq!(s.rpc("reloadConfig", &[]), json!([[[], [], []]]));
        },
    }
}
