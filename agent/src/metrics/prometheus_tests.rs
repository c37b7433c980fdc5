//! The text, by a strict reader of the format.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    super::table::{HOST_DISK, PROGRAM_RESTARTS},
    *,
};
use crate::clock::Timestamp;

/// Name, labels and value of each sample. Fails at whatever breaks the format: a sample before its HELP
/// and TYPE, a name or label that may not be, an escape that is not one, a sample that comes twice.
pub(crate) fn read(text: &str) -> BTreeMap<(String, String), f64> {
    assert!(text.is_empty() || text.ends_with('\n'));
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let mut family = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(unescape(words, false).is_some() && families.insert(name), "{line}");
            let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
            let (same, kind) = kind.split_once(' ').unwrap();
            assert_eq!(same, name);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            family = Some(name);
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let (name, rest) = line.split_at(end);
        assert_eq!(Some(name), family, "{line}");
        let is_name = |s: &str| {
            !s.is_empty()
                && !s.starts_with(|c: char| c.is_ascii_digit())
                && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        assert!(is_name(name), "{name}");
        let (label, value) = match rest.strip_prefix('{') {
            None => (String::new(), rest),
            Some(rest) => {
                let (labels, value) = rest.rsplit_once('}').unwrap();
                let (key, quoted) = labels.split_once('=').unwrap();
                assert!(is_name(key), "{line}");
                let inner = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"')).unwrap();
                (unescape(inner, true).unwrap(), value)
            }
        };
        let value = value.strip_prefix(' ').unwrap().parse().unwrap();
        assert_eq!(samples.insert((name.to_owned(), label), value), None, "{line}");
    }
    samples
}

fn unescape(text: &str, quotes: bool) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                '\\' => out.push('\\'),
                'n' => out.push('\n'),
                '"' if quotes => out.push('"'),
                _ => return None,
            },
            '"' if quotes => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[test]
fn a_metric_is_told_with_what_it_is_and_by_the_names_of_the_trade() {
    let mut s = Snapshot::new(Timestamp::from_secs(1));
    s.of(PROGRAM_RESTARTS, "web", 3.0);
    s.of(PROGRAM_RESTARTS, "worker", 0.0);
    s.of(HOST_DISK, "/", f64::NAN);
    assert_eq!(
        text(&s),
        "# HELP palisade_program_restarts_total Restarts of the program's processes by the agent itself.\n\
         # TYPE palisade_program_restarts_total counter\n\
         palisade_program_restarts_total{program=\"web\"} 3\n\
         palisade_program_restarts_total{program=\"worker\"} 0\n"
    );
}

proptest! {
    #[test]
    fn any_text_survives_as_a_label(ofs in proptest::collection::btree_set("\\PC*[\"\\\\\n]?\\PC*", 0..6)) {
        let mut s = Snapshot::new(Timestamp::from_secs(1));
        for of in &ofs {
            s.of(HOST_DISK, of, 1.5);
        }
        let seen: BTreeSet<String> = read(&text(&s)).into_keys().map(|(_, label)| label).collect();
        prop_assert_eq!(seen, ofs);
    }
}
