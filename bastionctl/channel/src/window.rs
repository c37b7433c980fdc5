//! How many bytes may be under way: grows while acknowledgements are prompt, shrinks when they are
//! not. The channel itself has no flow control, and everything under way waits in somebody's queue.
//!
//! The signal is delay, not loss: TCP below loses nothing, and what a service drops it drops for its
//! own reasons.

use std::time::Duration;

/// Enough for a login and for the first burst of a copy.
const START: usize = 128 << 10;
const LEAST: usize = 32 << 10;
/// Delay over the shortest round trip that is still taken for a healthy queue.
const HEALTHY: Duration = Duration::from_millis(100);

/// The window, in bytes of frames.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    size: usize,
    most: usize,
    /// Above it growth is slow.
    threshold: usize,
    shrunk_at: Option<Duration>,
}

impl Window {
    /// A window that never exceeds `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.max(LEAST);
        Self { size: START.min(most), most, threshold: most, shrunk_at: None }
    }

    /// Bytes that may be under way.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// `acked` bytes came back after `sample`. `full` says whether the window was in use: an idle
    /// line teaches nothing.
    pub fn acked(
        &mut self,
        now: Duration,
        acked: usize,
        sample: Duration,
        least: Duration,
        full: bool,
    ) {
        if sample > least.saturating_mul(2) + HEALTHY {
            self.shrink(now, sample, 7, 10);
        } else if full {
            let step = if self.size < self.threshold {
                acked
            } else {
                acked.saturating_mul(16 << 10) / self.size.max(1)
            };
            self.size = (self.size + step).min(self.most);
        }
    }

    /// The service asked for a pause.
    pub fn paused(&mut self, now: Duration) {
        self.shrink(now, Duration::ZERO, 1, 2);
    }

    /// At most once for each round trip: all frames of one queue tell of the same delay.
    fn shrink(&mut self, now: Duration, round: Duration, times: usize, over: usize) {
        if self.shrunk_at.is_some_and(|at| now < at + round) {
            return;
        }
        self.shrunk_at = Some(now);
        self.size = (self.size * times / over).max(LEAST).min(self.most);
        self.threshold = self.size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn prompt_answers_open_it_up_to_its_limit_and_no_further() {
        let mut window = Window::new(1 << 20);
        for i in 0..10_000 {
            window.acked(i * MS, 1144, 2 * MS, MS, true);
            assert!(window.size() <= 1 << 20);
        }
        assert_eq!(window.size(), 1 << 20);
    }

    #[test]
    fn an_idle_line_does_not_open_it() {
        let mut window = Window::new(1 << 20);
        window.acked(MS, 1144, MS, MS, false);
        assert_eq!(window.size(), START);
    }

    #[test]
    fn one_queue_of_late_answers_shrinks_it_once() {
        let mut window = Window::new(4 << 20);
        for _ in 0..50 {
            window.acked(Duration::from_secs(9), 1144, 400 * MS, 10 * MS, true);
        }
        assert_eq!(window.size(), START * 7 / 10);
    }

    #[test]
    fn pauses_halve_it_and_leave_a_floor() {
        let mut window = Window::new(4 << 20);
        window.paused(MS);
        assert_eq!(window.size(), START / 2);
        for i in 0..20 {
            window.paused(i * MS);
        }
        assert_eq!(window.size(), LEAST);
    }
}
