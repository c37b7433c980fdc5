//! The time in a JSON object: a look at its outermost members, no more of it than is needed.

use super::text::{Written, iso};

/// Bytes of a line that are looked at.
const HEAD: usize = 4096;
/// Members that hold the time.
const NAMES: [&[u8]; 4] = [b"ts", b"time", b"timestamp", b"@timestamp"];

/// The first member of these names that holds a time.
pub(super) fn time(line: &[u8]) -> Option<Written> {
    let head = line.get(..HEAD.min(line.len()))?;
    let mut rest = head.strip_prefix(b"{")?;
    loop {
        rest = rest.trim_ascii_start();
        let (key, after) = string(rest)?;
        rest = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        if NAMES.contains(&key)
            && let Some(found) = value(rest)
        {
            return Some(found);
        }
        rest = over_value(rest)?.trim_ascii_start().strip_prefix(b",")?;
    }
}

/// A string in quotes, as it stands, and what follows.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = text.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', inside.get(at..)?)?;
        if inside.get(at) == Some(&b'"') {
            return Some((inside.get(..at)?, inside.get(at + 1..)?));
        }
        at += 2;
    }
}

fn value(text: &[u8]) -> Option<Written> {
    if text.first() == Some(&b'"') {
        let (inside, _) = string(text)?;
        return match iso(inside) {
            Some((written, len)) if len == inside.len() => Some(written),
            _ => epoch(inside),
        };
    }
    let len = text.iter().position(|b| matches!(b, b',' | b'}' | b' ' | b'\t'))?;
    epoch(text.get(..len)?)
}

/// Seconds, milliseconds, microseconds or nanoseconds since the epoch, told apart by their size.
fn epoch(text: &[u8]) -> Option<Written> {
    let whole = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, fraction) = text.split_at_checked(whole)?;
    let fraction = match fraction {
        [] => fraction,
        [b'.', f @ ..] if f.iter().all(u8::is_ascii_digit) => f,
        _ => return None,
    };
    if !(9..=19).contains(&whole) {
        return None;
    }
    let n = digits
        .iter()
        .try_fold(0_i64, |v, b| v.checked_mul(10)?.checked_add(i64::from(b - b'0')))?;
    let ms = match whole {
        9 | 10 => {
            let digit = |i: usize| i64::from(fraction.get(i).map_or(0, |b| b - b'0'));
            n * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2)
        }
        12 | 13 => n,
        15 | 16 => n / 1000,
        18 | 19 => n / 1_000_000,
        _ => return None,
    };
    Some(Written::Epoch(ms))
}

/// What follows a value.
fn over_value(text: &[u8]) -> Option<&[u8]> {
    match text.first()? {
        b'"' => string(text).map(|(_, rest)| rest),
        b'{' | b'[' => {
            let mut depth = 0_usize;
            let mut rest = text;
            loop {
                match rest.first()? {
                    b'"' => {
                        rest = string(rest)?.1;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                rest = rest.get(1..)?;
                if depth == 0 {
                    return Some(rest);
                }
            }
        }
        _ => {
            let len = text.iter().position(|b| matches!(b, b',' | b'}'))?;
            text.get(len..)
        }
    }
}
