//! Keeps the memory of this process, where keys and tokens are, away from other programs of the same
//! user and out of core dumps.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// No core dumps of this process, and no `ptrace` or `/proc/PID/mem` by other programs of its user.
/// Best effort: where the kernel refuses, the tool works on.
pub(crate) fn harden() {
    // Only the soft limit, so that a shell which the user starts may raise it again.
    let hard = getrlimit(Resource::RLIMIT_CORE).map(|(_, hard)| hard);
    setrlimit(Resource::RLIMIT_CORE, 0, hard.unwrap_or(0)).unwrap_or_default();
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_it_the_process_cannot_be_dumped() {
        harden();
        #[cfg(target_os = "linux")]
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
        let (soft, _) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert_eq!(soft, 0);
    }
}
