//! What people run beside Supervisor, unchanged: superlance's listeners, and a web server that gets its
//! socket as its standard input.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::symlink, net::UnixStream},
};

use palisade_e2e::{agent::CAP, wait::wait_until};
use serde_json::json;

use crate::{
    Case, cases,
    rig::{self, Subject},
};

cases! {
    crashmail_mails_about_an_unexpected_end,
    httpok_restarts_a_site_that_does_not_answer,
    memmon_restarts_what_grew_too_large,
    uvicorn_serves_from_its_standard_input,
}

/// Puts the virtual environment where the files of these cases look for it.
fn bring(s: &Subject, program: &str) -> bool {
    let venv = rig::venv();
    if !venv.join("bin").join(program).exists() {
        println!("skipped: no {program} in demo-venv; `cargo xtask setup` puts it there");
        return false;
    }
    symlink(venv, s.path("venv")).unwrap();
    s.write("sendmail.sh", "cat >> @DIR@/mail\n");
    true
}

fn crashmail_mails_about_an_unexpected_end() -> Case {
    Case {
        conf: "[eventlistener:crashmail]\nevents=PROCESS_STATE_EXITED\nautostart=false\nstartsecs=0\n\
             command=@DIR@/venv/bin/crashmail -a -m dev@example.com -s \"/bin/sh @DIR@/sendmail.sh\"\n\
             [program:good]\ncommand=/bin/sh -c \"sleep 0.2; exit 0\"\nautostart=false\nstartsecs=0\n\
             [program:bad]\ncommand=/bin/sh -c \"sleep 0.2; exit 5\"\nautostart=false\nstartsecs=0\nautorestart=false\n",
        check: |s| {
            if !bring(s, "crashmail") {
                return;
            }
            s.rpc("startProcess", &[json!("crashmail")]);
            s.rpc("startProcess", &[json!("good")]);
            s.wait("good", "EXITED");
            s.rpc("startProcess", &[json!("bad")]);
            wait_until("mail", CAP, || s.read("mail").contains("from state RUNNING"));
            let mail = s.read("mail");
            assert!(mail.contains("To: dev@example.com"), "{mail}");
            assert!(mail.contains("Subject:  bad crashed at "), "{mail}");
            assert!(mail.contains("Process bad in group bad exited unexpectedly (pid "), "{mail}");
            assert!(!mail.contains("good"), "{mail}");
            assert_eq!(s.state("crashmail"), "RUNNING");
        },
    }
}

fn httpok_restarts_a_site_that_does_not_answer() -> Case {
    Case {
        conf: "[eventlistener:httpok]\nevents=TICK_5\nautostart=false\nstartsecs=0\nstderr_logfile=@DIR@/httpok.err\n\
             command=/bin/sh -c \"exec @DIR@/venv/bin/httpok -p site -t 2 -m dev@example.com -s '/bin/sh @DIR@/sendmail.sh' \
             http://127.0.0.1:$(cat @DIR@/port)/\"\n\
             [program:site]\nautostart=false\nstopwaitsecs=1\n\
             command=/bin/sh -c \"exec /usr/bin/python3 -m http.server --bind 127.0.0.1 $(cat @DIR@/port)\"\n",
        check: |s| {
            if !bring(s, "httpok") {
                return;
            }
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            s.write("port", &port.to_string());
            s.rpc("startProcess", &[json!("site")]);
            let site = s.running("site");
            wait_until("the site", CAP, || {
                std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            s.rpc("startProcess", &[json!("httpok")]);
            // It hangs, as a site does whose workers all wait for something.
            s.rpc("signalProcess", &[json!("site"), json!("STOP")]);
            wait_until("restart", CAP, || {
                let info = s.info("site");
                info["statename"] == "RUNNING" && info["pid"] != json!(site)
            });
            wait_until("mail", CAP, || s.read("mail").contains("restart"));
            assert!(s.read("httpok.err").contains("site"), "{}", s.read("httpok.err"));
        },
    }
}

fn memmon_restarts_what_grew_too_large() -> Case {
    Case {
        conf: "[eventlistener:memmon]\nevents=TICK_5\nautostart=false\nstartsecs=0\nstderr_logfile=@DIR@/memmon.err\n\
             command=@DIR@/venv/bin/memmon -p large=40MB -p small=40MB -m dev@example.com -s \"/bin/sh @DIR@/sendmail.sh\"\n\
             [program:large]\nautostart=false\nstartsecs=0\n\
             command=/usr/bin/python3 -c \"import time; x = bytearray(b'x' * 60000000); time.sleep(1000)\"\n\
             [program:small]\nautostart=false\nstartsecs=0\ncommand=/bin/sleep 1000\n",
        check: |s| {
            if !bring(s, "memmon") {
                return;
            }
            s.rpc("startProcess", &[json!("small")]);
            s.rpc("startProcess", &[json!("large")]);
            let (small, large) = (s.running("small"), s.running("large"));
            s.rpc("startProcess", &[json!("memmon")]);
            wait_until("restart", CAP, || {
                let info = s.info("large");
                info["statename"] == "RUNNING" && info["pid"] != json!(large)
            });
            wait_until("mail", CAP, || s.read("mail").contains("large"));
            assert_eq!(s.running("small"), small);
            assert!(s.read("memmon.err").contains("Restarting large"), "{}", s.read("memmon.err"));
        },
    }
}

/// One request over a UNIX socket; the body of the answer, or nothing.
fn get(s: &Subject) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = UnixStream::connect(s.path("app.sock")) {
        stream.set_read_timeout(Some(CAP)).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap_or_default();
        stream.read_to_string(&mut answer).unwrap_or_default();
    }
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
}

fn uvicorn_serves_from_its_standard_input() -> Case {
    Case {
        conf: "[fcgi-program:app]\nsocket=unix://@DIR@/app.sock\nautostart=false\nnumprocs=2\n\
             process_name=%(program_name)s_%(process_num)d\ndirectory=@DIR@\nredirect_stderr=true\nstdout_logfile=@DIR@/app.log\n\
             command=@DIR@/venv/bin/uvicorn --fd 0 --lifespan off site_app:app\n",
        check: |s| {
            if !bring(s, "uvicorn") {
                return;
            }
            s.write(
                "site_app.py",
                "import os\n\
                 async def app(scope, receive, send):\n\
                 \x20   body = os.environ['SUPERVISOR_PROCESS_NAME'].encode()\n\
                 \x20   await send({'type': 'http.response.start', 'status': 200,\n\
                 \x20               'headers': [(b'content-length', b'%d' % len(body))]})\n\
                 \x20   await send({'type': 'http.response.body', 'body': body})\n",
            );
            assert!(
                UnixStream::connect(s.path("app.sock")).is_err(),
                "open before the first start"
            );
            s.rpc("startProcessGroup", &[json!("app")]);
            wait_until("answer", CAP, || get(s).starts_with("app_"));
            // One after the other: the socket stays.
            for n in ["app:app_0", "app:app_1"] {
                s.rpc("stopProcess", &[json!(n)]);
                assert!(get(s).starts_with("app_"), "{}", s.read("app.log"));
                s.rpc("startProcess", &[json!(n)]);
            }
            s.rpc("stopProcessGroup", &[json!("app")]);
            wait_until("end of the socket", CAP, || {
                UnixStream::connect(s.path("app.sock")).is_err()
            });
        },
    }
}
