//! Times as log lines write them.

use jiff::civil::DateTime;

/// Bytes of a line in which an access log's time is looked for.
const HEAD: usize = 160;
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
/// The year of a date that has none, until a better one is found; it has a 29th of February.
const SOME_YEAR: i16 = 2000;

/// A time, as far as its text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Milliseconds since the epoch.
    Epoch(i64),
    /// Date, time of day and, if told, seconds east of UTC.
    At(DateTime, Option<i32>),
    /// The same in some year, local.
    WithoutYear(DateTime),
}

/// A time at the beginning of a line: RFC 3339 and what is like it, also with slashes, a comma or in
/// brackets; RFC 3164 and RFC 5424, also after a priority.
pub(super) fn at_start(line: &[u8]) -> Option<Written> {
    let mut line = line;
    if let [b'<', rest @ ..] = line {
        let digits = rest.iter().take(4).take_while(|b| b.is_ascii_digit()).count();
        line = rest.get(digits..)?.strip_prefix(b">")?;
        line = line.strip_prefix(b"1 ").unwrap_or(line);
    }
    if let [b'[', rest @ ..] = line {
        line = rest;
    }
    match line.first()? {
        b'0'..=b'9' => iso(line).map(|(written, _)| written),
        b'A'..=b'S' => without_year(line),
        _ => None,
    }
}

/// `[22/Aug/2026:15:17:05 +0200]`, in the first brackets of a line.
pub(super) fn in_brackets(line: &[u8]) -> Option<Written> {
    let head = line.get(..HEAD.min(line.len()))?;
    let at = memchr::memchr(b'[', head)?;
    let t = line.get(at + 1..at + 28)?;
    let [d1, d2, b'/', m @ .., b']'] = t else { return None };
    let [m1, m2, m3, b'/', rest @ ..] = m else { return None };
    let (year, rest) = number(rest, 4)?;
    let (h, rest) = number(rest.strip_prefix(b":")?, 2)?;
    let (min, rest) = number(rest.strip_prefix(b":")?, 2)?;
    let (s, rest) = number(rest.strip_prefix(b":")?, 2)?;
    let (day, _) = number(&[*d1, *d2], 2)?;
    let (zone, rest) = zone(rest.strip_prefix(b" ")?)?;
    if !rest.is_empty() {
        return None;
    }
    Some(Written::At(civil(year, month(&[*m1, *m2, *m3])?, day, h, min, s, 0)?, Some(zone)))
}

/// Date and time with a number for the month, and how many bytes they take.
pub(super) fn iso(text: &[u8]) -> Option<(Written, usize)> {
    let (year, rest) = number(text, 4)?;
    let separator = *rest.first().filter(|b| matches!(b, b'-' | b'/'))?;
    let (month, rest) = number(rest.get(1..)?, 2)?;
    let (day, rest) = number(rest.strip_prefix(&[separator])?, 2)?;
    let [b'T' | b't' | b' ', rest @ ..] = rest else { return None };
    let (h, rest) = number(rest, 2)?;
    let (min, rest) = number(rest.strip_prefix(b":")?, 2)?;
    let (s, mut rest) = number(rest.strip_prefix(b":")?, 2)?;
    let mut nanos = 0;
    if let [b'.' | b',', fraction @ ..] = rest
        && let Some((value, after)) = fraction_nanos(fraction)
    {
        (nanos, rest) = (value, after);
    }
    let mut offset = None;
    if let Some((zone, after)) = zone(rest.strip_prefix(b" ").unwrap_or(rest)) {
        (offset, rest) = (Some(zone), after);
    }
    if rest.first().is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let written = Written::At(civil(year, month, day, h, min, s, nanos)?, offset);
    Some((written, text.len() - rest.len()))
}

/// `Aug 22 15:17:05` and `Aug  2 15:17:05`.
fn without_year(line: &[u8]) -> Option<Written> {
    let (name, rest) = line.split_first_chunk::<3>()?;
    let month = month(name)?;
    let rest = rest.strip_prefix(b" ")?;
    let (day, rest) = match rest.strip_prefix(b" ") {
        Some(rest) => number(rest, 1)?,
        None => number(rest, 2)?,
    };
    let (h, rest) = number(rest.strip_prefix(b" ")?, 2)?;
    let (min, rest) = number(rest.strip_prefix(b":")?, 2)?;
    let (s, rest) = number(rest.strip_prefix(b":")?, 2)?;
    if rest.first().is_some_and(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    civil(SOME_YEAR.into(), month, day, h, min, s, 0).map(Written::WithoutYear)
}

/// `Z`, `+02:00`, `+0200`, `UTC`, `GMT`: seconds east, and what follows.
fn zone(text: &[u8]) -> Option<(i32, &[u8])> {
    match text {
        [b'Z' | b'z', rest @ ..] => Some((0, rest)),
        [b'U', b'T', b'C', rest @ ..] | [b'G', b'M', b'T', rest @ ..] => Some((0, rest)),
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (h, rest) = number(rest, 2)?;
            let (m, rest) = number(rest.strip_prefix(b":").unwrap_or(rest), 2)?;
            if h > 18 || m > 59 || rest.first().is_some_and(u8::is_ascii_digit) {
                return None;
            }
            let east = (h * 60 + m) * 60;
            Some((if *sign == b'-' { -east } else { east }, rest))
        }
        _ => None,
    }
}

fn fraction_nanos(text: &[u8]) -> Option<(i32, &[u8])> {
    let len = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let digits = text.get(..len.min(9))?;
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().fold(0, |v, b| v * 10 + i32::from(b - b'0'));
    let missing = u32::try_from(9 - digits.len()).ok()?;
    Some((value * 10_i32.pow(missing), text.get(len..)?))
}

/// Exactly so many digits, at most four.
fn number(text: &[u8], digits: usize) -> Option<(i32, &[u8])> {
    let (head, rest) = text.split_at_checked(digits)?;
    let value =
        head.iter().try_fold(0, |v, b| b.is_ascii_digit().then(|| v * 10 + i32::from(b - b'0')))?;
    Some((value, rest))
}

fn month(name: &[u8; 3]) -> Option<i32> {
    let at = MONTHS.iter().position(|m| *m == name)?;
    i32::try_from(at + 1).ok()
}

fn civil(
    year: i32,
    month: i32,
    day: i32,
    h: i32,
    min: i32,
    s: i32,
    nanos: i32,
) -> Option<DateTime> {
    let small = |n: i32| i8::try_from(n).ok();
    // A leap second is the end of its minute.
    let s = if s == 60 { 59 } else { s };
    DateTime::new(
        i16::try_from(year).ok()?,
        small(month)?,
        small(day)?,
        small(h)?,
        small(min)?,
        small(s)?,
        nanos,
    )
    .ok()
}
