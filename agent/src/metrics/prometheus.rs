//! The values in Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

use super::{
    emf::number,
    snapshot::Snapshot,
    table::{Kind, Per, TABLE},
};

/// What the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All values. Metrics without any are left out.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for metric in TABLE {
        let of_it = snapshot.samples.iter().filter(|s| s.metric.name == metric.name);
        let mut values = of_it.filter_map(|s| Some((s.of.as_deref(), number(s.value)?))).peekable();
        if values.peek().is_none() {
            continue;
        }
        let name = metric.prometheus_name();
        let kind = match metric.kind {
            Kind::Gauge => "gauge",
            Kind::Total => "counter",
        };
        let label = match metric.per {
            Per::Host => "",
            Per::Program => "program",
            Per::Source(_) => "source",
        };
        let help = escaped(metric.help, false);
        // Writing to a string does not fail.
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").unwrap_or_default();
        for (of, value) in values {
            match of {
                Some(of) => {
                    writeln!(text, "{name}{{{label}=\"{}\"}} {value}", escaped(of, true))
                }
                None => writeln!(text, "{name} {value}"),
            }
            .unwrap_or_default();
        }
    }
    text
}

/// Backslashes and line ends, and in the value of a label quotes too.
fn escaped(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
pub(super) mod tests;
