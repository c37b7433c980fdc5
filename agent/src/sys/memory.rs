//! How much memory there is.

use std::fs;

const KIB: u64 = 1024;

/// Bytes that new processes can have without anything being written to swap.
#[must_use]
pub fn available() -> Option<u64> {
    in_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn in_meminfo(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * KIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_to_the_byte() {
        let text = "MemTotal:  8000 kB\nMemFree:  100 kB\nMemAvailable:   4096 kB\n";
        assert_eq!((in_meminfo(text), in_meminfo("MemTotal: 1 kB")), (Some(4096 * KIB), None));
        assert!(available().is_some_and(|bytes| bytes > KIB));
    }
}
