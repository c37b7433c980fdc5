//! How often things are tried: pure decisions about time, each with its bound.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Repairs in [`STORM_WINDOW`] beyond which there is a storm.
const STORM_REPAIRS: usize = 5;
/// The window for counting repairs, and the time between repairs in a storm.
const STORM_WINDOW: Duration = Duration::from_secs(60);
/// First wait after a failed read of a list.
const FIRST_RETRY: Duration = Duration::from_secs(15);
/// Longest wait after failed reads of a list, if it is not read more seldom anyway.
const MAX_RETRY: Duration = Duration::from_secs(900);
/// First and longest wait after the kernel refused.
const KERNEL_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Counts repairs, so that a fight with another program costs us one repair a minute and not a core.
#[derive(Debug, Default)]
pub(super) struct Repairs(VecDeque<Instant>);

impl Repairs {
    /// When the next repair may be made: now, or later in a storm.
    pub(super) fn allowed_at(&mut self, now: Instant) -> Instant {
        while self.0.front().is_some_and(|t| now.duration_since(*t) >= STORM_WINDOW) {
            self.0.pop_front();
        }
        match self.0.back() {
            Some(last) if self.0.len() >= STORM_REPAIRS => *last + STORM_WINDOW,
            _ => now,
        }
    }

    /// A repair was made.
    pub(super) fn made(&mut self, now: Instant) {
        if self.0.len() >= STORM_REPAIRS {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }
}

/// The wait before a list is read again: `every`, or less after failures, give or take a tenth so
/// that hosts started together do not ask together. `random` is any number.
pub(super) fn next_read(every: Duration, failures: u32, random: u64) -> Duration {
    let base = match failures {
        0 => every,
        n => {
            let grown = FIRST_RETRY.saturating_mul(1 << (n - 1).min(10));
            grown.min(MAX_RETRY).min(every)
        }
    };
    let tenths = 0.9 + 0.2 * f64::from(u16::try_from(random % 1000).unwrap_or(0)) / 1000.0;
    base.mul_f64(tenths)
}

/// The wait before the kernel is asked again.
pub(super) fn kernel_retry(failures: u32) -> Duration {
    let (first, longest) = KERNEL_RETRY;
    first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_sixth_repair_in_a_minute_waits_and_calm_ends_the_storm() {
        let mut repairs = Repairs::default();
        let start = Instant::now();
        for i in 0..5 {
            let now = start + Duration::from_secs(i);
            assert_eq!(repairs.allowed_at(now), now);
            repairs.made(now);
        }
        let now = start + Duration::from_secs(6);
        assert_eq!(repairs.allowed_at(now), start + Duration::from_secs(64));
        let later = start + Duration::from_secs(64);
        assert_eq!(repairs.allowed_at(later), later);
    }

    #[test]
    fn waits_grow_to_their_bound_and_no_further() {
        let every = Duration::from_secs(900);
        for (failures, base) in [(0, 900), (1, 15), (2, 30), (4, 120), (30, 900), (u32::MAX, 900)] {
            for random in [0, 500, 999] {
                let wait = next_read(every, failures, random).as_secs_f64();
                let base = f64::from(base);
                assert!((base * 0.9..=base * 1.1).contains(&wait), "{failures}: {wait}");
            }
        }
        assert_eq!(kernel_retry(1), Duration::from_secs(1));
        assert_eq!(kernel_retry(u32::MAX), Duration::from_secs(60));
    }
}
