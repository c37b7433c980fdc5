//! Times as systemd's `OnCalendar` has them: `Mon..Fri *-*-* 03:00:00 Europe/Berlin`.
//!
//! Everything but fractions of a second and moments (`@1700000000`).

use jiff::tz::TimeZone;

use super::calendar::{BadCalendar, Pattern, Set};

const DAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Words that stand for a whole expression.
const SHORT: [(&str, &str); 9] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
];

const YEARS: (u16, u16) = (1970, 2199);

/// Reads an expression, and the time zone that it names if it does.
pub(super) fn parse(text: &str) -> Result<(Pattern, Option<TimeZone>), BadCalendar> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let zone = match words.as_slice() {
        [_, .., last] => zone(last),
        _ => None,
    };
    if zone.is_some() {
        words.pop();
    }
    if let [word] = words.as_slice()
        && let Some((_, whole)) = SHORT.iter().find(|(short, _)| short.eq_ignore_ascii_case(word))
    {
        return Ok((parse(whole)?.0, zone));
    }
    let mut pattern = Pattern::midnight();
    let mut rest = words.as_slice();
    let (mut is_anything, starts) = (false, |w: &str, c: fn(char) -> bool| w.starts_with(c));
    if let [word, more @ ..] = rest
        && starts(word, |c| c.is_ascii_alphabetic())
    {
        pattern.weekdays = weekdays(word)?;
        (rest, is_anything) = (more, true);
    }
    if let [word, more @ ..] = rest
        && !word.contains(':')
        && word.contains(['-', '~'])
    {
        date(word, &mut pattern)?;
        (rest, is_anything) = (more, true);
    }
    if let [word, more @ ..] = rest
        && word.contains(':')
    {
        time(word, &mut pattern)?;
        (rest, is_anything) = (more, true);
    }
    if !rest.is_empty() || !is_anything {
        return bad(format!(
            "{text:?} must be five fields of cron such as \"0 3 * * *\", or a calendar of systemd such as \"Mon..Fri *-*-* 03:00:00\" or daily"
        ));
    }
    Ok((pattern, zone))
}

fn bad<T>(what: impl Into<String>) -> Result<T, BadCalendar> {
    Err(BadCalendar(what.into()))
}

/// A last word that is the name of a time zone, and cannot be anything else.
fn zone(word: &str) -> Option<TimeZone> {
    let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic()) && !word.contains([':', ',']);
    if !is_name || weekdays(word).is_ok() {
        return None;
    }
    TimeZone::get(word).ok()
}

/// `Mon..Fri`, `Sat,Sun`, `Monday`.
fn weekdays(text: &str) -> Result<Set, BadCalendar> {
    let day = |name: &str| {
        let name = name.to_ascii_lowercase();
        let at =
            DAYS.iter().position(|d| name.len() >= 3 && (*d == name || d.get(..3) == Some(&*name)));
        match at.and_then(|n| u8::try_from(n).ok()) {
            Some(n) => Ok(n),
            None => bad(format!("{name:?} must be a weekday, Mon to Sun")),
        }
    };
    let mut all = Set::default();
    for part in text.trim_end_matches(',').split(',') {
        let (from, to) = match part.split_once("..").or_else(|| part.split_once('-')) {
            Some((from, to)) => (day(from)?, day(to)?),
            None => (day(part)?, day(part)?),
        };
        if from > to {
            return bad(format!(
                "{part:?} is a range that runs backwards; the week begins on Monday"
            ));
        }
        all = (from..=to).fold(all, Set::with);
    }
    Ok(all)
}

/// `YEAR-MONTH-DAY`, `MONTH-DAY`, and `~` before a day that is counted from the end of the month.
fn date(text: &str, pattern: &mut Pattern) -> Result<(), BadCalendar> {
    let shape = || BadCalendar(format!("{text:?} must be a date such as *-*-01 or 2026-12-24"));
    let (front, last) = text.rsplit_once(['-', '~']).ok_or_else(shape)?;
    let (year, month) = match front.rsplit_once('-') {
        Some((year, month)) => (year, month),
        None => ("*", front),
    };
    if year.contains(['-', '~']) || month.contains('~') {
        return Err(shape());
    }
    pattern.months = small("month", month, 1, 12)?;
    if text.contains('~') {
        pattern.days = Set::default();
        pattern.last_days = from_end(last)?;
    } else {
        pattern.days = small("day", last, 1, 31)?;
    }
    if year != "*" {
        let (min, max) = YEARS;
        let mut years = Vec::new();
        list("year", year, min, max, |n| years.extend(i16::try_from(n)))?;
        pattern.years = years;
    }
    Ok(())
}

/// `HOUR:MINUTE` or `HOUR:MINUTE:SECOND`.
fn time(text: &str, pattern: &mut Pattern) -> Result<(), BadCalendar> {
    let parts: Vec<_> = text.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, *second),
        _ => return bad(format!("{text:?} must be a time such as 03:00 or 03:00:00")),
    };
    pattern.hours = small("hour", hour, 0, 23)?;
    pattern.minutes = small("minute", minute, 0, 59)?;
    pattern.seconds = small("second", second, 0, 59)?;
    Ok(())
}

fn small(what: &str, text: &str, min: u8, max: u8) -> Result<Set, BadCalendar> {
    let mut set = Set::default();
    list(what, text, min.into(), max.into(), |n| {
        set = set.with(u8::try_from(n).unwrap_or(u8::MAX))
    })?;
    Ok(set)
}

/// Days from the end: `1` is the last, `3..1` the last three, `7/1` the last seven, as each step goes on
/// towards the end.
fn from_end(text: &str) -> Result<Set, BadCalendar> {
    let mut set = Set::default();
    for part in text.split(',') {
        let (range, step) = step("day", part, part)?;
        let (a, b) = match range.split_once("..") {
            Some((a, b)) => (number("day", a, 1, 31)?, number("day", b, 1, 31)?),
            None if step.is_some() => (number("day", range, 1, 31)?, 1),
            None => (number("day", range, 1, 31)?, number("day", range, 1, 31)?),
        };
        let days = (a.min(b)..=a.max(b)).rev().step_by(step.unwrap_or(1).into());
        set = days.fold(set, |set, n| set.with(u8::try_from(n).unwrap_or(u8::MAX)));
    }
    Ok(set)
}

/// `*`, `a`, `a..b`, each with `/step` or without; `a/step` goes on to the end.
fn list(
    what: &str,
    text: &str,
    min: u16,
    max: u16,
    mut put: impl FnMut(u16),
) -> Result<(), BadCalendar> {
    for part in text.split(',') {
        let (range, step) = step(what, part, part)?;
        let (from, to) = match range.split_once("..") {
            Some((from, to)) => (number(what, from, min, max)?, number(what, to, min, max)?),
            None if range == "*" => (min, max),
            None if step.is_some() => (number(what, range, min, max)?, max),
            None => (number(what, range, min, max)?, number(what, range, min, max)?),
        };
        if from > to {
            return bad(format!("{what} {part:?} is a range that runs backwards"));
        }
        (from..=to).step_by(step.unwrap_or(1).into()).for_each(&mut put);
    }
    Ok(())
}

fn step<'a>(what: &str, part: &str, text: &'a str) -> Result<(&'a str, Option<u16>), BadCalendar> {
    match text.split_once('/') {
        None => Ok((text, None)),
        Some((range, step)) => match step.parse() {
            Ok(n) if n > 0 => Ok((range, Some(n))),
            _ => bad(format!("{what} {part:?}: the step must be a number from 1")),
        },
    }
}

fn number(what: &str, text: &str, min: u16, max: u16) -> Result<u16, BadCalendar> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A year of two digits, as systemd has it.
    let century = |n: u16| match n {
        0..=69 if max == YEARS.1 => n + 2000,
        70..=99 if max == YEARS.1 => n + 1900,
        _ => n,
    };
    match text.parse::<u16>().map(century) {
        Ok(n) if is_number && (min..=max).contains(&n) => Ok(n),
        _ if text.contains('.') => {
            bad(format!("{what} {text:?}: fractions of a second are not for schedules"))
        }
        _ => bad(format!("{what} {text:?} must be *, or {min} to {max}")),
    }
}
