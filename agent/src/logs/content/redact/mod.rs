//! Takes secrets out of lines before they reach a disk or the wire.
//!
//! Invariants: line breaks are neither taken nor made; a line without a secret is not changed, to the
//! byte; doing it again changes nothing; lines together give what each gives alone.
//!
//! A line that comes in parts is dealt with part by part, in the order they come, with a [`Carry`]
//! between: what the last part ended in. What may be the beginning of a card number is hidden at the
//! end of a part although it may turn out to be none.

mod pan;
mod words;

use std::{borrow::Cow, collections::BTreeMap, ops::Range, sync::Arc};

use self::words::{End, Words};
use super::pattern::Pattern;

/// What stands where a secret stood.
const MARK: &[u8] = b"[redacted]";
/// Bytes of the last part that are kept: more than any name with its separator, or a card number.
const CONTEXT: usize = 96;

/// What can be hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Card numbers; the last four digits stay.
    Pan,
    /// `Authorization` and `Proxy-Authorization`, and tokens after `Bearer`; the scheme stays.
    Authorization,
    /// `Cookie` and `Set-Cookie`.
    Cookies,
    /// AWS's access key ids, secret keys and session tokens.
    AwsKeys,
    /// The header by which CloudFront is known.
    OriginSecret,
}

impl Kind {
    /// All of them, by the names of the configuration.
    pub const ALL: [(&'static str, Self); 5] = [
        ("pan", Self::Pan),
        ("authorization", Self::Authorization),
        ("cookies", Self::Cookies),
        ("aws_keys", Self::AwsKeys),
        ("origin_secret", Self::OriginSecret),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, k)| *k == self).map_or("", |(name, _)| name)
    }
}

/// A pattern of the operator's, and the name it counts under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// The name; stands in the text as `[redacted:NAME]`.
    pub name: String,
    /// What is hidden.
    pub pattern: Pattern,
}

/// What is hidden. Clones share it.
#[derive(Clone, Debug)]
pub struct Redactor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kinds: Vec<Kind>,
    header: String,
    custom: Vec<Custom>,
    /// The number that card numbers count under, if they are hidden.
    pan: Option<usize>,
    words: Option<Words>,
}

impl PartialEq for Redactor {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        (&a.kinds, &a.header, &a.custom) == (&b.kinds, &b.header, &b.custom)
    }
}

impl Eq for Redactor {}

/// How often each kind was hidden, by its number.
pub(crate) type Counts = BTreeMap<usize, u64>;

/// What the last part of a line ended in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carry {
    /// Its last bytes as they came. They are kept in memory only.
    tail: Vec<u8>,
    /// The value it ended in.
    open: Option<End>,
}

/// A replacement.
struct Edit {
    range: Range<usize>,
    with: Vec<u8>,
}

impl Redactor {
    /// Hides these. `header` is the name of the origin's secret header.
    #[must_use]
    pub fn new(kinds: &[Kind], custom: Vec<Custom>, header: &str) -> Self {
        let mut kinds = kinds.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        let numbered: Vec<_> = kinds.iter().copied().enumerate().map(|(n, k)| (k, n)).collect();
        let pan = kinds.iter().position(|k| *k == Kind::Pan);
        let words = Words::new(&numbered, header);
        Self(Arc::new(Inner { kinds, header: header.to_owned(), custom, pan, words }))
    }

    /// Hides nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::new(&[], Vec::new(), "")
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.kinds.is_empty() && self.0.custom.is_empty()
    }

    /// The name that a number counts under.
    #[must_use]
    pub(crate) fn name(&self, number: usize) -> &str {
        let custom = number.checked_sub(self.0.kinds.len()).and_then(|n| self.0.custom.get(n));
        match (self.0.kinds.get(number), custom) {
            (Some(kind), _) => kind.name(),
            (None, Some(custom)) => &custom.name,
            (None, None) => "",
        }
    }

    /// Whole lines, or one without its line break, without their secrets.
    #[must_use]
    pub(crate) fn lines<'a>(&self, text: &'a [u8], counts: &mut Counts) -> Cow<'a, [u8]> {
        self.passes(text, 0, false, counts, &mut None)
    }

    /// Whether there is no secret in whole lines: so to say a look without touching.
    #[must_use]
    pub(crate) fn is_clean(&self, text: &[u8]) -> bool {
        let inner = &self.0;
        let has_card = inner.pan.is_some() && pan::find(text, 0).is_some();
        let has_word = || inner.words.as_ref().is_some_and(|w| w.find(text, 0, false).is_some());
        let has_custom = || {
            text.split(|b| *b == b'\n')
                .any(|line| inner.custom.iter().any(|c| c.pattern.find(line, 0).is_some()))
        };
        !has_card && !has_word() && !has_custom()
    }

    /// The next part of a line, with what came of the last one. It may hold whole lines too; `is_last`
    /// says that it ends in no part of a line.
    #[must_use]
    pub(crate) fn part<'a>(
        &self,
        text: &'a [u8],
        carry: &mut Carry,
        is_last: bool,
        counts: &mut Counts,
    ) -> Cow<'a, [u8]> {
        let Carry { tail, open } = std::mem::take(carry);
        if is_last && tail.is_empty() && open.is_none() {
            return self.lines(text, counts);
        }
        let skipped = open.map_or(0, |end| words::rest_of(text, end).unwrap_or(text.len()));
        let rest = text.get(skipped..).unwrap_or_default();
        if rest.is_empty() && !is_last {
            // All of it belongs to the value that began before, or there is nothing.
            *carry = Carry { tail, open };
            return Cow::Borrowed(rest);
        }
        // What ends a value says what the next one is not a part of.
        let tail = if open.is_some() { MARK.to_vec() } else { tail };
        let mut whole = tail.clone();
        whole.extend_from_slice(rest);
        let mut open = None;
        let mut out = self.passes(&whole, tail.len(), !is_last, counts, &mut open).into_owned();
        out.drain(..tail.len());
        if !is_last {
            let kept = whole.len().saturating_sub(CONTEXT);
            *carry = Carry { tail: whole.split_off(kept), open };
        }
        Cow::Owned(out)
    }

    /// What a part would carry on that ends in these bytes.
    #[must_use]
    pub(crate) fn carry_after(&self, before: &[u8]) -> Carry {
        let mut carry = Carry::default();
        // Only what it ends in is wanted.
        drop(self.part(before, &mut carry, false, &mut Counts::new()));
        carry
    }

    /// All that is looked for, one after the other. The first `context` bytes are looked at and not
    /// changed.
    fn passes<'a>(
        &self,
        text: &'a [u8],
        context: usize,
        is_part: bool,
        counts: &mut Counts,
        open: &mut Option<End>,
    ) -> Cow<'a, [u8]> {
        let mut out = Cow::Borrowed(text);
        // The operator's patterns are written for what programs print, so they come first.
        for (n, custom) in self.0.custom.iter().enumerate() {
            let edits = hide_custom(custom, &out, context, self.0.kinds.len() + n, counts);
            out = apply(out, edits);
        }
        if let Some(words) = &self.0.words {
            let edits = hide_words(words, &out, context, is_part, counts, open);
            out = apply(out, edits);
        }
        if let Some(number) = self.0.pan {
            // What is behind an open value is hidden already.
            let cut = is_part && open.is_none();
            let edits = hide_cards(&out, context, cut, number, counts);
            out = apply(out, edits);
        }
        out
    }
}

fn hide_words(
    words: &Words,
    text: &[u8],
    context: usize,
    is_part: bool,
    counts: &mut Counts,
    open: &mut Option<End>,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut from = 0;
    while let Some((value, number)) = words.find(text, from, is_part) {
        let value_end = value.range.end;
        from = value_end;
        let goes_on = is_part && text.get(value_end..).is_some_and(<[u8]>::is_empty);
        if goes_on {
            *open = Some(value.end);
        }
        if value_end <= context {
            continue;
        }
        *counts.entry(number).or_default() += 1;
        let range = value.range.start.max(context)..value_end;
        edits.push(Edit { range, with: MARK.to_vec() });
    }
    edits
}

fn hide_cards(
    text: &[u8],
    context: usize,
    is_part: bool,
    number: usize,
    counts: &mut Counts,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut hide = |range: Range<usize>, whole: bool| {
        let mut masked = text.get(range.clone()).unwrap_or_default().to_vec();
        if whole {
            pan::mask(&mut masked);
        } else {
            masked.iter_mut().filter(|b| b.is_ascii_digit()).for_each(|b| *b = b'*');
        }
        let seen = context.saturating_sub(range.start);
        let with = masked.get(seen..).unwrap_or_default().to_vec();
        if !with.is_empty() {
            *counts.entry(number).or_default() += 1;
            edits.push(Edit { range: range.start + seen..range.end, with });
        }
    };
    let mut from = 0;
    while let Some(found) = pan::find(text, from) {
        from = found.end;
        hide(found, true);
    }
    if is_part
        && let Some(end) = pan::open_end(text)
        && end.start >= from
    {
        hide(end, false);
    }
    edits
}

fn hide_custom(
    custom: &Custom,
    text: &[u8],
    context: usize,
    number: usize,
    counts: &mut Counts,
) -> Vec<Edit> {
    let mark = format!("[redacted:{}]", custom.name).into_bytes();
    let mut edits = Vec::new();
    let mut line_start = 0;
    for line in text.split(|b| *b == b'\n') {
        let mut from = 0;
        while let Some(found) = custom.pattern.find(line, from) {
            // A pattern that matches nothing here and there hides nothing there.
            from = found.end.max(found.start + 1);
            let range = line_start + found.start..line_start + found.end;
            let has_mark = text.get(range.clone()).is_some_and(|t| t == mark);
            if range.end <= context || range.is_empty() || has_mark {
                continue;
            }
            *counts.entry(number).or_default() += 1;
            edits.push(Edit { range: range.start.max(context)..range.end, with: mark.clone() });
        }
        line_start += line.len() + 1;
    }
    edits
}

/// Replaces; the edits are in order and do not overlap.
fn apply(text: Cow<'_, [u8]>, edits: Vec<Edit>) -> Cow<'_, [u8]> {
    if edits.is_empty() {
        return text;
    }
    let mut out = Vec::with_capacity(text.len() + edits.len() * MARK.len());
    let mut at = 0;
    for edit in edits {
        out.extend_from_slice(text.get(at..edit.range.start).unwrap_or_default());
        out.extend_from_slice(&edit.with);
        at = edit.range.end;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
    Cow::Owned(out)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
