//! When a scheduled program is due: a pattern of local times in a time zone. Pure; knows no clock.
//!
//! A pattern that names hours gives each local time that it matches exactly one moment: a time that the
//! clock jumps over (spring) comes as much later as the clock jumped, and of a time that the clock
//! shows twice (autumn) it is the first. So a nightly run is neither left out nor done twice. A pattern
//! that takes every hour counts real time: it is due whenever the clock shows such a time, in autumn
//! in both passes, in spring not in the hour that is not there.
//!
//! ```text
//! real time   ....|--- offset before ---|T|--- offset after ----|....   one segment after the other
//! spring          the hour that is not there follows T, read with the offset before it
//! autumn          the hour after T repeats the one before it, and is left out if hours are named
//! ```

use jiff::{
    Timestamp as Moment, ToSpan as _,
    civil::{Date, DateTime, Time},
    tz::{Offset, TimeZone},
};

use super::{cron, systemd};
use crate::clock::Timestamp;

/// How far ahead is looked. Nothing that comes at all stays away longer: the twenty-ninth of February
/// falls on a given weekday every 28 years, or 40 around a year without one.
const AHEAD_YEARS: i64 = 50;

/// The most segments of one offset that are looked at: several for each year, as no zone has more.
const MAX_SEGMENTS: usize = 400;

/// Small numbers, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    /// All of `min..=max`.
    pub(super) fn range(min: u8, max: u8) -> Self {
        (min..=max).fold(Self::default(), Self::with)
    }

    /// With one more; what is beyond 63 is left out.
    pub(super) fn with(self, n: u8) -> Self {
        Self(self.0 | 1_u64.checked_shl(n.into()).unwrap_or(0))
    }

    pub(super) fn has(self, n: u8) -> bool {
        self.0 & 1_u64.checked_shl(n.into()).unwrap_or(0) != 0
    }

    /// The least that is not below `n`.
    fn from(self, n: u8) -> Option<u8> {
        let left = self.0.checked_shr(n.into()).unwrap_or(0);
        (left != 0).then(|| n.saturating_add(u8::try_from(left.trailing_zeros()).unwrap_or(0)))
    }
}

/// Which local times are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Years; every one if none is named.
    pub(super) years: Vec<i16>,
    /// 1 to 12.
    pub(super) months: Set,
    /// 1 to 31.
    pub(super) days: Set,
    /// 1 to 31, counted from the end of the month.
    pub(super) last_days: Set,
    /// Monday is 0.
    pub(super) weekdays: Set,
    /// Cron's rule: a day that matches by its number or by its weekday. Else it must by both.
    pub(super) either_day: bool,
    pub(super) hours: Set,
    pub(super) minutes: Set,
    pub(super) seconds: Set,
}

impl Pattern {
    /// Midnight of every day.
    pub(super) fn midnight() -> Self {
        Self {
            years: Vec::new(),
            months: Set::range(1, 12),
            days: Set::range(1, 31),
            last_days: Set::default(),
            weekdays: Set::range(0, 6),
            either_day: false,
            hours: Set::default().with(0),
            minutes: Set::default().with(0),
            seconds: Set::default().with(0),
        }
    }

    fn has_day(&self, date: Date) -> bool {
        let number = |n: i8| u8::try_from(n).unwrap_or(0);
        let from_end = number(date.days_in_month() - date.day() + 1);
        let day = self.days.has(number(date.day())) || self.last_days.has(from_end);
        let weekday = self.weekdays.has(number(date.weekday().to_monday_zero_offset()));
        let is_year = self.years.is_empty() || self.years.contains(&date.year());
        is_year
            && self.months.has(number(date.month()))
            && if self.either_day { day || weekday } else { day && weekday }
    }

    /// The first time of a day that is not before `from`.
    fn time_from(&self, from: Time) -> Option<Time> {
        let [h, m, s] = [from.hour(), from.minute(), from.second()].map(|n| n.unsigned_abs());
        let make = |h: u8, m: u8, s: u8| {
            let [h, m, s] = [h, m, s].map(|n| i8::try_from(n).unwrap_or(0));
            Time::new(h, m, s, 0).ok()
        };
        let (first_m, first_s) = (self.minutes.from(0)?, self.seconds.from(0)?);
        if self.hours.has(h) {
            if self.minutes.has(m)
                && let Some(s) = self.seconds.from(s)
            {
                return make(h, m, s);
            }
            if let Some(m) = self.minutes.from(m + 1) {
                return make(h, m, first_s);
            }
        }
        make(self.hours.from(h + 1)?, first_m, first_s)
    }

    /// The first local time that is not before `from`, on a day that is not after `last`.
    fn first_from(&self, from: DateTime, last: Date) -> Option<DateTime> {
        let mut date = from.date();
        let mut time = from.time();
        while date <= last {
            if self.has_day(date)
                && let Some(found) = self.time_from(time)
            {
                return Some(date.to_datetime(found));
            }
            time = Time::midnight();
            let number = u8::try_from(date.month()).unwrap_or(0);
            date = if self.months.has(number) {
                date.tomorrow().ok()?
            } else {
                date.first_of_month().checked_add(1.month()).ok()?
            };
        }
        None
    }

    /// Whether any of the years that it names has such a day.
    fn has_a_day_in_its_years(&self) -> bool {
        self.years.iter().any(|year| {
            let (first, last) = (Date::new(*year, 1, 1), Date::new(*year, 12, 31));
            let (Ok(first), Ok(last)) = (first, last) else { return false };
            self.first_from(first.to_datetime(Time::midnight()), last).is_some()
        })
    }

    #[cfg(test)]
    pub(super) fn has(&self, at: DateTime) -> bool {
        self.has_day(at.date()) && self.time_from(at.time()) == Some(at.time())
    }

    /// Whether it says at which hours, and not only how often.
    pub(super) fn names_hours(&self) -> bool {
        self.hours != Set::range(0, 23)
    }
}

/// Why a text is no calendar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCalendar(pub(super) String);

/// Which notation a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// Five fields as cron has them, or `@daily` and the like.
    Cron,
    /// As systemd's `OnCalendar`.
    Systemd,
    /// The one that it looks like.
    Either,
}

/// A pattern of times in a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    text: String,
    zone: TimeZone,
    pattern: Pattern,
}

impl Calendar {
    /// Reads a text. A time zone that the text itself names, as systemd's may, holds; otherwise `zone`.
    ///
    /// # Errors
    /// What is wrong with the text and what would be right; or that such a time never comes.
    pub fn new(text: &str, notation: Notation, zone: TimeZone) -> Result<Self, BadCalendar> {
        let is_cron = text.trim().starts_with('@') || text.split_whitespace().count() >= 5;
        let (pattern, own_zone) = match notation {
            Notation::Cron => (cron::parse(text)?, None),
            Notation::Either if is_cron => (cron::parse(text)?, None),
            Notation::Systemd | Notation::Either => systemd::parse(text)?,
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let calendar = Self { text, zone: own_zone.unwrap_or(zone), pattern };
        // Any moment will do: a pattern without years that comes at all comes again and again.
        let comes = if calendar.pattern.years.is_empty() {
            calendar.next_after(Timestamp::from_secs(0)).is_some()
        } else {
            calendar.pattern.has_a_day_in_its_years()
        };
        if !comes {
            let text = &calendar.text;
            return Err(BadCalendar(format!("{text:?} is a time that never comes")));
        }
        Ok(calendar)
    }

    /// As written, blanks apart.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The IANA name of its zone.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The first moment after `t` at which it is due; none if there is none within fifty years.
    #[must_use]
    pub fn next_after(&self, t: Timestamp) -> Option<Timestamp> {
        let from = Moment::from_second(t.as_secs().checked_add(1)?).ok()?;
        let last = self.zone.to_offset(from).to_datetime(from).date();
        let last = last.saturating_add(AHEAD_YEARS.years());
        let mut segment = Segment::at(&self.zone, from)?;
        for _ in 0..MAX_SEGMENTS {
            if let Some(found) = self.first_in(&segment, from, last) {
                return Some(Timestamp::from_secs(found.as_second()));
            }
            let start = segment.end?;
            if segment.offset.to_datetime(start).date() > last {
                return None;
            }
            segment = Segment::at(&self.zone, start)?;
        }
        None
    }

    /// The last moment after `after` and not after `now` at which it is due.
    #[must_use]
    pub fn last_between(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let due_within = |t: i64| self.next_after(Timestamp::from_secs(t)).filter(|d| *d <= now);
        let mut found = self.next_after(after).filter(|d| *d <= now)?;
        // The last one is after `low` or is `found`, and not after `high`.
        let (mut low, mut high) = (found.as_secs(), now.as_secs());
        while low < high {
            let middle = low + (high - low) / 2;
            match due_within(middle) {
                Some(due) => (found, low) = (due, due.as_secs()),
                None => high = middle,
            }
        }
        Some(found)
    }

    /// The first moment of a segment, not before `from`, at which it is due.
    fn first_in(&self, segment: &Segment, from: Moment, last: Date) -> Option<Moment> {
        let Segment { start, end, before, offset } = *segment;
        let from = start.map_or(from, |start| from.max(start));
        let jump = i64::from(offset.seconds()) - i64::from(before.seconds());
        let find = |from: Moment, end: Option<Moment>, offset: Offset| {
            if end.is_some_and(|end| from >= end) {
                return None;
            }
            let last = end.map_or(last, |end| last.min(offset.to_datetime(end).date()));
            let local = self.pattern.first_from(offset.to_datetime(from), last)?;
            let found = offset.to_timestamp(local).ok()?;
            end.is_none_or(|end| found < end).then_some(found)
        };
        let (mut shifted, mut plain_from) = (None, from);
        if let (Some(start), true) = (start, self.pattern.names_hours()) {
            let edge = start.checked_add(jump.abs().seconds()).ok()?;
            if jump > 0 {
                let edge = end.map_or(edge, |end| edge.min(end));
                shifted = find(from, Some(edge), before);
            } else if jump < 0 {
                plain_from = from.max(edge);
            }
        }
        let plain = find(plain_from, end, offset);
        shifted.into_iter().chain(plain).min()
    }
}

/// A stretch of real time with one offset from UTC.
#[derive(Clone, Copy, Debug)]
struct Segment {
    start: Option<Moment>,
    end: Option<Moment>,
    /// The offset before it.
    before: Offset,
    offset: Offset,
}

impl Segment {
    fn at(zone: &TimeZone, t: Moment) -> Option<Self> {
        let just = 1.nanosecond();
        let start = zone.preceding(t.checked_add(just).ok()?).next().map(|t| t.timestamp());
        let end = zone.following(t).next().map(|t| t.timestamp());
        let offset = zone.to_offset(t);
        let before = start.and_then(|start| start.checked_sub(just).ok());
        let before = before.map_or(offset, |t| zone.to_offset(t));
        Some(Self { start, end, before, offset })
    }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
