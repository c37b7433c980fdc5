//! How much memory there is, and giving back what is not needed.

use std::{ffi::c_void, fs, num::NonZeroUsize, os::unix::fs::MetadataExt as _, ptr::NonNull};

use nix::sys::mman::{MmapAdvise, madvise};

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

/// Takes our own code out of memory; what runs comes back page by page, most of it from the page cache.
/// Reading a configuration and beginning takes megabytes of code that nothing needs afterwards.
pub fn give_back_code() {
    let Ok(own) = fs::metadata("/proc/self/exe") else { return };
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (from, to) in maps.lines().filter_map(|line| code_of(own.ino(), line)) {
        let size = to.saturating_sub(from);
        let Some(at) = NonZeroUsize::new(from) else { continue };
        let at = NonNull::<c_void>::without_provenance(at);
        #[expect(unsafe_code, reason = "madvise is unsafe for the advice that drops pages")]
        // SAFETY: a private mapping of a file that can't be written to has no content of its own:
        // what is looked at again is read from the file again.
        let given_back = unsafe { madvise(at, size, MmapAdvise::MADV_DONTNEED) };
        if let Err(e) = given_back {
            tracing::debug!(error = %e, "code not given back");
        }
    }
}

/// Where a mapping is, if a line of `/proc/self/maps` shows it as code of the file with this number.
fn code_of(inode: u64, line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (place, access) = (words.next()?, words.next()?);
    let is_its = words.nth(2)?.parse() == Ok(inode);
    let (from, to) = place.split_once('-').filter(|_| is_its && access == "r-xp")?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(from)?, number(to)?))
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

    #[test]
    fn only_code_of_the_file_is_found() {
        let line = |access: &str| format!("5f00-6f10 {access} 00001000 fe:00 42       /bin/x y");
        assert_eq!(code_of(42, &line("r-xp")), Some((0x5f00, 0x6f10)));
        assert_eq!(code_of(42, &line("r--p")), None);
        assert_eq!(code_of(42, &line("rwxp")), None);
        assert_eq!(code_of(43, &line("r-xp")), None);
        assert_eq!(code_of(0, "7ff0-7ff1 r-xp 00000000 00:00 0"), Some((0x7ff0, 0x7ff1)));
    }

    /// Kilobytes of our own code that are in memory.
    fn resident() -> u64 {
        let own = fs::metadata("/proc/self/exe").unwrap().ino();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|l| code_of(own, l).is_none());
        let rss = lines.find_map(|l| l.strip_prefix("Rss:")).unwrap();
        rss.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    #[test]
    fn code_that_was_given_back_still_runs() {
        let before = resident();
        give_back_code();
        // By then some of it is back: this test, for one.
        assert!(resident() < before, "{} of {before}", resident());
    }
}
