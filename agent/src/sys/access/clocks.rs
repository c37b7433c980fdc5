//! The host's two clocks.

use nix::time::{ClockId, clock_gettime};

use crate::{
    access::{Boot, Clocks, Moment},
    clock::{SystemClock, WallClock as _},
};

/// The wall clock and `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClocks;

impl Clocks for SystemClocks {
    fn now(&self) -> Moment {
        // It cannot fail for a clock that every kernel has had since 2.6.39; the end of time would end
        // every grant.
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(u64::MAX, |t| {
            let seconds = u64::try_from(t.tv_sec()).unwrap_or(u64::MAX);
            let millis = u64::try_from(t.tv_nsec() / 1_000_000).unwrap_or(0);
            seconds.saturating_mul(1000).saturating_add(millis)
        });
        Moment { wall: SystemClock.now(), boot: Boot(boot) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_is_what_the_kernel_says_and_counts_on() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let now = SystemClocks.now();
        assert!(now.boot < Boot(u64::MAX));
        // In a time namespace /proc/uptime follows the same offset.
        #[expect(clippy::cast_precision_loss, reason = "an uptime is far below 2^52 ms")]
        let ours = now.boot.0 as f64 / 1000.0;
        assert!((ours - seconds).abs() < 5.0, "{ours} {seconds}");
        assert!(SystemClocks.now().boot >= now.boot);
    }
}
