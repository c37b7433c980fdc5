//! The few ways in which Python reads and prints text that a `supervisord.conf` depends on.

/// A whole number. Python's have no bound; beyond this one they are cut off, far past any meaning.
pub(crate) type Int = i128;

/// More digits than Python turns into a number.
const MAX_DIGITS: usize = 4300;

/// Where the runs of ten decimal digits begin (Unicode 14, which is Python 3.11's).
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66,
    0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x1_04a0, 0x1_0d30, 0x1_1066, 0x1_10f0, 0x1_1136, 0x1_11d0, 0x1_12f0, 0x1_1450, 0x1_14d0,
    0x1_1650, 0x1_16c0, 0x1_1730, 0x1_18e0, 0x1_1950, 0x1_1c50, 0x1_1d50, 0x1_1da0, 0x1_6a60,
    0x1_6ac0, 0x1_6b50, 0x1_d7ce, 0x1_d7d8, 0x1_d7e2, 0x1_d7ec, 0x1_d7f6, 0x1_e140, 0x1_e2f0,
    0x1_e950, 0x1_fbf0,
];

/// White space as `str.strip` has it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.strip`.
pub(super) fn strip(s: &str) -> &str {
    s.trim_matches(is_space)
}

fn digit(c: char) -> Option<u32> {
    let code = u32::from(c);
    ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code)).map(|zero| code - zero)
}

/// `int(text)`.
///
/// # Errors
/// Python's words.
pub(super) fn int(text: &str) -> Result<Int, String> {
    number(text, 10)
        .ok_or_else(|| format!("invalid literal for int() with base 10: {}", repr(text)))
}

/// `int(text, 8)`.
///
/// # Errors
/// Supervisor's words.
pub(super) fn octal(text: &str) -> Result<Int, String> {
    number(text, 8).ok_or_else(|| format!("{text} can not be converted to an octal type"))
}

fn number(text: &str, base: u32) -> Option<Int> {
    let text = strip(text);
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed = (base == 8).then(|| rest.strip_prefix("0o").or(rest.strip_prefix("0O")));
    // An underscore may stand between two digits, and after a prefix.
    let (mut may_underscore, rest) = match prefixed.flatten() {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (mut value, mut digits): (Int, usize) = (0, 0);
    for c in rest.chars() {
        if c == '_' && may_underscore {
            may_underscore = false;
            continue;
        }
        let d = digit(c).filter(|d| *d < base)?;
        value = value.saturating_mul(base.into()).saturating_add(d.into());
        (may_underscore, digits) = (true, digits + 1);
    }
    let ends_well = digits > 0 && may_underscore && (base != 10 || digits <= MAX_DIGITS);
    ends_well.then_some(if negative { -value } else { value })
}

/// `repr(text)`.
pub(super) fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                out += &match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
    out
}

/// `str.isprintable`, but for characters that no version of Unicode has given a meaning.
fn printable(c: char) -> bool {
    let hidden = matches!(u32::from(c),
        0xad | 0x600..=0x605 | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff
        | 0xfff9..=0xfffb | 0xe000..=0xf8ff | 0xe0000..=0xe0fff | 0xf0000..=0x0010_ffff);
    c == ' ' || !(c.is_control() || c.is_whitespace() || hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_python_takes_for_one() {
        for (text, want) in [
            ("10", Some(10)),
            (" 1_0\n", Some(10)),
            ("-5", Some(-5)),
            ("+007", Some(7)),
            ("٣", Some(3)),
            ("𝟛1", Some(31)),
            ("9999999999999", Some(9_999_999_999_999)),
            ("", None),
            ("-", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1.5", None),
            ("0x10", None),
            ("1 0", None),
        ] {
            assert_eq!(int(text).ok(), want, "{text:?}");
        }
        for (text, want) in [
            ("022", Some(0o22)),
            ("0o_27", Some(0o27)),
            ("27", Some(0o27)),
            ("9", None),
            ("o7", None),
        ] {
            assert_eq!(octal(text).ok(), want, "{text:?}");
        }
        assert!(int(&"1".repeat(4301)).is_err());
        assert_eq!(int(&"9".repeat(100)).ok(), Some(Int::MAX));
    }

    #[test]
    fn text_is_shown_as_python_shows_it() {
        for (text, want) in [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("a'\"b", "'a\\'\"b'"),
            ("a\n\t\\", "'a\\n\\t\\\\'"),
            ("\u{feff}é\x1b\u{a0}", "'\\ufeffé\\x1b\\xa0'"),
        ] {
            assert_eq!(repr(text), want);
        }
    }
}
