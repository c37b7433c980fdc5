//! How long the end may take.

use std::{collections::BTreeMap, time::Duration};

use super::ProcessSpec;

impl ProcessSpec {
    /// How long it may take to stop, up to the kill.
    #[must_use]
    pub fn longest_stop(&self) -> Duration {
        self.stopwaitsecs + self.stop_then.iter().map(|s| s.wait).sum::<Duration>()
    }
}

/// How long all may take to stop, each with its priorities and its own longest stop: one priority after the
/// other, each as long as its slowest.
pub(in crate::supervise) fn longest_of_all(
    each: impl Iterator<Item = ((i32, i32), Duration)>,
) -> Duration {
    let mut slowest: BTreeMap<(i32, i32), Duration> = BTreeMap::new();
    for (priorities, longest) in each {
        let level = slowest.entry(priorities).or_default();
        *level = longest.max(*level);
    }
    slowest.values().sum()
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::{super::StopStep, *};

    #[test]
    fn every_step_of_the_slowest_counts_and_levels_follow_each_other() {
        let wait = Duration::from_secs(60);
        let spec = |steps| ProcessSpec {
            stopwaitsecs: Duration::from_secs(10),
            stop_then: vec![StopStep { signal: Signal::SIGQUIT, wait }; steps],
            ..crate::supervise::testutil::spec("a")
        };
        let of = |each: &[((i32, i32), usize)]| {
            longest_of_all(each.iter().map(|(level, steps)| (*level, spec(*steps).longest_stop())))
        };
        assert_eq!(of(&[((1, 1), 0), ((1, 1), 2)]), Duration::from_secs(130));
        assert_eq!(of(&[((1, 1), 1), ((2, 1), 1), ((2, 2), 0)]), Duration::from_secs(150));
    }
}
