//! What becomes of lines on their way: `redact`, `multiline`, `timestamps` and `timezone` of the
//! `logs` section and of its `files`.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    raw::Value,
    section::{Field, Section},
};
use crate::logs::{Custom, Kind, LineRules, Multiline, OWN_PROGRAM, Pattern, Redactor, Zone};

/// Most patterns of the operator's: each costs a search of every line.
const MOST_PATTERNS: usize = 16;

/// `multiline`, `timestamps` and `timezone` of one section. `timestamps` is what holds unless it is
/// said, and `zone` that of a section around.
pub(super) fn lines(
    s: &mut Section<'_>,
    timestamps: bool,
    zone: Option<&Zone>,
) -> (Arc<LineRules>, Option<Zone>) {
    let own = s.get("timezone").and_then(|f| timezone(&f));
    let zone = own.or_else(|| zone.cloned());
    let wanted = s.get("timestamps").and_then(|f| f.bool()).unwrap_or(timestamps);
    let rules = LineRules {
        multiline: s.get("multiline").and_then(|f| multiline(&f)).unwrap_or(Multiline::None),
        timestamps: wanted.then(|| zone.clone().unwrap_or_else(Zone::of_host)),
    };
    (Arc::new(rules), zone)
}

fn timezone(field: &Field<'_>) -> Option<Zone> {
    let name = field.text()?;
    let zone = Zone::named(name);
    if zone.is_none() {
        field.wrong(format!("{name:?} is no time zone; write one as Europe/Berlin or UTC"));
    }
    zone
}

fn multiline(field: &Field<'_>) -> Option<Multiline> {
    if let Value::Map(_) = field.node.value {
        let mut s = field.section();
        let pattern = s.need("start").and_then(|f| pattern(&f));
        s.finish();
        return pattern.map(Multiline::Start);
    }
    field.one_of(&[
        ("none", Multiline::None),
        ("python", Multiline::Python),
        ("timestamp", Multiline::Timestamp),
        ("json", Multiline::Json),
    ])
}

fn pattern(field: &Field<'_>) -> Option<Pattern> {
    let text = field.text()?;
    Pattern::new(text)
        .map_err(|e| field.wrong(format!("{text:?} is no regular expression: {e}")))
        .ok()
}

/// `redact`. `header` is that of the origin guard, `programs` all programs there are.
pub(super) fn redact(field: &Field<'_>, header: &str, programs: &BTreeSet<String>) -> Redactor {
    let (mut kinds, mut custom) = (Vec::new(), Vec::<Custom>::new());
    for item in field.items() {
        if let Value::Map(_) = item.node.value {
            let one = own_pattern(&item, &custom);
            custom.extend(one);
        } else if let Some(kind) = item.one_of(&Kind::ALL) {
            kinds.push(kind);
        }
    }
    if custom.len() > MOST_PATTERNS {
        field.wrong(format!(
            "has {} patterns; at most {MOST_PATTERNS} are searched for",
            custom.len()
        ));
    }
    // The agent's own lines are not looked at; so no program may pass for it.
    if programs.contains(OWN_PROGRAM) {
        field.wrong(
            "does not look at the lines of a program named palisade, which is what the agent calls \
             itself; give that program another name",
        );
    }
    Redactor::new(&kinds, custom, header)
}

fn own_pattern(item: &Field<'_>, others: &[Custom]) -> Option<Custom> {
    let mut s = item.section();
    let pattern = s.need("pattern").and_then(|f| pattern(&f));
    let name = s.need("name").and_then(|f| {
        let name = f.text()?;
        let is_word =
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if name.is_empty() || name.len() > 32 || !is_word {
            f.wrong("must be 1-32 of a-z 0-9 _");
        }
        let is_taken = Kind::ALL.iter().any(|(kind, _)| *kind == name)
            || others.iter().any(|other| other.name == name);
        if is_taken {
            f.wrong(format!("{name:?} is taken; what is taken out is counted by name"));
        }
        Some(name.to_owned())
    });
    s.finish();
    Some(Custom { name: name?, pattern: pattern? })
}
