//! The harness itself: what a test may rely on.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests on real time, which print figures and why they were skipped"
)]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::hosts_or_skip;
use palisade_hosts::{
    imds::{Identity, Imds},
    lab::Lab,
    nspawn::{Host, HostOptions, boot_all},
    trees::target_dir,
    wait::wait_until,
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

/// What there is on the machine of the host with this id.
fn traces(id: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut found: Vec<_> = mounts.lines().filter(|l| l.contains(id)).map(str::to_owned).collect();
    let runs = target_dir().join("hosts-run").display().to_string();
    for dir in ["/run/palisade-hosts", "/sys/fs/cgroup", "/sys/fs/cgroup/unified", &runs] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        let paths = entries.flatten().map(|e| e.path().display().to_string());
        found.extend(paths.filter(|p| p.contains(id)));
    }
    found
}

/// How many processes have this as their only argument list.
fn running(argv: &[u8]) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|e| fs::read(e.path().join("cmdline")).is_ok_and(|line| line == argv)).count()
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
    let seconds = 100_000 + std::process::id();
    let argv = format!("sleep\0{seconds}\0");
    host.ok(&format!("setsid -f sleep {seconds}"));
    wait_until("that process", Duration::from_secs(20), || running(argv.as_bytes()) == 1);
    let id = host.id().to_owned();
    assert!(traces(&id).len() >= 3, "{:?}", traces(&id));

    drop(host);
    assert_eq!((traces(&id), running(argv.as_bytes())), (vec![], 0));
}

#[test]
fn a_host_whose_owner_is_killed_ends_with_it_and_the_next_one_sweeps_up() {
    let Some(_trees) = hosts_or_skip() else { return };
    let mut owner = Command::new(env!("CARGO_BIN_EXE_palisade-host"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (id, leader) = line.trim().split_once(' ').unwrap();
    let leader = format!("/proc/{leader}/exe");
    assert!(fs::exists(&leader).unwrap() && !traces(id).is_empty());

    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("the end of an orphaned host", Duration::from_secs(20), || {
        !fs::exists(&leader).unwrap()
    });
    drop(Host::boot(None, HostOptions::new("next")));
    assert_eq!(traces(id), Vec::<String>::new());
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
