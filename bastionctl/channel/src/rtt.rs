//! How long an acknowledgement takes, and from when on one counts as missing.
//!
//! The agent's own rule (RFC 6298 with its constants), plus Karn's: a frame that was sent twice says
//! nothing, and after a timeout the limit stays doubled until a frame sent once is acknowledged.

use std::time::Duration;

const START: Duration = Duration::from_millis(100);
/// The least time over the mean: neither end's clock is finer than its scheduler.
const LEAST_VARIANCE: Duration = Duration::from_millis(10);
/// The most that is waited before a frame is sent again.
pub(crate) const MOST: Duration = Duration::from_secs(1);

/// Estimator of the round trip.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    mean: Duration,
    variance: Duration,
    least: Option<Duration>,
    doubled: u32,
}

impl Default for Rtt {
    fn default() -> Self {
        Self { mean: START, variance: START / 4, least: None, doubled: 0 }
    }
}

impl Rtt {
    /// A frame that was sent once was acknowledged after `sample`.
    pub fn sample(&mut self, sample: Duration) {
        if self.least.is_none() {
            self.mean = sample;
            self.variance = sample / 2;
        } else {
            self.variance = self.variance * 3 / 4 + self.mean.abs_diff(sample) / 4;
            self.mean = self.mean * 7 / 8 + sample / 8;
        }
        self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
        self.doubled = 0;
    }

    /// Frames were overdue. Call it at most once for each limit that passed.
    pub fn timed_out(&mut self) {
        self.doubled = (self.doubled + 1).min(4);
    }

    /// From when on a frame is overdue.
    #[must_use]
    pub fn limit(&self) -> Duration {
        let limit = self.mean + (self.variance * 4).max(LEAST_VARIANCE);
        (limit * (1 << self.doubled)).min(MOST)
    }

    /// The smoothed round trip.
    #[must_use]
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// The shortest round trip seen on this path.
    #[must_use]
    pub fn least(&self) -> Duration {
        self.least.unwrap_or(self.mean)
    }

    /// The path is another one (a new socket): the old figures are only a first guess.
    pub fn new_path(&mut self) {
        *self = Self { variance: self.mean / 2, ..Self { mean: self.mean, ..Self::default() } };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn before_any_sample_the_limit_is_the_agents() {
        assert_eq!(Rtt::default().limit(), 200 * MS);
    }

    #[test]
    fn a_steady_path_has_a_limit_just_over_its_round_trip() {
        let mut rtt = Rtt::default();
        for _ in 0..100 {
            rtt.sample(40 * MS);
        }
        assert!((50 * MS..52 * MS).contains(&rtt.limit()), "{:?}", rtt.limit());
    }

    #[test]
    fn the_limit_doubles_until_a_frame_sent_once_is_acknowledged() {
        let mut rtt = Rtt::default();
        rtt.sample(40 * MS);
        let limit = rtt.limit();
        rtt.timed_out();
        assert_eq!(rtt.limit(), limit * 2);
        for _ in 0..20 {
            rtt.timed_out();
        }
        assert_eq!(rtt.limit(), MOST);
        rtt.sample(40 * MS);
        assert!(rtt.limit() <= limit);
    }
}
