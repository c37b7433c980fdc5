//! Five fields as cron has them: minute, hour, day of the month, month, weekday.

use super::calendar::{BadCalendar, Pattern, Set};

/// One of the five fields.
#[derive(Debug)]
struct Field {
    what: &'static str,
    min: u8,
    max: u8,
    /// Names of values, the first for `min`.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { what: "minute", min: 0, max: 59, names: &[] };
const HOUR: Field = Field { what: "hour", min: 0, max: 23, names: &[] };
const DAY: Field = Field { what: "day of the month", min: 1, max: 31, names: &[] };
const MONTH: Field = Field { what: "month", min: 1, max: 12, names: &MONTHS };
/// Sunday is 0, and 7.
const WEEKDAY: Field = Field { what: "weekday", min: 0, max: 7, names: &DAYS };

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 8] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const SHORT: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Reads five fields, or one of the short words.
pub(super) fn parse(text: &str) -> Result<Pattern, BadCalendar> {
    let text = text.trim();
    if text.starts_with('@') {
        let known = SHORT.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        return match known {
            Some((_, fields)) => parse(fields),
            None if text.eq_ignore_ascii_case("@reboot") => {
                bad("@reboot is no time; a program without schedule is started with the agent")
            }
            None => {
                let words: Vec<_> = SHORT.iter().map(|(word, _)| *word).collect();
                bad(format!("{text:?} must be one of {}", words.join(", ")))
            }
        };
    }
    let fields: Vec<_> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        let n = fields.len();
        return bad(format!(
            "{text:?} has {n} fields and must have five: minute, hour, day of the month, month, weekday, such as \"0 3 * * *\""
        ));
    };
    let sundays = WEEKDAY.read(weekday)?;
    // From Sunday = 0 and 7 to Monday = 0.
    let weekdays =
        (0..=7).filter(|n| sundays.has(*n)).fold(Set::default(), |s, n| s.with((n + 6) % 7));
    Ok(Pattern {
        minutes: MINUTE.read(minute)?,
        hours: HOUR.read(hour)?,
        days: DAY.read(day)?,
        months: MONTH.read(month)?,
        weekdays,
        // As in cron: a field that begins with a star does not count as a restriction.
        either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        ..Pattern::midnight()
    })
}

fn bad<T>(what: impl Into<String>) -> Result<T, BadCalendar> {
    Err(BadCalendar(what.into()))
}

impl Field {
    fn read(&self, text: &str) -> Result<Set, BadCalendar> {
        let mut parts = text.split(',').map(|part| self.part(part));
        parts.try_fold(Set::default(), |all, part| {
            let (from, to, step) = part?;
            Ok((from..=to).step_by(step).fold(all, Set::with))
        })
    }

    /// `*`, `a`, `a-b`, and the first and last with `/step`.
    fn part(&self, part: &str) -> Result<(u8, u8, usize), BadCalendar> {
        let what = self.what;
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => match step.parse::<u8>() {
                Ok(n) if n > 0 => (range, Some(n)),
                _ => return bad(format!("{what} {part:?}: the step must be a number from 1")),
            },
        };
        let (from, to) = match range.split_once('-') {
            None if range == "*" => {
                // Sunday once only.
                (
                    self.min,
                    if self.max == WEEKDAY.max && self.what == WEEKDAY.what { 6 } else { self.max },
                )
            }
            None => {
                let n = self.value(range)?;
                if step.is_some() {
                    let max = self.max;
                    return bad(format!(
                        "{what} {part:?}: a step needs a range, such as {n}-{max}/5 or */5"
                    ));
                }
                (n, n)
            }
            Some((from, to)) => (self.value(from)?, self.end(to)?),
        };
        if from > to {
            return bad(format!("{what} {part:?} is a range that runs backwards"));
        }
        Ok((from, to, step.map_or(1, usize::from)))
    }

    fn value(&self, text: &str) -> Result<u8, BadCalendar> {
        let Self { what, min, max, names } = self;
        if let Some(at) = names.iter().position(|n| n.eq_ignore_ascii_case(text)) {
            return Ok(min.saturating_add(u8::try_from(at).unwrap_or(0)));
        }
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u8>() {
            Ok(n) if is_number && (*min..=*max).contains(&n) => Ok(n),
            _ => {
                let or = match (names.first(), names.last()) {
                    (Some(_), Some(_)) if *what == WEEKDAY.what => " or sun to sat",
                    (Some(_), Some(_)) => " or jan to dec",
                    _ => "",
                };
                bad(format!("{what} {text:?} must be *, or {min} to {max}{or}"))
            }
        }
    }

    /// As a value; Sunday at the end of a range comes after Saturday.
    fn end(&self, text: &str) -> Result<u8, BadCalendar> {
        let n = self.value(text)?;
        Ok(if self.what == WEEKDAY.what && n == 0 { 7 } else { n })
    }
}
