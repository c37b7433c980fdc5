//! What only a kernel of its own can show: limits that bite, an out-of-memory kill, a reboot.

mod vm_common;

use std::time::{Duration, Instant};

use palisade_hosts::vm::{Options, Vm};

use crate::vm_common::{kit, say};

#[test]
fn a_guest_is_back_from_its_snapshot_and_survives_a_reboot_and_a_power_cut() {
    let Some(kit) = kit() else { return };
    let start = Instant::now();
    let mut vm = Vm::restore(&kit, &Options { name: "one".into(), ..Options::default() }).unwrap();
    say(&format!("restored in {:.1?}, {:.1} s of processor time", start.elapsed(), vm.cpu_seconds().unwrap()));
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
    say(&format!("booted in {:.1?}, {:.1} s of processor time", start.elapsed(), vm.cpu_seconds().unwrap()));
    assert_ne!(vm.ok("cat /proc/sys/kernel/random/boot_id").unwrap(), boot);
    assert_eq!(vm.ok("cat /root/kept").unwrap(), "kept");
    let state = vm.run("systemctl is-system-running --wait").unwrap();
    assert_eq!(String::from_utf8_lossy(&state.stdout).trim(), "running", "{:?}", vm.ok("systemctl --failed"));
}

#[expect(clippy::disallowed_methods, reason = "compared with the guest's clock")]
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// Kept so that the harness's bound is one number.
#[expect(dead_code, reason = "used by the tests of the agent")]
const CAP: Duration = Duration::from_secs(120);
