//! The `metrics` section.

use palisade_types::{Span, format_duration};

use super::section::Section;
use crate::metrics::{DEFAULT_EVERY, EVERY, Settings, is_namespace};

/// CloudWatch's namespace where nothing is said: the one that alarms look in.
const NAMESPACE: &str = "Palisade";

pub(super) fn metrics(mut s: Section<'_>) -> Settings {
    let namespace = s.get("namespace").and_then(|f| {
        let name = f.text()?;
        if !is_namespace(name) {
            f.wrong("must be 1-255 of a-z A-Z 0-9 . - _ / # : and not begin with : or AWS/");
        }
        Some(name.to_owned())
    });
    let every = s.get("every").and_then(|f| {
        let Span(every) = f.parse()?;
        if !EVERY.contains(&every) {
            let (least, most) = (format_duration(*EVERY.start()), format_duration(*EVERY.end()));
            f.wrong(format!(
                "must be {least} to {most}: alarms count the agents that each minute hears of"
            ));
        }
        Some(every)
    });
    let settings = Settings {
        namespace: namespace.unwrap_or_else(|| NAMESPACE.to_owned()),
        every: every.unwrap_or(DEFAULT_EVERY),
        host: s.get("host").and_then(|f| f.bool()).unwrap_or(true),
    };
    s.finish();
    settings
}
