//! A real sshd on loopback that asks a real agent for keys, users of their own, and SSM sessions whose
//! workers are a stand-in of ours.
//!
//! Users are in files that only the agent and sshd see, each in a mount namespace of its own: the
//! machine's own user database is not touched.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use palisade_e2e::{
    agent::{Agent, CAP, copy_program},
    wait::wait_until,
};
use palisade_types::grant::GrantRow;
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");
const WORKER: &str = env!("CARGO_BIN_EXE_worker-under-test");
/// Who asks, in most tests.
pub(crate) const ALICE: &str = "arn:aws:sts::123456789012:assumed-role/Admin/alice";
pub(crate) const MALLORY: &str = "arn:aws:sts::123456789012:assumed-role/Admin/mallory";
/// Not below a directory that everybody may write: sshd refuses a helper there.
const PARENT: &str = "/srv";

/// Why these tests cannot run here, if they cannot.
pub(crate) fn missing() -> Option<&'static str> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("needs root");
    }
    let there = |p: &str| Path::new(p).exists();
    if !there("/usr/sbin/sshd") || !there("/usr/bin/ssh") {
        return Some("needs OpenSSH's server and client");
    }
    let unshared = Command::new("/usr/bin/unshare")
        .args(["-m", "--propagation", "private", "/bin/true"])
        .output()
        .is_ok_and(|o| o.status.success());
    (!unshared).then_some("needs mount namespaces")
}

pub(crate) struct Lab {
    pub(crate) agent: Agent,
    pub(crate) port: u16,
    sshd: Child,
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("sshd:\n{}\nagent:\n{}", self.sshd_log(), self.agent.log());
        }
        self.sshd.kill().ok();
        self.sshd.wait().ok();
    }
}

/// A free port of loopback.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn write(path: &Path, text: &str, mode: u32) {
    palisade_agent::sys::files::write_atomic(path, text.as_bytes(), mode).unwrap();
}

/// Runs a program that must succeed.
fn must(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

impl Lab {
    /// An agent with these further lines of its `access` section, and sshd. `@DIR@` is the directory.
    pub(crate) fn new(access: &str) -> Self {
        Self::with(access, "")
    }

    /// The same with further words of the helper's command line, and further options of sshd.
    pub(crate) fn with(access: &str, sshd_options: &str) -> Self {
        let config = format!(
            "access:\n  users: {{ alice: {{ max_ttl: 4h }}, bob: {{ max_ttl: 1h, only: [sftp] }}, \
             svc: {{ max_ttl: 1h }}, nolog: {{ max_ttl: 1h }}, ghost: {{ max_ttl: 1h }}, root: {{ max_ttl: 1h }} }}\n  \
             ssh_dir: \"@DIR@/ssh\"\n  ssm: {{ state_dir: \"@DIR@/ssm\", workers: [\"@DIR@/ssm-session-worker\"] }}\n{access}"
        );
        let agent = Agent::new_in(Path::new(PARENT), BINARY, &config);
        let dir = agent.dir().to_owned();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        copy_program(Path::new(WORKER), &dir.join("ssm-session-worker"));
        for sub in
            ["ssh/sshd_config.d", "ssm/i-0abc/document/state/current", "keys", "static", "home"]
        {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        users(&dir);
        let host_key = dir.join("ssh/ssh_host_ed25519_key");
        must(
            "/usr/bin/ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", host_key.to_str().unwrap()],
        );
        let port = free_port();
        let d = dir.display();
        let sshd_config = format!(
            "{sshd_options}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n\
             AuthorizedKeysFile {d}/static/%u\nPrintMotd no\nPrintLastLog no\nMaxStartups 200\n\
             AuthorizedKeysCommand {d}/palisade authorized-keys --socket {d}/run/authorized-keys.sock --then {d}/next-helper %u %t %k %f\n\
             AuthorizedKeysCommandUser palisade-keys\nAllowStreamLocalForwarding no\nSubsystem sftp internal-sftp\n",
            host_key.display()
        );
        write(&dir.join("ssh/sshd_config"), &sshd_config, 0o600);
        write(&dir.join("ssh/sshd_config.d/50-palisade.conf"), "# in sshd_config here\n", 0o644);
        fs::create_dir_all("/run/sshd").unwrap();
        let sshd = Command::new(dir.join("in-users"))
            .args(["/usr/sbin/sshd", "-D", "-e", "-f"])
            .arg(dir.join("ssh/sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        let mut lab = Self { agent, port, sshd };
        wait_until("sshd to listen", CAP, || lab.sshd_log().contains("Server listening"));
        lab.session("alice-0001", ALICE);
        lab.start();
        lab
    }

    pub(crate) fn start(&mut self) {
        let wrapper = self.agent.dir().join("agent-in-users");
        self.agent.start_as(&wrapper);
    }

    /// Runs a verb among the lab's users.
    pub(crate) fn in_users(&self, args: &[&str]) -> Output {
        let mut verb = Command::new(self.dir().join("agent-in-users"));
        verb.arg("-c").arg(self.agent.config()).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Lets sshd read its configuration anew.
    pub(crate) fn reload_sshd(&self) {
        let listening = || self.sshd_log().matches("Server listening").count();
        let before = listening();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.sshd.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        wait_until("sshd to listen again", CAP, || listening() > before);
    }

    pub(crate) fn dir(&self) -> &Path {
        self.agent.dir()
    }

    pub(crate) fn sshd_log(&self) -> String {
        self.agent.read("sshd.log")
    }

    /// Makes an SSM session known: its state file, as the SSM agent writes it.
    pub(crate) fn session(&self, id: &str, owner: &str) {
        let state = json!({
            "DocumentInformation": { "DocumentID": id, "InstanceID": "i-0abc" },
            "InstancePluginsInformation": [{ "Configuration": { "SessionId": id, "SessionOwner": owner } }],
        });
        let path = self.dir().join("ssm/i-0abc/document/state/current").join(id);
        write(&path, &state.to_string(), 0o600);
    }

    /// A new key; returns the path of its private half.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        let path = self.dir().join("keys").join(name);
        must(
            "/usr/bin/ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-C", "x", "-f", path.to_str().unwrap()],
        );
        path
    }

    /// A request, good but for what a test changes.
    pub(crate) fn request(&self, key: &Path) -> Value {
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        self.request_for(public.split(' ').nth(1).unwrap())
    }

    /// The same for a public key.
    pub(crate) fn request_for(&self, public: &str) -> Value {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        json!({
            "v": 1, "id": uuid(), "user": "alice", "key": public,
            "ttl_s": 600, "only": "shell", "target": "", "source": "session", "owner": ALICE,
            "issued_at": now, "reason": "a test",
        })
    }

    /// Sends a request to the agent by its command line.
    pub(crate) fn send(&self, request: &Value) -> Output {
        let mut child = Command::new(self.agent.binary())
            .arg("-c")
            .arg(self.agent.config())
            .args(["access", "grant"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text = request.as_str().map_or_else(|| request.to_string(), str::to_owned);
        // A verb that ends before it has read all is free to.
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).ok();
        child.wait_with_output().unwrap()
    }

    /// A grant that must be given; returns the reply.
    pub(crate) fn grant(&self, request: &Value) -> Value {
        let out = self.send(request);
        assert!(
            out.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&out.stderr),
            self.agent.log()
        );
        serde_json::from_slice(&out.stdout).unwrap()
    }

    pub(crate) fn grants(&self) -> Vec<GrantRow> {
        serde_json::from_str(&self.agent.ok(&["access", "list", "--json"])).unwrap()
    }

    /// Open logins of all grants.
    pub(crate) fn logins(&self) -> usize {
        self.grants().iter().map(|g| g.sessions.len()).sum()
    }

    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = self.agent.ok(&["access", "audit", "-n", "1000"]);
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// Lines of the audit log of one kind.
    pub(crate) fn audited(&self, event: &str) -> Vec<Value> {
        self.audit().into_iter().filter(|l| l["event"] == event).collect()
    }

    /// Options of ssh for this key through this SSM session; none: straight to the port.
    pub(crate) fn ssh(&self, program: &str, key: &Path, session: Option<&str>) -> Command {
        let d = self.dir().display();
        let host_key = self.agent.read("ssh/ssh_host_ed25519_key.pub");
        let known = self.dir().join("known_hosts");
        let mut words = host_key.split(' ');
        let line = format!("lab {} {}\n", words.next().unwrap(), words.next().unwrap());
        write(&known, &line, 0o644);
        let mut c = Command::new(program);
        c.args([
            "-F",
            "none",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "HostKeyAlias=lab",
            "-o",
            "BatchMode=yes",
        ])
        .args(["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(key)
        .arg("-o")
        .arg(format!("Port={}", self.port))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
        if let Some(session) = session {
            c.arg("-o").arg(format!(
                "ProxyCommand={d}/ssm-session-worker {session} localhost %p 2>/dev/null"
            ));
        }
        c
    }

    /// Runs a command on the host as alice through alice's session.
    pub(crate) fn run(&self, key: &Path, command: &str) -> Output {
        self.run_by(key, Some("alice-0001"), "alice", command)
    }

    pub(crate) fn run_by(
        &self,
        key: &Path,
        session: Option<&str>,
        user: &str,
        command: &str,
    ) -> Output {
        let mut ssh = self.ssh("/usr/bin/ssh", key, session);
        ssh.arg(format!("{user}@127.0.0.1")).arg(command).output().unwrap()
    }
}

/// Users of the lab, and wrappers that run programs among them.
fn users(dir: &Path) {
    let d = dir.display();
    let people = [
        ("alice", 2001, "/bin/sh"),
        ("bob", 2002, "/bin/sh"),
        ("nolog", 2003, "/usr/sbin/nologin"),
        ("svc", 501, "/bin/sh"),
        ("palisade-keys", 502, "/usr/sbin/nologin"),
    ];
    let (mut passwd, mut shadow, mut group) = (
        fs::read_to_string("/etc/passwd").unwrap(),
        fs::read_to_string("/etc/shadow").unwrap(),
        fs::read_to_string("/etc/group").unwrap(),
    );
    if !passwd.contains("\nsshd:") {
        passwd.push_str("sshd:x:599:65534::/run/sshd:/usr/sbin/nologin\n");
    }
    for (name, id, shell) in people {
        passwd.push_str(&format!("{name}:x:{id}:{id}::{d}/home/{name}:{shell}\n"));
        shadow.push_str(&format!("{name}:*:19000:0:99999:7:::\n"));
        group.push_str(&format!("{name}:x:{id}:\n"));
        let home = dir.join("home").join(name);
        fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(id), Some(id)).unwrap();
    }
    write(&dir.join("passwd"), &passwd, 0o644);
    write(&dir.join("shadow"), &shadow, 0o640);
    write(&dir.join("group"), &group, 0o644);
    let script = format!(
        "#!/bin/sh\nexec unshare -m --propagation private /bin/sh -ec '\n\
         for f in passwd shadow group; do mount --bind {d}/$f /etc/$f; done\nexec \"$@\"' -- \"$@\"\n"
    );
    write(&dir.join("in-users"), &script, 0o755);
    let agent = format!("#!/bin/sh\nexec {d}/in-users {d}/palisade \"$@\"\n");
    write(&dir.join("agent-in-users"), &agent, 0o755);
}

/// A random UUID.
pub(crate) fn uuid() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

pub(crate) fn out(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}
