//! Time since boot.

use nix::time::{ClockId, clock_gettime};

use super::proc;
use crate::firewall::safety::BootClock;

/// `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelBootClock;

impl BootClock for KernelBootClock {
    fn now(&self) -> u64 {
        // It cannot fail on a kernel that is supported; the end of time would end every trial.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(u64::MAX, |t| {
            let seconds = u64::try_from(t.tv_sec()).unwrap_or(u64::MAX);
            let millis = u64::try_from(t.tv_nsec() / 1_000_000).unwrap_or(0);
            seconds.saturating_mul(1000).saturating_add(millis)
        })
    }

    fn boot_id(&self) -> String {
        proc::boot_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_on_within_one_boot() {
        let (before, boot) = (KernelBootClock.now(), KernelBootClock.boot_id());
        assert!(before > 0 && before < u64::MAX && !boot.is_empty());
        assert!(KernelBootClock.now() >= before);
        assert_eq!(KernelBootClock.boot_id(), boot);
    }
}
