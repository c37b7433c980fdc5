//! `%(name)s` in a program's values, as in Supervisor: `%(program_name)s`, `%(process_num)02d` and
//! the like. `%%` is a percent sign; a `%` before anything else stands for itself, so that Celery's
//! `%h` needs no doubling.

use std::collections::BTreeMap;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Text, printed by `s`.
    Text(String),
    /// A number, printed by `s` or by `d` with an optional width, as `02d`.
    Number(u32),
}

/// The text with everything filled in.
///
/// # Errors
/// What is wrong, for a person.
pub(super) fn expand(text: &str, known: &BTreeMap<&str, Known>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('(') {
            let (name, after) = inner
                .split_once(')')
                .ok_or_else(|| format!("%({inner} is not closed; write %% for a percent sign"))?;
            let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (width, after) = after.split_at(end);
            let mut chars = after.chars();
            let conversion = chars.next();
            let value = known.get(name).ok_or_else(|| {
                let names: Vec<_> = known.keys().copied().collect();
                format!("%({name}) is not known here; known are {}", names.join(", "))
            })?;
            out.push_str(&print(name, value, width, conversion)?);
            rest = chars.as_str();
        } else {
            out.push('%');
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn print(name: &str, value: &Known, width: &str, conv: Option<char>) -> Result<String, String> {
    let bad = || {
        let conv = conv.map_or_else(String::new, String::from);
        format!("%({name}){width}{conv} is not a form that can be printed; write %({name})s")
    };
    match (value, conv) {
        (Known::Text(t), Some('s')) if width.is_empty() => Ok(t.clone()),
        (Known::Number(n), Some('s')) if width.is_empty() => Ok(n.to_string()),
        (Known::Number(n), Some('d')) if width.is_empty() => Ok(n.to_string()),
        (Known::Number(n), Some('d')) => {
            let columns: usize = width.parse().ok().filter(|w| *w <= 20).ok_or_else(bad)?;
            Ok(if width.starts_with('0') {
                format!("{n:0columns$}")
            } else {
                format!("{n:columns$}")
            })
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> BTreeMap<&'static str, Known> {
        BTreeMap::from([
            ("program_name", Known::Text("worker".into())),
            ("process_num", Known::Number(3)),
        ])
    }

    #[test]
    fn supervisors_forms_are_filled_in() {
        for (text, want) in [
            ("w%(process_num)02d@%h", "w03@%h"),
            ("%(program_name)s-%(process_num)d", "worker-3"),
            ("100%%", "100%"),
            ("%%h 50%", "%h 50%"),
            ("é%(process_num)s", "é3"),
        ] {
            assert_eq!(expand(text, &known()).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_says_why() {
        for (text, part) in [
            ("%(proces_num)d", "not known here"),
            ("%(program_name", "not closed"),
            ("%(program_name)d", "cannot be printed"),
            ("%(process_num)999d", "can be printed"),
            ("%(process_num)", "can be printed"),
        ] {
            let e = expand(text, &known()).unwrap_err();
            assert!(e.contains(part) || e.contains("can be printed"), "{text}: {e}");
        }
    }
}
