//! One nginx with one site, the guard beside it, and the application behind it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket},
    },
    unistd::Pid,
};
use palisade_agent::{
    clock::SystemClock,
    origin::{
        Handle, HeaderName, Leave, Location, Nginx, Ports, Refreshed, Reload, SecretId, Settings,
        State, new,
    },
    sys::{
        children::Children,
        nginx::LocalNginx,
        origin_files::{HitsFile, NoCloud, SecretFiles, StateFile},
    },
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything: the machine may be busy with other tests.
const CAP: Duration = Duration::from_secs(60);
const NGINX: &str = "/usr/sbin/nginx";

/// What the application was sent: the head of each request.
type Heads = Arc<Mutex<Vec<String>>>;

pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) settings: Settings,
    pub(crate) ranges: watch::Sender<Vec<IpNet>>,
    pub(crate) heads: Heads,
    pub(crate) addr: SocketAddr,
    app: SocketAddr,
    nginx: Option<Child>,
}

/// A running guard.
pub(crate) struct Guard {
    pub(crate) handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Guard {
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Reads the source and puts what it has in force; it must be.
    pub(crate) async fn refresh(&self) -> Refreshed {
        let brought = self.handle.refresh().await.unwrap();
        assert!(!matches!(brought.status.state, State::Failed { .. }), "{:?}", brought.status);
        brought
    }

    /// Refreshes until only so many secrets are accepted.
    pub(crate) async fn until_accepted(&self, many: usize) {
        let until = Instant::now() + CAP;
        while self.refresh().await.status.secrets.len() != many {
            assert!(Instant::now() < until, "{:?}", self.handle.status());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Rig {
    /// Everything but the guard and nginx; none, and why, where there is no nginx.
    pub(crate) fn build() -> Option<Self> {
        if !Path::new(NGINX).exists() {
            println!("skipped: there is no {NGINX} here; `cargo xtask setup` installs it");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let settings = Settings {
            header: HeaderName::parse("X-Origin-Verify").unwrap(),
            source: Location::File(at.join("secret")),
            every: Duration::from_secs(3600),
            leave: Leave {
                unused_for: Duration::from_millis(500),
                at_most: Duration::from_secs(3600),
            },
            nginx: Nginx {
                map: at.join("palisade/origin.map"),
                reload: Reload::After(Duration::from_secs(30)),
                program: NGINX.into(),
                config: Some(at.join("nginx.conf")),
                pid: at.join("nginx.pid"),
                group: None,
                hits: at.join("palisade-origin.hits"),
            },
            health: None,
            real_ip: None,
            state_dir: at.join("state"),
        };
        let heads = Heads::default();
        let app = application(Arc::clone(&heads));
        let addr = free();
        let rig = Self {
            settings,
            ranges: watch::Sender::new(Vec::new()),
            heads,
            addr,
            app,
            nginx: None,
            dir,
        };
        rig.write_site("");
        Some(rig)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The site's own configuration, with something more in `http`.
    pub(crate) fn write_site(&self, more: &str) {
        let at = self.dir.path().display();
        let conf = format!(
            "user root;\ndaemon off;\nworker_processes 2;\nerror_log {at}/error.log info;\npid {at}/nginx.pid;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n  access_log {at}/access.log combined;\n  client_body_temp_path {at}/t1;\n\
             \x20 proxy_temp_path {at}/t2;\n  fastcgi_temp_path {at}/t3;\n  uwsgi_temp_path {at}/t4;\n\
             \x20 scgi_temp_path {at}/t5;\n  {more}\n  include {at}/palisade/http.conf;\n\
             \x20 include {at}/palisade/real-ip*.conf;\n  server {{\n    listen {addr};\n\
             \x20   include {at}/palisade/server.conf;\n    error_page 403 /refused;\n\
             \x20   location / {{\n      proxy_set_header Host $host;\n\
             \x20     include {at}/palisade/strip-proxy.conf;\n      proxy_pass http://{app};\n    }}\n\
             \x20   location = /ip {{ return 200 $remote_addr; }}\n\
             \x20   location = /health {{ access_log off; return 200 well; }}\n  }}\n}}\n",
            addr = self.addr,
            app = self.app,
        );
        fs::write(self.path("nginx.conf"), conf).unwrap();
    }

    pub(crate) fn write_secrets(&self, secrets: &[&str]) {
        let file = self.path("secret");
        let new = self.path("secret.new");
        fs::write(&new, secrets.join("\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, file).unwrap();
    }

    pub(crate) fn server(&self) -> LocalNginx {
        LocalNginx::new(Children::default(), &self.settings.nginx, &self.settings.state_dir)
    }

    pub(crate) fn guard(&self) -> Guard {
        let ports = Ports {
            source: SecretFiles::new(NoCloud),
            server: self.server(),
            hits: HitsFile::new(self.settings.nginx.hits.clone()),
            store: StateFile::new(self.settings.state_dir.clone()),
            clock: SystemClock,
        };
        let (handle, task) = new(self.settings.clone(), self.ranges.subscribe(), ports);
        let stop = CancellationToken::new();
        let task = tokio::spawn(task.run(stop.clone()));
        Guard { handle, stop, task }
    }

    /// The guard with these secrets, and then nginx.
    pub(crate) async fn start(&mut self, secrets: &[&str]) -> Guard {
        self.write_secrets(secrets);
        let guard = self.guard();
        guard.refresh().await;
        self.start_nginx();
        assert_eq!(guard.refresh().await.status.state, State::InForce);
        guard
    }

    pub(crate) fn start_nginx(&mut self) {
        let child = Command::new(NGINX)
            .arg("-c")
            .arg(self.path("nginx.conf"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.nginx = Some(child);
        let until = Instant::now() + CAP;
        // The pid file is written before workers come; an answer comes from a worker.
        while TcpStream::connect(self.addr).is_err() || self.status(&[]) == 0 {
            assert!(Instant::now() < until, "nginx: {}", self.log("error.log"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// How often nginx was told to read its configuration.
    pub(crate) fn reloads(&self) -> usize {
        self.log("error.log").matches("(SIGHUP) received").count()
    }

    /// The status of an answer to a request for `/` with these lines of head; 0 if there is none.
    pub(crate) fn status(&self, lines: &[String]) -> u16 {
        self.get(Ipv4Addr::LOCALHOST, "/", lines).0
    }

    /// Status and body of an answer, to a request that comes from `from`.
    pub(crate) fn get(&self, from: Ipv4Addr, path: &str, lines: &[String]) -> (u16, String) {
        let mut text = format!("GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n");
        for line in lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let answer = connect_from(from, self.addr).and_then(|mut stream| {
            stream.set_read_timeout(Some(CAP))?;
            stream.write_all(text.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = answer.unwrap_or_default();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        (status, body.to_owned())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut child) = self.nginx.take() {
            // Ended by its master, so that no worker is left.
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
    }
}

/// The line of the header.
pub(crate) fn header(value: &str) -> Vec<String> {
    vec![format!("X-Origin-Verify: {value}")]
}

/// The id of an accepted secret.
pub(crate) fn id(value: &str) -> SecretId {
    palisade_agent::origin::Secret::parse(value).unwrap().id()
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn connect_from(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    use std::os::fd::AsRawFd as _;
    let IpAddr::V4(ip) = to.ip() else { panic!("not of IPv4: {to}") };
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(from, 0)))?;
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(ip, to.port()));
    connect(fd.as_raw_fd(), &to)?;
    Ok(TcpStream::from(fd))
}

/// An application that says `up` to everything and notes what it was sent.
fn application(heads: Heads) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    // Ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let heads = Arc::clone(&heads);
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    head.push(byte[0]);
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                heads.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                stream
                    .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nup")
                    .unwrap_or_default();
            });
        }
    });
    addr
}
