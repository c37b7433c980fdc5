//! What `/proc` says about processes.

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt as _, path::PathBuf};

/// The facts of `/proc/PID/stat` that tell a process from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Parent.
    pub parent: i32,
    /// Ticks since boot when it started.
    pub start_ticks: u64,
    /// How it ended, as wait(2) has it, while it is dead and not reaped by its parent; 0 too where we
    /// may not know.
    pub zombie_status: Option<i32>,
    /// Number of its controlling pseudo-terminal, where it has one.
    pub pts: Option<u32>,
}

/// Reads the facts of one process.
///
/// # Errors
/// When there is no such process.
pub fn stat(pid: i32) -> io::Result<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
        .ok_or_else(|| io::Error::other("/proc stat is not as expected"))
}

/// The name in brackets may hold anything, so fields are counted from its last bracket.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after) = text.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let is_zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    let tty = fields.nth(2)?.parse::<i64>().ok().and_then(|n| n.try_into().ok()).unwrap_or(0);
    let start_ticks = fields.nth(14)?.parse().ok()?;
    let zombie_status = fields.nth(29).and_then(|s| s.parse().ok()).filter(|_| is_zombie);
    Some(Stat { parent, start_ticks, zombie_status, pts: pts(tty) })
}

/// The pseudo-terminal of a device number: majors 136 to 143 are theirs, 2^20 minors each.
fn pts(tty: u32) -> Option<u32> {
    let major = tty >> 8 & 0xfff;
    let minor = tty & 0xff | tty >> 12 & 0xf_ff00;
    (136..=143).contains(&major).then(|| minor + ((major - 136) << 20))
}

/// The real user of a process.
#[must_use]
pub fn user_of(pid: i32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = text.lines().find_map(|l| l.strip_prefix("Uid:"))?;
    ids.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether a process is root's own: its real and its saved user. Its effective one may be another for a
/// while, as sshd's is while it waits for its helper.
#[must_use]
pub fn is_roots(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = text.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap_or_default();
    let ids: Vec<&str> = ids.split_ascii_whitespace().collect();
    matches!(ids.as_slice(), ["0", _, "0", _])
}

/// Which boot of the host this is; empty where the kernel does not say.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|s| s.trim().to_owned())
        .unwrap_or_default()
}

/// The cgroup v2 path of a process, below the mount.
#[must_use]
pub fn cgroup_of(pid: i32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::/"))?;
    Some(PathBuf::from(path))
}

/// One variable of the environment that a process was started with.
#[must_use]
pub fn variable(environ: &[u8], name: &str) -> Option<OsString> {
    environ.split(|b| *b == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(OsString::from_vec(value.to_vec()))
    })
}

/// The pids of all processes.
#[must_use]
pub fn pids() -> Vec<i32> {
    let Ok(dir) = fs::read_dir("/proc") else { return Vec::new() };
    dir.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_confuse() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 1";
        assert_eq!(
            parse_stat(text),
            Some(Stat { parent: 7, start_ticks: 12345, zombie_status: None, pts: None })
        );
        assert_eq!(parse_stat("nothing"), None);
    }

    #[test]
    fn a_pseudo_terminal_is_known_by_its_number() {
        assert_eq!(pts(136 << 8 | 3), Some(3));
        // The kernel's encoding puts the higher bits of a minor above the major.
        assert_eq!(pts(136 << 8 | 0x34 | 0x12 << 20), Some(0x1234));
        assert_eq!((pts(0), pts(4 << 8 | 1)), (None, None));
    }

    #[test]
    fn our_own_process_is_there() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(stat(pid).unwrap().start_ticks > 0);
        assert!(pids().contains(&pid));
        assert_eq!(user_of(pid), Some(nix::unistd::Uid::current().as_raw()));
        assert!(!boot_id().is_empty());
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environ = b"AB=1\0A=2\0C=\0";
        assert_eq!(variable(environ, "A"), Some("2".into()));
        assert_eq!(variable(environ, "C"), Some("".into()));
        assert_eq!(variable(environ, "B"), None);
    }
}
