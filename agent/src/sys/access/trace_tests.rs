//! Tracing real processes of this machine, short of a real sshd: that is in `tests/tests/access`.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn us() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn tracer(dir: &Path) -> ProcTracer {
    let exe = std::env::current_exe().unwrap();
    ProcTracer { sshd: vec![exe.clone()], workers: vec![exe], ssm_dir: dir.to_owned() }
}

#[test]
fn a_process_that_no_sshd_started_is_none_of_its_helpers() {
    let none = ProcTracer { sshd: vec!["/usr/sbin/sshd".into()], ..tracer(Path::new("/")) };
    assert_eq!(none.sshd_of(us()).unwrap_err().0, "it was not sshd that asked");
    assert!(none.sshd_of(i32::MAX).is_err());
}

#[test]
fn a_connection_within_this_host_leads_to_the_process_at_its_other_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_served, _) = listener.accept().unwrap();
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let ours = client.local_addr().unwrap();
    let found = tcp::parse(&table).find(|c| c.local == ours).unwrap();
    assert_eq!(found.remote, listener.local_addr().unwrap());
    assert!(sockets(us()).any(|inode| inode == found.inode));
    let owner = tracer(Path::new("/")).owner_of(found).unwrap();
    assert_eq!(owner.pid, us());
    is_still(owner).unwrap();
    assert!(is_still(Process { start_ticks: owner.start_ticks + 1, ..owner }).is_err());
}

#[test]
fn a_state_file_must_be_roots_alone_and_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let current = dir.path().join("i-0abc/document/state/current");
    fs::create_dir_all(&current).unwrap();
    let tracer = tracer(dir.path());
    let write = |name: &str, mode: u32| {
        let text = b"{\"x\":{\"SessionOwner\":\"arn:x\"}}";
        super::super::super::files::write_atomic(&current.join(name), text, mode).unwrap();
        fs::set_permissions(current.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    write("good-1", 0o600);
    if nix::unistd::Uid::effective().is_root() {
        assert_eq!(tracer.session_owner("good-1").unwrap(), "arn:x");
    }
    write("open-1", 0o622);
    assert!(tracer.session_owner("open-1").unwrap_err().0.contains("only root may write"));
    symlink(current.join("good-1"), current.join("link-1")).unwrap();
    assert!(tracer.session_owner("link-1").is_err());
    nix::unistd::mkfifo(&current.join("fifo-1"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(tracer.session_owner("fifo-1").is_err(), "a pipe was waited for");
    assert!(tracer.session_owner("gone-1").unwrap_err().0.contains("no state of session gone-1"));
}

#[test]
fn a_star_in_a_path_is_one_part() {
    let fits = |p: &str, x: &str| super::fits(Path::new(p), Path::new(x));
    assert!(fits("/snap/a/*/w", "/snap/a/7993/w"));
    assert!(fits("/usr/bin/w", "/usr/bin/w"));
    assert!(!fits("/snap/a/*/w", "/snap/a/1/2/w"));
    assert!(!fits("/snap/a/*/w", "/snap/a/1/x"));
    assert!(!fits("/usr/bin/w", "/usr/bin/w/x"));
}
