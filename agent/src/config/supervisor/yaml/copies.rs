//! Several copies of a program as one entry: what they have in common, with their number filled in where
//! they differ by it.
//!
//! The entry is found from the copies, not from the file: whatever way the file takes to the numbers, an
//! entry that gives exactly these copies is right, and where there is none each copy stands for itself.

use palisade_types::ProcessName;

use super::super::{model::Int, specs::Imported};
use crate::supervise::{LogFile, LogPath, ProcessSpec};

/// A program's entry: one process whose texts may hold `%(process_num)…`, and how many there are.
pub(super) struct Entry {
    /// Every text of it is a template.
    pub(super) spec: ProcessSpec,
    pub(super) name: String,
    pub(super) directory: Option<String>,
    pub(super) stdout: Option<String>,
    pub(super) stderr: Option<String>,
    pub(super) serverurl: Option<String>,
    pub(super) numprocs: usize,
    pub(super) start: Int,
}

/// One entry for all, if there is one that gives just these.
pub(super) fn entry(copies: &[&Imported]) -> Option<Entry> {
    let (first, rest) = copies.split_first()?;
    let numbers: Vec<Int> = copies.iter().map(|c| c.number).collect();
    let start = if rest.is_empty() { 0 } else { first.number };
    let in_a_row = numbers.iter().zip(start..).all(|(n, want)| *n == want);
    let startable = (0..=1_000_000).contains(&start);
    let is_counted = in_a_row && startable;
    if !rest.is_empty() && !is_counted {
        return None;
    }
    let numbers = if rest.is_empty() { vec![0] } else { numbers };
    // Everything that is no text must be the same.
    let name = &first.spec.name;
    let common = bare(&first.spec, name);
    if rest.iter().any(|c| bare(&c.spec, name) != common) {
        return None;
    }
    let all = |of: &dyn Fn(&ProcessSpec) -> String| {
        let values: Vec<String> = copies.iter().map(|c| of(&c.spec)).collect();
        template(&numbers, &values)
    };
    let maybe = |of: &dyn Fn(&ProcessSpec) -> Option<String>| {
        if of(&first.spec).is_none() {
            return Some(None);
        }
        all(&|s| of(s).unwrap_or_default()).map(Some)
    };
    let mut spec = first.spec.clone();
    for (i, word) in spec.argv.iter_mut().enumerate() {
        *word = all(&|s| s.argv.get(i).cloned().unwrap_or_default())?;
    }
    for (key, value) in &mut spec.environment {
        *value = all(&|s| s.environment.get(key).cloned().unwrap_or_default())?;
    }
    Some(Entry {
        name: all(&|s| s.name.to_string())?,
        directory: maybe(&|s| s.directory.as_ref().map(|d| d.display().to_string()))?,
        stdout: maybe(&|s| path(&s.stdout))?,
        stderr: maybe(&|s| path(&s.stderr))?,
        serverurl: maybe(&|s| s.serverurl.clone())?,
        spec,
        numprocs: copies.len(),
        start,
    })
}

fn path(log: &LogFile) -> Option<String> {
    match &log.path {
        LogPath::At(path) => Some(path.display().to_string()),
        LogPath::Auto | LogPath::None => None,
    }
}

/// The process with every text taken out and its name replaced, to compare the rest.
fn bare(spec: &ProcessSpec, name: &ProcessName) -> ProcessSpec {
    let mut bare = spec.clone();
    bare.label = String::new();
    for word in &mut bare.argv {
        word.clear();
    }
    for value in bare.environment.values_mut() {
        value.clear();
    }
    bare.directory = bare.directory.map(|_| "/".into());
    bare.serverurl = bare.serverurl.map(|_| String::new());
    for log in [&mut bare.stdout, &mut bare.stderr] {
        if let LogPath::At(path) = &mut log.path {
            *path = "/".into();
        }
    }
    bare.name.clone_from(name);
    bare
}

/// One piece of a text that several copies share.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Same(String),
    /// The copy's number, filled up with zeros to so many digits.
    Number(usize),
}

/// The text of which each of these is what comes of it by its number.
fn template(numbers: &[Int], values: &[String]) -> Option<String> {
    let (first, rest) = values.split_first()?;
    if rest.iter().all(|v| v == first) {
        return Some(written(&[Piece::Same(first.clone())]));
    }
    let split: Vec<Vec<&str>> = values.iter().map(|v| runs(v)).collect();
    let length = split.first()?.len();
    if split.iter().any(|s| s.len() != length) {
        return None;
    }
    let mut pieces = Vec::new();
    for i in 0..length {
        let parts: Vec<&str> = split.iter().filter_map(|s| s.get(i).copied()).collect();
        let same = parts.iter().all(|p| Some(p) == parts.first());
        match (same, parts.first()) {
            (true, Some(part)) => pieces.push(Piece::Same((*part).to_owned())),
            _ => pieces.extend(numbered(numbers, &parts)?),
        }
    }
    Some(written(&pieces))
}

/// Runs of digits and what is between them, by turns.
fn runs(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut digits = false;
    while !rest.is_empty() || out.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        out.push(run);
        rest = after;
        digits = !digits;
    }
    out
}

/// Digits that begin alike and end with each copy's number: all of them if they can be, as in `00`, else
/// as few as can be, as in `8000`.
fn numbered(numbers: &[Int], parts: &[&str]) -> Option<Vec<Piece>> {
    let first = parts.first()?;
    let shortest = parts.iter().map(|p| p.len()).min()?;
    let plain = (0..first.len()).map(|cut| (cut, 1));
    let filled = (0..shortest).map(|cut| (cut, shortest - cut));
    let fits = |(cut, width): &(usize, usize)| {
        let Some(prefix) = first.get(..*cut) else { return false };
        numbers.iter().zip(parts).all(|(n, part)| {
            part.strip_prefix(prefix).is_some_and(|tail| format!("{n:0width$}") == tail)
        })
    };
    let (cut, width) = [(0, shortest)].into_iter().chain(plain).chain(filled).find(fits)?;
    Some(vec![Piece::Same(first.get(..cut)?.to_owned()), Piece::Number(width)])
}

/// A template in the words of `palisade.yaml`, where `%` is doubled only before what would change it.
fn written(pieces: &[Piece]) -> String {
    let mut out = String::new();
    for (i, piece) in pieces.iter().enumerate() {
        let Piece::Same(text) = piece else {
            if let Piece::Number(width) = piece {
                out += &match width {
                    1 => "%(process_num)d".to_owned(),
                    width => format!("%(process_num)0{width}d"),
                };
            }
            continue;
        };
        let following = pieces.iter().skip(i + 1).find_map(|p| match p {
            Piece::Same(text) => text.chars().next(),
            Piece::Number(_) => Some('%'),
        });
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let next = chars.peek().copied().or(following);
            out.push(c);
            if c == '%' && matches!(next, Some('%' | '(')) {
                out.push('%');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::config::expand::{Known, expand};

    #[test]
    fn the_number_is_found_in_whatever_way_it_is_written() {
        for (values, want) in [
            (["w_00", "w_01"], Some("w_%(process_num)02d")),
            (["p8000", "p8001"], Some("p800%(process_num)d")),
            (["a0b0", "a1b0"], Some("a%(process_num)db0")),
            (["a%0", "a%1"], Some("a%%%(process_num)d")),
            (["100%h", "100%h"], Some("100%h")),
            (["a1", "a0"], None),
            (["a", "b"], None),
            (["x0", "x0y"], None),
        ] {
            let values = values.map(str::to_owned);
            assert_eq!(template(&[0, 1], &values).as_deref(), want, "{values:?}");
        }
        let ten = ["n9".to_owned(), "n10".to_owned()];
        assert_eq!(template(&[9, 10], &ten).as_deref(), Some("n%(process_num)d"));
        let padded = ["n09".to_owned(), "n10".to_owned()];
        assert_eq!(template(&[9, 10], &padded).as_deref(), Some("n%(process_num)02d"));
    }

    proptest! {
        #[test]
        fn a_template_gives_back_what_it_was_made_from(
            texts in proptest::collection::vec("[a%(0-9)]{0,8}", 1..4),
            start in 0_u32..12,
        ) {
            let numbers: Vec<Int> = (0..texts.len()).map(|i| Int::from(start) + Int::try_from(i).unwrap()).collect();
            if let Some(template) = template(&numbers, &texts) {
                for (number, text) in numbers.iter().zip(&texts) {
                    let number = Known::Number(u32::try_from(*number).unwrap());
                    let got = expand(&template, &BTreeMap::from([("process_num", number)]));
                    prop_assert_eq!(got.as_ref(), Ok(text), "{}", template);
                }
            }
        }
    }
}
