//! The journal of a real systemd, shipped by the agent.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests on real hosts, which print why they were skipped"
)]

mod common;

use common::{
    CAP, debs_or_skip,
    site::{self, CONFIG, CONFIG_PATH, agent_pid, installed_on, wait_other_agent, wait_ready},
};
use palisade_hosts::{nspawn::Host, wait::wait_for};

/// Says a numbered line to the journal every few milliseconds, going on where it stopped at each start.
const TALKER: &str = "import os, time\n\
    path = '/var/lib/talker'\n\
    n = int(open(path).read()) if os.path.exists(path) else 0\n\
    while True:\n    \
        n += 1\n    \
        print('talk', n, flush=True)\n    \
        open(path + '.new', 'w').write(str(n))\n    \
        os.rename(path + '.new', path)\n    \
        time.sleep(0.01)\n";
/// A program of the agent that says something to syslog by itself.
const SPEAKER: &str =
    "command: [/bin/sh, -c, \"while sleep 0.2; do echo spoken; done | /usr/bin/logger\"]";
const UNIT: &str = "[Unit]\nAfter=systemd-journald.service\n[Service]\nExecStart=/usr/bin/python3 \
                    /srv/talker.py\n[Install]\nWantedBy=multi-user.target\n";

/// The numbers that were shipped, in the order in which they came.
fn shipped(host: &Host) -> Vec<u32> {
    let text = host.ok("sed -n 's/.*\"message\":\"talk \\([0-9]*\\)\".*/\\1/p' \
                        /var/lib/palisade/logs/local/_test_journal.ndjson");
    text.lines().map(|l| l.parse().unwrap()).collect()
}

/// What was said until now.
fn said(host: &Host) -> u32 {
    host.ok("cat /var/lib/talker").trim().parse().unwrap()
}

fn wait_shipped(host: &Host) -> Vec<u32> {
    let last = said(host);
    wait_for("what was said", CAP, || Some(shipped(host)).filter(|all| all.contains(&last)))
}

/// Waits until what the agent's program says to syslog is in a stream of the program's name.
fn wait_spoken(host: &Host) {
    let ticker = site::pids(host)["ticker"];
    let cgroup = host.ok(&format!("cat /proc/{ticker}/cgroup"));
    if !cgroup.contains("/palisade.service/p.ticker") {
        return println!("skipped what programs say to syslog: no cgroup of their own: {cgroup}");
    }
    host.wait_ok(
        CAP,
        "grep '\"stream\":\"[^\"]*ticker\"' /var/lib/palisade/logs/local/_test_journal.ndjson | \
         grep -q '\"message\":\"spoken\"'",
    );
}

#[test]
fn a_hosts_journal_arrives_whole_over_rotations_restarts_kills_and_a_boot() {
    let Some(packages) = debs_or_skip() else { return };
    let journald = CONFIG.replace(
        "logs: { group: \"/test/{program}\", sink: local }",
        "logs: { group: \"/test/{program}\", sink: local, journald: { units: [talker.service, palisade.service] } }",
    );
    assert_ne!(journald, CONFIG);
    let config = journald.replace("command: [/usr/bin/python3, /srv/ticker.py]", SPEAKER);
    assert_ne!(config, journald);
    let options = site::with_debs("talk", &packages)
        .file(CONFIG_PATH, config)
        .file("/srv/talker.py", TALKER)
        .file("/etc/systemd/system/talker.service", UNIT)
        .file("/var/log/journal/.keep", "")
        .link(
            "/etc/systemd/system/multi-user.target.wants/talker.service",
            "/etc/systemd/system/talker.service",
        );
    let host = installed_on(None, options);
    wait_shipped(&host);
    wait_spoken(&host);
    host.ok("journalctl --rotate");
    wait_shipped(&host);
    host.ok("systemctl restart systemd-journald");
    wait_shipped(&host);
    let agent = agent_pid(&host);
    host.ok(&format!("kill -KILL {agent}"));
    wait_other_agent(&host, agent);
    wait_ready(&host);
    wait_shipped(&host);
    // What is said while no agent runs, and rotated, is there when one comes.
    host.ok("systemctl stop palisade");
    let before = said(&host);
    wait_for("more to be said", CAP, || (said(&host) > before + 100).then_some(()));
    host.ok("journalctl --rotate && systemctl start palisade");
    wait_shipped(&host);
    host.reboot();
    wait_ready(&host);
    host.ok("systemctl stop talker");
    let all = wait_shipped(&host);
    let (mut next, mut again) = (1, 0);
    for number in &all {
        assert!(*number <= next, "{next} is missing before {number}");
        if *number < next {
            again += 1;
        } else {
            next += 1;
        }
    }
    println!("{} lines of the journal, {again} of them again after the kill", next - 1);
    assert!(next > 300, "too little was said: {next}");
    // What was not noted yet when the agent was killed, about a second of it.
    assert!(again <= 200, "{again} came again");
}
