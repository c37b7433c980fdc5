//! What only a kernel of its own can show: limits that bite, an out-of-memory kill, a reboot.
#![expect(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

#[path = "common/guests.rs"]
mod guests;

use std::time::{Duration, Instant};

use guests::{deb_or_skip, kit_or_skip, say};
use palisade_hosts::vm::{Options, Vm};

/// For what takes a moment on a fast machine.
const CAP: Duration = Duration::from_secs(300);

/// Where systemd puts the agent.
const CGROUP: &str = "/sys/fs/cgroup/system.slice/palisade.service";

/// Programs with limits, and one without that must not notice.
const LIMITED: &str = r#"
version: 1
programs:
  bystander: { command: [sleep, infinity] }
  hog:
    command: [/usr/bin/python3, -c, "import time; kept = [bytearray(1 << 20) for _ in range(200)]; time.sleep(1000)"]
    autostart: false
    autorestart: false
    limits: { memory: 40MiB }
  family:
    command: [/bin/sh, -c, "sleep infinity & /usr/bin/python3 -c 'kept = [bytearray(1 << 20) for _ in range(200)]'; echo a child died: $?; wait"]
    autostart: false
    limits: { memory: 40MiB }
  spinner:
    command: [/bin/sh, -c, "while :; do :; done"]
    autostart: false
    limits: { cpu: 20% }
  forker:
    command: [/bin/sh, -c, "sh -c 'i=0; while [ $i -lt 30 ]; do sleep infinity & i=$((i + 1)); done'; exec sleep infinity"]
    autostart: false
    limits: { pids: 8 }
"#;

/// A program that counts aloud, and one with a listening socket.
const TALKING: &str = r#"
version: 1
programs:
  counter:
    command: [/usr/bin/python3, -uc, "import itertools, time; [(print(n), time.sleep(0.05)) for n in itertools.count()]"]
    stdout_logfile: /var/log/counter.log
    limits: { memory: 100MiB, cpu: 50%, pids: 20 }
  web:
    command: [/usr/bin/python3, -uc, "import socket; s = socket.socket(fileno=3); [c.close() for c, _ in iter(s.accept, None)]"]
    sockets: [{ name: http, listen: "127.0.0.1:8000" }]
"#;

#[test]
fn a_guest_is_back_from_its_snapshot_and_survives_a_power_cut() {
    let Some(kit) = kit_or_skip() else { return };
    let start = Instant::now();
    let options = Options { name: "one".to_owned(), ..Options::default() };
    let mut vm = Vm::restore(&kit, &options).unwrap();
    let cpu = vm.cpu_seconds().unwrap();
    say(&format!("restored in {:.1?}, {cpu:.1} s of processor time", start.elapsed()));
    assert_eq!(vm.ok("hostname").unwrap(), "one");
    let skew = vm.ok("date +%s").unwrap().parse::<i64>().unwrap() - now();
    assert!(skew.abs() < 60, "the guest's clock is {skew} s off");
    let controllers = vm.ok("cat /sys/fs/cgroup/cgroup.controllers").unwrap();
    for needed in ["cpu", "memory", "pids"] {
        assert!(controllers.split(' ').any(|c| c == needed), "{controllers}");
    }

    let boot = vm.ok("cat /proc/sys/kernel/random/boot_id").unwrap();
    vm.write("/root/kept", "kept\n").unwrap();
    vm.ok("sync").unwrap();
    vm.power_cut().unwrap();
    let start = Instant::now();
    vm.power_on().unwrap();
    let cpu = vm.cpu_seconds().unwrap();
    say(&format!("booted in {:.1?}, {cpu:.1} s of processor time", start.elapsed()));
    assert_ne!(vm.ok("cat /proc/sys/kernel/random/boot_id").unwrap(), boot);
    assert_eq!(
        vm.ok("dmesg | grep -c -e Oops -e BUG: || true").unwrap(),
        "0",
        "the kernel is well"
    );
    assert_eq!(vm.ok("cat /root/kept").unwrap(), "kept");
    let state = vm.run("systemctl is-system-running --wait; systemctl --failed").unwrap().stdout;
    assert!(state.starts_with("running"), "{state}");
}

#[test]
fn limits_bite_the_program_that_has_them_and_nobody_else() {
    let Some(vm) = with_agent(LIMITED) else { return };
    let bystander = pid_of(&vm, "bystander");
    let agent = main_pid(&vm);

    // Where systemd delegated, and what the agent made of it.
    let marks = vm
        .ok(&format!(
            "python3 -c 'import os; print(*sorted(n for n in os.listxattr(\"{CGROUP}\") if n.endswith(\"delegate\")))'"
        ))
        .unwrap();
    say(&format!("systemd marks what it delegates by: {marks}"));
    assert!(!marks.is_empty());
    let own = vm.ok(&format!("cat /proc/{agent}/cgroup")).unwrap();
    assert!(own.ends_with("/palisade.service/agent"), "{own}");
    let down = vm.ok(&format!("cat {CGROUP}/cgroup.subtree_control")).unwrap();
    assert!(["cpu", "memory", "pids"].iter().all(|c| down.contains(c)), "{down}");

    // What keeps the agent from being killed is not for programs: the host would lose all else first.
    assert_eq!(vm.ok(&format!("cat /proc/{bystander}/oom_score_adj")).unwrap(), "0");

    // Memory: the kernel kills the one process of `hog`.
    vm.run("palisade start hog").unwrap();
    vm.wait("dmesg | grep 'oom-kill:constraint=CONSTRAINT_MEMCG' | grep p.hog", CAP).unwrap();
    vm.wait("palisade events --json | grep '\"hog\"' | grep 'out of memory'", CAP).unwrap();
    let status = vm.run("palisade status hog --json").unwrap().stdout;
    assert!(status.contains("out of memory"), "{status}");

    // A child of `family` is killed; its main process and the other child go on.
    vm.ok("palisade start family").unwrap();
    let family = pid_of(&vm, "family");
    vm.wait("dmesg | grep 'oom-kill:constraint=CONSTRAINT_MEMCG' | grep p.family", CAP).unwrap();
    vm.wait(&format!("grep -qx 'oom_kill 1' {CGROUP}/p.family/memory.events"), CAP).unwrap();
    assert_eq!(pid_of(&vm, "family"), family);

    // Processor: a fifth of one, over a second of its own work.
    vm.ok("palisade start spinner").unwrap();
    assert_eq!(vm.ok(&format!("cat {CGROUP}/p.spinner/cpu.max")).unwrap(), "20000 100000");
    let throttled = "awk '/^nr_throttled/ { exit $2 < 10 }'";
    vm.wait(&format!("{throttled} {CGROUP}/p.spinner/cpu.stat"), CAP).unwrap();
    let share = vm
        .ok(&format!(
            "s() {{ cut -d' ' -f1 /proc/uptime; awk '/^usage_usec/ {{ print $2 }}' {CGROUP}/p.spinner/cpu.stat; }}; \
             a=$(s); sleep 5; b=$(s); echo $a $b | awk '{{ printf \"%d\", ($4 - $2) / ($3 - $1) / 10000 }}'"
        ))
        .unwrap();
    say(&format!("a program with 20 % of a processor got {share} %"));
    assert!((5..=25).contains(&share.parse::<i32>().unwrap()), "{share}");
    vm.ok("palisade stop spinner").unwrap();

    // Processes: the ninth is refused.
    vm.run("palisade start forker").unwrap();
    assert_eq!(vm.ok(&format!("cat {CGROUP}/p.forker/pids.max")).unwrap(), "8");
    vm.wait(&format!("awk '/^max/ {{ exit $2 == 0 }}' {CGROUP}/p.forker/pids.events"), CAP)
        .unwrap();
    let count = vm.ok(&format!("cat {CGROUP}/p.forker/pids.current")).unwrap();
    assert!(count.parse::<u32>().unwrap() <= 8, "{count}");

    assert_eq!(pid_of(&vm, "bystander"), bystander);
    assert_eq!(main_pid(&vm), agent);
    assert_eq!(property(&vm, "NRestarts"), "0");
    assert_eq!(property(&vm, "ActiveState"), "active");
}

#[test]
fn a_killed_agent_gets_its_descriptors_back_and_all_comes_back_after_a_reboot() {
    let Some(mut vm) = with_agent(TALKING) else { return };
    let (counter, web, agent) = (pid_of(&vm, "counter"), pid_of(&vm, "web"), main_pid(&vm));
    let listens = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8000), 20)'";
    vm.ok(listens).unwrap();
    assert_ne!(property(&vm, "NFileDescriptorStore"), "0");

    vm.ok(&format!("kill -KILL {agent}")).unwrap();
    vm.wait("test $(systemctl show -P NRestarts palisade) = 1 && palisade status web counter", CAP)
        .unwrap();
    assert_ne!(main_pid(&vm), agent);
    assert_eq!(pid_of(&vm, "counter"), counter);
    assert_eq!(pid_of(&vm, "web"), web);
    vm.ok(listens).unwrap();
    // In its own cgroup again, and limits are in force for what lived through it.
    let own = vm.ok(&format!("cat /proc/{}/cgroup", main_pid(&vm))).unwrap();
    assert!(own.ends_with("/palisade.service/agent"), "{own}");
    for (file, value) in
        [("memory.max", "104857600"), ("cpu.max", "50000 100000"), ("pids.max", "20")]
    {
        assert_eq!(vm.ok(&format!("cat {CGROUP}/p.counter/{file}")).unwrap(), value, "{file}");
    }
    // Lines from before, during and after: each number once, in order.
    let lines = vm.ok("wc -l < /var/log/counter.log").unwrap().parse::<u64>().unwrap();
    vm.wait(&format!("test $(wc -l < /var/log/counter.log) -gt {}", lines + 40), CAP).unwrap();
    vm.ok("awk '$1 != NR - 1 { print \"line\", NR, \"is\", $0; exit 1 }' /var/log/counter.log")
        .unwrap();

    let boot = vm.ok("cat /proc/sys/kernel/random/boot_id").unwrap();
    let start = Instant::now();
    vm.reboot().unwrap();
    vm.wait("palisade status web counter", CAP).unwrap();
    say(&format!("rebooted, with all programs running, in {:.1?}", start.elapsed()));
    assert_ne!(vm.ok("cat /proc/sys/kernel/random/boot_id").unwrap(), boot);
    assert_eq!(property(&vm, "NRestarts"), "0");
    vm.ok(listens).unwrap();
    let end = vm.ok("journalctl -b -1 -u palisade -o cat | tail -n 40").unwrap();
    assert!(!end.contains("SIGKILL"), "the agent was killed at shutdown: {end}");
}

/// A guest with the package installed and the agent running; `None` if there is nothing to try with.
fn with_agent(config: &str) -> Option<Vm> {
    let deb = deb_or_skip()?;
    let kit = kit_or_skip()?;
    let vm = Vm::restore(&kit, &Options::default()).unwrap();
    vm.copy_in(&deb, "/root/palisade.deb").unwrap();
    vm.ok("mkdir -p /etc/palisade").unwrap();
    vm.write("/etc/palisade/palisade.yaml", config).unwrap();
    let start = Instant::now();
    vm.ok("dpkg -i /root/palisade.deb").unwrap();
    vm.wait("systemctl is-active palisade", CAP).unwrap_or_else(|e| {
        panic!("{e:#}: {:?}", vm.ok("journalctl -u palisade -o cat | tail -n 30"))
    });
    say(&format!("installed and running in {:.1?}", start.elapsed()));
    Some(vm)
}

/// The pid of a process that is running, waited for.
fn pid_of(vm: &Vm, name: &str) -> u32 {
    let ask = "import json, sys; s, = json.load(sys.stdin); assert s[\"state\"] == \"RUNNING\", s; print(s[\"pid\"])";
    let pid = vm.wait(&format!("palisade status {name} --json | python3 -c '{ask}'"), CAP).unwrap();
    pid.parse().unwrap()
}

fn main_pid(vm: &Vm) -> u32 {
    property(vm, "MainPID").parse().unwrap()
}

fn property(vm: &Vm, name: &str) -> String {
    vm.ok(&format!("systemctl show -P {name} palisade.service")).unwrap()
}

/// Seconds since 1970 on this machine.
#[expect(clippy::disallowed_methods, reason = "compared with a guest's clock")]
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}
