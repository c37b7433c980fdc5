//! The harness itself: what a test may rely on.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests on real time, which print figures and why they were skipped"
)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use common::hosts_or_skip;
use palisade_hosts::{
    imds::{Identity, Imds},
    lab::Lab,
    nspawn::{Host, HostOptions, boot_all},
};

const ONE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 12);

/// Asks the metadata service as the SDK does, with what every host has.
const ASK: &str = r#"
import sys, urllib.request as r
base = "http://169.254.169.254/latest/"
token = r.urlopen(r.Request(base + "api/token", method="PUT",
    headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}), timeout=5).read().decode()
print(r.urlopen(r.Request(base + sys.argv[1], headers={"X-aws-ec2-metadata-token": token}), timeout=5).read().decode())
"#;

fn ask(host: &Host, path: &str) -> String {
    host.ok(&format!("python3 /root/ask.py {path}")).trim().to_owned()
}

/// What is on the machine that a host might leave behind.
fn traces() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut found: BTreeSet<_> =
        mounts.lines().filter(|l| l.contains("palisade-host")).map(str::to_owned).collect();
    for dir in ["/run/netns", "/run/palisade-hosts", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        let mine = format!("-{}-", std::process::id());
        let names = entries.flatten().map(|e| e.path().display().to_string());
        found.extend(names.filter(|n| n.contains("palisade-") && n.contains(&mine)));
    }
    found
}

#[test]
fn a_host_is_up_in_seconds_and_nothing_of_it_stays() {
    let Some(_trees) = hosts_or_skip() else { return };
    let start = Instant::now();
    let options = HostOptions::new("short")
        .file("/etc/palisade-test/a", "written before boot")
        .before_boot("echo from-chroot > /etc/palisade-test/b");
    let host = Host::boot(None, options);
    println!("up in {:.2} s", start.elapsed().as_secs_f64());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(host.read("/etc/palisade-test/a"), "written before boot");
    assert_eq!(host.read("/etc/palisade-test/b"), "from-chroot\n");
    assert_eq!(host.ok("hostname; cat /proc/1/comm; id -u"), "short\nsystemd\n0\n");
    assert_eq!(host.ok("systemctl --failed --plain --no-legend"), "");
    host.write("/srv/new/file", "text\n");
    assert_eq!(host.run("cat /srv/new/file; exit 7").code(), Some(7));
    // A process that left every group and session is a host's all the same.
    host.ok("setsid -f sleep 4711");
    let leader = host.leader().unwrap();
    assert!(!traces().is_empty());

    drop(host);
    assert!(!fs::exists(format!("/proc/{leader}/exe")).unwrap());
    let left = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line == b"sleep\x004711\0"
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn two_hosts_reach_each_other_and_each_is_told_who_it_is() {
    let Some(_trees) = hosts_or_skip() else { return };
    let lab = Lab::new().unwrap();
    let imds = Imds::start(&lab).unwrap();
    imds.set(ONE.into(), Identity::new("i-one"));
    imds.set(TWO.into(), Identity::new("i-two"));
    let options =
        |name: &str, address| HostOptions::new(name).address(address).file("/root/ask.py", ASK);
    let hosts = boot_all(Some(&lab), vec![options("one", ONE), options("two", TWO)]);
    let [one, two] = hosts.as_slice() else { unreachable!() };

    one.wait_ok(Duration::from_secs(20), &format!("ping -c 1 -W 1 {TWO}"));
    two.wait_ok(Duration::from_secs(20), &format!("ping -c 1 -W 1 {ONE}"));
    assert_eq!(ask(one, "meta-data/instance-id"), "i-one");
    assert_eq!(ask(two, "meta-data/instance-id"), "i-two");
    imds.change(ONE.into(), |host| host.lifecycle = "Terminated".to_owned());
    let state = "meta-data/autoscaling/target-lifecycle-state";
    assert_eq!((ask(one, state), ask(two, state)), ("Terminated".into(), "InService".into()));

    // Each has cgroups of its own: the end of one is not the end of the other.
    one.poweroff();
    assert_eq!(ask(two, "meta-data/instance-id"), "i-two");
    let name = lab.name().to_owned();
    drop(lab);
    assert!(fs::exists(format!("/run/netns/{name}")).unwrap(), "hosts are still in it");
    drop(imds);
    drop(hosts);
    assert!(!fs::exists(format!("/run/netns/{name}")).unwrap());
}

#[test]
fn a_reboot_is_another_boot_and_a_power_cut_keeps_what_was_synced() {
    let Some(_trees) = hosts_or_skip() else { return };
    let mut host = Host::boot(None, HostOptions::new("again"));
    let first = host.boot_id();
    let start = Instant::now();
    host.reboot();
    println!("rebooted in {:.2} s", start.elapsed().as_secs_f64());
    let second = host.boot_id();
    assert_ne!(first, second);

    host.ok("echo kept > /var/lib/kept; sync /var/lib/kept; echo gone > /run/gone");
    let leader = host.leader();
    host.power_cut();
    assert!(host.leader().is_none() && host.try_run("true").is_err());
    host.boot_again();
    assert_ne!(host.leader(), leader);
    assert_eq!(host.read("/var/lib/kept"), "kept\n");
    assert!(!host.run("cat /run/gone").success());
    assert_ne!(host.boot_id(), second);
}
