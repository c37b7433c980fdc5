//! CloudWatch's embedded metric format: one JSON object on a line, of which CloudWatch makes metrics.
//!
//! Pure, and the only place that knows the rules of the format (AWS, "CloudWatch embedded metric format
//! specification"). What breaks one is refused here, since CloudWatch would take the line and make no
//! metrics of it. Numbers are written so that no run of digits is as long as a card number: whatever masks
//! those in log lines finds nothing to mask in a value.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{settings::is_namespace, table::Unit};
use crate::clock::Timestamp;

/// Most metrics of one directive.
pub const MAX_METRICS: usize = 100;
/// Most dimensions of one set.
pub const MAX_DIMENSIONS: usize = 30;
/// Longest name of a dimension, and of a metric.
const MAX_DIMENSION_NAME: usize = 250;
const MAX_METRIC_NAME: usize = 1024;
/// Longest value of a dimension, and what is kept of a longer one before its checksum.
const MAX_DIMENSION_VALUE: usize = 1024;
const KEPT_OF_VALUE: usize = 1000;
/// Where whole numbers begin to have 13 digits.
const LONG: f64 = 1e12;
/// CloudWatch takes values from -2^360 to 2^360.
const LARGEST: f64 = 2.348_542_582_773_833_2e108;

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value<'a> {
    /// The metric.
    pub name: &'a str,
    /// Its unit.
    pub unit: Unit,
    /// It.
    pub value: f64,
}

/// Values of one moment that have the same dimensions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Document<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// When.
    pub at: Timestamp,
    /// Dimensions with their values. Values may be any text: what CloudWatch does not take in them is
    /// written as `%` and two digits for each byte.
    pub dimensions: &'a [(&'a str, &'a str)],
    /// The values.
    pub values: &'a [Value<'a>],
}

/// A document as lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// One JSON object each, without newlines. More than one where there are more metrics than one may
    /// have; none without any value.
    pub lines: Vec<String>,
    /// Values that are no finite number, or whose name came before.
    pub left_out: u64,
}

/// What is wrong with a document as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDocument {
    /// See [`is_namespace`].
    #[error(
        "namespace {0:?} must be 1-255 of a-z A-Z 0-9 . - _ / # : and not begin with : or AWS/"
    )]
    Namespace(String),
    /// See [`MAX_DIMENSIONS`].
    #[error("{0} dimensions are more than {MAX_DIMENSIONS}")]
    Dimensions(usize),
    /// A name that CloudWatch does not take, or that comes twice.
    #[error("{0:?} is no good name of a dimension")]
    DimensionName(String),
    /// A name that CloudWatch does not take, or that is a dimension's.
    #[error("{0:?} is no good name of a metric")]
    MetricName(String),
    /// The clock stands before 1970.
    #[error("{0} is before 1970")]
    Time(Timestamp),
}

/// The document as lines that CloudWatch makes metrics of.
///
/// # Errors
/// [`BadDocument`], and then there is no line.
pub fn encode(document: &Document<'_>) -> Result<Encoded, BadDocument> {
    let Document { namespace, at, dimensions, values } = *document;
    if !is_namespace(namespace) {
        return Err(BadDocument::Namespace(namespace.to_owned()));
    }
    if at.as_millis() < 0 {
        return Err(BadDocument::Time(at));
    }
    if dimensions.len() > MAX_DIMENSIONS {
        return Err(BadDocument::Dimensions(dimensions.len()));
    }
    let mut taken = BTreeSet::from(["_aws"]);
    for (name, _) in dimensions {
        if !is_name(name, MAX_DIMENSION_NAME) || !taken.insert(name) {
            return Err(BadDocument::DimensionName((*name).to_owned()));
        }
    }
    let mut seen = BTreeSet::new();
    let mut good = Vec::with_capacity(values.len());
    for v in values {
        if !is_name(v.name, MAX_METRIC_NAME) || taken.contains(v.name) {
            return Err(BadDocument::MetricName(v.name.to_owned()));
        }
        if let Some(number) = number(v.value)
            && seen.insert(v.name)
        {
            good.push((v, number));
        }
    }
    let left_out = u64::try_from(values.len() - good.len()).unwrap_or(u64::MAX);
    let lines = good.chunks(MAX_METRICS).map(|part| line(document, part)).collect();
    Ok(Encoded { lines, left_out })
}

fn line(document: &Document<'_>, values: &[(&Value<'_>, String)]) -> String {
    let names = joined(document.dimensions.iter().map(|(name, _)| quoted(name)));
    let metrics =
        joined(values.iter().map(|(v, _)| {
            format!(r#"{{"Name":{},"Unit":"{}"}}"#, quoted(v.name), v.unit.as_str())
        }));
    let mut line = format!(
        r#"{{"_aws":{{"Timestamp":{},"CloudWatchMetrics":[{{"Namespace":{},"Dimensions":[[{names}]],"Metrics":[{metrics}]}}]}}"#,
        document.at.as_millis(),
        quoted(document.namespace),
    );
    for (name, value) in document.dimensions {
        let value = dimension_value(value);
        // Writing to a string does not fail.
        write!(line, ",{}:{}", quoted(name), quoted(&value)).unwrap_or_default();
    }
    for (v, number) in values {
        write!(line, ",{}:{number}", quoted(v.name)).unwrap_or_default();
    }
    line.push('}');
    line
}

/// Printable ASCII without a colon at its head.
fn is_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
        && !name.starts_with(':')
        && name.bytes().all(|b| b.is_ascii_graphic())
}

/// A finite number as JSON and Prometheus have it: to a thousandth, or to twelve digits where it is long.
pub(super) fn number(value: f64) -> Option<String> {
    if !value.is_finite() || value.abs() > LARGEST {
        return None;
    }
    if value.abs() >= LONG {
        return Some(format!("{value:.11e}"));
    }
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    // What rounds to nought from below has a sign.
    Some(if text == "-0" { "0" } else { text }.to_owned())
}

/// Any text as a value of a dimension: two texts that differ stay apart.
pub(super) fn dimension_value(text: &str) -> String {
    if text.is_empty() {
        return "(none)".to_owned();
    }
    let mut value = String::with_capacity(text.len());
    for (i, b) in text.bytes().enumerate() {
        let at_head = i == 0 && matches!(b, b':' | b' ');
        if matches!(b, b' '..=b'~') && b != b'%' && !at_head {
            value.push(char::from(b));
        } else {
            write!(value, "%{b:02X}").unwrap_or_default();
        }
    }
    if value.len() > MAX_DIMENSION_VALUE {
        // All of it is ASCII by now, so that bytes are characters.
        value.truncate(KEPT_OF_VALUE);
        write!(value, "~{:08x}", crc32fast::hash(text.as_bytes())).unwrap_or_default();
    }
    value
}

/// Text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[path = "emf_tests.rs"]
pub(super) mod tests;
