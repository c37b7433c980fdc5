//! Supervisor's files beside our own, and keys that only it had.

use super::{
    tests::{check_one, mistakes},
    *,
};
use crate::supervise;

/// A folder with palisade.yaml and Supervisor's files; `@` stands for the folder.
fn with_supervisor(yaml: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    for (name, text) in files.iter().chain(&[("palisade.yaml", yaml)]) {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = text.replace('@', &at);
        crate::sys::files::write_atomic(&path, text.as_bytes(), 0o644).unwrap();
    }
    let main = dir.path().join("palisade.yaml");
    (dir, main)
}

const WITH_SUPERVISOR: &str = "version: 1\nsupervisor_conf: [\"@/s.conf\"]\n\
    programs: { web: { command: x, after: [cache] } }\n";

#[test]
fn supervisors_programs_run_beside_our_own_and_survive_a_broken_file() {
    let conf = "[supervisord]\nuser=root\n[include]\nfiles=d/*.conf\n";
    let cache = "[program:cache]\ncommand=redis\ngroup=x\nstdout_logfile=~root/cache.log\n";
    let files = [("s.conf", conf), ("d/c.conf", cache)];
    let (dir, main) = with_supervisor(WITH_SUPERVISOR, &files);
    let (settings, texts) = read(&main).unwrap();
    let names: Vec<_> = settings.supervise.processes.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["cache", "web"]);
    assert_eq!(settings.warnings.len(), 1);
    let place = format!("{}/d/c.conf:3: program:cache.group: ", dir.path().display());
    assert!(settings.warnings[0].starts_with(&place), "{:?}", settings.warnings);
    // What was good is good without the disk, whatever the files are now, and logs where it did.
    assert_eq!(
        settings.supervise.processes[0].stdout.path,
        supervise::LogPath::At("/root/cache.log".into())
    );
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(check_texts(texts).unwrap(), settings);
}

#[test]
fn a_mistake_in_supervisors_file_has_its_place_there() {
    let (dir, main) = with_supervisor(
        WITH_SUPERVISOR,
        &[("s.conf", "[program:cache]\ncommand=redis\nstartsecs=soon\n")],
    );
    let got = load(&main).unwrap_err().to_string();
    let want =
        format!("{}/s.conf:3: program:cache.startsecs: invalid literal", dir.path().display());
    assert!(got.contains(&want), "{got}");
}

/// By any of these a host that reads its files again would have stopped every program.
#[test]
fn a_main_file_that_lost_its_section_is_refused_and_no_part() {
    let include = "[include]\nfiles=d/*.conf\n";
    let typo = format!("[supervisor]\nuser=root\n{include}");
    let server = "[unix_http_server]\nfile=/x\n[program:cache]\ncommand=x\n";
    for conf in ["", "; only a remark\n", &typo, include, "[supervisorctl]\n", server] {
        let files = [("s.conf", conf), ("d/c.conf", "[program:cache]\ncommand=redis\n")];
        let (dir, main) = with_supervisor(WITH_SUPERVISOR, &files);
        let got = load(&main).unwrap_err().to_string();
        let want = format!("{}/s.conf: .ini file does not include", dir.path().display());
        assert!(got.contains(&want), "{conf:?}: {got}");
    }
}

#[test]
fn a_mistake_in_an_included_file_is_told_also_where_the_section_is_in_another() {
    let files = [
        ("s.conf", "[include]\nfiles=d/*.conf\n"),
        ("d/00.conf", "[supervisord]\n[program:cache]\ncommand=redis\n"),
        ("d/10.conf", "[program:x]\nno option\n"),
    ];
    let (dir, main) = with_supervisor(WITH_SUPERVISOR, &files);
    let got = load(&main).unwrap_err().to_string();
    let want = format!("{}/d/10.conf:2: Source contains parsing errors", dir.path().display());
    assert!(got.contains(&want), "{got}");
    std::fs::remove_file(dir.path().join("d/10.conf")).unwrap();
    assert_eq!(load(&main).unwrap().supervise.processes.len(), 2);
}

#[test]
fn a_file_that_is_named_twice_or_by_a_link_runs_once() {
    let yaml = "version: 1\nsupervisor_conf: [\"@/s.conf\", \"@/s.conf\", \"@/link.conf\", \"@/b.conf\"]\n";
    let conf = "[supervisord]\n[program:beat]\ncommand=celery beat\n";
    let (dir, main) = with_supervisor(yaml, &[("s.conf", conf), ("b.conf", conf)]);
    std::os::unix::fs::symlink("s.conf", dir.path().join("link.conf")).unwrap();
    let (settings, texts) = read(&main).unwrap();
    // One of s.conf, and one of a file that only says the same.
    let names: Vec<_> = settings.supervise.processes.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let at = dir.path().display();
    let twice = format!("{at}/s.conf: is named twice, and is read once");
    let link = format!("{at}/link.conf: is the same file as {at}/s.conf, and is read once");
    let both = format!("{at}/b.conf:2: program:beat: {at}/s.conf has a group \"beat\" too");
    for want in [twice, link, both] {
        assert!(
            settings.warnings.iter().any(|w| w.starts_with(&want)),
            "{want}\n{:#?}",
            settings.warnings
        );
    }
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(check_texts(texts).unwrap(), settings);
}

#[test]
fn a_name_that_both_have_is_a_mistake_with_both_places() {
    let (dir, main) = with_supervisor(
        WITH_SUPERVISOR,
        &[("s.conf", "[program:web]\ncommand=x\n[program:cache]\ncommand=y\n")],
    );
    let got = load(&main).unwrap_err().to_string();
    let at = dir.path().display();
    let want = format!(
        "{at}/s.conf:1: program:web: process web is also one of programs.web at {at}/palisade.yaml:3; \
         rename one of the two"
    );
    assert_eq!(got, want);
}

#[test]
fn a_file_of_supervisors_that_is_not_there_is_a_mistake_where_it_is_named() {
    let (dir, main) = with_supervisor(WITH_SUPERVISOR, &[]);
    let got = load(&main).unwrap_err().to_string();
    let want = format!("{}/palisade.yaml:2: supervisor_conf[0]: ", dir.path().display());
    assert!(got.contains(&want) && got.contains("cannot be read: "), "{got}");
}

#[test]
fn listeners_sockets_and_logs_are_said_in_our_words_too() {
    let s = check_one(
        r#"
version: 1
programs:
  mem: { command: memmon, events: [tick_60], buffer_size: 5 }
  app: { command: uvicorn, fcgi_socket: { listen: /run/app.sock, mode: "770", owner: "www:adm", backlog: 64 } }
  web:
    command: x
    stdin: pipe
    serverurl: http://localhost/%(program_name)s
    stdout_logfile: syslog
    stderr_syslog: true
    stdout_capture_maxbytes: 1MB
    stderr_events_enabled: true
"#,
    )
    .unwrap();
    let of = |name: &str| s.supervise.processes.iter().find(|p| p.name.as_str() == name).unwrap();
    let (mem, app, web) = (of("mem"), of("app"), of("web"));
    assert!(matches!(&mem.kind, supervise::Kind::Listener(l) if l.buffer_size == 5));
    assert_eq!((&mem.stdin, mem.group_priority, mem.priority), (&supervise::Stdin::Pipe, -1, 999));
    assert!(
        matches!(&app.stdin, supervise::Stdin::Socket(s) if s.mode == 0o770 && s.backlog == Some(64))
    );
    assert_eq!(web.serverurl.as_deref(), Some("http://localhost/web"));
    assert_eq!((&web.stdout.path, web.stdout.syslog), (&supervise::LogPath::None, true));
    assert_eq!((&web.stderr.path, web.stderr.syslog), (&supervise::LogPath::Auto, true));
    assert_eq!(web.stdout.capture_maxbytes.bytes(), 1 << 20);
    assert!(web.stderr.events_enabled && !web.stdout.events_enabled);
    let got = mistakes(
        "version: 1\nprograms:\n  a: { command: x, events: [TICK_6], redirect_stderr: true, stdin: \"null\" }\n  \
         b: { command: x, buffer_size: 3, stdin: socket }\n  c: { command: x, events: [] }\n",
    );
    for (line, part) in [
        (3, "there is no event TICK_6; did you mean TICK_60?"),
        (3, "redirect_stderr cannot be true with events"),
        (3, "stdin: cannot be chosen"),
        (4, "buffer_size: is for a program with events"),
        (4, "stdin: \"socket\" must be one of null, pipe"),
        (5, "must name at least one event"),
    ] {
        let hit =
            |m: &&String| m.starts_with(&format!("palisade.yaml:{line}: ")) && m.contains(part);
        assert!(got.iter().any(|m| hit(&m)), "line {line}: {part}\nin {got:#?}");
    }
}
