//! What happens around the reading: what cannot run here, what is not read, and what is lost on the way.

use super::{
    tests::{host, imported, read_one, world},
    *,
};
use crate::{
    config::check_texts,
    supervise::{ListenAddr, LogPath, Stdin},
};

#[test]
fn a_socket_that_cannot_be_fails_its_program_alone_and_at_its_start() {
    let long = "x".repeat(120);
    let text = format!(
        "[fcgi-program:php]\ncommand=php\nsocket=tcp://fpm.internal:9000\n\
         [fcgi-program:deep]\ncommand=x\nsocket=unix:///run/{long}\n[program:web]\ncommand=y\n\
         [program:none]\ncommand=\n"
    );
    let import = imported(&[("/etc/s.conf", &text)]);
    let of = |name: &str| import.processes.iter().find(|p| p.spec.name.as_str() == name).unwrap();
    let Stdin::Socket(php) = &of("php").spec.stdin else { panic!() };
    let ListenAddr::Nowhere { address, why } = &php.listen else { panic!() };
    assert_eq!(address, "tcp:fpm.internal:9000");
    assert!(why.contains("neither an IPv4 address nor in /etc/hosts"), "{why}");
    assert!(crate::sys::listen::share(php, None).unwrap_err().to_string().contains(why));
    let written: Vec<_> = import.processes.iter().filter(|p| p.can_be_written()).collect();
    assert_eq!(written.iter().map(|p| p.spec.name.as_str()).collect::<Vec<_>>(), ["web"]);
    let yaml = yaml(&import, &["/etc/s.conf".into()]);
    assert_eq!(
        check_texts(vec![("p.yaml".into(), yaml)].into()).unwrap().supervise.processes.len(),
        1
    );
}

#[test]
fn an_included_file_that_cannot_be_read_is_told_as_missing() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let main = dir.path().join("s.conf");
    let text = format!("[supervisord]\n[include]\nfiles={at}/*.ini\n");
    crate::sys::files::write_atomic(&main, text.as_bytes(), 0o644).unwrap();
    std::os::unix::fs::symlink("/nowhere", dir.path().join("a.ini")).unwrap();
    let configs = read(&[main], &Disk::default(), &world()).unwrap();
    let import = import(&configs, &Disk::default(), &world());
    assert_eq!(import.unread, [format!("{at}/a.ini")]);
    assert!(
        import.remarks[0].to_string().contains("left out: No such file"),
        "{:?}",
        import.remarks
    );
}

#[test]
fn what_only_palisade_refuses_is_not_laid_to_supervisor() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("s.conf");
    let read = || read(std::slice::from_ref(&main), &Disk::default(), &world()).unwrap_err();
    let gone = read();
    assert!(gone.to_string().contains("s.conf: No such file or directory"), "{gone}");
    let write =
        |text: &str| crate::sys::files::write_atomic(&main, text.as_bytes(), 0o644).unwrap();
    write(&format!("[supervisord]\n;{}\n", "x".repeat(4 << 20)));
    let large = read();
    assert!(large.to_string().contains("s.conf: larger than 4 MiB"), "{large}");
    write("[program:a]\ncommand=x\nnumprocs=10001\nprocess_name=%(process_num)d\n");
    let many = read();
    write("[program:a]\ncommand=x\nnumprocs=ten\n");
    let theirs = read();
    assert!(gone.is_ours() && large.is_ours() && many.is_ours() && !theirs.is_ours());
    // Left out, a large file would be a supervisor with nothing to run.
    std::fs::rename(&main, dir.path().join("a.ini")).unwrap();
    let part = dir.path().join("a.ini");
    crate::sys::files::write_atomic(&part, "x".repeat((4 << 20) + 1).as_bytes(), 0o644).unwrap();
    write(&format!("[supervisord]\n[include]\nfiles={}/*.ini\n", dir.path().display()));
    assert!(read().to_string().contains("a.ini: larger than 4 MiB"));
}

#[test]
fn what_a_palisade_yaml_calls_otherwise_or_fixes_is_remarked_on() {
    let text = "[supervisord]\nidentifier=prod1\nenvironment=OWN=1\n\
         [program:worker]\ncommand=w %(ENV_PORT)s %(ENV_OWN)s\nnumprocs=2\nprocess_name=%(process_num)02d\n\
         [program:mail]\ncommand=m %(host_node_name)s\nnumprocs=2\nprocess_name=%(process_num)02d\n\
         [program:caf\u{e9}]\ncommand=x\n[program:plain]\ncommand=x %(ENV_OWN)s\n\
         [eventlistener:l]\ncommand=memmon\nevents=TICK_60\n";
    let files = [("/etc/s.conf", text)];
    let configs = read_one(&files).unwrap();
    let mut import = import(&configs, &host(&files), &world());
    assert!(import.remarks.is_empty(), "{:?}", import.remarks);
    in_yaml(&mut import, &configs, &world());
    let got: Vec<_> = import.remarks.iter().map(ToString::to_string).collect();
    let want = [
        "/etc/s.conf:5: program:worker.command: %(ENV_PORT) is a constant here: what it was at the import",
        "/etc/s.conf:7: program:worker.process_name: worker:00 is worker:worker.00 here, and 1 more likewise: \
         to supervisorctl, scripts and listeners that name it, too",
        "/etc/s.conf:9: program:mail.command: %(host_node_name) is a constant here: what it was at the import",
        "/etc/s.conf:11: program:mail.process_name: mail:00 is mail:mail.00 here, and 1 more likewise: to \
         supervisorctl, scripts and listeners that name it, too",
        "/etc/s.conf:12: program:caf\u{e9}.process_name: caf\u{e9}:caf\u{e9} is caf_:caf_ here: to supervisorctl, \
         scripts and listeners that name it, too",
    ];
    assert_eq!(got, want);
    let yaml = yaml(&import, &["/etc/s.conf".into()]);
    let settings = check_texts(vec![("p.yaml".into(), yaml)].into()).unwrap();
    assert_eq!(settings.control.identifier, "prod1");
    let servers = settings.supervise.processes.iter().filter_map(|p| match &p.kind {
        crate::supervise::Kind::Listener(l) => Some(l.server.as_str()),
        _ => None,
    });
    assert_eq!(servers.collect::<Vec<_>>(), ["prod1"]);
}

#[test]
fn an_automatic_log_has_a_file_of_its_own_whatever_else_is_there() {
    let head = "[supervisord]\nchildlogdir=/l\nidentifier=me\n";
    let program = |name: &str| format!("[program:{name}]\ncommand=x\nprocess_name=00\n");
    let alone = format!("{head}{}[program:a.00]\ncommand=x\n", program("a"));
    let both = format!("{alone}{}", program("b"));
    let logs = |files: &[(&str, &str)]| {
        let names: Vec<_> = files.iter().map(|(f, _)| PathBuf::from(f)).collect();
        let configs = read(&names, &host(files), &world()).unwrap();
        let import = import(&configs, &host(files), &world());
        let path = |p: &Imported| match &p.spec.stdout.path {
            LogPath::At(path) => path.display().to_string(),
            other => panic!("{other:?}"),
        };
        import.processes.iter().map(path).collect::<std::collections::BTreeSet<_>>()
    };
    let one = logs(&[("/etc/s.conf", &alone)]);
    assert!(one.contains("/l/a.00-stdout---me-palisade.log"), "{one:?}");
    let more = logs(&[("/etc/s.conf", &both)]);
    assert!(more.is_superset(&one) && more.len() == 3, "{more:?}");
    assert_eq!(logs(&[("/etc/s.conf", &both), ("/etc/t.conf", &both)]).len(), 6);
}
