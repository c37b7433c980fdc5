//! What other clients ask: the calls themselves, and Ansible's module.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use super::{PROGRAMS, ready};
use crate::{
    Case, cases,
    rig::{Subject, venv},
};

cases! {
    a_multicall_has_each_result_or_fault,
    the_methods_are_supervisors,
    a_broken_request_is_refused_and_a_method_is_only_its_whole_name,
    ansibles_module_works,
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
