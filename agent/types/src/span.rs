//! A length of time as people write it: `10s`, `5m`, `1h30m`, `250ms`.

use std::{fmt::Write as _, str::FromStr, time::Duration};

/// A length of time read from text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Why a string is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("duration {0:?} must be numbers with units ms, s, m, h or d, such as 10s or 1h30m")]
pub struct BadSpan(String);

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = BadSpan;

    /// A bare number is seconds, as in Supervisor.
    fn from_str(s: &str) -> Result<Self, BadSpan> {
        let bad = || BadSpan(s.to_owned());
        let mut rest = s.trim();
        if let Ok(seconds) = rest.parse::<u32>() {
            return Ok(Self(Duration::from_secs(seconds.into())));
        }
        if rest.is_empty() {
            return Err(bad());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let (number, after) = rest.split_at(digits);
            let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_len);
            let n: u64 = number.parse().map_err(|_| bad())?;
            let (_, ms) = UNITS.iter().find(|(u, _)| *u == unit).ok_or_else(bad)?;
            total = n.checked_mul(*ms).and_then(|ms| total.checked_add(ms)).ok_or_else(bad)?;
            rest = after.trim_start();
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

/// Prints a duration in the form that [`Span`] reads, to the millisecond.
#[must_use]
pub fn format_duration(d: Duration) -> String {
    let mut left = u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, ms) in UNITS {
        if left >= ms {
            // Writing to a String cannot fail.
            write!(out, "{}{unit}", left / ms).unwrap_or_default();
            left %= ms;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_in_the_manual_are_read() {
        for (text, ms) in
            [("10s", 10_000), ("5m", 300_000), ("1h30m", 5_400_000), ("250ms", 250), ("7", 7_000)]
        {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for bad in ["", "s", "10x", "-1s", "1.5s", "10 s5", "99999999999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printed_durations_read_back(ms in 0..u64::MAX / 2) {
            let d = Duration::from_millis(ms);
            prop_assert_eq!(format_duration(d).parse(), Ok(Span(d)));
        }
    }
}
