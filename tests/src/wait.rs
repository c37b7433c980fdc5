//! Waiting for a fact, with a bound.

use std::time::Duration;

/// Pause between two looks at a fact.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks again and again until `fact` gives something, for at most `cap`.
///
/// # Panics
/// When the time is over: the test failed, and `what` says at what.
#[expect(clippy::panic, clippy::disallowed_methods, reason = "a test waits for the real world")]
pub fn wait_for<T>(what: &str, cap: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        if start.elapsed() > cap {
            panic!("waited {cap:?} for {what}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until `fact` holds.
///
/// # Panics
/// As [`wait_for`].
pub fn wait_until(what: &str, cap: Duration, mut fact: impl FnMut() -> bool) {
    wait_for(what, cap, || fact().then_some(()));
}

/// What `act` takes at the least, of as many tries as it needs to stay below `bound`, five at most. Other
/// work on the machine makes a thing slower and never quicker, so that one try is enough to show that it
/// can be done in this time.
///
/// # Panics
/// When none stays below.
#[expect(clippy::panic, clippy::disallowed_methods, reason = "a test waits for the real world")]
pub fn quickest(what: &str, bound: Duration, mut act: impl FnMut()) -> Duration {
    let mut all = Vec::new();
    for _ in 0..5 {
        let begun = std::time::Instant::now();
        act();
        let took = begun.elapsed();
        if took < bound {
            return took;
        }
        all.push(took);
    }
    panic!("{what} is to take less than {bound:?} and took {all:?}");
}
