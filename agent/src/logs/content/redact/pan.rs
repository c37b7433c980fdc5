//! Card numbers: 13 to 19 digits that begin as one does and pass the Luhn test.
//!
//! The digits stand together, or in groups with single spaces or dashes between as cards are written.
//! Not a card number: a part of a longer run of digits, a time such as 20260822151705, a piece of a
//! hexadecimal number, the fraction of a decimal one.
//!
//! No number is shorter than 13 bytes, so the search looks at every 13th byte until it meets a digit
//! or a separator between digits. Most text has few of either.

use std::ops::Range;

/// Fewest digits of a number.
const LEAST: usize = 13;
/// Most digits of a number.
const MOST: usize = 19;
/// Digits at the end that stay: enough to tell one card from another, and less than PCI DSS 3.4 allows.
const SHOWN: usize = 4;
/// Lengths of groups as cards show them, longest number first: what follows a number by chance should
/// not keep more of it in sight.
const FORMS: [&[usize]; 12] = [
    &[4, 4, 4, 4, 3],
    &[4, 4, 4, 4, 2],
    &[4, 4, 4, 4, 1],
    &[4, 4, 4, 4],
    &[4, 4, 4, 3],
    &[4, 6, 5],
    &[4, 4, 4, 2],
    &[4, 6, 4],
    &[4, 4, 4, 1],
    &[4, 3, 3, 3],
    &[6, 13],
    &[8, 8],
];
/// Most groups of a form.
const MOST_GROUPS: usize = 5;

/// The first card number that begins at `from` or later: from its first digit to behind its last.
/// Bytes before `from` count as what stands before it.
pub(super) fn find(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from + LEAST - 1;
    let mut low = from;
    while let Some(byte) = text.get(at) {
        let in_run = match byte {
            b'0'..=b'9' => true,
            b' ' | b'-' => is_digit(text, at + 1) && at > low && is_digit(text, at - 1),
            _ => false,
        };
        if !in_run {
            low = at + 1;
            at += LEAST;
            continue;
        }
        let run = run_around(text, at, low);
        if let Some(found) = in_run_of(text, run.clone()) {
            return Some(found);
        }
        low = run.end;
        at = run.end + LEAST - 1;
    }
    None
}

/// Puts a `*` for every digit of a number but its last four.
pub(super) fn mask(number: &mut [u8]) {
    let digits = number.iter().filter(|b| b.is_ascii_digit()).count();
    let hidden = digits.saturating_sub(SHOWN);
    for digit in number.iter_mut().filter(|b| b.is_ascii_digit()).take(hidden) {
        *digit = b'*';
    }
}

/// Where the text ends in what may be the beginning of a number that goes on elsewhere.
pub(super) fn open_end(text: &[u8]) -> Option<Range<usize>> {
    let end = text.len();
    let last = text.last()?;
    let mut digits_end = end;
    if matches!(last, b' ' | b'-') {
        digits_end -= 1;
    }
    if digits_end == 0 || !is_digit(text, digits_end - 1) {
        return None;
    }
    let run = run_around(text, digits_end - 1, 0);
    let mut start = None;
    for group in groups(text, run.clone()) {
        let digits = text.get(group.start..digits_end).unwrap_or_default();
        let digits = digits.iter().filter(|b| b.is_ascii_digit()).count();
        if digits <= MOST && begins_like_a_card(text, group.start) {
            start = Some(group.start);
            break;
        }
    }
    start.map(|s| s..end)
}

fn is_digit(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_digit)
}

/// The digits with single separators around `at`, not before `low`.
fn run_around(text: &[u8], at: usize, low: usize) -> Range<usize> {
    let separator = |i: usize| matches!(text.get(i), Some(b' ' | b'-'));
    let (mut start, mut end) = (at, at);
    while start > low {
        if is_digit(text, start - 1)
            || (separator(start - 1)
                && start > low + 1
                && is_digit(text, start - 2)
                && is_digit(text, start))
        {
            start -= 1;
        } else {
            break;
        }
    }
    if separator(start) {
        start += 1;
    }
    while is_digit(text, end) || (separator(end) && is_digit(text, end + 1) && end > start) {
        end += 1;
    }
    start..end
}

/// The groups of digits of a run.
fn groups(text: &[u8], run: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut at = run.start;
    std::iter::from_fn(move || {
        if at >= run.end {
            return None;
        }
        let bytes = text.get(at..run.end)?;
        let len = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
        let group = at..at + len;
        at += len + 1;
        Some(group)
    })
}

/// The first number in a run.
fn in_run_of(text: &[u8], run: Range<usize>) -> Option<Range<usize>> {
    if run.len() < LEAST {
        return None;
    }
    let mut ahead: [Option<Range<usize>>; MOST_GROUPS] = Default::default();
    let mut rest = groups(text, run.clone());
    for slot in &mut ahead {
        *slot = rest.next();
    }
    let first = ahead.first_mut()?.as_mut()?;
    let mut is_start = match before(text, first.start) {
        Before::Apart => true,
        Before::Escape(len) => {
            first.start = (first.start + len).min(first.end);
            true
        }
        Before::Joined => false,
    };
    while let Some(Some(group)) = ahead.first() {
        if is_start
            && begins_like_a_card(text, group.start)
            && let Some(found) = number_at(text, &ahead)
        {
            return Some(found);
        }
        is_start = true;
        ahead.rotate_left(1);
        if let Some(last) = ahead.last_mut() {
            *last = rest.next();
        }
    }
    None
}

/// A number that begins with the first of these groups.
fn number_at(text: &[u8], ahead: &[Option<Range<usize>>; MOST_GROUPS]) -> Option<Range<usize>> {
    let first = ahead.first()?.clone()?;
    let fits = |range: &Range<usize>| {
        ends_apart(text, range.end) && luhn(text.get(range.clone()).unwrap_or_default())
    };
    if (LEAST..=MOST).contains(&first.len()) && fits(&first) {
        return Some(first);
    }
    FORMS.iter().find_map(|form| {
        let same = form
            .iter()
            .zip(ahead)
            .all(|(want, have)| have.as_ref().is_some_and(|group| group.len() == *want));
        let last = ahead.get(form.len() - 1).cloned().flatten().filter(|_| same)?;
        let range = first.start..last.end;
        fits(&range).then_some(range)
    })
}

/// What stands before the first digit of a run.
enum Before {
    /// Nothing that belongs to it.
    Apart,
    /// An escape of which so many digits are a part.
    Escape(usize),
    /// What makes it a part of something else.
    Joined,
}

fn before(text: &[u8], start: usize) -> Before {
    let back = |n: usize| start.checked_sub(n).and_then(|i| text.get(i)).copied().unwrap_or(b'\n');
    let hex = |b: u8| b.is_ascii_hexdigit();
    match back(1) {
        // The rest of a number that is masked already.
        b'*' => Before::Joined,
        b'%' => Before::Escape(2),
        b'u' if back(2) == b'\\' => Before::Escape(4),
        b'.' if back(2).is_ascii_digit() => Before::Joined,
        b'x' | b'X' if back(2) == b'0' => Before::Joined,
        b if b.is_ascii_alphabetic() && hex(b) => {
            let escaped = back(2) == b'\\'
                || (back(3) == b'%' && hex(back(2)))
                || (back(6) == b'\\'
                    && back(5) == b'u'
                    && [4, 3, 2].into_iter().all(|n| hex(back(n))));
            if escaped { Before::Apart } else { Before::Joined }
        }
        _ => Before::Apart,
    }
}

fn ends_apart(text: &[u8], end: usize) -> bool {
    !text.get(end).is_some_and(|b| b.is_ascii_hexdigit())
}

/// 3 to 6, or 22 to 27: what begins with 20 or 21 is a time, and no card.
fn begins_like_a_card(text: &[u8], at: usize) -> bool {
    match text.get(at) {
        Some(b'3'..=b'6') => true,
        Some(b'2') => match text.get(at + 1) {
            Some(b' ' | b'-') | None => true,
            second => matches!(second, Some(b'2'..=b'7')),
        },
        _ => false,
    }
}

fn luhn(number: &[u8]) -> bool {
    let mut sum = 0_u32;
    for (i, digit) in number.iter().rev().filter(|b| b.is_ascii_digit()).enumerate() {
        let value = u32::from(digit - b'0');
        let doubled = value * 2;
        sum += match i % 2 {
            0 => value,
            _ if doubled > 9 => doubled - 9,
            _ => doubled,
        };
    }
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let mut from = 0;
        while let Some(found) = find(&bytes, from) {
            from = found.end;
            mask(&mut bytes[found]);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn cards_of_every_length_are_found_wherever_they_stand() {
        for (card, hidden) in [
            ("4222222222222", "*********2222"),
            ("30569309025904", "**********5904"),
            ("378282246310005", "***********0005"),
            ("4111111111111111", "************1111"),
            ("5555555555554444", "************4444"),
            ("2223003122003222", "************3222"),
            ("6011111111111117", "************1117"),
            ("3530111333300000", "************0000"),
            ("6304000000000000000", "***************0000"),
            ("4111 1111 1111 1111", "**** **** **** 1111"),
            ("4111-1111-1111-1111", "****-****-****-1111"),
            ("3782 822463 10005", "**** ****** *0005"),
            ("3782-822463-10005", "****-******-*0005"),
            ("3056 930902 5904", "**** ****** 5904"),
            ("4222 2222 2222 2", "**** **** *222 2"),
        ] {
            for (before, after) in [
                ("", ""),
                ("a", ""),
                ("card ", " ok"),
                ("card=", "&x=1"),
                ("\"pan\":\"", "\","),
                ("pan_", "_x"),
                ("(", ")."),
                ("2026-08-22 15:17:05,123 pay ", " 12/27"),
                ("200 ", " 17 99"),
                ("%20", "%20"),
                ("card%3D", ""),
                ("\\n", "\\n"),
                ("\\u0020", ""),
                ("\\u003d", ""),
                ("é", "é"),
                ("xxxxxxxxxxxxxxxxxxxxxx ", "\n"),
            ] {
                if before == "a" {
                    // A hexadecimal digit: this is the inside of a longer number.
                    let text = format!("{before}{card}{after}");
                    assert!(card.contains([' ', '-']) || masked(&text) == text, "{text}");
                    continue;
                }
                let text = format!("{before}{card}{after}");
                assert_eq!(masked(&text), format!("{before}{hidden}{after}"), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_card_stays() {
        for text in [
            "4111111111111112",
            "4111 1111 1111 1112",
            "order 1234567812345670",
            "20260822151705",
            "2026082215170500",
            "2026-08-22 15:17:05.123456",
            "1787411825007",
            "1787411825007123456",
            "41111111111111111111111",
            "94111111111111111",
            "0.4111111111111111",
            "3.5555555555554444",
            "d41d8cd98f00b204e9800998ecf8427e4111111111111111f",
            "0x4111111111111111",
            "4111  1111  1111  1111",
            "4111.1111.1111.1111",
            "41 11 11 11 11 11 11 11",
            "************1111",
            "411111111111",
            "10.0.0.1 - - [22/Aug/2026:15:17:05 +0200] \"GET / HTTP/1.1\" 200 5120 \"-\" 0.004",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn several_in_one_line_are_all_hidden_and_masking_again_changes_nothing() {
        let text = "4242424242424242 4242 4242 4242 4242,4111111111111111;378282246310005";
        let once = masked(text);
        assert!(
            !once.contains("42424") && !once.contains("41111") && !once.contains("37828"),
            "{once}"
        );
        assert_eq!(masked(&once), once);
    }

    #[test]
    fn the_open_end_of_a_text_is_what_may_go_on_as_a_number() {
        let open = |t: &str| open_end(t.as_bytes()).map(|r| t.get(r).unwrap().to_owned());
        assert_eq!(open("pay 41111111").as_deref(), Some("41111111"));
        assert_eq!(open("pay 4111 1111 ").as_deref(), Some("4111 1111 "));
        assert_eq!(open("at 17 4111-").as_deref(), Some("4111-"));
        assert_eq!(open("pay 4111  "), None);
        assert_eq!(open("pay 1111"), None);
        assert_eq!(open("41111111111111111111"), None);
        assert_eq!(open("word"), None);
        assert_eq!(open(""), None);
    }
}
