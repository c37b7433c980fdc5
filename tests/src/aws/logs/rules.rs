//! The documented rules of the API, as pure checks.

use std::borrow::Cow;

use serde::Deserialize;

/// Body of PutLogEvents.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Put<'a> {
    #[serde(borrow)]
    pub(super) log_group_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) log_stream_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) log_events: Vec<Event<'a>>,
}

/// One event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event<'a> {
    pub(super) timestamp: i64,
    #[serde(borrow)]
    pub(super) message: Cow<'a, str>,
}

pub(super) const DAY_MS: i64 = 24 * 3600 * 1000;
const TOO_NEW_MS: i64 = 2 * 3600 * 1000;
const TOO_OLD_DAYS: i64 = 14;
const RETENTIONS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

/// The first rule that a request breaks.
pub(super) fn broken(put: &Put<'_>) -> Option<&'static str> {
    let events = &put.log_events;
    if events.is_empty() {
        return Some("no events");
    }
    if events.len() > 10_000 {
        return Some("more than 10,000 events");
    }
    if events.iter().any(|e| e.message.is_empty()) {
        return Some("an empty message");
    }
    if events.iter().any(|e| e.timestamp < 0) {
        return Some("a negative timestamp");
    }
    if events.iter().map(|e| e.message.len() + 26).sum::<usize>() > 1_048_576 {
        return Some("more than 1,048,576 bytes");
    }
    if !events.is_sorted_by_key(|e| e.timestamp) {
        return Some("not in chronological order");
    }
    let span = events.last().zip(events.first()).map_or(0, |(l, f)| l.timestamp - f.timestamp);
    (span > DAY_MS).then_some("more than 24 hours in one request")
}

/// Indices for `rejectedLogEventsInfo`: end of the too old, end of the expired (both exclusive),
/// start of the too new (inclusive).
pub(super) fn rejected(
    put: &Put<'_>,
    now_ms: i64,
    retention_days: Option<u32>,
) -> (Option<usize>, Option<usize>, Option<usize>) {
    let end_before = |limit: i64| {
        let n = put.log_events.partition_point(|e| e.timestamp < limit);
        (n > 0).then_some(n)
    };
    let old = end_before(now_ms - TOO_OLD_DAYS * DAY_MS);
    let expired = retention_days.and_then(|d| end_before(now_ms - i64::from(d) * DAY_MS));
    let new = put.log_events.partition_point(|e| e.timestamp <= now_ms + TOO_NEW_MS);
    (old, expired, (new < put.log_events.len()).then_some(new))
}

pub(super) fn group_name_is_good(name: &str) -> bool {
    (1..=512).contains(&name.len())
        && !name.starts_with("aws/")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/#".contains(&b))
}

pub(super) fn stream_name_is_good(name: &str) -> bool {
    (1..=512).contains(&name.len()) && !name.contains([':', '*'])
}

/// Only the ARN of a key will do.
pub(super) fn key_is_good(key: &str) -> bool {
    key.starts_with("arn:") && key.contains(":kms:") && key.contains(":key/") && key.len() <= 256
}

pub(super) fn retention_is_good(days: u32) -> bool {
    RETENTIONS.contains(&days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(events: Vec<(i64, String)>) -> Put<'static> {
        Put {
            log_group_name: "g".into(),
            log_stream_name: "s".into(),
            log_events: events
                .into_iter()
                .map(|(timestamp, m)| Event { timestamp, message: m.into() })
                .collect(),
        }
    }

    #[test]
    fn each_rule_is_enforced_at_its_edge() {
        let x = |n: usize| vec![(0, "x".to_owned()); n];
        let cases = [
            (vec![], true),
            (x(10_000), false),
            (x(10_001), true),
            (vec![(0, String::new())], true),
            (vec![(-1, "x".into())], true),
            (vec![(0, "x".repeat(1_048_550))], false),
            (vec![(0, "x".repeat(1_048_551))], true),
            (vec![(0, "x".repeat(524_262)), (0, "x".repeat(524_262))], false),
            (vec![(0, "x".repeat(524_262)), (0, "x".repeat(524_263))], true),
            (vec![(2, "x".into()), (1, "x".into())], true),
            (vec![(0, "x".into()), (DAY_MS, "x".into())], false),
            (vec![(0, "x".into()), (DAY_MS + 1, "x".into())], true),
        ];
        for (i, (events, bad)) in cases.into_iter().enumerate() {
            assert_eq!(broken(&put(events)).is_some(), bad, "case {i}");
        }
    }

    #[test]
    fn old_ends_are_exclusive_and_the_new_start_is_inclusive() {
        let now = 100 * DAY_MS;
        let at = |days: i64| (now + days * DAY_MS, "x".to_owned());
        let p = put(vec![at(-20), at(-15), at(-10), at(0), at(1)]);
        assert_eq!(rejected(&p, now, Some(5)), (Some(2), Some(3), Some(4)));
        assert_eq!(rejected(&put(vec![at(0)]), now, None), (None, None, None));
    }

    #[test]
    fn names() {
        assert!(group_name_is_good("/palisade/prod/web#1"));
        assert!(!group_name_is_good("a b") && !group_name_is_good("aws/x"));
        assert!(stream_name_is_good("i-1//var/log/a b.log") && !stream_name_is_good("a:b"));
    }
}
