//! Values that several keys of a program share: texts to be filled in, spans, masks, signals.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use palisade_types::Span;

use super::section::{Field, Section, did_you_mean};

/// A text whose `%(…)s` are still to be filled in, with where it came from.
#[derive(Debug)]
pub(super) struct Template<'a> {
    pub(super) field: Field<'a>,
    pub(super) text: String,
}

pub(super) fn template(field: Field<'_>) -> Option<Template<'_>> {
    let text = field.word()?;
    Some(Template { field, text })
}

pub(super) fn span(s: &mut Section<'_>, key: &'static str) -> Option<Duration> {
    let field = s.get(key)?;
    let Span(d) = field.parse()?;
    if d > Duration::from_secs(7 * 86_400) {
        field.wrong("must be at most 7d");
    }
    Some(d)
}

/// Octal, and in quotes: YAML reads a bare `022` as twenty-two.
pub(super) fn umask(field: &Field<'_>) -> Option<u32> {
    let text = field.text()?;
    let mask = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o777);
    if mask.is_none() {
        field.wrong(format!("{text:?} must be an octal mask such as \"022\""));
    }
    mask
}

/// A name with or without `SIG`, or a number.
pub(super) fn signal(field: &Field<'_>) -> Option<Signal> {
    let word = field.word()?;
    if let Ok(number) = word.parse::<i32>() {
        return Signal::try_from(number)
            .map_err(|_| field.wrong(format!("there is no signal {number}")))
            .ok();
    }
    let name = word.to_uppercase();
    let full = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    full.parse()
        .map_err(|_| {
            let all = Signal::iterator().map(Signal::as_str);
            field.wrong(format!("{word:?} is no signal{}", did_you_mean(&full, all)));
        })
        .ok()
}

/// The variables that `%(…)s` may name, for the message that lists them.
pub(super) type Known = BTreeMap<&'static str, super::expand::Known>;

/// A path that must be absolute once its variables are filled in.
pub(super) fn absolute(field: &Field<'_>, text: String) -> Option<PathBuf> {
    if text.starts_with('/') {
        return Some(text.into());
    }
    field.wrong(format!("{text:?} must be an absolute path"));
    None
}
