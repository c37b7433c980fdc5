//! What nginx notes about requests, one line each: when, whether it was let in, and by which secret.
//!
//! `1764190000.123 1 1a2b3c4d 16`: let in by secret `1a2b3c4d`, and the line stands for 16 requests.
//! Nothing that a visitor sends is in a line.

use super::secret::SecretId;
use crate::clock::Timestamp;

/// How many requests a line stands for where only some are noted.
pub const SAMPLED: u64 = 16;

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// When.
    pub at: Timestamp,
    /// The secret they had; none if they were refused.
    pub key: Option<SecretId>,
    /// How many.
    pub requests: u64,
}

/// Reads whole lines. What is no such line is left out: the file is not ours alone.
pub fn parse(lines: &[u8]) -> impl Iterator<Item = Hit> + '_ {
    lines.split(|b| *b == b'\n').filter_map(|line| hit(std::str::from_utf8(line).ok()?))
}

fn hit(line: &str) -> Option<Hit> {
    let mut words = line.split(' ');
    let (seconds, millis) = words.next()?.split_once('.')?;
    let seconds: i64 = seconds.parse().ok()?;
    let millis: i64 = millis.parse().ok().filter(|ms| (0..1000).contains(ms))?;
    let at = Timestamp::from_millis(seconds.checked_mul(1000)?.checked_add(millis)?);
    let is_in = words.next()? == "1";
    let key = words.next().filter(|key| !key.is_empty());
    match (is_in, key) {
        (true, Some(key)) => {
            let requests = words.next()?.parse().ok().filter(|n| (1..=SAMPLED).contains(n))?;
            Some(Hit { at, key: Some(SecretId::parse(key)?), requests })
        }
        // A health check.
        (true, None) => None,
        (false, _) => Some(Hit { at, key: None, requests: SAMPLED }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_what_is_none_is_left_out() {
        let text = b"1764190000.123 1 1a2b3c4d 16\n1764190000.124 0 \n1764190000.125 1 \n\
            junk\n1764190000.126 1 1a2b3c4d 99\n99999999999999999999.1 1 1a2b3c4d 1\n\xff\n\
            1764190001.000 1 00000000 1\n";
        let hits: Vec<_> = parse(text).collect();
        let hit = |ms, key: Option<&str>, requests| Hit {
            at: Timestamp::from_millis(ms),
            key: key.and_then(SecretId::parse),
            requests,
        };
        assert_eq!(
            hits,
            [
                hit(1_764_190_000_123, Some("1a2b3c4d"), 16),
                hit(1_764_190_000_124, None, 16),
                hit(1_764_190_001_000, Some("00000000"), 1),
            ]
        );
    }
}
