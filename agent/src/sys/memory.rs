//! How much memory a process and all that it started use, and how much there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::proc;

const KIB: u64 = 1024;

/// Bytes that new processes can have without anything being written to swap.
#[must_use]
pub fn available() -> Option<u64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// Resident bytes of a process and of its descendants, added up: what they share counts in each.
#[must_use]
pub fn of_tree(pid: i32) -> Option<u64> {
    let own = resident(pid)?;
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for other in proc::pids() {
        if let Ok(stat) = proc::stat(other) {
            children.entry(stat.parent).or_default().push(other);
        }
    }
    let mut seen = BTreeSet::from([pid]);
    let mut open = vec![pid];
    let mut total = own;
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if seen.insert(*child) {
                total += resident(*child).unwrap_or(0);
                open.push(*child);
            }
        }
    }
    Some(total)
}

fn resident(pid: i32) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

/// A line of the form `NAME  123 kB`.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|l| l.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * KIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_process_has_that_of_what_it_started_in_it() {
        let own = i32::try_from(std::process::id()).unwrap();
        let alone = resident(own).unwrap();
        assert!(alone > 100 * KIB, "{alone}");
        assert!(of_tree(own).unwrap() >= resident(own).unwrap() / 2);
        assert!(available().unwrap() > KIB);
        assert_eq!(of_tree(i32::MAX), None);
    }

    #[test]
    fn a_line_of_proc_is_read_to_the_byte() {
        let text = "Name:\tx\nVmHWM:\t    9 kB\nVmRSS:\t    12 kB\n";
        assert_eq!((field(text, "VmRSS:"), field(text, "VmSwap:")), (Some(12 * KIB), None));
    }
}
