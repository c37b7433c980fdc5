//! What processes and all that they started use, in one pass over `/proc` for all of them.
//!
//! Where a process has a cgroup, the kernel counts for it: CPU always, memory where it has that
//! controller. Else the figures are added up over the processes that are its own: those in its cgroup,
//! in its process group, and what these started. A page that two of them share then counts twice; the
//! kernel's proportional count would cost a walk over all pages.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Read as _,
    path::Path,
    time::Duration,
};

use palisade_types::{Counted, ProcessName};

use super::{
    cgroup::{Cgroups, Counts},
    proc,
};
use crate::supervise::Reading;

/// The longest line of `/proc/PID/stat` that is read; what matters stands in its first half.
const STAT_BYTES: usize = 1024;

/// What one look at a process tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    pid: i32,
    parent: i32,
    group: i32,
    start_ticks: u64,
    /// Its own time and that of children it has waited for.
    cpu_ticks: u64,
    pages: u64,
}

/// What is added up for one of the processes asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    cpu_ticks: u64,
    pages: u64,
    processes: u32,
}

/// Reads what these processes use. One that is no more is left out.
pub(super) fn read(cgroups: &Cgroups, of: &[(ProcessName, i32)]) -> BTreeMap<ProcessName, Reading> {
    let own = cgroups.of_pids(of.iter().map(|(_, pid)| *pid));
    let counts: Vec<Option<Counts>> =
        own.into_iter().map(|cgroup| cgroup.and_then(|c| c.counts())).collect();
    let is_all_counted = counts.iter().all(|c| c.as_ref().is_some_and(|c| c.memory.is_some()));
    let pids = if is_all_counted { of.iter().map(|(_, pid)| *pid).collect() } else { proc::pids() };
    let mut text = [0; STAT_BYTES];
    let seen: Vec<Seen> = pids.into_iter().filter_map(|pid| look(pid, &mut text)).collect();
    let mut seeds = HashMap::new();
    for (owner, ((_, pid), counts)) in of.iter().zip(&counts).enumerate() {
        let inside = counts.iter().flat_map(|c| &c.pids);
        seeds.extend(inside.chain([pid]).map(|pid| (*pid, owner)));
    }
    let leaders: Vec<i32> = of.iter().map(|(_, pid)| *pid).collect();
    let sums = add_up(&seen, seeds, &leaders);
    let units = Units::of_this_host();
    let starts: HashMap<i32, u64> = seen.iter().map(|s| (s.pid, s.start_ticks)).collect();
    of.iter()
        .zip(counts)
        .zip(sums)
        .filter_map(|(((name, pid), counts), sum)| {
            let start_ticks = *starts.get(pid)?;
            Some((name.clone(), units.reading(start_ticks, counts, sum)))
        })
        .collect()
}

fn look(pid: i32, text: &mut [u8; STAT_BYTES]) -> Option<Seen> {
    let mut file = fs::File::open(format!("/proc/{pid}/stat")).ok()?;
    let length = file.read(text).ok()?;
    parse(pid, text.get(..length)?)
}

/// The name in brackets may hold anything, so fields are counted from its last bracket.
fn parse(pid: i32, stat: &[u8]) -> Option<Seen> {
    let end = memchr::memrchr(b')', stat)?;
    let text = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let mut fields = fields.skip(8);
    let mut cpu_ticks = 0_u64;
    for _ in 0..4 {
        // Of children it waited for, the kernel's figures are signed.
        cpu_ticks += fields.next()?.parse::<i64>().ok()?.max(0).unsigned_abs();
    }
    let mut fields = fields.skip(4);
    let start_ticks = fields.next()?.parse().ok()?;
    let pages = fields.nth(1)?.parse::<i64>().ok()?.max(0).unsigned_abs();
    Some(Seen { pid, parent, group, start_ticks, cpu_ticks, pages })
}

/// Gives each process seen to the one asked for that it is of, and adds up. `seeds` says of which some
/// are; a process is also of the one whose process group it is in, or else of its parent's.
fn add_up(seen: &[Seen], seeds: HashMap<i32, usize>, leaders: &[i32]) -> Vec<Sum> {
    let by_pid: HashMap<i32, &Seen> = seen.iter().map(|s| (s.pid, s)).collect();
    let groups: HashMap<i32, usize> = leaders.iter().enumerate().map(|(n, p)| (*p, n)).collect();
    let mut owners: HashMap<i32, Option<usize>> =
        seeds.into_iter().map(|(pid, owner)| (pid, Some(owner))).collect();
    let mut sums = vec![Sum::default(); leaders.len()];
    let mut way = Vec::new();
    for s in seen {
        let mut at = s.pid;
        let owner = loop {
            if let Some(known) = owners.get(&at) {
                break *known;
            }
            let Some(here) = by_pid.get(&at) else { break None };
            way.push(at);
            // Noted before the answer is known: a circle, which pids used anew meanwhile can make, ends.
            owners.insert(at, None);
            match groups.get(&here.group) {
                Some(owner) => break Some(*owner),
                None => at = here.parent,
            }
        };
        owners.extend(way.drain(..).map(|pid| (pid, owner)));
        if let Some(sum) = owner.and_then(|n| sums.get_mut(n)) {
            sum.cpu_ticks += s.cpu_ticks;
            sum.pages += s.pages;
            sum.processes += 1;
        }
    }
    sums
}

/// What the kernel's figures are in.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page_bytes: u64,
}

impl Units {
    fn of_this_host() -> Self {
        use nix::unistd::{SysconfVar, sysconf};
        let ask = |what, usual| {
            let told = sysconf(what).ok().flatten().and_then(|n| u64::try_from(n).ok());
            told.filter(|n| *n > 0).unwrap_or(usual)
        };
        Self {
            ticks_per_second: ask(SysconfVar::CLK_TCK, 100),
            page_bytes: ask(SysconfVar::PAGE_SIZE, 4096),
        }
    }

    fn reading(self, start_ticks: u64, counts: Option<Counts>, sum: Sum) -> Reading {
        let counts = counts.unwrap_or_default();
        let summed =
            Duration::from_millis(sum.cpu_ticks.saturating_mul(1000) / self.ticks_per_second);
        let resident = sum.pages.saturating_mul(self.page_bytes);
        let inside = u32::try_from(counts.pids.len()).unwrap_or(u32::MAX);
        Reading {
            start_ticks,
            cpu: counts.cpu.unwrap_or(summed),
            memory: counts.memory.unwrap_or(resident),
            counted: if counts.memory.is_some() { Counted::Cgroup } else { Counted::Resident },
            processes: sum.processes.max(inside),
        }
    }
}

/// The figures of a cgroup's files: `cpu.stat`, and of `memory.current` what the kernel cannot drop at
/// once, as the file pages that nobody used lately (`memory.stat`) are no need of the program's.
pub(super) fn counts(dir: &Path) -> Option<Counts> {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).ok()?;
    let file = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let cpu = file("cpu.stat").and_then(|t| field(&t, "usage_usec ")).map(Duration::from_micros);
    let memory = file("memory.current").and_then(|t| t.trim().parse::<u64>().ok()).map(|current| {
        let stat = file("memory.stat").unwrap_or_default();
        current.saturating_sub(field(&stat, "inactive_file ").unwrap_or(0))
    });
    Some(Counts { pids: procs.lines().filter_map(|l| l.parse().ok()).collect(), cpu, memory })
}

fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    use super::*;
    use crate::{supervise::Cgroup, sys::files::write_atomic};

    fn seen(pid: i32, parent: i32, group: i32, pages: u64) -> Seen {
        Seen { pid, parent, group, start_ticks: 1, cpu_ticks: pages, pages }
    }

    fn pages(sums: &[Sum]) -> Vec<(u64, u32)> {
        sums.iter().map(|s| (s.pages, s.processes)).collect()
    }

    #[test]
    fn a_line_of_the_kernels_is_read_from_the_last_bracket() {
        let line =
            "42 (a) b (c) S 7 41 42 0 -1 4194560 1 2 3 4 50 6 -7 8 20 0 1 0 12345 99000 33 1";
        assert_eq!(
            parse(42, line.as_bytes()),
            Some(Seen {
                pid: 42,
                parent: 7,
                group: 41,
                start_ticks: 12345,
                cpu_ticks: 64,
                pages: 33
            })
        );
        assert_eq!(parse(1, b"1 (x) S 1 1"), None);
        assert_eq!(parse(1, b"nothing"), None);
    }

    #[test]
    fn children_of_children_count_and_strangers_do_not() {
        let all = [
            seen(1, 0, 1, 1000),
            // Before its parent in the list.
            seen(12, 11, 12, 4),
            seen(10, 1, 10, 1),
            seen(11, 10, 11, 2),
            seen(20, 1, 20, 8),
            seen(30, 1, 30, 16),
        ];
        let sums = add_up(&all, HashMap::from([(10, 0), (20, 1)]), &[10, 20]);
        assert_eq!(pages(&sums), [(7, 3), (8, 1)]);
    }

    #[test]
    fn an_orphan_counts_by_its_process_group_or_by_its_cgroup() {
        // Both lost their parent to init; the second one left the group too, and only the cgroup knows.
        let all = [seen(10, 1, 10, 1), seen(11, 1, 10, 2), seen(12, 1, 12, 4), seen(13, 12, 12, 8)];
        assert_eq!(pages(&add_up(&all, HashMap::from([(10, 0)]), &[10])), [(3, 2)]);
        assert_eq!(pages(&add_up(&all, HashMap::from([(10, 0), (12, 0)]), &[10])), [(15, 4)]);
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let all = [seen(10, 1, 10, 1), seen(21, 22, 21, 2), seen(22, 21, 22, 4)];
        assert_eq!(pages(&add_up(&all, HashMap::from([(10, 0)]), &[10])), [(1, 1)]);
    }

    #[test]
    fn a_cgroups_own_figures_are_without_what_can_be_dropped() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(counts(dir.path()), None, "no cgroup");
        let write = |name: &str, text: &str| {
            write_atomic(&dir.path().join(name), text.as_bytes(), 0o600).unwrap();
        };
        write("cgroup.procs", "5\n6\n");
        write("cpu.stat", "usage_usec 1500000\nuser_usec 1\n");
        let only_cpu =
            Counts { pids: vec![5, 6], cpu: Some(Duration::from_millis(1500)), memory: None };
        assert_eq!(counts(dir.path()), Some(only_cpu.clone()));
        write("memory.current", "9000\n");
        write("memory.stat", "anon 1\ninactive_anon 7\ninactive_file 4000\nactive_file 1\n");
        assert_eq!(counts(dir.path()), Some(Counts { memory: Some(5000), ..only_cpu }));
    }

    #[test]
    fn a_real_tree_is_counted_whole_and_its_work_is_seen() {
        use std::os::unix::process::CommandExt as _;
        // Some work, a child, and a child with a child. By its first line all of them are there.
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 1000 &
            sh -c 'sleep 1000 & echo up; wait' & read x; kill 0";
        #[expect(clippy::disallowed_methods, reason = "a process to measure")]
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");

        let name: ProcessName = "web".parse().unwrap();
        let of = [
            (name.clone(), i32::try_from(child.id()).unwrap()),
            ("gone".parse().unwrap(), i32::MAX),
        ];
        let groups = Cgroups::open(&Cgroup::Off);
        let found = read(&groups, &of);
        drop(child.stdin.take());
        child.wait().unwrap();

        assert_eq!(found.len(), 1, "what is not there is left out: {found:?}");
        let reading = found[&name];
        assert_eq!((reading.processes, reading.counted), (4, Counted::Resident));
        assert!(reading.memory > 1 << 20, "{reading:?}");
        assert!(reading.cpu > Duration::ZERO, "{reading:?}");
        assert!(read(&groups, &of).is_empty(), "it ended");
    }
}
