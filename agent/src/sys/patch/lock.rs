//! Who works on Debian packages: dpkg's and apt's locks are record locks, which `flock` does not see.

use std::{fs::File, path::Path};

use nix::fcntl::{FcntlArg, fcntl};

/// In the order in which a package manager takes them.
const LOCKS: [&str; 2] = ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"];

/// The process that holds a lock, by number and name.
pub(super) fn holder() -> Option<String> {
    LOCKS.iter().find_map(|path| holder_of(Path::new(path)))
}

fn holder_of(path: &Path) -> Option<String> {
    // Only asked about, so reading is enough; a file that is not there nobody holds.
    let file = File::open(path).ok()?;
    let mut asked = libc::flock {
        // A read lock would be refused by a holder that writes, which package managers are.
        l_type: i16::try_from(libc::F_RDLCK).ok()?,
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut asked)).ok()?;
    if i32::from(asked.l_type) == libc::F_UNLCK {
        return None;
    }
    let pid = asked.l_pid;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(match name.trim() {
        "" => format!("process {pid}"),
        name => format!("process {pid} ({name})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nobody_locked_or_that_is_not_there_has_no_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(holder_of(&path), None);
        File::create(&path).unwrap();
        assert_eq!(holder_of(&path), None);
    }
}
