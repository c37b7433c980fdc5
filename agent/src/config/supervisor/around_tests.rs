//! What happens around the reading: what cannot run here, what is not read, and what is lost on the way.

use super::{
    tests::{imported, world},
    *,
};
use crate::{
    config::check_texts,
    supervise::{ListenAddr, Stdin},
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
    assert_eq!(check_texts(vec![("p.yaml".into(), yaml)].into()).unwrap().supervise.processes.len(), 1);
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
}
