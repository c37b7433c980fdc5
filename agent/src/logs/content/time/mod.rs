//! When a line was written, by its own words.
//!
//! Only what is cheap to find and sure is taken: a time at the beginning of the line, that of an
//! access log, or a member of a JSON object. A time that CloudWatch Logs would refuse is not taken.

mod json;
mod text;

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use self::text::Written;

/// Times so far ahead of ours are refused by the service.
const AHEAD_MS: i64 = 2 * 3600 * 1000;
/// A clock that is set back one hour shows an hour twice; the later one is meant unless it lies so far
/// ahead.
const SLACK_MS: i64 = 60 * 1000;
/// A date without a year is not of this one if it lies so far ahead.
const YEAR_SLACK_MS: i64 = 24 * 3600 * 1000;

/// The zone of times that name none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// That of the host.
    #[must_use]
    pub fn of_host() -> Self {
        Self(TimeZone::system())
    }

    /// One by its name, such as `Europe/Berlin` or `UTC`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }
}

/// Reads times from lines of one source.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    zone: TimeZone,
    oldest_ms: i64,
    /// The last minute that was looked up, and its distance from UTC: the next line is mostly of the
    /// same one.
    last: Option<(DateTime, Offset)>,
}

impl Reader {
    /// Times older than `oldest_ms` before the present are not taken.
    #[must_use]
    pub(crate) fn new(zone: &Zone, oldest_ms: i64) -> Self {
        Self { zone: zone.0.clone(), oldest_ms, last: None }
    }

    /// The time that a line bears, in milliseconds since the epoch.
    #[must_use]
    pub(crate) fn time_of(&mut self, line: &[u8], now_ms: i64) -> Option<i64> {
        let written = match line.first()? {
            b'{' => json::time(line)?,
            _ => text::at_start(line).or_else(|| text::in_brackets(line))?,
        };
        let ms = match written {
            Written::Epoch(ms) => ms,
            Written::At(civil, Some(seconds)) => {
                let offset = Offset::from_seconds(seconds).ok()?;
                offset.to_timestamp(civil).ok()?.as_millisecond()
            }
            Written::At(civil, None) => self.local(civil, now_ms)?,
            Written::WithoutYear(civil) => self.this_year_or_last(civil, now_ms)?,
        };
        let age = now_ms.checked_sub(ms)?;
        (ms >= 0 && age <= self.oldest_ms && age >= -AHEAD_MS).then_some(ms)
    }

    fn local(&mut self, civil: DateTime, now_ms: i64) -> Option<i64> {
        let minute = civil.with().second(0).subsec_nanosecond(0).build().ok()?;
        if let Some((known, offset)) = self.last
            && known == minute
        {
            return Some(offset.to_timestamp(civil).ok()?.as_millisecond());
        }
        let at = |offset: Offset| Some(offset.to_timestamp(civil).ok()?.as_millisecond());
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                self.last = Some((minute, offset));
                at(offset)
            }
            AmbiguousOffset::Gap { before, .. } => at(before),
            AmbiguousOffset::Fold { before, after } => {
                at(after).filter(|ms| *ms <= now_ms.saturating_add(SLACK_MS)).or_else(|| at(before))
            }
        }
    }

    fn this_year_or_last(&mut self, civil: DateTime, now_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(now_ms).ok()?;
        let year = self.zone.to_datetime(now).year();
        let in_year = |year: i16| civil.with().year(year).build().ok();
        // New Year's Eve in one zone is New Year in another, hence three.
        [year.checked_add(1), Some(year), year.checked_sub(1)].into_iter().flatten().find_map(
            |year| {
                let ms = self.local(in_year(year)?, now_ms)?;
                (ms <= now_ms.saturating_add(YEAR_SLACK_MS)).then_some(ms)
            },
        )
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
