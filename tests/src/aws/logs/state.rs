//! What the fake keeps: groups, streams, faults, and counts.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde::{Deserialize, Serialize};

use super::rules::{self, Put};
use crate::aws::http::ApiError;

/// What goes wrong, until changed. Shares are of requests, 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Share of PutLogEvents answered with ThrottlingException.
    pub throttle: f64,
    /// Share of PutLogEvents answered with status 500, nothing taken.
    pub error: f64,
    /// Share of PutLogEvents that are taken, and the connection closed without an answer.
    pub drop_ack: f64,
    /// Requests are read and never answered.
    pub hang: bool,
    /// Connections are closed at once.
    pub refuse: bool,
    /// Share of PutLogEvents whose connection is closed, nothing taken.
    pub cut: f64,
    /// The service's clock is so many seconds ahead of ours; it refuses signatures that are more than
    /// five minutes off.
    pub clock_ahead_s: i64,
    /// Each answer comes so much later.
    pub delay_ms: u64,
    /// A request with an event that contains this is refused with InvalidParameterException.
    pub poison: Option<String>,
    /// Every request is refused with AccessDeniedException.
    pub denied: bool,
    /// Every request is refused with ExpiredTokenException.
    pub expired: bool,
    /// Bodies that are packed with gzip are refused, as by a proxy or a stand-in that cannot unpack.
    pub no_gzip: bool,
    /// So many of the next PutRetentionPolicy are answered with ThrottlingException.
    pub retention_throttles: u32,
}

/// What arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Events taken.
    pub lines: u64,
    /// Different messages among them.
    pub distinct: u64,
    /// Events whose message was there before.
    pub duplicates: u64,
    /// Events that begin with a lower number than one before them in their stream.
    pub out_of_order: u64,
    /// Events left out for their time.
    pub rejected: u64,
    /// PutLogEvents answered with success.
    pub puts: u64,
    /// All requests.
    pub requests: u64,
    /// Bytes of all bodies as they came.
    pub wire_bytes: u64,
    /// Bytes of the messages.
    pub message_bytes: u64,
    /// Rules broken, and how often.
    pub violations: BTreeMap<String, u64>,
    /// Faults given, and how often.
    pub faults: BTreeMap<String, u64>,
    /// Events per `group stream`.
    pub streams: BTreeMap<String, StreamStats>,
}

/// What arrived in one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStats {
    /// Events taken.
    pub lines: u64,
    /// The highest number that an event began with.
    pub highest: Option<u64>,
    /// The group's retention.
    pub retention_days: Option<u32>,
    /// The group's key.
    pub kms_key: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) retention_days: Option<u32>,
    pub(super) kms_key: Option<String>,
    pub(super) streams: BTreeMap<String, Stream>,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    lines: u64,
    highest: Option<u64>,
    pub(super) kept: Vec<(i64, String)>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) faults: Faults,
    pub(super) keep: bool,
    stats: Stats,
    seen: HashSet<u64>,
    dice: u64,
}

impl State {
    pub(super) fn new(faults: Faults, keep: bool) -> Self {
        Self { faults, keep, dice: 0x9e37_79b9_7f4a_7c15, ..Self::default() }
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.distinct = self.seen.len() as u64;
        for (name, g) in &self.groups {
            for (stream, s) in &g.streams {
                let one = StreamStats {
                    lines: s.lines,
                    highest: s.highest,
                    retention_days: g.retention_days,
                    kms_key: g.kms_key.clone(),
                };
                stats.streams.insert(format!("{name} {stream}"), one);
            }
        }
        stats
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(std::mem::take(&mut self.faults), self.keep);
    }

    pub(super) fn count_request(&mut self, wire_bytes: usize) {
        self.stats.requests += 1;
        self.stats.wire_bytes += wire_bytes as u64;
    }

    pub(super) fn violation(&mut self, rule: &str) {
        *self.stats.violations.entry(rule.to_owned()).or_default() += 1;
    }

    /// Whether a fault of this share hits now.
    pub(super) fn hits(&mut self, name: &str, share: f64) -> bool {
        if share <= 0.0 {
            return false;
        }
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let top = u32::try_from(self.dice >> 32).unwrap_or(0);
        let hit = f64::from(top) / f64::from(u32::MAX) < share;
        if hit {
            *self.stats.faults.entry(name.to_owned()).or_default() += 1;
        }
        hit
    }

    /// PutLogEvents, faults aside.
    pub(super) fn put(
        &mut self,
        put: &Put<'_>,
        now_ms: i64,
    ) -> Result<serde_json::Value, ApiError> {
        let invalid = |what: &str| (400, "InvalidParameterException", what.to_owned());
        if let Some(rule) = rules::broken(put) {
            self.violation(rule);
            return Err(invalid(rule));
        }
        let missing = |what: &str| {
            (400, "ResourceNotFoundException", format!("The specified {what} does not exist."))
        };
        let group =
            self.groups.get_mut(put.log_group_name.as_ref()).ok_or_else(|| missing("log group"))?;
        let retention = group.retention_days;
        let stream = group
            .streams
            .get_mut(put.log_stream_name.as_ref())
            .ok_or_else(|| missing("log stream"))?;
        if let Some(poison) = &self.faults.poison
            && put.log_events.iter().any(|e| e.message.contains(poison.as_str()))
        {
            *self.stats.faults.entry("poison".to_owned()).or_default() += 1;
            return Err(invalid("an event that this service does not like"));
        }
        let (old, expired, new) = rules::rejected(put, now_ms, retention);
        let from = old.max(expired).unwrap_or(0);
        let to = new.unwrap_or(put.log_events.len()).max(from);
        self.stats.rejected += (put.log_events.len() - (to - from)) as u64;
        for e in put.log_events.get(from..to).unwrap_or_default() {
            let mut hasher = DefaultHasher::new();
            e.message.hash(&mut hasher);
            self.stats.duplicates += u64::from(!self.seen.insert(hasher.finish()));
            if let Some(n) = leading_number(&e.message) {
                self.stats.out_of_order += u64::from(stream.highest.is_some_and(|h| n < h));
                stream.highest = stream.highest.max(Some(n));
            }
            stream.lines += 1;
            self.stats.lines += 1;
            self.stats.message_bytes += e.message.len() as u64;
            if self.keep {
                stream.kept.push((e.timestamp, e.message.to_string()));
            }
        }
        self.stats.puts += 1;
        let mut answer = serde_json::json!({});
        if old.is_some() || expired.is_some() || new.is_some() {
            let mut info = serde_json::Map::new();
            for (name, index) in [
                ("tooOldLogEventEndIndex", old),
                ("expiredLogEventEndIndex", expired),
                ("tooNewLogEventStartIndex", new),
            ] {
                if let Some(i) = index {
                    info.insert(name.to_owned(), i.into());
                }
            }
            answer = serde_json::json!({ "rejectedLogEventsInfo": info });
        }
        Ok(answer)
    }
}

fn leading_number(message: &str) -> Option<u64> {
    let end = message.find(|c: char| !c.is_ascii_digit())?;
    message.get(..end)?.parse().ok()
}
