//! A laptop, a cloud and a host: the real program, the strict peer, a real sshd on loopback. The
//! host's agent is a small script that obeys grants; the whole chain with the real one is tested with
//! the packages.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test starts programs and says why it is skipped"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use palisade_peer::{
    Peer,
    config::{Config, Dialer, Instance, Runner},
};
use tempfile::TempDir;

pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
/// For anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) peer: Peer,
    pub(crate) user: String,
    pub(crate) ssh_port: u16,
    sshd: Child,
}

/// The lab, or why there is none on this machine.
pub(crate) fn lab() -> Option<Lab> {
    lab_with(|_| {})
}

pub(crate) fn lab_with(change: impl FnOnce(&mut Config)) -> Option<Lab> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path();
    let user = text(Command::new("id").arg("-un"))?;
    let Some((sshd, ssh_port)) = sshd(path) else {
        println!("skipped: no sshd can be started on this machine");
        return None;
    };
    double(path, &user);
    documents(path);
    let mut config = Config {
        instances: vec![instance(path, INSTANCE, "web1", ssh_port)],
        documents: Some(path.join("documents")),
        ..Config::default()
    };
    change(&mut config);
    let peer = Peer::start(config).expect("a peer");
    Some(Lab { dir, peer, user, ssh_port, sshd })
}

/// A lab with so many instances, `web0` and on, each as `change` makes it.
pub(crate) fn many(count: usize, change: impl Fn(usize, &mut Instance)) -> Option<Lab> {
    let lab = lab_with(|config| config.instances.clear())?;
    for n in 0..count {
        let id = format!("i-{n:017x}");
        let mut one = instance(lab.dir.path(), &id, &format!("web{n}"), lab.ssh_port);
        change(n, &mut one);
        lab.peer.put_instance(one);
    }
    Some(lab)
}

/// An instance whose sshd is ours and whose agent is the double.
pub(crate) fn instance(path: &Path, id: &str, name: &str, ssh_port: u16) -> Instance {
    let mut runner = Runner::default();
    runner.env.insert("LAB".to_owned(), path.display().to_string());
    runner.env.insert("INSTANCE".to_owned(), id.to_owned());
    Instance {
        id: id.to_owned(),
        tags: BTreeMap::from([("Name".into(), name.into()), ("Role".into(), "web".into())]),
        runner,
        dialer: Dialer {
            ports: BTreeMap::from([("localhost:22".into(), format!("127.0.0.1:{ssh_port}"))]),
            ..Dialer::default()
        },
        ..Instance::default()
    }
}

fn text(command: &mut Command) -> Option<String> {
    let out = command.output().ok()?;
    Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A real sshd with a host key of its own, which knows the keys that the double wrote.
fn sshd(path: &Path) -> Option<(Child, u16)> {
    let key = path.join("host_key");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    if !made.is_ok_and(|s| s.success()) {
        return None;
    }
    fs::create_dir_all("/run/sshd").unwrap_or_default();
    let port = free_port();
    let config = path.join("sshd_config");
    let text = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\n\
         StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n\
         AuthorizedKeysFile {}\nSubsystem sftp internal-sftp\nLogLevel VERBOSE\n",
        key.display(),
        path.join("keys").display(),
    );
    write(&config, &text, 0o600);
    let log = fs::File::create(path.join("sshd.log")).ok()?;
    let mut child = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .ok()?;
    let up = until(|| {
        TcpStream::connect(("127.0.0.1", port)).is_ok() || matches!(child.try_wait(), Ok(Some(_)))
    });
    (up && matches!(child.try_wait(), Ok(None))).then_some((child, port))
}

/// What stands for `/usr/bin/palisade`: it obeys a grant by writing an authorized key, and a
/// revocation by taking it away. `refuse`, `other_key.pub` and `ssh_port` beside it change its mind.
fn double(path: &Path, user: &str) {
    let script = format!(
        r#"#!/bin/sh
cd "$LAB" || exit 1
case "$1 $2" in
"access grant")
  in=$(cat)
  get() {{ printf %s "$in" | sed -n 's/.*"'"$1"'":"\{{0,1\}}\([^",}}]*\).*/\1/p'; }}
  printf '%s\n' "$in" >>grants.log
  if [ -e refuse ]; then
    echo 'error: grant for {user}: not allowed by policy' >&2; echo 'hint: ask your admin' >&2; exit 5
  fi
  id=$(get id); key=$(get key)
  if grep -q "^$id " ids 2>/dev/null; then echo 'error: the id was used' >&2; exit 5; fi
  echo "$id $INSTANCE" >>ids
  options='restrict,pty,port-forwarding'
  case $(get only) in
  sftp) options='restrict,command="internal-sftp"' ;;
  tunnel) options="restrict,port-forwarding,permitopen=\"$(get target)\",command=\"/usr/bin/false\"" ;;
  esac
  echo "$options ssh-ed25519 $key $id" >>keys
  fp=$(echo "ssh-ed25519 $key" | ssh-keygen -lf - | cut -d' ' -f2)
  hk=$(cut -d' ' -f1,2 <"$([ -e other_key.pub ] && echo other_key.pub || echo host_key.pub)")
  now=$(date +%s); ttl=$(get ttl_s)
  echo "{{\"v\":1,\"id\":\"$id\",\"user\":\"$(get user)\",\"fingerprint\":\"$fp\",\"expires_at\":$((now+ttl)),\"ttl_s\":$ttl,\"only\":\"$(get only)\",\"ssh_port\":$([ -e ssh_port ] && cat ssh_port || echo 22),\"host_keys\":[\"$hk\"],\"binding\":\"strict\"}}"
  ;;
"access revoke")
  grep -v " $3\$" keys >keys.new; mv keys.new keys; echo "$3" >>revoked.log
  echo "{{\"v\":1,\"id\":\"$3\",\"sessions_ended\":0}}" ;;
"access list")
  [ -e rows.json ] && cat rows.json || echo '[]' ;;
*) echo "palisade $*" ;;
esac
"#
    );
    write(&path.join("palisade"), &script, 0o755);
    write(&path.join("keys"), "", 0o600);
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

/// The product's documents, with the double in the place of the agent's program.
fn documents(path: &Path) {
    let to = path.join("documents");
    fs::create_dir_all(&to).expect("a directory");
    let program = path.join("palisade").display().to_string();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/documents");
    let found = fs::read_dir(&from).expect("infra/documents");
    for entry in found {
        let entry = entry.expect("an entry");
        let text = fs::read_to_string(entry.path()).expect("a document");
        let text = text.replace("/usr/bin/palisade", &program);
        fs::write(to.join(entry.file_name()), text).expect("write");
    }
}

impl Lab {
    /// The program as on a laptop that has nothing but this.
    pub(crate) fn bastionctl(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bastionctl"));
        self.environment(&mut command);
        command.args(["--ssmmessages-endpoint", &self.peer.ws_url()]);
        command
    }

    pub(crate) fn environment(&self, command: &mut Command) {
        let home = self.dir.path().join("home");
        fs::create_dir_all(home.join("run")).expect("a directory");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("USER", &self.user)
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL", self.peer.url())
            .stdin(Stdio::null());
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        output(self.bastionctl().args(args))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn lines(&self, name: &str) -> usize {
        fs::read_to_string(self.file(name)).unwrap_or_default().lines().count()
    }

    /// Sessions that live at the peer.
    pub(crate) fn live_sessions(&self) -> usize {
        self.peer.sessions().iter().filter(|s| format!("{:?}", s.state).starts_with("Live")).count()
    }

    pub(crate) fn all_sessions_end(&self) -> bool {
        until(|| self.live_sessions() == 0)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A keeper outlives its logins on purpose, but not the lab.
        let pattern = format!("internal-keeper {}", self.file("home").display());
        let found = text(Command::new("pgrep").args(["-f", &pattern])).unwrap_or_default();
        for pid in found.split_whitespace() {
            Command::new("kill").arg(pid).status().map(drop).unwrap_or_default();
        }
        self.sshd.kill().unwrap_or_default();
        self.sshd.wait().map(drop).unwrap_or_default();
    }
}

/// Output of a program that must end.
pub(crate) fn output(command: &mut Command) -> Output {
    output_within(command, PATIENCE)
}

/// The same with another bound.
pub(crate) fn output_within(command: &mut Command, bound: Duration) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start");
    let (mut out, mut err) = (child.stdout.take().expect("out"), child.stderr.take().expect("err"));
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).map(|_| bytes)
    });
    let errors = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        err.read_to_end(&mut bytes).map(|_| bytes)
    });
    let ended = until_within(|| matches!(child.try_wait(), Ok(Some(_))), bound);
    if !ended {
        child.kill().unwrap_or_default();
    }
    let status = child.wait().expect("wait");
    let stdout = reader.join().expect("thread").expect("read");
    let stderr = errors.join().expect("thread").expect("read");
    assert!(ended, "it did not end: {}", String::from_utf8_lossy(&stderr));
    Output { status, stdout, stderr }
}

/// Waits for a condition, within a bound.
pub(crate) fn until(condition: impl FnMut() -> bool) -> bool {
    until_within(condition, PATIENCE)
}

/// The same with another bound.
pub(crate) fn until_within(mut condition: impl FnMut() -> bool, bound: Duration) -> bool {
    let end = Instant::now() + bound;
    while !condition() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

pub(crate) fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

pub(crate) fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[track_caller]
pub(crate) fn good(out: &Output) {
    assert!(out.status.success(), "{:?}: {}{}", out.status, stdout(out), stderr(out));
}

/// Bytes that show every loss and repetition.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap_or_default()).collect()
}
