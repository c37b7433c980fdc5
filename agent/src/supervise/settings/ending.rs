//! How long the end may take.

use std::{collections::BTreeMap, time::Duration};

use super::{ProcessSpec, Settings};

impl ProcessSpec {
    /// How long it may take to stop, up to the kill.
    #[must_use]
    pub fn longest_stop(&self) -> Duration {
        self.stopwaitsecs + self.stop_then.iter().map(|s| s.wait).sum::<Duration>()
    }
}

impl Settings {
    /// How long all processes may take to stop: one priority after the other, each as long as its slowest.
    #[must_use]
    pub fn longest_stop(&self) -> Duration {
        let mut slowest: BTreeMap<(i32, i32), Duration> = BTreeMap::new();
        for p in &self.processes {
            let level = slowest.entry((p.group_priority, p.priority)).or_default();
            *level = p.longest_stop().max(*level);
        }
        slowest.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::{super::StopStep, *};
    use crate::supervise::Cgroup;

    #[test]
    fn every_step_of_the_slowest_counts_and_levels_follow_each_other() {
        let wait = Duration::from_secs(60);
        let spec = |name: &str, group_priority, priority, steps| ProcessSpec {
            group_priority,
            priority,
            stopwaitsecs: Duration::from_secs(10),
            stop_then: vec![StopStep { signal: Signal::SIGQUIT, wait }; steps],
            ..ProcessSpec::new(
                name.parse().unwrap(),
                name.parse().unwrap(),
                name.parse().unwrap(),
                Vec::new(),
            )
        };
        let all = |processes| Settings {
            run_dir: "/run".into(),
            log_dir: "/log".into(),
            cgroup: Cgroup::Off,
            processes,
        };
        let beside = all(vec![spec("a", 1, 1, 0), spec("b", 1, 1, 2)]);
        assert_eq!(beside.longest_stop(), Duration::from_secs(130));
        let in_turn = all(vec![spec("a", 1, 1, 1), spec("b", 2, 1, 1), spec("c", 2, 2, 0)]);
        assert_eq!(in_turn.longest_stop(), Duration::from_secs(150));
    }
}
