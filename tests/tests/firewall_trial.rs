//! What an operator meets who changes the firewall of a host, by the real binary, a real kernel, and a
//! real sshd: nothing that is not confirmed stays, and nobody cuts the branch that they sit on.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests start programs, wait for the real world, and say what they skip"
)]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use palisade_agent::sys::files::write_atomic;
use palisade_e2e::{
    agent::{Agent, CAP},
    wait::{wait_for, wait_until},
};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");
const HOST: &str = "192.0.2.1";
const OLD: &str = "192.0.2.7";
const NEW: &str = "192.0.2.8";

/// A host with an agent and, at the other end of a cable, who comes from [`OLD`].
struct Site {
    agent: Agent,
    host: String,
    client: String,
    wrapper: PathBuf,
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).stdin(Stdio::null()).output().unwrap()
}

fn ip(args: &[&str]) {
    let out = run("ip", args);
    assert!(out.status.success(), "ip {args:?}: {}", text(&out));
}

fn text(out: &Output) -> String {
    let both = [out.stdout.as_slice(), out.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn allowing(address: &str) -> String {
    format!(
        "firewall:\n  ports: [{{ tcp: 22, from: bastion }}]\n  sources: {{ bastion: {{ cidrs: \
         [{address}/32] }} }}\n"
    )
}

impl Site {
    fn build(name: &str) -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        let there = |p: &str| fs::exists(p).unwrap_or(false);
        if !there("/usr/sbin/nft") || !run("ip", &["-V"]).status.success() {
            println!("skipped: needs nft and ip");
            return None;
        }
        let (host, client) =
            ["h", "c"].map(|end| format!("pt{}{name}{end}", std::process::id())).into();
        let agent = Agent::new(BINARY, &allowing(OLD));
        let wrapper = agent.dir().join("in-host");
        let script =
            format!("#!/bin/sh\nexec ip netns exec {host} {} \"$@\"\n", agent.binary().display());
        write_atomic(&wrapper, script.as_bytes(), 0o755).unwrap();
        let site = Self { agent, host, client, wrapper };
        for end in [&site.host, &site.client] {
            ip(&["netns", "add", end]);
            ip(&["-n", end, "link", "set", "lo", "up"]);
        }
        ip(&[
            "-n",
            &site.host,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &site.client,
        ]);
        for (end, address) in [(&site.host, HOST), (&site.client, OLD)] {
            ip(&["-n", end, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
            ip(&["-n", end, "link", "set", "eth0", "up"]);
        }
        Some(site)
    }

    fn start(&mut self) {
        let wrapper = self.wrapper.clone();
        self.agent.start_as(&wrapper);
    }

    /// Whom the kernel lets in.
    fn lets_in(&self, address: &str) -> bool {
        let out = run("ip", &["netns", "exec", &self.host, "/usr/sbin/nft", "list", "ruleset"]);
        text(&out).contains(address)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("agent:\n{}", self.agent.log());
        }
        for end in [&self.host, &self.client] {
            run("ip", &["netns", "del", end]);
        }
    }
}

/// Case 48.
#[test]
fn a_change_that_nobody_confirms_is_rolled_back_although_the_agent_is_stopped_or_killed() {
    let Some(mut site) = Site::build("r") else { return };
    site.start();
    wait_until("the rules", CAP, || site.lets_in(OLD));
    for (signal, confirm) in [(Signal::SIGSTOP, 8), (Signal::SIGKILL, 8)] {
        site.agent.configure(&allowing(NEW));
        let asked = Instant::now();
        let said = site.agent.ok(&["firewall", "apply", "--confirm", &format!("{confirm}s")]);
        assert!(said.contains("unless confirmed"), "{said}");
        assert!(site.lets_in(NEW) && !site.lets_in(OLD), "{said}");
        let twice = site.agent.ctl(&["firewall", "apply"]);
        assert_eq!(twice.status.code(), Some(5), "{}", text(&twice));
        match signal {
            Signal::SIGKILL => site.agent.kill_agent(),
            signal => site.agent.signal(signal),
        }
        wait_until("the rules before", CAP, || site.lets_in(OLD) && !site.lets_in(NEW));
        let took = asked.elapsed();
        println!("{signal}: rolled back after {took:?}");
        let confirm = Duration::from_secs(confirm);
        // Counted from before the command began, on a machine with other work.
        assert!(took >= confirm && took < confirm + Duration::from_secs(10), "{took:?}");

        match signal {
            Signal::SIGKILL => site.start(),
            _ => site.agent.signal(Signal::SIGCONT),
        }
        // It knows what happened, and does not try the same again.
        let status = wait_for("the agent to know", CAP, || {
            let said = site.agent.ok(&["firewall", "status"]);
            said.contains("kept back").then_some(said)
        });
        assert!(status.contains("not confirmed in time"), "{status}");
        let history = site.agent.ok(&["firewall", "history", "-n", "2"]);
        assert!(history.contains("guardian of a trial"), "{history}");
        assert!(site.lets_in(OLD) && !site.lets_in(NEW));
        assert!(site.agent.ok(&["status"]).contains("kept back"));
        assert_eq!(site.agent.ctl(&["firewall", "confirm"]).status.code(), Some(1));
        let update = site.agent.ctl(&["update"]);
        assert_eq!(update.status.code(), Some(5), "{}", text(&update));
        assert!(site.lets_in(OLD) && !site.lets_in(NEW));
        // Until the file says something else.
        site.agent.configure(&allowing(OLD));
        site.agent.ok(&["update"]);
        assert!(!site.agent.ok(&["firewall", "status"]).contains("kept back"));
    }
}

#[test]
fn a_change_can_be_confirmed_also_to_the_next_agent_and_then_stays() {
    let Some(mut site) = Site::build("k") else { return };
    site.start();
    site.agent.configure(&allowing(NEW));
    site.agent.ok(&["firewall", "apply", "--confirm", "20s"]);
    let asked = Instant::now();
    site.agent.kill_agent();
    site.start();
    assert!(site.lets_in(NEW), "the trial goes on");
    assert!(site.agent.ok(&["firewall", "status"]).contains("unless confirmed"));
    site.agent.ok(&["firewall", "confirm"]);
    wait_until("the end of the trial", CAP, || asked.elapsed() > Duration::from_millis(21_200));
    assert!(site.lets_in(NEW) && !site.lets_in(OLD));
    assert!(!site.agent.ok(&["firewall", "status"]).contains("unless confirmed"));

    // And what is taken back goes at once.
    site.agent.configure(&allowing(OLD));
    site.agent.ok(&["firewall", "apply", "--confirm", "60s"]);
    assert!(site.lets_in(OLD));
    site.agent.ok(&["firewall", "rollback"]);
    assert!(site.lets_in(NEW) && !site.lets_in(OLD));
}

/// sshd at the host, for root with a key of the client.
struct Sshd {
    server: Child,
    key: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

impl Site {
    fn sshd(&self) -> Sshd {
        let dir = self.agent.dir();
        let keys = ["host", "user"].map(|name| {
            let path = dir.join(name);
            let file = path.to_str().unwrap();
            let made = run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", file]);
            assert!(made.status.success(), "{}", text(&made));
            path
        });
        let [host_key, key] = keys;
        let config = format!(
            "Port 22\nHostKey {}\nPidFile none\nUsePAM no\nPasswordAuthentication no\nStrictModes no\n\
             PermitRootLogin yes\nAuthorizedKeysFile {}/user.pub\n",
            host_key.display(),
            dir.display()
        );
        write_atomic(&dir.join("sshd_config"), config.as_bytes(), 0o600).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        let server = Command::new("ip")
            .args(["netns", "exec", &self.host, "/usr/sbin/sshd", "-D", "-e", "-f"])
            .arg(dir.join("sshd_config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(dir.join("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        wait_until("sshd to listen", CAP, || self.agent.read("sshd.log").contains("listening"));
        Sshd { server, key }
    }

    fn ssh(&self, sshd: &Sshd, command: &str) -> Command {
        let mut ssh = Command::new("ip");
        ssh.args(["netns", "exec", &self.client, "ssh", "-i"])
            .arg(&sshd.key)
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args([
                "-o",
                "LogLevel=ERROR",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
                "-F",
                "none",
            ])
            .arg(format!("root@{HOST}"))
            .arg(command)
            .stdin(Stdio::null());
        ssh
    }
}

/// Case 49.
#[test]
fn nobody_cuts_the_ssh_session_they_ask_from_and_a_reload_cuts_none() {
    if !fs::exists("/usr/sbin/sshd").unwrap() || !fs::exists("/usr/bin/ssh").unwrap() {
        println!("skipped: needs OpenSSH's server and client");
        return;
    }
    let Some(mut site) = Site::build("s") else { return };
    let sshd = site.sshd();
    site.start();
    wait_until("the rules", CAP, || site.lets_in(OLD));
    site.agent.configure(&format!(
        "programs: {{ a: {{ command: [sleep, '1000'] }} }}\n{}",
        allowing(NEW)
    ));
    let palisade =
        format!("{} -c {}", site.agent.binary().display(), site.agent.config().display());

    let out = site.ssh(&sshd, &format!("{palisade} firewall plan")).output().unwrap();
    assert!(text(&out).contains("cut       your own SSH session from 192.0.2.7"), "{}", text(&out));
    let out =
        site.ssh(&sshd, &format!("sudo=; sh -c '{palisade} firewall apply'")).output().unwrap();
    assert_eq!(out.status.code(), Some(5), "{}", text(&out));
    assert!(text(&out).contains("it would cut your own SSH session"), "{}", text(&out));

    // From within tmux, say, which is nobody's child: the environment tells.
    let report = site.agent.dir().join("report");
    let orphan = format!(
        "setsid -f sh -c '{palisade} firewall apply > {0}.new 2>&1; echo code $? >> {0}.new; mv {0}.new {0}'; \
         while ! test -e {0}; do sleep 0.1; done",
        report.display()
    );
    let out = site.ssh(&sshd, &orphan).output().unwrap();
    let said = site.agent.read("report");
    assert!(
        said.contains("your own SSH session") && said.contains("code 5"),
        "{said}{}",
        text(&out)
    );

    // Nobody in particular asks by a reload: no login may be cut, and the rest of the file is taken.
    let mut login = site.ssh(&sshd, "echo in; sleep 1000").stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    std::io::Read::read_exact(login.stdout.as_mut().unwrap(), &mut first).unwrap();
    let out = site.agent.ctl(&["update"]);
    assert_eq!(out.status.code(), Some(5), "{}", text(&out));
    assert!(text(&out).contains("it would cut live SSH sessions: 192.0.2.7"), "{}", text(&out));
    site.agent.wait_running("a");
    assert!(site.lets_in(OLD) && !site.lets_in(NEW));
    let status = site.agent.ok(&["status"]);
    assert!(status.contains("kept back"), "{status}");
    login.kill().unwrap();
    login.wait().unwrap();

    // Nor is the last way in taken away by who asks from the console.
    site.agent.configure(
        "firewall:\n  ports: [{ tcp: 443, from: bastion }]\n  sources: { bastion: { cidrs: [192.0.2.7/32] } }\n",
    );
    let out = site.agent.ctl(&["firewall", "apply"]);
    assert_eq!(out.status.code(), Some(5), "{}", text(&out));
    assert!(text(&out).contains("no way in"), "{}", text(&out));
    let forced = site.agent.ok(&["firewall", "apply", "--force"]);
    assert!(forced.contains("by force  it leaves no way in"), "{forced}");
    assert!(!site.agent.ok(&["status"]).contains("kept back"));
}
