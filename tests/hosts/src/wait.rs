//! Waiting for a fact, with a bound.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Pause between two looks at a fact. A look is often a process of its own.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until `fact` gives something, for at most `cap`.
pub fn try_for<T>(cap: Duration, mut fact: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = fact() {
            return Some(found);
        }
        if start.elapsed() > cap {
            return None;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// As [`try_for`], where a test fails without it.
///
/// # Panics
/// When the time is over; `what` says at what.
pub fn wait_for<T>(what: &str, cap: Duration, fact: impl FnMut() -> Option<T>) -> T {
    try_for(cap, fact).unwrap_or_else(|| panic!("waited {cap:?} for {what}"))
}

/// Waits until `fact` holds.
///
/// # Panics
/// As [`wait_for`].
pub fn wait_until(what: &str, cap: Duration, mut fact: impl FnMut() -> bool) {
    wait_for(what, cap, || fact().then_some(()));
}
