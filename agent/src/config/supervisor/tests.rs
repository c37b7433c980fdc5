//! What a person meets who moves from Supervisor: files in memory, on a host of their own.

use std::{collections::BTreeMap, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::{
    config::check_texts,
    supervise::{Kind, ListenAddr, LogPath, ProcessSpec, Stdin},
};

/// A host that has just these files.
pub(super) fn host(files: &[(&str, &str)]) -> Kept {
    Kept::new(files.iter().map(|(f, t)| (PathBuf::from(f), t.as_bytes().to_vec())))
}

pub(super) fn world() -> World {
    let environment = [("HOME", "/root"), ("PORT", "80")];
    World {
        environment: environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        node: "box".to_owned(),
        cwd: "/cwd".into(),
    }
}

pub(super) fn read_one(files: &[(&str, &str)]) -> Result<Vec<Config>, Refusal> {
    let first = files.first().map(|(f, _)| PathBuf::from(f));
    read(&first.into_iter().collect::<Vec<_>>(), &host(files), &world())
}

pub(super) fn imported(files: &[(&str, &str)]) -> Import {
    import(&read_one(files).unwrap(), &host(files), &world())
}

fn specs(text: &str) -> Vec<ProcessSpec> {
    imported(&[("/etc/s.conf", text)]).processes.into_iter().map(|p| p.spec).collect()
}

fn remarks(text: &str) -> Vec<String> {
    imported(&[("/etc/s.conf", text)]).remarks.iter().map(ToString::to_string).collect()
}

fn refusal(text: &str) -> String {
    read_one(&[("/etc/s.conf", text)]).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_with_an_environment_is_told_without_its_passwords() {
    for written in ["A=\"s3cr%t\"", "A=\"s3cret\",B", "A=s3cret,=,", "A=\"s3cret"] {
        for section in ["program:a", "supervisord"] {
            let text = format!("[{section}]\ncommand=x\nenvironment={written}\n");
            let text =
                if section == "supervisord" { text } else { format!("[supervisord]\n{text}") };
            if let Err(refusal) = read_one(&[("/etc/s.conf", &text)]) {
                assert!(!refusal.to_string().contains("s3cr"), "{refusal}");
            } else {
                assert!(!written.contains('%'), "{text}");
            }
        }
    }
}

const MAIN: &str = "\
[unix_http_server]
file=/run/supervisor.sock
[supervisord]
environment=ALL=\"1\",BOTH=\"outer\"
minfds=4096
[include]
files = conf.d/*.conf ; all of them
";

#[test]
fn a_main_file_is_read_with_all_that_it_includes() {
    let import = imported(&[
        ("/etc/supervisord.conf", MAIN),
        ("/etc/conf.d/b.conf", "[program:b]\ncommand=%(here)s/run %(ENV_ALL)s %(ENV_PORT)s\n"),
        (
            "/etc/conf.d/a.conf",
            "[program:a]\ncommand=/bin/a\nenvironment=BOTH=\"%(ENV_BOTH)s-inner\"\nnumprocs=2\n\
             process_name=%(program_name)s-%(process_num)02d\nnumprocs_start=3\n",
        ),
        ("/etc/conf.d/.c.conf", "[program:c]\ncommand=x\n"),
    ]);
    let names: Vec<_> = import.processes.iter().map(|p| p.spec.name.as_str()).collect();
    assert_eq!(names, ["a-03", "a-04", "b"]);
    let (a, b) = (&import.processes[0].spec, &import.processes[2].spec);
    assert_eq!(b.argv, ["/etc/conf.d/run", "1", "80"]);
    let env = BTreeMap::from([("ALL", "1"), ("BOTH", "outer-inner")]);
    assert_eq!(a.environment, env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
    assert_eq!((a.limits.nofile_min, a.stdin.clone()), (Some(4096), Stdin::Pipe));
    assert_eq!(import.processes[0].place.to_string(), "/etc/conf.d/a.conf:1");
}

#[test]
fn parts_without_a_main_file_are_read_as_if_it_were_there() {
    let files =
        [("/x/a.conf", "[program:a]\ncommand=a\n"), ("/x/b.conf", "[program:b]\ncommand=b\n")];
    let names: Vec<_> = files.iter().map(|(f, _)| PathBuf::from(f)).collect();
    let configs = read(&names, &host(&files), &world()).unwrap();
    let import = import(&configs, &host(&files), &world());
    assert_eq!(import.processes.len(), 2);
    assert!(import.remarks.is_empty(), "{:?}", import.remarks);
}

#[test]
fn a_part_is_united_with_the_main_file_that_is_named_beside_it() {
    let files = [
        ("/x/part.conf", "[program:a]\ncommand=%(ENV_ALL)s\n"),
        ("/x/main.conf", "[supervisord]\nenvironment=ALL=1\n[program:b]\ncommand=%(here)s\n"),
    ];
    let names: Vec<_> = files.iter().map(|(f, _)| PathBuf::from(f)).collect();
    let configs = read(&names, &host(&files), &world()).unwrap();
    let import = import(&configs, &host(&files), &world());
    let argv: Vec<_> = import.processes.iter().map(|p| p.spec.argv[0].as_str()).collect();
    assert_eq!(argv, ["1", "/x"]);
}

#[test]
fn a_refusal_names_the_line_and_the_option() {
    for (text, want) in [
        (
            "[program:a]\ncommand=x\nstartsecs=1.5\n",
            "/etc/s.conf:3: program:a.startsecs: invalid literal",
        ),
        ("[program:a]\ncommand=%(ENV_NO)s\n", "/etc/s.conf:2: program:a.command: Format string"),
        ("[program:a]\n", "/etc/s.conf:1: program:a.command: program section program:a does not"),
        (
            "[program:a]\ncommand=x\n[group:g]\nprograms=b",
            "/etc/s.conf:4: group:g.programs: [group:g]",
        ),
        ("[program:a]\nbad\n", "/etc/s.conf:2: Source contains parsing errors"),
        ("x", "/etc/s.conf:1: File contains no section headers"),
        (
            "[eventlistener:l]\nevents=NO\ncommand=x",
            "/etc/s.conf:2: eventlistener:l.events: Unknown event",
        ),
    ] {
        let got = refusal(text);
        assert!(got.starts_with(want), "{text}\n{got}");
    }
    let unset = read_one(&[("/f", "[program:a]\ncommand=%(ENV_NO)s\n")]).unwrap_err();
    assert!(unset.names_unset_variable());
}

#[test]
fn listeners_and_sockets_become_what_they_are() {
    let all = specs(
        "[eventlistener:mem]\ncommand=memmon\nevents=tick_60,PROCESS_STATE\nbuffer_size=5\n\
         [fcgi-program:web]\ncommand=uvicorn\nsocket=tcp://localhost:9000\n\
         [fcgi-program:app]\ncommand=app\nsocket=unix:///run/%(program_name)s.sock\nsocket_mode=0770\n\
         socket_owner=www:adm\nsocket_backlog=64\n",
    );
    let of = |name: &str| all.iter().find(|s| s.name.as_str() == name).unwrap();
    let Kind::Listener(listener) = &of("mem").kind else { panic!() };
    assert_eq!(listener.buffer_size, 5);
    assert_eq!(listener.events.iter().collect::<Vec<_>>(), ["PROCESS_STATE", "TICK_60"]);
    assert_eq!((of("mem").group_priority, of("mem").priority), (-1, 999));
    assert_eq!(all[0].name.as_str(), "mem");
    let Stdin::Socket(web) = &of("web").stdin else { panic!() };
    assert_eq!(web.listen, ListenAddr::Tcp("127.0.0.1:9000".parse().unwrap()));
    let Stdin::Socket(app) = &of("app").stdin else { panic!() };
    assert_eq!(app.listen, ListenAddr::Unix("/run/app.sock".into()));
    assert_eq!((app.mode, app.owner.as_deref(), app.backlog), (0o770, Some("www:adm"), Some(64)));
}

#[test]
fn names_that_are_good_within_their_group_only_are_made_good_for_the_host() {
    let all = specs(
        "[program:a]\ncommand=x\nnumprocs=2\nprocess_name=%(process_num)d\n\
         [program:b]\ncommand=x\nnumprocs=2\nprocess_name=%(process_num)d\n\
         [program:\"q\"]\ncommand=x\n",
    );
    let names: Vec<_> = all.iter().map(|s| (s.name.as_str(), s.label.as_str())).collect();
    let want = [("_q_", "\"q\""), ("a.0", "0"), ("a.1", "1"), ("b.0", "0"), ("b.1", "1")];
    assert_eq!(names, want);
}

#[test]
fn what_is_not_carried_over_or_was_never_read_is_remarked_on() {
    let got = remarks(
        "[supervisord]\nlogfile=/x.log\nuser=app\nstrip_ansi=true\n[inet_http_server]\nport=9001\n\
         [rpcinterface:x]\nsupervisor.rpcinterface_factory=a.b:c\n[Program:z]\ncommand=x\n\
         [program:w]\ncommand=celery -A app worker\nstopasgroup=true\ngroup=www\nlog_stdout=true\n\
         redirect_sterr=true\nstopsignal=RTMIN\nstartsecs=99999999\nstdout_logfile=out.log\n\
         [program:g]\ncommand=gunicorn app\ndirectory=/nowhere/x\n[program:e]\ncommand=\n",
    );
    for want in [
        "/etc/s.conf:1: supervisord: the agent has its own instead of, or no need of: logfile",
        "/etc/s.conf:3: supervisord.user: the agent runs as its unit says; every program",
        "/etc/s.conf:4: supervisord.strip_ansi: colours",
        "/etc/s.conf:6: inet_http_server.port: nothing is served on the network",
        "/etc/s.conf:8: rpcinterface:x.supervisor.rpcinterface_factory: the plug-in a.b:c is Python",
        "/etc/s.conf:9: Program:z: Supervisor knows no section [Program:z] and ignores it with all \
         that is in it; did you mean [program:z]?",
        "/etc/s.conf:12: program:w.stopwaitsecs: a Celery worker ends its tasks",
        "/etc/s.conf:13: program:w.stopasgroup: stopasgroup=true sends the stop signal to the pool",
        "/etc/s.conf:14: program:w.group: Supervisor has no option group here",
        "/etc/s.conf:15: program:w.log_stdout: Supervisor has no option log_stdout",
        "/etc/s.conf:16: program:w.redirect_sterr: Supervisor has no option redirect_sterr here and \
         ignores it; did you mean redirect_stderr?",
        "/etc/s.conf:17: program:w.stopsignal: palisade cannot send SIGRTMIN",
        "/etc/s.conf:18: program:w.startsecs: 99999999 is more than palisade takes; it takes 604800",
        "/etc/s.conf:19: program:w.stdout_logfile: \"out.log\" is relative to where supervisord was \
         started; palisade takes /etc/out.log",
        "program:g.stopwaitsecs: gunicorn lets requests go on for 30s",
        "/etc/s.conf:22: program:g.directory: there is no folder /nowhere/x on this host",
        "/etc/s.conf:24: program:e.command: e cannot start: its command is empty",
    ] {
        // A remark about what is not written stands at its section.
        let (place, what) = want.split_once(": ").unwrap();
        let hit = |r: &&String| {
            r.contains(what)
                && (!place.starts_with('/')
                    || r.starts_with(place)
                    || what.contains("stopwaitsecs"))
        };
        assert!(got.iter().any(|r| hit(&r)), "{want}\nin {got:#?}");
    }
}

#[test]
fn of_two_of_one_name_supervisor_has_one_and_so_have_we() {
    let text = "[group:web]\nprograms=a\n[program:a]\ncommand=first\n[program:web]\ncommand=second\n\
                [program:x]\ncommand=1\nprocess_name=same\n[program:y]\ncommand=2\nprocess_name=same\n\
                [group:xy]\nprograms=x,y\n";
    let all = specs(text);
    let argv: Vec<_> = all.iter().map(|s| s.argv[0].as_str()).collect();
    assert_eq!(argv, ["first", "2"]);
    let got = remarks(text);
    assert!(got.iter().any(|r| r.contains("two groups named \"web\"")), "{got:#?}");
    assert!(got.iter().any(|r| r.contains("two processes named \"same\"")), "{got:#?}");
}

#[test]
fn yaml_is_what_a_person_would_write() {
    let import = imported(&[(
        "/etc/s.conf",
        "[program:web]\ncommand=/srv/venv/bin/gunicorn app.wsgi -b unix:/run/web.sock\ndirectory=/srv\n\
         environment=A=\"x y\",B=\"%%(n)\"\ngroup=www\nautorestart=true\nstdout_logfile=/var/log/web.log\n\
         redirect_stderr=true\nstopwaitsecs=35\n\
         [program:worker]\ncommand=celery -A app worker -n w%(process_num)d@%%h\nnumprocs=2\n\
         process_name=%(program_name)s_%(process_num)02d\nstopwaitsecs=600\npriority=5\n\
         [group:app]\nprograms=web,worker\npriority=10\n",
    )]);
    let got = yaml(&import, &["/etc/s.conf".into()]);
    let want = r#"# Made from /etc/s.conf by palisade import supervisor.
version: 1

programs:
  worker:
    command: celery -A app worker -n w%(process_num)d@%h
    numprocs: 2
    priority: 5
    stdin: pipe
    stopwaitsecs: 10m
  # group: Supervisor has no option group here and ignores it: the process has the groups of its
  #   user; a [group:x] is what groups programs
  web:
    command: /srv/venv/bin/gunicorn app.wsgi -b unix:/run/web.sock
    # there is no folder /srv on this host
    directory: /srv
    environment:
      A: "x y"
      B: "%%(n)"
    stdin: pipe
    autorestart: true
    stopwaitsecs: 35s
    redirect_stderr: true
    # there is no folder /var/log for this log on this host
    stdout_logfile: /var/log/web.log

groups:
  app: { programs: [worker, web], priority: 10 }
"#;
    assert_eq!(got, want);
    assert!(check_texts(vec![("p.yaml".into(), got)].into()).is_ok());
}

/// Some lines that files are made of.
fn line() -> impl Strategy<Value = String> {
    let option = prop_oneof![
        Just("command"),
        Just("numprocs"),
        Just("process_name"),
        Just("priority"),
        Just("environment"),
        Just("stdout_logfile"),
        Just("stopsignal"),
        Just("programs"),
        Just("socket"),
        Just("events"),
        Just("directory"),
        Just("stdout_logfile_maxbytes"),
        Just("autorestart"),
        Just("files"),
    ];
    let value = prop_oneof![
        "[a-z/ ]{0,9}",
        "[0-9]{1,3}",
        Just("%(process_num)02d".to_owned()),
        Just("%(program_name)s-%(process_num)d".to_owned()),
        Just("A=\"b c\",D=e".to_owned()),
        Just("unix:///run/x.sock".to_owned()),
        Just("TICK_5".to_owned()),
        Just("a,b".to_owned()),
        Just("50MB".to_owned()),
        Just("true".to_owned()),
        "\\PC{0,12}",
    ];
    let section = prop_oneof![
        Just("program:a"),
        Just("program:b"),
        Just("group:g"),
        Just("fcgi-program:f"),
        Just("eventlistener:e"),
        Just("supervisord"),
        Just("include"),
        Just("DEFAULT"),
    ];
    prop_oneof![
        3 => (option, value).prop_map(|(o, v)| format!("{o}={v}")),
        1 => section.prop_map(|s| format!("[{s}]\ncommand=x")),
        1 => "[ \\t]?\\PC{0,20}",
    ]
}

fn nothing_breaks(text: &[u8]) -> Result<(), TestCaseError> {
    let host = Kept::new([(PathBuf::from("/f"), text.to_vec())]);
    let configs = read(&["/f".into()], &host, &world());
    prop_assert!(canonical(&configs).is_object());
    let Ok(configs) = configs else { return Ok(()) };
    let import = import(&configs, &host, &world());
    let text = yaml(&import, &["/f".into()]);
    let settings = check_texts(vec![("p.yaml".into(), text.clone())].into());
    let settings = settings.map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
    let same = |a: &ProcessSpec, b: &ProcessSpec| {
        let alike = ProcessSpec { label: b.label.clone(), program: b.program.clone(), ..a.clone() };
        alike == *b
    };
    let written: Vec<_> = import.processes.iter().filter(|p| p.can_be_written()).collect();
    prop_assert_eq!(settings.supervise.processes.len(), written.len(), "{}", text);
    for theirs in written {
        let ours = settings.supervise.processes.iter().find(|s| s.name == theirs.spec.name);
        let Some(ours) = ours else { return Err(TestCaseError::fail(text)) };
        prop_assert!(same(ours, &theirs.spec), "{:#?}\n{:#?}\n{}", ours, theirs.spec, text);
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_break_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        nothing_breaks(&bytes)?;
    }

    /// Whatever Supervisor takes becomes a file that we take, and that means the same.
    #[test]
    fn every_file_becomes_the_same_processes_by_way_of_yaml(
        lines in proptest::collection::vec(line(), 0..12),
    ) {
        let text = format!("[program:p]\ncommand=run %(program_name)s\n{}\n", lines.join("\n"));
        nothing_breaks(text.as_bytes())?;
    }
}

#[test]
fn a_log_that_goes_nowhere_goes_nowhere() {
    let all = specs(
        "[program:a]\ncommand=x\nstdout_logfile=\nstderr_logfile=off\n[program:b]\ncommand=x\n\
         stdout_logfile=~/b.log\nstderr_logfile=syslog\n",
    );
    assert_eq!((&all[0].stdout.path, &all[0].stderr.path), (&LogPath::None, &LogPath::None));
    assert_eq!(all[1].stdout.path, LogPath::At("/root/b.log".into()));
    assert_eq!((&all[1].stderr.path, all[1].stderr.syslog), (&LogPath::None, true));
}

#[test]
fn an_empty_serverurl_is_none_and_not_ours() {
    let all = specs("[program:a]\ncommand=x\nserverurl=\n[program:b]\ncommand=x\nserverurl=auto\n");
    let urls: Vec<_> = all.iter().map(|s| s.serverurl.as_deref()).collect();
    assert_eq!(urls, [Some(""), None]);
}
