//! Reading of requests: unknown fields, lengths and patterns as the service's model has them.

use std::collections::BTreeMap;

use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ApiError;

/// A request without unknown fields.
pub(super) fn read<T: DeserializeOwned>(body: &Value) -> Result<T, ApiError> {
    serde_json::from_value(body.clone())
        .map_err(|e| ApiError::new("SerializationException", e.to_string()))
}

/// Checks a length in characters.
pub(super) fn length(name: &str, text: &str, least: usize, most: usize) -> Result<(), ApiError> {
    if (least..=most).contains(&text.chars().count()) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must \
         have length between {least} and {most}"
    )))
}

/// Checks a pattern, which must match the whole text.
pub(super) fn pattern(name: &str, text: &str, pattern: &str) -> Result<(), ApiError> {
    let whole = Regex::new(&format!("^(?:{pattern})\\z"));
    if whole.is_ok_and(|r| r.is_match(text)) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "1 validation error detected: Value '{text}' at '{name}' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: {pattern}"
    )))
}

/// Pages of a list: the part, and the token of the next one.
pub(super) fn page<T>(
    all: Vec<T>,
    token: Option<&str>,
    size: usize,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let bad = || ApiError::new("InvalidNextToken", "The specified token is not valid.");
    let from = match token {
        None => 0,
        Some(t) => t.strip_prefix("page-").and_then(|n| n.parse().ok()).ok_or_else(bad)?,
    };
    if from > all.len() {
        return Err(bad());
    }
    let more = all.len() > from + size;
    let next = more.then(|| format!("page-{}", from + size));
    Ok((all.into_iter().skip(from).take(size).collect(), next))
}

/// The one value of a parameter that is a list of one.
pub(super) fn single<'a>(
    parameters: &'a BTreeMap<String, Vec<String>>,
    name: &str,
) -> Result<Option<&'a str>, ApiError> {
    match parameters.get(name).map(Vec::as_slice) {
        None => Ok(None),
        Some([one]) => Ok(Some(one)),
        Some(_) => Err(ApiError::new("InvalidParameters", format!("{name} takes one value"))),
    }
}
