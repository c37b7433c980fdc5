//! The origin guard by the real binary: a real nginx on loopback, a secret in a file, its rotation,
//! and the command line's account of it.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test against a real server, some of it in helpers"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_e2e::{
    agent::{Agent, CAP},
    wait::wait_until,
};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");
const NGINX: &str = "/usr/sbin/nginx";
const OLD: &str = "TheOldSecretOf24Letters1";
/// The first eight digits of its SHA-256, as `sha256sum` prints it.
const OLD_ID: &str = "2dfd28ff";
const NEW: &str = "TheNewSecretOf24Letters2";

const CONFIG: &str = "origin_guard:\n  header: X-Origin-Verify\n  secret: { file: @DIR@/secret }\n  \
                      every: 1s\n  nginx:\n    map: @DIR@/guard/origin.map\n    \
                      reload: true\n    reload_interval: 1s\n    program: /usr/sbin/nginx\n    \
                      config: @DIR@/nginx.conf\n    pid: @DIR@/nginx.pid\n    hits: @DIR@/hits\n";

/// A real nginx in the agent's directory. It is stopped when this goes.
struct Nginx(Child);

impl Nginx {
    fn write_site(dir: &Path, addr: SocketAddr) {
        let at = dir.display();
        let conf = format!(
            "user root;\ndaemon off;\nworker_processes 1;\nerror_log {at}/error.log info;\npid {at}/nginx.pid;\n\
             events {{ worker_connections 64; }}\nhttp {{\n  access_log {at}/access.log combined;\n  \
             client_body_temp_path {at}/t1;\n  proxy_temp_path {at}/t2;\n  fastcgi_temp_path {at}/t3;\n  \
             uwsgi_temp_path {at}/t4;\n  scgi_temp_path {at}/t5;\n  include {at}/guard/http.conf;\n  \
             server {{\n    listen {addr};\n    include {at}/guard/server.conf;\n    \
             location / {{ return 200 well; }}\n  }}\n}}\n"
        );
        fs::write(dir.join("nginx.conf"), conf).unwrap();
    }

    fn start(dir: &Path) -> Self {
        let mut nginx = Command::new(NGINX);
        nginx.arg("-c").arg(dir.join("nginx.conf")).env_clear();
        nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(nginx.spawn().unwrap())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap();
    }
}

fn write_secrets(dir: &Path, secrets: &[&str]) {
    let new = dir.join("secret.new");
    fs::write(&new, secrets.join("\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, dir.join("secret")).unwrap();
}

/// The status of an answer; none where nobody answers.
fn ask(addr: SocketAddr, secret: Option<&str>) -> Option<u16> {
    let mut stream = TcpStream::connect(addr).ok()?;
    let header = secret.map(|s| format!("X-Origin-Verify: {s}\r\n")).unwrap_or_default();
    let request = format!("GET / HTTP/1.1\r\nHost: shop\r\n{header}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn a_secret_is_asked_for_rotated_without_a_refusal_and_never_shown() {
    if !Path::new(NGINX).exists() {
        println!("skipped: there is no {NGINX} here; `cargo xtask setup` installs it");
        return;
    }
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut agent = Agent::new(BINARY, CONFIG);
    let dir = agent.dir().to_owned();
    write_secrets(&dir, &[OLD]);
    Nginx::write_site(&dir, addr);
    agent.start();
    // As at a boot: nginx does not run yet, and does not start without the files.
    wait_until("the files for nginx", CAP, || {
        let status = agent.ctl(&["origin", "status"]);
        String::from_utf8_lossy(&status.stdout).contains("not read by nginx yet")
    });
    let _nginx = Nginx::start(&dir);
    wait_until("nginx to answer who has the secret", CAP, || ask(addr, Some(OLD)) == Some(200));
    assert_eq!((ask(addr, None), ask(addr, Some(NEW))), (Some(403), Some(403)));

    write_secrets(&dir, &[OLD, NEW]);
    agent.ok(&["origin", "refresh"]);
    wait_until("both to be accepted", CAP, || ask(addr, Some(NEW)) == Some(200));
    assert_eq!(ask(addr, Some(OLD)), Some(200));

    // The source has it no longer, requests may: it stays until it is unused, or dropped by its id.
    write_secrets(&dir, &[NEW]);
    agent.ok(&["origin", "refresh"]);
    assert_eq!(ask(addr, Some(OLD)), Some(200));
    agent.ok(&["origin", "drop", OLD_ID]);
    wait_until("nginx to refuse the old one", CAP, || ask(addr, Some(OLD)) == Some(403));
    assert_eq!(ask(addr, Some(NEW)), Some(200));

    let told = agent.ok(&["origin", "status"]) + &agent.ok(&["origin", "status", "--json"]);
    assert!(told.contains("in force"), "{told}");
    for shown in [told, agent.log(), agent.read("access.log"), agent.read("hits")] {
        assert!(!shown.contains(OLD) && !shown.contains(NEW), "a secret is shown: {shown}");
    }
    assert_eq!(agent.stop(), Some(0));
    assert_eq!((ask(addr, Some(NEW)), ask(addr, None)), (Some(200), Some(403)));
}
