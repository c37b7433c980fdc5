//! How many requests may be on their way at a time, over all lanes: a pure decision.
//!
//! The service counts requests of the whole account, so what one lane is told holds for all. The
//! window opens by one for each windowful of answers and halves when the service asks to slow down
//! (AIMD, as TCP does), once for all requests that were under way at that moment. Below one request
//! at a time, requests are spaced out instead.

use std::time::Duration;

use tokio::time::Instant;

/// Between two requests when the window is half a request; twice that for each halving more.
const SPACING: Duration = Duration::from_millis(100);
/// The window never gets smaller, so requests are never further apart than about six seconds.
const SMALLEST: f64 = 1.0 / 64.0;

#[derive(Debug)]
pub(super) struct Pace {
    window: f64,
    largest: f64,
    /// Answers that are still to come to requests sent before the last halving.
    echoes: usize,
    /// No request before this.
    next: Option<Instant>,
}

impl Pace {
    /// At most `largest` requests at a time, and so many until the service complains.
    pub(super) fn new(largest: u32) -> Self {
        let largest = f64::from(largest.max(1));
        Self { window: largest, largest, echoes: 0, next: None }
    }

    /// Whether one more request may be sent beside those on their way.
    pub(super) fn may_send(&self, on_their_way: usize, now: Instant) -> bool {
        let spaced = self.next.is_none_or(|at| at <= now);
        // At least one, or nothing would ever tell that the service is better.
        let others = f64::from(u32::try_from(on_their_way).unwrap_or(u32::MAX));
        let fits = on_their_way == 0 || others < self.window.floor();
        spaced && fits
    }

    /// When a request may be sent though nothing else happens.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// A request goes out.
    pub(super) fn sent(&mut self, now: Instant) {
        self.next = (self.window < 1.0).then(|| now + SPACING.div_f64(self.window * 2.0));
    }

    /// The service answered a request, other than by asking to slow down.
    pub(super) fn answered(&mut self) {
        self.echoes = self.echoes.saturating_sub(1);
        let step = if self.window < 1.0 { self.window } else { 1.0 / self.window };
        self.window = (self.window + step).min(self.largest);
        if self.window >= 1.0 {
            self.next = None;
        }
    }

    /// The service asked to slow down; `on_their_way` requests are still to be answered.
    pub(super) fn throttled(&mut self, on_their_way: usize, now: Instant) {
        if self.echoes > 0 {
            self.echoes -= 1;
            return;
        }
        self.window = (self.window / 2.0).max(SMALLEST);
        self.echoes = on_their_way;
        self.sent(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_halves_once_for_all_that_were_under_way_and_opens_again_by_steps() {
        let now = Instant::now();
        let mut pace = Pace::new(4);
        assert!(pace.may_send(3, now) && !pace.may_send(4, now));
        pace.throttled(3, now);
        for _ in 0..3 {
            pace.throttled(2, now);
        }
        assert!(pace.may_send(1, now) && !pace.may_send(2, now));
        pace.answered();
        assert!(!pace.may_send(2, now));
        pace.answered();
        pace.answered();
        assert!(pace.may_send(2, now) && !pace.may_send(3, now));
    }

    #[test]
    fn below_one_at_a_time_requests_are_spaced_out_but_never_stop() {
        let now = Instant::now();
        let mut pace = Pace::new(1);
        for _ in 0..50 {
            pace.throttled(0, now);
        }
        let next = pace.next().unwrap();
        assert!(!pace.may_send(0, now) && pace.may_send(0, next));
        assert!(next - now <= Duration::from_secs(7), "{:?}", next - now);
        pace.sent(next);
        assert!(!pace.may_send(0, next));
        for _ in 0..7 {
            pace.answered();
        }
        assert_eq!(pace.next(), None);
        assert!(pace.may_send(0, next));
    }

    proptest! {
        #[test]
        fn whatever_comes_it_stays_in_bounds_and_one_may_always_go_soon(
            steps in prop::collection::vec((any::<bool>(), 0_usize..8), 0..200)
        ) {
            let now = Instant::now();
            let mut pace = Pace::new(4);
            for (throttled, on_their_way) in steps {
                if throttled { pace.throttled(on_their_way, now) } else { pace.answered() }
                prop_assert!(!pace.may_send(4, now + Duration::from_secs(60)));
                prop_assert!(pace.may_send(0, now + Duration::from_secs(60)));
            }
        }
    }
}
