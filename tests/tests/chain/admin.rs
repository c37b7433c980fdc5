//! An admin's way in: a grant for a key in memory and a login by `bastionctl`, a file there and back, a
//! tunnel to a database that only the origin reaches. SSM is the strict peer; what it runs, it runs on
//! the host, and its session worker is the local end of each connection there.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use palisade_hosts::{
    exec::{Cmd, Output},
    lab::Lab,
    nspawn::{Host, HostOptions},
    packages::{NEW, Packages},
    trees::workspace,
    wait::wait_for,
};
use palisade_peer::{
    Peer, State,
    config::{Config, Dialer, Instance, Runner},
};
use serde_json::Value;
use tokio::time::Instant;

use crate::{CAP, ID};

const WORKER: &str = env!("CARGO_BIN_EXE_worker-under-test");
/// A host with a database, which nothing but the lab reaches.
const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 30);
const FILE: usize = 1 << 20;

/// What an admin has: the program, credentials of AWS, a home without any key.
#[derive(Debug)]
struct Laptop {
    program: PathBuf,
    home: tempfile::TempDir,
    peer: Peer,
    /// What runs a command on the host.
    host: Vec<String>,
}

/// Sets access up on the host and uses it in every way.
pub(crate) fn log_in(lab: &Lab, host: &Host, packages: &Packages) {
    let database = database(lab);
    host.copy_in(Path::new(WORKER), "/usr/bin/ssm-session-worker");
    host.ok("chmod 755 /usr/bin/ssm-session-worker");
    host.ok("useradd -m -s /bin/bash deploy && mkdir -p /etc/ssh/sshd_config.d");
    host.ok("systemctl start ssh && palisade access setup");
    let laptop = Laptop::new(host, packages);

    let begun = Instant::now();
    let said = laptop.ok(&["ssh", "deploy@origin", "--", "id -un; echo $SSH_CONNECTION"]);
    assert!(said.starts_with("deploy\n127.0.0.1 ") || said.starts_with("deploy\n::1 "), "{said}");
    println!("a command over ssh, with its grant: {:?}", begun.elapsed());
    let refused = laptop.run(&["ssh", "www-data@origin", "--", "true"]);
    assert_eq!(refused.code(), Some(5), "{}", refused.all());

    let (sent, back) = (laptop.home.path().join("sent"), laptop.home.path().join("back"));
    let bytes: Vec<u8> = (0..FILE).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
    File::create(&sent).unwrap().write_all(&bytes).unwrap();
    laptop.ok(&["scp", sent.to_str().unwrap(), "deploy@origin:there"]);
    laptop.ok(&["scp", "deploy@origin:there", back.to_str().unwrap()]);
    assert_eq!(fs::read(&back).unwrap(), bytes, "a file there and back");
    assert_eq!(host.ok("stat -c %U:%s /home/deploy/there").trim(), format!("deploy:{FILE}"));

    laptop.ask_database();
    drop(database);

    // What is left of it: no grant that lives, no session, no key, and a log that nobody changed.
    let rows: Vec<Value> = serde_json::from_str(&host.ok("palisade access list --json")).unwrap();
    let live: Vec<_> = rows.iter().filter(|r| r["state"] == "live").collect();
    assert!(live.is_empty(), "{live:?}");
    let log = host.ok("palisade access audit --json");
    assert!(log.contains("arn:aws:iam::123456789012:user/alice"), "{log}");
    host.ok("palisade access audit --verify");
    assert_eq!(laptop.peer.violations(), [], "of the data channel's protocol");
    wait_for("every session to end", CAP, || {
        laptop.peer.sessions().iter().all(|s| s.state != State::Live).then_some(())
    });
    assert!(host.run("pgrep ssm-session-worker").stdout.is_empty(), "a worker that is left");
    host.ok("palisade access remove && sshd -t");
}

fn database(lab: &Lab) -> Host {
    let host = Host::boot(Some(lab), HostOptions::new("database").address(DATABASE));
    host.ok(&format!(
        "redis-server --bind {DATABASE} --protected-mode no --save '' --daemonize yes"
    ));
    host
}

impl Laptop {
    fn new(host: &Host, packages: &Packages) -> Self {
        let home = tempfile::tempdir().unwrap();
        let unpacked = home.path().join("unpacked");
        let deb = packages.dir().join(format!("bastionctl_{NEW}-1_amd64.deb"));
        Cmd::new("dpkg-deb").arg("-x").args([&deb, &unpacked]).run().unwrap();
        let prefix: Vec<String> = ["nsenter", "-t", &host.leader().unwrap().to_string()]
            .into_iter()
            .chain(["-m", "-u", "-i", "-n", "-p", "-r", "--"])
            .map(str::to_owned)
            .collect();
        let worker = [prefix.clone(), vec!["/usr/bin/ssm-session-worker".to_owned()]].concat();
        let instance = Instance {
            id: ID.to_owned(),
            tags: BTreeMap::from([("Name".to_owned(), "origin".to_owned())]),
            runner: Runner { prefix: prefix.clone(), ..Runner::default() },
            dialer: Dialer { worker, state_root: "/".to_owned(), ..Dialer::default() },
            ..Instance::default()
        };
        let peer = Peer::start(Config {
            instances: vec![instance],
            documents: Some(workspace().join("infra/documents")),
            ..Config::default()
        });
        let program = unpacked.join("usr/bin/bastionctl");
        Self { program, home, peer: peer.unwrap(), host: prefix }
    }

    fn command(&self, args: &[&str]) -> Cmd {
        Cmd::new("env")
            .args(["-i", "PATH=/usr/bin:/bin", "AWS_REGION=us-east-1"])
            .args(["AWS_ACCESS_KEY_ID=AKIDEXAMPLE"])
            .args(["AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"])
            .arg(format!("AWS_ENDPOINT_URL={}", self.peer.url()))
            .arg(format!("HOME={}", self.home.path().display()))
            .arg(&self.program)
            .args(["--ssmmessages-endpoint", &self.peer.ws_url()])
            .args(args)
            .within(CAP)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).said().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(
            out.success(),
            "{args:?} ended with {}: {}\non the host:\n{}",
            out.status,
            out.all(),
            self.journal()
        );
        out.stdout
    }

    /// What the host says of the last moments.
    fn journal(&self) -> String {
        let words = ["journalctl", "--no-pager", "--lines=80"].map(str::to_owned);
        let command = [self.host.clone(), words.to_vec()].concat();
        Cmd::new(&command[0]).args(&command[1..]).within(CAP).said().unwrap().all()
    }

    /// Writes and reads a value of the database through the origin.
    fn ask_database(&self) {
        let to = format!("0:{DATABASE}:6379");
        let log = self.home.path().join("tunnel.log");
        let mut tunnel = self.command(&["tunnel", "origin", &to]).daemon(&log).unwrap();
        let local = wait_for("the tunnel", CAP, || {
            let said = fs::read_to_string(&log).ok()?;
            said.lines().find_map(|l| Some(l.split_once(" leads to ")?.0.to_owned()))
        });
        let mut client = TcpStream::connect(&local).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.write_all(b"SET who palisade\r\nGET who\r\n").unwrap();
        let expected = "+OK\r\n$8\r\npalisade\r\n";
        let mut answer = vec![0; expected.len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), expected);
        drop(client);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(tunnel.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        assert!(tunnel.wait().unwrap().success(), "an end by ctrl-c is a good one");
    }
}
