//! How often is too often: restarts that come in a storm, and repairs that do not help.
//!
//! Two small counters, each of a fixed size whatever happens: [`Storm`] slows a program down that
//! comes up and ends again and again, [`Pace`] spaces what the agent itself does about a program.

use std::time::Duration;

use palisade_types::ProcessName;
use tokio::time::Instant;

use super::RESTARTS_PER_MINUTE;

const MINUTE: Duration = Duration::from_secs(60);

/// The longest wait before a restart in a storm.
pub(super) const SLOWEST: Duration = MINUTE;

/// A storm is over once the program stayed up for so long.
pub(super) const CALM: Duration = MINUTE;

/// The most by which restarts can be ahead of the rate that is allowed: no rate is less than one a minute.
pub(super) const LONGEST_DEBT: Duration = Duration::from_secs(120);

/// The waits of a [`Pace`]: the first, and the longest.
const PACE_MIN: Duration = Duration::from_secs(10);
const PACE_MAX: Duration = Duration::from_secs(600);

/// The longest wait of any program: its own share comes on top.
pub(super) const LONGEST_PACE: Duration = Duration::from_secs(750);

/// Restarts of a program that came up and ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Storm {
    /// When the restarts so far would be over if they came at the rate that is allowed.
    pub(super) paid_until: Option<Instant>,
    /// Restarts in this storm; 0 for none.
    pub(super) restarts: u32,
    /// When the storm is over, if the program stays up till then.
    pub(super) calm_at: Option<Instant>,
}

impl Storm {
    /// One more restart at `now`: how long it is to wait, and whether a storm begins with it.
    pub(super) fn restart(&mut self, now: Instant, per_minute: Option<u32>) -> (Duration, bool) {
        self.calm_at = None;
        let per_minute = per_minute.unwrap_or(RESTARTS_PER_MINUTE);
        if per_minute == 0 {
            return (Duration::ZERO, false);
        }
        if self.restarts > 0 {
            let wait = Duration::from_secs(1 << self.restarts.min(6)).min(SLOWEST);
            self.restarts = self.restarts.saturating_add(1);
            return (wait, false);
        }
        let paid = self.paid_until.map_or(now, |t| t.max(now)) + MINUTE / per_minute;
        self.paid_until = Some(paid);
        if paid <= now + MINUTE {
            return (Duration::ZERO, false);
        }
        self.restarts = 1;
        (Duration::from_secs(1), true)
    }

    /// It is up.
    pub(super) fn is_up(&mut self, now: Instant) {
        self.calm_at = (self.restarts > 0).then(|| now + CALM);
    }

    /// When to ask [`Self::passed`].
    pub(super) fn due(&self) -> Option<Instant> {
        self.calm_at
    }

    /// Restarts in the storm that is over now, if one is.
    pub(super) fn passed(&mut self, now: Instant) -> Option<u32> {
        self.calm_at.filter(|t| *t <= now)?;
        self.end()
    }

    /// Ends a storm by decree: somebody stopped or started the program.
    pub(super) fn end(&mut self) -> Option<u32> {
        let restarts = std::mem::take(self).restarts;
        (restarts > 0).then_some(restarts)
    }
}

/// Repairs of a program: each that did not help doubles the time to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) not_before: Option<Instant>,
    pub(super) in_vain: u32,
}

impl Pace {
    /// Whether to go on at `now`, which then counts as a try. Programs that fall ill together are not
    /// repaired together again: each has its own waits.
    pub(super) fn may(&mut self, now: Instant, who: &ProcessName) -> bool {
        if self.not_before.is_some_and(|t| now < t) {
            return false;
        }
        let wait = PACE_MIN.saturating_mul(1 << self.in_vain.min(6)).min(PACE_MAX);
        self.in_vain = self.in_vain.saturating_add(1);
        self.not_before = Some(now + wait + wait.mul_f64(own_share(who)));
        true
    }

    /// The last repair helped.
    pub(super) fn helped(&mut self) {
        self.in_vain = 0;
    }
}

/// Up to a quarter, the same for a name at any time.
fn own_share(who: &ProcessName) -> f64 {
    let hash = who.as_str().bytes().fold(17_u32, |h, b| h.wrapping_mul(31) ^ u32::from(b));
    f64::from(hash % 1000) / 4000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_hundred_restarts_at_once_are_no_storm_and_one_a_second_never_is() {
        let now = Instant::now();
        let mut storm = Storm::default();
        for _ in 0..100 {
            assert_eq!(storm.restart(now, None), (Duration::ZERO, false));
        }
        let mut storm = Storm::default();
        for s in 0..1000 {
            assert_eq!(storm.restart(now + secs(s), None), (Duration::ZERO, false), "after {s}s");
        }
    }

    #[test]
    fn a_storm_begins_once_slows_down_to_one_a_minute_and_ends_once() {
        let mut now = Instant::now();
        let mut storm = Storm::default();
        let mut began = 0;
        let mut waits = Vec::new();
        for _ in 0..20 {
            let (wait, begins) = storm.restart(now, Some(10));
            began += u32::from(begins);
            waits.push(wait.as_secs());
            now += wait;
            storm.is_up(now);
            assert_eq!(storm.passed(now + CALM - secs(1)), None);
        }
        assert_eq!(began, 1);
        assert_eq!(waits.get(9..), Some([0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60].as_slice()));
        assert_eq!(storm.due(), Some(now + CALM));
        assert_eq!((storm.passed(now + CALM), storm.passed(now + CALM)), (Some(10), None));
        assert_eq!(storm.restart(now + CALM, Some(10)), (Duration::ZERO, false), "forgotten");
    }

    #[test]
    fn no_rate_is_too_high_where_none_is_set() {
        let now = Instant::now();
        let mut storm = Storm::default();
        assert!((0..10_000).all(|_| storm.restart(now, Some(0)).0.is_zero()));
    }

    #[test]
    fn repairs_in_vain_come_ever_later_and_programs_do_not_march_in_step() {
        let start = Instant::now();
        let tries = |name: &str| {
            let (name, mut pace) = (name.parse().unwrap(), Pace::default());
            (0..3600).filter(|s| pace.may(start + secs(*s), &name)).collect::<Vec<_>>()
        };
        let (web, api) = (tries("web"), tries("api"));
        assert!(web.len() <= 12, "{web:?}");
        assert!(web.windows(3).take(4).all(|w| w[2] - w[1] > w[1] - w[0]), "{web:?}");
        assert_ne!(web, api);
        let mut pace = Pace::default();
        let name = "web".parse().unwrap();
        assert!(pace.may(start, &name) && !pace.may(start + secs(9), &name));
        pace.helped();
        assert!(pace.may(start + secs(13), &name) && pace.may(start + secs(26), &name));
    }
}
