//! The wall clock and chance: the only place of these tools that asks the machine for either.

use std::time::{Duration, SystemTime};

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is where the wall clock is read")]
#[must_use]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Seconds since the epoch.
#[must_use]
pub fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Some time between half of `most` and `most`, so that many who failed together do not come back
/// together.
#[must_use]
pub fn jitter(most: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without chance, the longest wait is right too.
    let part = getrandom::fill(&mut byte).map_or(u8::MAX, |()| byte[0]);
    most / 2 + most.mul_f64(f64::from(part) / 510.0)
}

/// Seconds since the epoch of a time as AWS writes it, RFC 3339.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
