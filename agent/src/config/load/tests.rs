//! What a person meets who writes a configuration, right or wrong.

use super::*;
use crate::{firewall, logs, patch, supervise};

pub(super) fn check_one(text: &str) -> Result<Settings, Mistakes> {
    check_texts(vec![(PathBuf::from("palisade.yaml"), text.to_owned())].into())
}

pub(super) fn mistakes(text: &str) -> Vec<String> {
    check_one(text).unwrap_err().all().iter().map(ToString::to_string).collect()
}

const WHOLE: &str = r#"
version: 1
host: { role: origin, env: prod, state_dir: /tmp/s, run_dir: /tmp/r }
programs:
  web:
    command: [/srv/app/venv/bin/gunicorn, app.wsgi]
    user: app
    environment: { PORT: 8000, SLOT: "%(process_num)d" }
    umask: "027"
    sockets: [{ name: http, listen: "127.0.0.1:8000" }]
    ready: { http: { url: "http://127.0.0.1:8000/health", every: 1s, timeout: 30s } }
    limits: { memory: 1GiB, cpu: 150%, pids: 200 }
    after: [worker]
  worker:
    command: celery -A app worker --loglevel=info -n 'worker%(process_num)02d@%h'
    numprocs: 2
    autorestart: true
    stopwaitsecs: 600s
    stdout_logfile: /tmp/%(program_name)s-%(process_num)d.log
groups: { app: { programs: [web, worker], priority: 10 } }
firewall:
  ports: [{ tcp: [80, 443], from: [cloudfront, bastion] }, { tcp: 22, from: bastion }]
  sources:
    cloudfront: { feed: ip-ranges, service: CLOUDFRONT_ORIGIN_FACING, file: /tmp/feed.json }
    bastion: { cidrs: [10.20.0.10/32, 2001:db8::1] }
  guard: { max_address_loss: 2.5%, withdraw_after: 1h }
  drops: { group: 7, samples: true }
logs:
  files: [{ path: /var/log/nginx/*.log }]
  spool: { max: 64MiB, on_full: drop_oldest }
"#;

#[test]
fn a_whole_file_becomes_settings() {
    let s = check_one(WHOLE).unwrap();
    assert_eq!(s.control.socket, Path::new("/tmp/r/control.sock"));
    let names: Vec<_> = s.supervise.processes.iter().map(|p| p.name.to_string()).collect();
    assert_eq!(names, ["web", "worker_00", "worker_01"]);
    let (web, worker) = (&s.supervise.processes[0], &s.supervise.processes[2]);
    assert_eq!((web.group.as_str(), web.group_priority, web.priority), ("app", 10, 999));
    assert_eq!(web.environment["PORT"], "8000");
    assert!(matches!(&web.ready, supervise::Ready::Probe(p)
        if matches!(&p.target, supervise::ProbeTarget::Http { path, .. } if path == "/health")));
    assert_eq!(worker.argv.last().unwrap(), "worker01@%h");
    assert_eq!(worker.stdout.path, supervise::LogPath::At("/tmp/worker-1.log".into()));
    let fw = s.firewall.unwrap();
    assert_eq!(fw.guard.max_address_loss_permille, 25);
    assert_eq!(fw.ports[1].tcp[0].get(), 22);
    assert_eq!(fw.sources.len(), 2);
    assert_eq!(fw.enforce, firewall::Enforce::Yes);
    assert_eq!(fw.drops, firewall::drops::Settings { group: Some(7), samples: true });
    let logs = s.logs.unwrap();
    assert_eq!(logs.group, "/palisade/prod/{program}");
    assert_eq!(logs.sink, logs::Sink::Local);
    assert_eq!(logs.spool.on_full, logs::OnFull::DropOldest);
}

#[test]
fn every_mistake_is_told_at_once_with_its_line_and_key() {
    let got = mistakes(
        "version: 1\nprograms:\n  web:\n    comand: x\n    stopsignal: TERMM\n    umask: 022\n  \
         worker:\n    command: \"celery 'oops\"\n    after: [wen]\nfirewall:\n  ports: [{ tcp: [0], \
         from: [cloudfrnt] }]\n  sources: { cloudfront: { cidrs: [10.0.0.1/8] } }\nlgs: {}\n",
    );
    for (line, part) in [
        (4, "programs.web.command: is required"),
        (4, "programs.web.comand: unknown key; did you mean command?"),
        (5, "programs.web.stopsignal: \"TERMM\" is no signal; did you mean SIGTERM?"),
        (6, "programs.web.umask: must be text; put it in quotes"),
        (8, "programs.worker.command: has a quote"),
        (11, "firewall.ports.tcp: 0 must be 1 to 65535"),
        (11, "cloudfrnt is not among firewall.sources; did you mean cloudfront?"),
        (12, "10.0.0.1/8 has host bits set; the range is 10.0.0.0/8"),
        (13, "lgs: unknown key; did you mean logs?"),
    ] {
        let hit = got.iter().any(|m| {
            (m.starts_with(&format!("palisade.yaml:{line}: "))) && strip_index(m).contains(part)
        });
        assert!(hit, "line {line}: {part}\nin {got:#?}");
    }
}

/// `ports[0].tcp[0]` without its numbers.
fn strip_index(m: &str) -> String {
    m.replace("[0]", "")
}

#[test]
fn metrics_are_off_unless_asked_for_and_keep_the_bounds_of_cloudwatch() {
    let metrics = |text: &str| check_one(&format!("version: 1\n{text}\n")).map(|s| s.metrics);
    assert_eq!(metrics("").unwrap(), None);
    let usual = metrics("metrics: {}").unwrap().unwrap();
    assert_eq!(
        (usual.namespace.as_str(), usual.every.as_secs(), usual.host),
        ("Palisade", 60, true)
    );
    let own = metrics("metrics: { namespace: A/b, every: 10s, host: false }").unwrap().unwrap();
    assert_eq!((own.namespace.as_str(), own.every.as_secs(), own.host), ("A/b", 10, false));
    for (text, says) in [
        ("namespace: AWS/EC2", "metrics.namespace: must be 1-255"),
        ("namespace: ''", "metrics.namespace: must be 1-255"),
        ("every: 9s", "metrics.every: must be 10s to 1m"),
        ("every: 5m", "metrics.every: must be 10s to 1m"),
        ("host: maybe", "metrics.host: must be true or false"),
        ("evry: 60s", "did you mean every?"),
    ] {
        let told = metrics(&format!("metrics: {{ {text} }}")).unwrap_err().to_string();
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn what_becomes_of_lines_is_said_for_files_and_for_programs() {
    let text = "version: 1\nlogs:\n  redact: [pan, cookies, { pattern: 'DE[0-9]{20}', name: iban }]\n  \
         timezone: Europe/Berlin\n  multiline: python\n  files:\n    - { path: /a, multiline: json }\n    \
         - { path: /b, timestamps: false }\n    - { path: /c, timezone: UTC, multiline: { start: '^#' } }\n";
    let logs = check_one(text).unwrap().logs.unwrap();
    let zone = |name: &str| logs::Zone::named(name);
    assert_eq!(
        *logs.program_lines,
        logs::LineRules { multiline: logs::Multiline::Python, timestamps: None }
    );
    let lines: Vec<_> = logs.files.iter().map(|f| f.lines.as_ref()).collect();
    assert_eq!(lines[0].multiline, logs::Multiline::Json);
    assert_eq!(lines[0].timestamps, zone("Europe/Berlin"));
    assert_eq!(*lines[1], logs::LineRules::plain());
    let start = logs::Pattern::new("^#").unwrap();
    assert_eq!(lines[2].multiline, logs::Multiline::Start(start));
    assert_eq!(lines[2].timestamps, zone("UTC"));
    let iban = logs::Pattern::new("DE[0-9]{20}").unwrap();
    let custom = logs::Custom { name: "iban".to_owned(), pattern: iban };
    let kinds = [logs::Kind::Pan, logs::Kind::Cookies];
    assert_eq!(logs.redact, logs::Redactor::new(&kinds, vec![custom], "X-Origin-Verify"));
    // Nothing is hidden or put together unless it is asked for.
    let bare = check_one("version: 1\nlogs: {}\n").unwrap().logs.unwrap();
    assert!(bare.redact.is_none() && *bare.program_lines == logs::LineRules::plain());
}

#[test]
fn the_origins_header_is_the_one_to_hide() {
    let text = "version: 1\norigin_guard: { header: X-Edge, secret: { file: /s } }\n\
         logs: { redact: [origin_secret] }\n";
    let logs = check_one(text).unwrap().logs.unwrap();
    let want = logs::Redactor::new(&[logs::Kind::OriginSecret], Vec::new(), "X-Edge");
    assert_eq!(logs.redact, want);
}

#[test]
fn mistakes_about_lines_say_what_and_where() {
    let got = mistakes(
        "version: 1\nlogs:\n  redact: [pann, { pattern: 'a(b', name: x }, { pattern: b, name: pan },\n    \
         { pattern: 'x*', name: y }, { pattern: c, name: 'A B' }, { name: z }]\n  timezone: Mars\n  \
         files:\n    - { path: /a, multiline: pyton }\n    - { path: /b, multiline: { begin: x } }\n",
    );
    for (line, part) in [
        (
            3,
            "logs.redact[0]: \"pann\" must be one of pan, authorization, cookies, aws_keys, origin_secret; did you mean pan?",
        ),
        (
            3,
            "logs.redact[1].pattern: \"a(b\" is no regular expression: unclosed group at character 2",
        ),
        (3, "logs.redact[2].name: \"pan\" is taken"),
        (4, "logs.redact[3].pattern: \"x*\" is no regular expression: it matches the empty text"),
        (4, "logs.redact[4].name: must be 1-32 of a-z 0-9 _"),
        (4, "logs.redact[5].pattern: is required"),
        (5, "logs.timezone: \"Mars\" is no time zone"),
        (
            7,
            "logs.files[0].multiline: \"pyton\" must be one of none, python, timestamp, json; did you mean python?",
        ),
        (8, "logs.files[1].multiline.start: is required"),
    ] {
        let hit = got
            .iter()
            .any(|m| m.starts_with(&format!("palisade.yaml:{line}: ")) && m.contains(part));
        assert!(hit, "line {line}: {part}\nin {got:#?}");
    }
    let own =
        mistakes("version: 1\nprograms: { palisade: { command: x } }\nlogs: { redact: [pan] }\n");
    assert!(
        own.iter().any(|m| m.contains("logs.redact") && m.contains("another name")),
        "{own:#?}"
    );
}

#[test]
fn a_socket_for_supervisors_tools_is_one_of_its_own_and_only_where_it_is_named() {
    let control = |text: &str| check_one(&format!("version: 1\ncontrol: {{ {text} }}\n"));
    assert_eq!(control("group: ops").unwrap().control.supervisor_socket, None);
    let settings = control("supervisor_socket: /run/sup.sock").unwrap();
    assert_eq!(settings.control.supervisor_socket, Some("/run/sup.sock".into()));
    assert_eq!(settings.control.identifier, "supervisor");
    let same = "socket: /run/a.sock, supervisor_socket: /run/a.sock";
    let long = format!("supervisor_socket: /{}", "x".repeat(110));
    for (text, says) in [
        (same, "must not be control.socket"),
        ("supervisor_socket: sup.sock", "must be an absolute path"),
        (long.as_str(), "at most 107 bytes"),
    ] {
        let told = control(text).unwrap_err().to_string();
        assert!(told.contains("control.supervisor_socket") && told.contains(says), "{told}");
    }
}

#[test]
fn a_name_given_in_two_files_names_both_places() {
    let files = [
        ("palisade.yaml", "version: 1\nprograms: { a: { command: x } }\n"),
        ("conf.d/b.yaml", "programs: { b: { command: x } }\n"),
        ("conf.d/c.yaml", "\nprograms: { a: { command: y } }\n"),
    ];
    let texts = files.map(|(f, t)| (PathBuf::from(f), t.to_owned())).to_vec();
    let got = check_texts(texts.into()).unwrap_err().to_string();
    assert_eq!(got, "conf.d/c.yaml:2: programs.a: given twice; the first is at palisade.yaml:2");
}

#[test]
fn programs_that_wait_for_each_other_are_refused() {
    let got = mistakes(
        "version: 1\nprograms:\n  a: { command: x, after: [b] }\n  b: { command: x, after: [a] }\n",
    );
    assert!(got.iter().all(|m| m.contains("wait for each other")), "{got:#?}");
}

#[test]
fn files_of_conf_d_are_read_in_order_and_hidden_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        crate::sys::files::write_atomic(&dir.path().join(name), text.as_bytes(), 0o644).unwrap();
    };
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    put("palisade.yaml", "version: 1\n");
    put("conf.d/b.yaml", "programs: { b: { command: x } }\n");
    put("conf.d/a.yaml", "programs: { a: { command: x } }\n");
    put("conf.d/.swp.yaml", "nonsense: true\n");
    put("conf.d/a.yaml.bak", "nonsense: true\n");
    let settings = load(&dir.path().join("palisade.yaml")).unwrap();
    assert_eq!(settings.supervise.processes.len(), 2);
}

#[test]
fn a_file_that_is_not_there_says_so() {
    let e = load(Path::new("/nonexistent/palisade.yaml")).unwrap_err().to_string();
    assert!(e.starts_with("/nonexistent/palisade.yaml: cannot be read: No such file"), "{e}");
}

#[test]
fn cgroup_takes_three_forms() {
    for (text, want) in [
        ("off", supervise::Cgroup::Off),
        ("auto", supervise::Cgroup::Auto),
        ("/sys/fs/cgroup/x", supervise::Cgroup::At("/sys/fs/cgroup/x".into())),
    ] {
        let s = check_one(&format!("version: 1\nhost: {{ cgroup: {text} }}\n")).unwrap();
        assert_eq!(s.supervise.cgroup, want, "{text}");
    }
    assert!(mistakes("version: 1\nhost: { cgroup: x }\n")[0].contains("must be auto, off"));
}

#[test]
fn addresses_are_read_strictly() {
    for bad in ["010.0.0.0/8", "10.0.0.0/08", "localhost", "0x0a000001", "1.2", "0.0.0.0/0", "::/0"]
    {
        let text = format!(
            "version: 1\nfirewall: {{ ports: [], sources: {{ a: {{ cidrs: [\"{bad}\"] }} }} }}\n"
        );
        assert!(check_one(&text).is_err(), "{bad}");
    }
}

#[test]
fn cloudwatch_without_aws_is_a_mistake_and_local_is_the_default() {
    let got = mistakes("version: 1\nlogs: { sink: cloudwatch }\n");
    assert!(got[0].contains("needs an aws section"), "{got:?}");
    let with_aws = check_one("version: 1\naws: { region: auto }\nlogs: {}\n").unwrap();
    assert_eq!(with_aws.logs.unwrap().sink, logs::Sink::CloudWatch);
}

#[test]
fn a_patch_section_becomes_settings_with_defaults() {
    let text = r#"
version: 1
programs: { web: { command: x } }
aws: { region: auto }
patch:
  window: { days: [tue, thu], start: "03:00", length: 2h, timezone: Europe/Berlin }
  reboot: when-needed
  restart: [web, nginx.service]
  hold: [{ package: nginx, until: "2026-12-01", why: "waits for the new module" }]
  compliance: ssm
  release: 2023.6.20260101
"#;
    let p = check_one(text).unwrap().patch.unwrap();
    assert_eq!((p.scope, p.reboot), (patch::Scope::Security, patch::Reboot::WhenNeeded));
    let units = [patch::Unit::Program("web".into()), patch::Unit::Systemd("nginx.service".into())];
    assert_eq!(p.restart, units);
    assert_eq!(p.cutoff, std::time::Duration::from_secs(15 * 60));
    assert_eq!(p.holds[0].until.unwrap().to_string(), "2026-12-02T00:00:00.000Z");
    assert_eq!(p.windows.0.len(), 1);
    assert_eq!(p.state_dir, Path::new("/var/lib/palisade/patch"));
}

#[test]
fn every_mistake_of_a_patch_section_is_told_with_its_line() {
    let text = r#"version: 1
patch:
  window:
    - { days: [tues], start: 3, length: 25h, timezone: Europe/Berlln }
    - { days: daily, start: "03:00", length: 10m }
  cutoff: 10m
  restart: [wep]
  hold: [{ package: "a b", until: tomorrow }]
  compliance: ssm
  apt: { security: [Debian-Security] }
  reboots: never
"#;
    let got = mistakes(text);
    for (line, part) in [
        (4, "must be one of mon, tue"),
        (4, "start: must be text; put it in quotes"),
        (4, "is not a time zone such as Europe/Berlin; did you mean Europe/Berlin?"),
        (6, "must be shorter than every window"),
        (7, "neither a program nor a unit"),
        (8, "must be the name of one package"),
        (8, "must be a date in quotes"),
        (8, "why: is required"),
        (9, "ssm needs an aws section"),
        (10, "must be as in a pin"),
        (11, "unknown key; did you mean reboot?"),
    ] {
        let hit =
            |m: &&String| m.starts_with(&format!("palisade.yaml:{line}: ")) && m.contains(part);
        assert!(got.iter().any(|m| hit(&m)), "line {line}: {part}\nin {got:#?}");
    }
}

#[test]
fn access_has_safe_defaults_and_opens_ports_only_where_it_says_from_where() {
    let text = |access: &str| {
        format!(
            "version: 1\nhost: {{ state_dir: /s, run_dir: /r }}\naccess: {{ users: {{ deploy: {{ max_ttl: 4h }} }}{access} }}\n\
             firewall: {{ ports: [{{ tcp: 2222, from: [grants] }}] }}\n"
        )
    };
    let s = check_one(&text(", sources: [10.20.0.0/24]")).unwrap();
    let (access, firewall) = (s.access.unwrap(), s.firewall.unwrap());
    assert_eq!(access.binding, palisade_types::grant::Binding::Strict);
    assert_eq!((access.max_per_user, access.max_per_host), (8, 64));
    assert_eq!(access.at_expiry, crate::access::AtExpiry::End);
    assert_eq!(access.helper_user, "palisade-keys");
    assert_eq!(access.socket(), Path::new("/r/authorized-keys.sock"));
    let rule = access.users.values().next().unwrap();
    assert_eq!((rule.only.len(), rule.system), (3, false));
    let grants = &firewall.ports[0].from[0];
    assert_eq!(firewall.sources[grants], [firewall::Source::Grants]);

    let without = mistakes(&text(""));
    assert!(without[0].contains("needs access.sources"), "{without:#?}");
    let got = mistakes(
        "version: 1\naccess:\n  users: { Deploy: { max_ttl: 9h }, a: { only: shel, max_ttl: 1h } }\n  \
         sources: [10.0.0.1/8, 0.0.0.0/0]\n  require_session_binding: strikt\nfirewall:\n  ports: []\n  \
         sources: { grants: { cidrs: [10.0.0.1/32] } }\n",
    );
    let want = [
        "access.users.Deploy: user \"Deploy\" must be",
        "access.users.Deploy.max_ttl: must be 1m to 8h",
        "access.users.a.only: \"shel\" must be one of shell, sftp, tunnel; did you mean shell?",
        "access.sources[0]: \"10.0.0.1/8\" must be a network",
        "access.sources[1]: \"0.0.0.0/0\" must be a network",
        "access.require_session_binding: \"strikt\" must be one of",
        "firewall.sources.grants: is a name of palisade's own",
    ];
    for line in want {
        assert!(got.iter().any(|g| g.contains(line)), "{line}\n{got:#?}");
    }
    assert_eq!(got.len(), want.len(), "{got:#?}");
}

#[test]
fn the_life_of_a_program_is_said_in_its_own_keys() {
    let s = check_one(
        "version: 1
host: { state_dir: /s, run_dir: /r }
programs:
  worker:
    command: celery
    stop: [TERM, 600s, QUIT, 15s, KILL]
    reload: { signal: HUP }
  web:
    command: gunicorn
    ready: { notify: { timeout: 60s, from: worker } }
    health: { http: { url: \"http://127.0.0.1:8000/health\", every: 10s, failures: 4 } }
    rolling: { overlap: true }
    max_memory: 500MB
    restarts_per_minute: 0
",
    )
    .unwrap();
    let (web, worker) = (&s.supervise.processes[0], &s.supervise.processes[1]);
    let secs = std::time::Duration::from_secs;
    let quit = supervise::StopStep { signal: nix::sys::signal::Signal::SIGQUIT, wait: secs(15) };
    assert_eq!((worker.stopwaitsecs, worker.stop_then.as_slice()), (secs(600), [quit].as_slice()));
    assert_eq!(worker.health, None);
    let health = web.health.as_ref().unwrap();
    assert_eq!((health.every, health.timeout, health.failures), (secs(10), secs(5), 4));
    assert!(web.rolling.overlap && worker.reload.is_some());
    assert_eq!(web.upkeep.restarts_per_minute, Some(0));
    assert_eq!(web.upkeep.max_memory.unwrap().bytes(), 500 << 20);
    let from = supervise::NotifyFrom::Worker;
    assert_eq!(web.ready, supervise::Ready::Notify { timeout: secs(60), from });
}

#[test]
fn mistakes_about_the_life_of_a_program_say_what_to_write() {
    let got = mistakes(
        "version: 1
host: { state_dir: /s, run_dir: /r }
programs:
  a: { command: x, stop: [TERM, 10s, QUIT], stopsignal: INT }
  b: { command: x, stop: [KILL, 1s, TERM, 1s], stopwaitsecs: 3s }
  c: { command: x, stop: [TERM, 10s], stopwaitsecs: 3s }
  d: { command: x, health: { tcp: { address: \"127.0.0.1:1\", every: 5s, timeout: 9s } } }
  e: { command: x, health: {} }
  f: { command: x, rolling: { overlp: true } }
  g~2: { command: x }
  h: { command: x, reload: {} }
  i: { command: x, reload: { signal: HUP }, rolling: { overlap: true } }
  j: { command: x, startsecs: 0s, rolling: { overlap: true } }
  k: { command: x, startsecs: 0s, rolling: { overlap: true }, ready: notify }
  l: { command: x, oneshot: true, max_memory: 500MB }
",
    );
    for part in [
        "programs.a.stop[2]: must be followed by how long it is given",
        "programs.b.stop[0]: ends the list",
        "programs.c.stopwaitsecs: cannot stand beside stop",
        "programs.d.health.tcp: timeout must be more than nothing and at most every",
        "programs.e.health: must say what is asked: http, tcp or unix",
        "programs.f.rolling.overlp: unknown key; did you mean overlap?",
        "programs.g~2: process g~2: the agent itself uses names that end in ~2",
        "programs.h.reload.signal: is required",
        "programs.i.reload: is not used beside rolling.overlap",
        "programs.j.rolling: overlap needs to know when a new instance is up",
        "programs.l.max_memory: has no meaning with oneshot",
    ] {
        assert!(got.iter().any(|m| m.contains(part)), "{part}\nin {got:#?}");
    }
    assert_eq!(got.len(), 11, "{got:#?}");
}

#[test]
fn tests_of_the_firewall_name_an_address_or_a_source_a_port_and_what_must_come_of_it() {
    let config = |tests: &str| {
        format!(
            "version: 1\nfirewall:\n  ports: [{{ tcp: 443, from: edge }}]\n  sources: {{ edge: {{ cidrs: \
             [203.0.113.0/24] }} }}\n  tests: [{tests}]\n"
        )
    };
    let good = check_one(&config(
        "{ from: edge, to: tcp/443, expect: accept }, { from: '2001:db8::1', to: tcp/22, expect: drop }",
    ));
    let tests = good.unwrap().firewall.unwrap().tests;
    let said: Vec<String> = tests.iter().map(ToString::to_string).collect();
    let [edge, other] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!(edge, "from edge to tcp/443: expect accept");
    assert_eq!(other, "from 2001:db8::1 to tcp/22: expect drop");
    for (bad, part) in [
        ("{ from: egde, to: tcp/443, expect: drop }", "did you mean edge?"),
        ("{ from: edge, to: udp/53, expect: drop }", "must be a TCP port such as tcp/443"),
        ("{ from: edge, to: tcp/0, expect: drop }", "must be a TCP port"),
        ("{ from: edge, to: tcp/1, expect: deny }", "must be one of accept, drop"),
        ("{ from: edge, expect: drop }", "is required"),
        ("{ from: edge, to: tcp/1, expect: drop, port: 1 }", "unknown key"),
    ] {
        let got = mistakes(&config(bad));
        assert!(got.len() == 1 && got[0].contains(part), "{bad}: {got:?}");
    }
}

#[test]
fn lists_of_ec2_are_sources_and_need_an_aws_section() {
    const SOURCES: &str = "version: 1\naws: { region: eu-central-1 }\nfirewall:\n  ports: [{ tcp: [443], \
         from: [cloudfront] }]\n  sources:\n    cloudfront:\n      - { feed: ip-ranges }\n      - { feed: \
         prefix-list }\n      - { feed: vpc-origin, vpc: vpc-0123456789abcdef0, every: 1m }\n      - { subnets: \
         [subnet-0123456789abcdef0] }\n      - { alb: web, whole_subnets: true }\n      - { cidrs: [10.0.0.0/24] }\n";
    let sources = check_one(SOURCES).unwrap().firewall.unwrap().sources;
    let parts = sources.values().next().unwrap();
    let services: Vec<_> = parts
        .iter()
        .filter_map(|p| match p {
            firewall::Source::Feed(f) => Some((f.service.as_str(), f.every.as_secs())),
            firewall::Source::Cidrs(_) | firewall::Source::Grants => None,
        })
        .collect();
    assert_eq!(
        services,
        [
            ("CLOUDFRONT_ORIGIN_FACING", 900),
            ("prefix-list com.amazonaws.global.cloudfront.origin-facing", 900),
            ("prefix-list com.amazonaws.global.ipv6.cloudfront.origin-facing", 900),
            ("vpc-origin vpc-0123456789abcdef0", 60),
            ("subnets subnet-0123456789abcdef0", 900),
            ("alb web subnets", 300),
        ]
    );
    let got = mistakes(&SOURCES.replace("aws: { region: eu-central-1 }\n", ""));
    assert_eq!(got.len(), 4, "{got:#?}");
    assert!(got.iter().all(|m| m.contains("needs an aws section")), "{got:#?}");
    for (wrong, says) in [
        ("feed: vpc-origin, vpc: vpc-xyz", "\"vpc-xyz\" must be a VPC"),
        ("feed: vpc-origin, cidrs: [10.0.0.0/24]", "has both feed and cidrs"),
        ("feed: prefix-list, lists: ['pl-*']", "\"pl-*\" must be the id or the name"),
        ("feed: prefix-list, every: 5s", "must be at least 30s"),
        ("feed: ip-range", "ip-ranges"),
        ("alb: net/x", "must be the name of an application load balancer"),
        ("subnets: [subnet-1]", "must be a subnet"),
        ("vpc: vpc-1", "needs a feed"),
    ] {
        let text = SOURCES.replace("feed: ip-ranges", wrong);
        let got = mistakes(&text);
        assert!(got.iter().any(|m| m.contains(says)), "{wrong}: {got:#?}");
    }
}
