//! When runs may begin: weekly windows in a time zone. Pure; knows no clock.
//!
//! A window begins at a time of the wall clock and lasts a length of real time. Where the clock jumps
//! over its beginning (spring), it begins as much later as the clock jumped; where the beginning
//! happens twice (autumn), it is the first. So no window vanishes, shrinks, or happens twice. A window
//! that was missed is gone: the next one does the work.

use std::time::Duration;

use jiff::{
    ToSpan as _,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;

/// The longest window: one day, so that a day's window cannot run into its own next.
const MAX_LENGTH: Duration = Duration::from_secs(24 * 3600);
/// The shortest window.
const MIN_LENGTH: Duration = Duration::from_secs(60);
/// Days to look ahead for the next opening: every weekday comes within eight.
const AHEAD: i64 = 8;

/// One weekly window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    days: Vec<Weekday>,
    start: Time,
    length: Duration,
    zone: TimeZone,
}

/// Why a window cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    /// It never opens.
    #[error("days must name at least one day, such as [tue, thu]")]
    NoDays,
    /// Too short or too long.
    #[error("length must be 1m to 24h")]
    Length,
}

impl Window {
    /// A window that opens on these days at this time.
    ///
    /// # Errors
    /// When it would never open, or is shorter than a minute or longer than a day.
    pub fn new(
        days: Vec<Weekday>,
        start: Time,
        length: Duration,
        zone: TimeZone,
    ) -> Result<Self, BadWindow> {
        if days.is_empty() {
            return Err(BadWindow::NoDays);
        }
        if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
            return Err(BadWindow::Length);
        }
        Ok(Self { days, start, length, zone })
    }

    /// The opening that begins on a day of the window's own calendar, if one does.
    fn on(&self, date: Date) -> Option<Opening> {
        if !self.days.contains(&date.weekday()) {
            return None;
        }
        // Compatible: a gap moves it later, of two it is the first.
        let start = self.zone.to_ambiguous_zoned(date.to_datetime(self.start)).compatible().ok()?;
        let start = Timestamp::from_millis(start.timestamp().as_millisecond());
        Some(Opening { start, end: start.plus(self.length) })
    }

    fn openings(&self, now: Timestamp) -> impl Iterator<Item = Opening> + '_ {
        let today = jiff::Timestamp::from_millisecond(now.as_millis())
            .map(|t| t.to_zoned(self.zone.clone()).date())
            .ok();
        // Two days back: a window of 24 hours, opened late by a gap, may still be open.
        (-2..=AHEAD)
            .filter_map(move |n| today?.checked_add(n.days()).ok())
            .filter_map(|date| self.on(date))
    }
}

/// Several windows; open while any of them is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows(pub Vec<Window>);

/// One time that a window is open: from `start` until before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Opening {
    /// When it begins.
    pub start: Timestamp,
    /// When it is over.
    pub end: Timestamp,
}

impl Opening {
    /// The moment from which nothing new begins.
    #[must_use]
    pub fn last_call(&self, cutoff: Duration) -> Timestamp {
        let length = self.end.since(self.start);
        self.start.plus(length.saturating_sub(cutoff))
    }

    /// When a host begins: `delay` after the start, but never so late that half the time until the last
    /// call is gone.
    #[must_use]
    pub fn due(&self, delay: Duration, cutoff: Duration) -> Timestamp {
        self.start.plus(delay.min(self.last_call(cutoff).since(self.start) / 2))
    }
}

impl Windows {
    /// The opening that is going on; of several the one that ends last.
    #[must_use]
    pub fn open_at(&self, now: Timestamp) -> Option<Opening> {
        let all = self.0.iter().flat_map(|w| w.openings(now));
        all.filter(|o| o.start <= now && now < o.end).max_by_key(|o| o.end)
    }

    /// The next opening that has not begun.
    #[must_use]
    pub fn next_after(&self, now: Timestamp) -> Option<Opening> {
        let all = self.0.iter().flat_map(|w| w.openings(now));
        all.filter(|o| o.start > now).min_by_key(|o| o.start)
    }
}

/// How long after the start of a window this host begins: the same each time, spread evenly over hosts.
#[must_use]
pub fn delay(host: &str, splay: Duration) -> Duration {
    let digest = Sha256::digest(host.as_bytes());
    let share = digest.iter().take(4).fold(0_u32, |acc, b| (acc << 8) | u32::from(*b));
    splay.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
