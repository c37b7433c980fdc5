//! The host's own figures for metrics: CPU, memory, disks, load, network, pressure.
//!
//! Each comes from one small file of `/proc` or from statvfs of a local disk. Nothing here asks a file
//! system of the network, which could hang. What is not there, or is not as expected, is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    io::Read as _,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

use crate::metrics::{
    CpuTicks, DiskFacts, HostFacts, HostSource, MemoryFacts, PressureFacts, Traffic,
};

/// As much of a file as is read; more than any of these has on a host with a few hundred mounts.
const MAX_BYTES: u64 = 256 << 10;
/// Disks that are told of, the first by name.
const MAX_DISKS: usize = 16;
/// Interfaces that are counted.
const MAX_INTERFACES: usize = 64;
const KIB: u64 = 1024;

/// This host.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisHost;

impl HostSource for ThisHost {
    fn read(&self) -> HostFacts {
        HostFacts {
            cpu: file("/proc/stat").and_then(|t| cpu(&t)),
            memory: file("/proc/meminfo").and_then(|t| memory(&t)),
            disks: disks(&file("/proc/self/mountinfo").unwrap_or_default()),
            load1: file("/proc/loadavg").and_then(|t| t.split(' ').next()?.parse().ok()),
            network: network(&file("/proc/net/dev").unwrap_or_default(), is_device),
            pressure: PressureFacts {
                cpu: file("/proc/pressure/cpu").and_then(|t| pressure(&t)),
                memory: file("/proc/pressure/memory").and_then(|t| pressure(&t)),
                io: file("/proc/pressure/io").and_then(|t| pressure(&t)),
            },
        }
    }
}

/// The text of a file, as far as it is read.
fn file(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    // Names of mounts may be anything; what matters here is ASCII.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Ticks of all CPUs: user nice system idle iowait irq softirq steal; guests' are in user and nice.
fn cpu(stat: &str) -> Option<CpuTicks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = ticks.get(3)?.saturating_add(*ticks.get(4)?);
    let all: u64 = ticks.iter().sum();
    Some(CpuTicks { busy: all.saturating_sub(idle), all })
}

fn memory(meminfo: &str) -> Option<MemoryFacts> {
    let of = |key: &str| -> Option<u64> {
        let rest = meminfo.lines().find_map(|l| l.strip_prefix(key))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(KIB)
    };
    Some(MemoryFacts { total: of("MemTotal:")?, available: of("MemAvailable:")? })
}

/// Bytes by interface: the machine's own devices where it has any, and else, as in a container, all but
/// the loopback. Bridges and the ends of containers would count the same bytes again.
fn network(dev: &str, is_device: impl Fn(&str) -> bool) -> BTreeMap<String, Traffic> {
    let mut all = BTreeMap::new();
    for line in dev.lines().skip(2).take(MAX_INTERFACES) {
        let Some((name, counts)) = line.split_once(':') else { continue };
        let counts: Vec<&str> = counts.split_ascii_whitespace().collect();
        let of = |i: usize| counts.get(i).and_then(|c| c.parse().ok());
        let (name, both) = (name.trim(), of(0).zip(of(8)));
        if let (Some((received, transmitted)), false) = (both, name == "lo") {
            all.insert(name.to_owned(), Traffic { received, transmitted });
        }
    }
    if all.keys().any(|name| is_device(name)) {
        all.retain(|name, _| is_device(name));
    }
    all
}

fn is_device(name: &str) -> bool {
    !name.contains('/') && Path::new("/sys/class/net").join(name).join("device").exists()
}

/// Share of the last ten seconds in which some task waited.
fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|l| l.strip_prefix("some "))?;
    let share = some.split(' ').find_map(|w| w.strip_prefix("avg10="))?;
    share.parse().ok().filter(|share| (0.0..=100.0).contains(share))
}

fn disks(mountinfo: &str) -> Vec<DiskFacts> {
    let mut disks = Vec::new();
    for mount in mounts(mountinfo) {
        let Ok(v) = statvfs(&mount) else { continue };
        let (all, free) = (v.blocks(), v.blocks_free());
        disks.push(DiskFacts {
            mount: mount.to_string_lossy().into_owned(),
            used: all.saturating_sub(free),
            available: v.blocks_available(),
        });
    }
    disks
}

/// Where the disks that matter are mounted: the root, whatever it is, and every file system on a local
/// device that can be written to, once, at its shortest path.
fn mounts(mountinfo: &str) -> BTreeSet<PathBuf> {
    let mut by_device: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let before: Vec<&str> = before.split(' ').collect();
        let mut after = after.split(' ');
        let (Some(kind), Some(device)) = (after.next(), after.next()) else { continue };
        let [_, _, number, root, mount, options, ..] = before.as_slice() else { continue };
        let mount = unescape(mount);
        // A part of a file system that is mounted by itself, as a container's files are, is no disk;
        // btrfs mounts its disks so.
        let is_whole = *root == "/" || kind == "btrfs";
        let is_local = device.starts_with("/dev/") && kind != "squashfs" && kind != "iso9660";
        let is_writable = options.split(',').any(|o| o == "rw");
        if mount != Path::new("/") && !(is_whole && is_local && is_writable) {
            continue;
        }
        let shortest = by_device.entry(number).or_insert_with(|| mount.clone());
        if mount.as_os_str().len() < shortest.as_os_str().len() {
            *shortest = mount;
        }
    }
    by_device.into_values().collect::<BTreeSet<_>>().into_iter().take(MAX_DISKS).collect()
}

/// The kernel writes spaces, tabs, line ends and backslashes as `\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let byte = code.and_then(|c| u8::from_str_radix(std::str::from_utf8(c).ok()?, 8).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_busy_or_idle_and_guests_count_once() {
        let text = "cpu  10 20 30 400 50 6 7 8 9 1\ncpu0 1 2 3 4 5 6 7 8 9 1\n";
        assert_eq!(cpu(text), Some(CpuTicks { busy: 81, all: 531 }));
        assert_eq!((cpu(""), cpu("cpu  1 x 3"), cpu("intr 1")), (None, None, None));
    }

    #[test]
    fn memory_that_is_not_told_is_not_guessed() {
        let text = "MemTotal:  8000 kB\nMemFree: 1 kB\nMemAvailable: 2000 kB\n";
        let facts = MemoryFacts { total: 8000 * KIB, available: 2000 * KIB };
        assert_eq!((memory(text), memory("MemTotal: 8000 kB\n")), (Some(facts), None));
    }

    #[test]
    fn bytes_are_those_of_devices_and_in_a_container_of_what_there_is() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  \
                    ens5: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\nveth1:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n";
        let seen = network(text, |name| name == "ens5");
        let ens5 = Traffic { received: 100, transmitted: 200 };
        assert_eq!(seen, [("ens5".to_owned(), ens5)].into());
        let seen = network(text, |_| false);
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["ens5", "veth1"]);
    }

    #[test]
    fn pressure_is_the_share_in_which_some_waited() {
        let text = "some avg10=1.25 avg60=0.10 avg300=0.00 total=5\nfull avg10=0.00 avg60=0\n";
        assert_eq!(
            (pressure(text), pressure("some avg10=no"), pressure("")),
            (Some(1.25), None, None)
        );
    }

    #[test]
    fn disks_are_what_is_local_and_can_fill_up() {
        let text = "\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw
23 22 0:20 / /proc rw,nosuid - proc proc rw
24 22 0:22 / /run rw,nosuid - tmpfs tmpfs rw
25 22 259:2 / /boot/efi rw - vfat /dev/nvme0n1p15 rw
26 22 7:0 / /snap/core ro - squashfs /dev/loop0 ro
27 22 259:3 / /data\\040of\\134us rw - xfs /dev/nvme1n1 rw
28 22 259:3 / /data\\040of\\134us/again rw - xfs /dev/nvme1n1 rw
29 22 259:1 /var/lib/docker/hosts /etc/hosts rw - ext4 /dev/nvme0n1p1 rw
30 22 0:50 / /mnt/share rw - nfs4 server:/share rw
31 22 259:9 / /archive ro - ext4 /dev/nvme9n1 ro
32 22 0:40 /@home /home rw - btrfs /dev/nvme2n1 rw
not a mount
";
        let seen: Vec<_> =
            mounts(text).into_iter().map(|p| p.to_string_lossy().into_owned()).collect();
        assert_eq!(seen, ["/", "/boot/efi", "/data of\\us", "/home"]);
        let container = "1 0 0:99 / / rw - overlay overlay rw\n\
                         2 1 259:1 /x/hosts /etc/hosts rw - ext4 /dev/nvme0n1p1 rw\n";
        assert_eq!(mounts(container).into_iter().collect::<Vec<_>>(), [PathBuf::from("/")]);
        let many: String =
            (0..99).map(|n| format!("1 0 8:{n} / /m{n:02} rw - ext4 /dev/sd{n} rw\n")).collect();
        assert_eq!(mounts(&many).len(), MAX_DISKS);
    }

    #[test]
    fn this_host_has_figures_that_can_be() {
        let facts = ThisHost.read();
        let cpu = facts.cpu.unwrap();
        assert!(cpu.busy > 0 && cpu.busy <= cpu.all, "{cpu:?}");
        let memory = facts.memory.unwrap();
        assert!(memory.available > 0 && memory.available <= memory.total, "{memory:?}");
        assert!(facts.load1.is_some_and(|l| l >= 0.0));
        assert!(
            facts.disks.iter().any(|d| d.mount == "/" && d.used + d.available > 0),
            "{facts:?}"
        );
    }
}
