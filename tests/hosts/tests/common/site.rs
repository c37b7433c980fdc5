//! A host with a web server, a ticker and a firewall, described in `/etc/palisade/palisade.yaml` as an
//! administrator would, and the agent's package put onto it.

use std::collections::BTreeMap;

use palisade_hosts::{
    lab::Lab,
    nspawn::{Host, HostOptions},
    packages::{NEW, OLD, Packages},
    wait::{try_for, wait_for},
};
use serde::Deserialize;

use super::CAP;

/// A server on a socket that the agent holds: no request need fail while it or the agent is replaced.
const WEB: &str = r#"
import http.server, os, socket
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        pass
    def server_activate(self):
        pass
server = Server(("127.0.0.1", 8000), Page, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
server.serve_forever()
"#;

/// Lines with numbers, so that a lost or doubled one shows.
const TICKER: &str = r#"
import time
n = 0
while True:
    n += 1
    print("tick", n, flush=True)
    time.sleep(0.02)
"#;

/// The configuration.
pub(crate) const CONFIG: &str = r#"version: 1
programs:
  web:
    command: [/usr/bin/python3, /srv/web.py]
    sockets: [{ name: http, listen: "127.0.0.1:8000" }]
    ready: { http: { url: "http://127.0.0.1:8000/health", every: 200ms, timeout: 60s } }
  ticker:
    command: [/usr/bin/python3, /srv/ticker.py]
    startsecs: 0
firewall:
  ports: [{ tcp: [80, 443], from: edge }, { tcp: 22, from: bastion }]
  sources:
    edge: { cidrs: [130.176.0.0/16] }
    bastion: { cidrs: [10.77.0.1/32] }
logs: { group: "/test/{program}", sink: local }
"#;

/// Where the configuration is.
pub(crate) const CONFIG_PATH: &str = "/etc/palisade/palisade.yaml";

#[derive(Debug, Deserialize)]
struct Program {
    name: String,
    state: String,
    pid: i32,
    ready: bool,
}

/// The site without the agent.
pub(crate) fn options(name: &str) -> HostOptions {
    HostOptions::new(name)
        .file("/srv/web.py", WEB)
        .file("/srv/ticker.py", TICKER)
        .file(CONFIG_PATH, CONFIG)
}

/// The site with the packages of both versions below `/root` as `old.deb`, `new.deb`.
pub(crate) fn with_debs(name: &str, packages: &Packages) -> HostOptions {
    options(name)
        .copy(&packages.deb(OLD), "/root/old.deb")
        .copy(&packages.deb(NEW), "/root/new.deb")
}

/// A host with the old version installed and both programs ready.
pub(crate) fn installed(name: &str, packages: &Packages) -> Host {
    installed_on(None, with_debs(name, packages))
}

/// As [`installed`], on a network or with more in it.
pub(crate) fn installed_on(lab: Option<&Lab>, options: HostOptions) -> Host {
    let host = Host::boot(lab, options);
    install(&host, "/root/old.deb");
    wait_ready(&host);
    host
}

/// Installs a package as `apt-get install ./FILE` does, without a terminal.
pub(crate) fn install(host: &Host, deb: &str) -> String {
    host.ok(&format!("dpkg -i {deb} 2>&1"))
}

/// The agent's pid; 0 if it does not run.
pub(crate) fn agent_pid(host: &Host) -> i32 {
    host.property("palisade.service", "MainPID").parse().unwrap_or_default()
}

fn programs(host: &Host) -> Option<Vec<Program>> {
    serde_json::from_str(&host.run("palisade status --json").stdout).ok()
}

/// Each program's pid.
pub(crate) fn pids(host: &Host) -> BTreeMap<String, i32> {
    programs(host).unwrap_or_default().into_iter().map(|p| (p.name, p.pid)).collect()
}

/// Waits until both programs run and are ready; returns their pids.
pub(crate) fn wait_ready(host: &Host) -> BTreeMap<String, i32> {
    let ready = try_for(CAP, || {
        let all = programs(host)?;
        (all.len() == 2 && all.iter().all(|p| p.state == "RUNNING" && p.ready)).then_some(())
    });
    assert!(
        ready.is_some(),
        "the programs are not ready: {}\n{}",
        host.run("palisade status; systemctl status palisade --no-pager").all(),
        host.journal("palisade.service")
    );
    pids(host)
}

/// Waits until another agent than `old` answers.
pub(crate) fn wait_other_agent(host: &Host, old: i32) -> i32 {
    wait_for("another agent", CAP, || {
        let pid = agent_pid(host);
        (pid > 0 && pid != old && host.run("palisade status").code() != Some(4)).then_some(pid)
    })
}

/// What the ticker's lines say once all that was printed by now has been shipped: every number once.
pub(crate) fn assert_no_line_lost_or_doubled(host: &Host) {
    let shipped = "sed -n 's/.*\"message\":\"tick \\([0-9]*\\)\".*/\\1/p' \
                   /var/lib/palisade/logs/local/*ticker*";
    let before = host.ok(shipped).lines().count();
    // What is shipped after this was printed after whatever the test did to the agent.
    let numbers: Vec<u32> = wait_for("more lines", CAP, || {
        let text = host.ok(shipped);
        let numbers: Vec<_> = text.lines().map(|l| l.parse().unwrap()).collect();
        (numbers.len() >= before + 100).then_some(numbers)
    });
    let wanted: Vec<u32> = (1..).take(numbers.len()).collect();
    let wrong = numbers.iter().zip(&wanted).find(|(got, want)| got != want);
    assert_eq!(wrong, None, "the first line that is not in its place, and the one wanted there");
}

/// The rules in force, without counters and whose they are.
pub(crate) fn rules(host: &Host) -> String {
    let all = host.run("nft --stateless list table inet palisade").all();
    let whose = |line: &str| ["table ", "flags "].iter().any(|w| line.trim_start().starts_with(w));
    all.lines().filter(|l| !whose(l)).fold(String::new(), |text, line| text + line + "\n")
}
