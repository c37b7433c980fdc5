//! The heads of lines that begin an event: times and levels.

const LEVELS: [&str; 12] = [
    "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "ERR", "CRITICAL", "CRIT",
    "FATAL", "ALERT",
];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Whether a line begins with a time or with a level, also in a bracket or after a priority.
pub(super) fn begins(line: &str) -> bool {
    let mut bytes = line.as_bytes();
    if let [b'<', rest @ ..] = bytes {
        let digits = rest.iter().take(4).take_while(|b| b.is_ascii_digit()).count();
        match rest.get(digits..) {
            Some([b'>', rest @ ..]) if digits > 0 => return !rest.is_empty(),
            _ => return false,
        }
    }
    if let [b'[' | b'(', rest @ ..] = bytes {
        bytes = rest;
    }
    time(bytes) || month(bytes) || level(bytes)
}

/// `2026-08-22`, `22/08/2026`, `22/Aug/2026`, `15:17`, `20260822`, seconds or milliseconds since the
/// epoch.
fn time(bytes: &[u8]) -> bool {
    let digits = bytes.iter().take(14).take_while(|b| b.is_ascii_digit()).count();
    let after = |n: usize| bytes.get(digits + n);
    match digits {
        1 | 2 => {
            matches!(after(0), Some(b'/' | b':' | b'.' | b'-'))
                && after(1).is_some_and(u8::is_ascii_alphanumeric)
                && after(2).is_some_and(u8::is_ascii_alphanumeric)
        }
        4 => {
            matches!(after(0), Some(b'-' | b'/' | b'.'))
                && after(1).is_some_and(u8::is_ascii_digit)
                && after(2).is_some_and(u8::is_ascii_digit)
        }
        8 | 10 | 13 | 14 => {
            !after(0).is_some_and(u8::is_ascii_alphabetic) || after(0) == Some(&b'T')
        }
        _ => false,
    }
}

fn month(bytes: &[u8]) -> bool {
    let Some((name, [b' ', b' ' | b'0'..=b'3', ..])) = bytes.split_at_checked(3) else {
        return false;
    };
    MONTHS.iter().any(|m| m.as_bytes() == name)
}

fn level(bytes: &[u8]) -> bool {
    let len = bytes.iter().take(9).take_while(|b| b.is_ascii_alphabetic()).count();
    let ends =
        matches!(bytes.get(len), None | Some(b' ' | b':' | b']' | b')' | b'|' | b'\t' | b','));
    let Some(word) = bytes.get(..len).and_then(|w| std::str::from_utf8(w).ok()) else {
        return false;
    };
    // Small letters begin prose too: "error in line 3" goes on with a message.
    ends && (LEVELS.contains(&word)
        || (word.starts_with(|c: char| c.is_ascii_uppercase())
            && bytes.get(len).is_some_and(|b| *b != b' ')
            && LEVELS.contains(&word.to_ascii_uppercase().as_str())))
}
