//! Secrets that a name announces: headers, keys of JSON and of Python's dictionaries, query parameters;
//! and the two that announce themselves, `Bearer ...` and AWS's key ids.
//!
//! All names are looked for in one pass by one automaton. What it finds is rare, so what follows need
//! not be fast.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Input};

use super::MARK;

/// What a word announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `Authorization:`; the scheme stays.
    Authorization,
    /// A token after the word itself.
    Bearer,
    /// Everything up to the end of the line.
    Cookie,
    /// An access key id.
    KeyId,
    /// One long token.
    Key,
    /// One token of any length.
    Token,
}

/// Where a value that is not quoted ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With its line; in a JSON string, also with the string or the line break that it shows.
    Line { in_string: bool },
    /// At this quote, where no more backslashes stand before it.
    Quote { quote: u8, slashes: usize },
    /// At the bracket.
    Bracket,
    /// At a space or punctuation.
    Token,
}

/// A value to be hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) range: Range<usize>,
    pub(super) end: End,
}

/// Schemes of which one token follows.
const SCHEMES: [&str; 7] = ["bearer", "basic", "token", "apikey", "api-key", "jwt", "negotiate"];
/// Schemes whose parameters go on over spaces.
const LONG_SCHEMES: [&str; 2] = ["digest", "aws4-hmac-sha256"];
/// Names of AWS's secrets, in every spelling.
const KEY_NAMES: [&str; 11] = [
    "secretaccesskey",
    "secret_access_key",
    "secret-access-key",
    "secret access key",
    "aws_secret_key",
    "sessiontoken",
    "session_token",
    "session-token",
    "security-token",
    "security_token",
    "x-amz-signature",
];
/// A key is at least this long, so that "secret_access_key: missing" stays.
const KEY_LEN: usize = 16;
/// Spaces that may stand around a separator.
const MOST_SPACES: usize = 8;

/// The words of the kinds that are to be hidden.
#[derive(Debug)]
pub(super) struct Words {
    automaton: AhoCorasick,
    words: Vec<(Word, usize)>,
}

impl Words {
    /// Each kind with the number it counts under; `header` is the name of the origin's secret header.
    pub(super) fn new(kinds: &[(super::Kind, usize)], header: &str) -> Option<Self> {
        let mut names: Vec<String> = Vec::new();
        let mut words = Vec::new();
        let mut add = |name: &str, word: Word, kind: usize| {
            names.push(name.to_ascii_lowercase());
            words.push((word, kind));
        };
        for (kind, number) in kinds {
            match kind {
                super::Kind::Pan => {}
                super::Kind::Authorization => {
                    add("authorization", Word::Authorization, *number);
                    add("bearer ", Word::Bearer, *number);
                }
                super::Kind::Cookies => add("cookie", Word::Cookie, *number),
                super::Kind::AwsKeys => {
                    add("akia", Word::KeyId, *number);
                    add("asia", Word::KeyId, *number);
                    for name in KEY_NAMES {
                        add(name, Word::Key, *number);
                    }
                }
                super::Kind::OriginSecret => {
                    add(header, Word::Token, *number);
                    add(&header.replace('-', "_"), Word::Token, *number);
                }
            }
        }
        if names.is_empty() {
            return None;
        }
        let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(&names).ok()?;
        Some(Self { automaton, words })
    }

    /// The first value whose name begins at `from` or later, and the number it counts under.
    /// With `is_part`, the text goes on elsewhere.
    pub(super) fn find(&self, text: &[u8], from: usize, is_part: bool) -> Option<(Value, usize)> {
        let mut at = from;
        loop {
            let m = self.automaton.find(Input::new(text).range(at..))?;
            at = m.end();
            let (word, kind) = self.words.get(m.pattern().as_usize()).copied()?;
            if let Some(value) = value(text, m.range(), word, is_part) {
                return Some((value, kind));
            }
        }
    }
}

/// Where a value that began before `text` ends in it; none if it goes on.
pub(super) fn rest_of(text: &[u8], end: End) -> Option<usize> {
    let line = memchr::memchr(b'\n', text);
    let stop = match end {
        End::Line { in_string: false } => None,
        End::Line { in_string: true } => string_line_end(text),
        End::Quote { quote, slashes } => quote_end(text, quote, slashes),
        End::Bracket => memchr::memchr2(b']', b')', text),
        End::Token => text.iter().position(|b| !is_token(*b)),
    };
    match (stop, line) {
        (Some(stop), Some(line)) => Some(stop.min(line)),
        (stop, line) => stop.or(line),
    }
}

/// The value that a word announces, if it does.
fn value(text: &[u8], name: Range<usize>, word: Word, is_part: bool) -> Option<Value> {
    match word {
        Word::KeyId => return key_id(text, name, is_part),
        Word::Bearer => return bearer(text, name.end, is_part),
        Word::Authorization | Word::Cookie | Word::Key | Word::Token => {}
    }
    if is_inside_a_word(text, &name) {
        return None;
    }
    let opening = opening(text, name.end)?;
    let (start, quote) = (opening.at, opening.quote);
    if rest(text, start).starts_with(MARK) {
        return None;
    }
    let mut end = match (quote, word) {
        (Some((quote, slashes)), _) => End::Quote { quote, slashes },
        (None, Word::Key | Word::Token) => End::Token,
        (None, _) if opening.bracket => End::Bracket,
        (None, _) => End::Line { in_string: is_in_string(text, name.start) },
    };
    let mut start = start;
    if word == Word::Authorization
        && let Some((scheme, len)) = scheme(rest(text, start))
    {
        start += len;
        let is_bare = matches!(end, End::Line { .. });
        if is_bare && SCHEMES.contains(&scheme.as_str()) && is_one_token(rest(text, start)) {
            end = End::Token;
        }
        if rest(text, start).starts_with(MARK) {
            return None;
        }
    }
    let found = rest_of(rest(text, start), end);
    let cut = is_part && found.is_none();
    let len = found.unwrap_or(text.len() - start);
    let value = text.get(start..start + len)?;
    // A space at the cut belongs to the value that goes on.
    let range = start..start + if cut { len } else { value.trim_ascii_end().len() };
    let long_enough = match word {
        Word::Key => range.len() >= KEY_LEN || (cut && !range.is_empty()),
        Word::Authorization | Word::Bearer | Word::Cookie | Word::KeyId | Word::Token => {
            !range.is_empty()
        }
    };
    long_enough.then_some(Value { range, end })
}

fn rest(text: &[u8], at: usize) -> &[u8] {
    text.get(at..).unwrap_or_default()
}

struct Opening {
    /// Where the value begins.
    at: usize,
    /// Its quote, and how many backslashes stand before that.
    quote: Option<(u8, usize)>,
    bracket: bool,
}

/// From the end of a name over its separator to its value.
fn opening(text: &[u8], name_end: usize) -> Option<Opening> {
    let mut at = name_end;
    let quoted = quote_at(text, at);
    if let Some((_, slashes)) = quoted {
        at += slashes + 1;
    }
    at = over_spaces(text, at)?;
    match text.get(at)? {
        b':' => at += 1,
        b'=' => {
            at += 1;
            if text.get(at) == Some(&b'>') {
                at += 1;
            }
        }
        // An element of XML.
        b'>' => at += 1,
        // A pair of Python.
        b',' if quoted.is_some() => at += 1,
        _ => return None,
    }
    at = over_spaces(text, at)?;
    if rest(text, at).starts_with(MARK) {
        return None;
    }
    let bracket = matches!(text.get(at), Some(b'[' | b'('));
    if bracket {
        at = over_spaces(text, at + 1)?;
    }
    if text.get(at) == Some(&b'b') && quote_at(text, at + 1).is_some() {
        at += 1;
    }
    let quote = quote_at(text, at);
    if let Some((_, slashes)) = quote {
        at += slashes + 1;
    }
    Some(Opening { at, quote, bracket })
}

/// A quote, with up to seven backslashes before it.
fn quote_at(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let slashes = rest(text, at).iter().take(7).take_while(|b| **b == b'\\').count();
    match text.get(at + slashes)? {
        quote @ (b'"' | b'\'') => Some((*quote, slashes)),
        _ => None,
    }
}

fn over_spaces(text: &[u8], at: usize) -> Option<usize> {
    let spaces = rest(text, at).iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    (spaces <= MOST_SPACES).then_some(at + spaces)
}

/// Where a quoted value ends: at its quote with no more backslashes before it than the first had. In
/// a plain string an even number of them are backslashes of the value.
fn quote_end(value: &[u8], quote: u8, slashes: usize) -> Option<usize> {
    for at in memchr::memchr_iter(quote, value) {
        let before = value.get(..at)?.iter().rev().take_while(|b| **b == b'\\').count();
        let ends = if slashes == 0 { before.is_multiple_of(2) } else { before <= slashes };
        if ends {
            return Some(at - if slashes == 0 { 0 } else { before });
        }
    }
    None
}

/// Where a line that a JSON string holds ends: at the string's end, or before `\r` or `\n`.
fn string_line_end(value: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in value.iter().enumerate() {
        match (escaped, byte) {
            (true, b'r' | b'n') => return Some(at - 1),
            (true, _) => escaped = false,
            (false, b'"') => return Some(at),
            (false, b'\\') => escaped = true,
            (false, _) => {}
        }
    }
    None
}

/// Whether a scheme's value is one token and no `name="value"`.
fn is_one_token(value: &[u8]) -> bool {
    let len = value.iter().position(|b| !is_token(*b)).unwrap_or(value.len());
    let quoted = matches!(value.get(len), Some(b'"' | b'\'' | b'\\'));
    !(quoted && value.get(..len).is_some_and(|v| v.ends_with(b"=")))
}

/// `preauthorization` is not the header, `proxyAuthorization` is.
fn is_inside_a_word(text: &[u8], name: &Range<usize>) -> bool {
    let before = name.start.checked_sub(1).and_then(|i| text.get(i));
    let camel = before.is_some_and(u8::is_ascii_lowercase)
        && text.get(name.start).is_some_and(u8::is_ascii_uppercase);
    before.is_some_and(u8::is_ascii_alphanumeric) && !camel && !is_escape_before(text, name.start)
}

/// `\n` of a JSON string, before a name.
fn is_escape_before(text: &[u8], at: usize) -> bool {
    at >= 2
        && text.get(at - 2) == Some(&b'\\')
        && text.get(at - 1).is_some_and(|b| matches!(b, b'n' | b'r' | b't'))
}

/// Whether a double quote is open at `at`, in its line.
fn is_in_string(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let line = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
    let line = before.get(line..).unwrap_or_default();
    let plain = |i: &usize| !line.get(..*i).is_some_and(|b| b.ends_with(b"\\"));
    memchr::memchr_iter(b'"', line).filter(plain).count() % 2 == 1
}

/// A known scheme in small letters, and its length with the space after it.
fn scheme(value: &[u8]) -> Option<(String, usize)> {
    let len = value.iter().take(20).position(|b| *b == b' ')?;
    let scheme = std::str::from_utf8(value.get(..len)?).ok()?.to_ascii_lowercase();
    let known = SCHEMES.contains(&scheme.as_str()) || LONG_SCHEMES.contains(&scheme.as_str());
    let spaces = value.get(len..)?.iter().take_while(|b| **b == b' ').count();
    known.then_some((scheme, len + spaces))
}

/// A token after `Bearer `, long enough and with a digit, so that prose stays.
fn bearer(text: &[u8], at: usize, is_part: bool) -> Option<Value> {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(b);
    let len = rest(text, at).iter().take_while(|b| token(b)).count();
    let value = text.get(at..at + len)?;
    let sure = len >= 32 || (len >= 16 && value.iter().any(u8::is_ascii_digit));
    let cut = is_part && len > 0 && at + len == text.len();
    (sure || cut).then_some(Value { range: at..at + len, end: End::Token })
}

/// `AKIA` and sixteen more; the four stay and say what was there.
fn key_id(text: &[u8], name: Range<usize>, is_part: bool) -> Option<Value> {
    const REST: usize = 16;
    let upper = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    let before = name.start.checked_sub(1).and_then(|i| text.get(i));
    let apart = !before.is_some_and(u8::is_ascii_alphanumeric)
        || is_escape_before(text, name.start)
        || (name.start >= 3 && text.get(name.start - 3) == Some(&b'%'));
    let head = text.get(name.clone())?.iter().all(u8::is_ascii_uppercase);
    let len = rest(text, name.end).iter().take(REST + 1).take_while(|b| upper(b)).count();
    let goes_on = text.get(name.end + len).is_some_and(u8::is_ascii_alphanumeric);
    let whole = len == REST && !goes_on;
    let cut = is_part && (1..REST).contains(&len) && name.end + len == text.len();
    let range = name.end..name.end + len;
    (apart && head && (whole || cut)).then_some(Value { range, end: End::Token })
}

/// What a bare value is made of.
fn is_token(b: u8) -> bool {
    !b.is_ascii_whitespace() && !b"\"'\\,;&)]}<>".contains(&b) && b >= 0x20
}
