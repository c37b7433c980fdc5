//! PutInventory.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    rules::{
        attributes_are_good, capture_time_is_good, has_length, instance_id_is_good,
        inventory_type_is_good, schema_version_is_good,
    },
    state::State,
};
use crate::aws::http::ApiError;

/// Most bytes of one call.
const MAX_CALL: usize = 1 << 20;
/// Most bytes of a custom type's rows.
const MAX_ITEM: usize = 200 << 10;
/// Most custom types of an account.
const MAX_TYPES: usize = 20;
const OP: &str = "PutInventory";

/// The present rows of one instance and type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// All rows.
    pub rows: Vec<BTreeMap<String, String>>,
    /// The hash that came with them.
    pub hash: Option<String>,
    /// When they were found, as text.
    pub captured: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Put {
    instance_id: String,
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Item {
    type_name: String,
    schema_version: String,
    capture_time: String,
    content_hash: Option<String>,
    content: Option<Vec<BTreeMap<String, String>>>,
    #[serde(default)]
    context: BTreeMap<String, String>,
}

/// The first rule that an item breaks: error and rule.
fn rule_broken(item: &Item) -> Option<(&'static str, &'static str)> {
    const INVALID: &str = "ValidationException";
    let rows = item.content.as_deref().unwrap_or_default();
    let bytes = serde_json::to_vec(rows).map_or(usize::MAX, |b| b.len());
    let hash_fits = item.content_hash.as_ref().is_none_or(|h| has_length(h, 0, 256));
    let rules = [
        (inventory_type_is_good(&item.type_name), INVALID, "pattern of TypeName"),
        (schema_version_is_good(&item.schema_version), INVALID, "pattern of SchemaVersion"),
        (capture_time_is_good(&item.capture_time), INVALID, "pattern of CaptureTime"),
        (hash_fits, INVALID, "length of ContentHash"),
        (rows.len() <= 10_000, INVALID, "more than 10,000 rows"),
        (rows.iter().all(|r| r.len() <= 50), INVALID, "more than 50 attributes"),
        (rows.iter().all(attributes_are_good), INVALID, "length of an attribute"),
        (attributes_are_good(&item.context), INVALID, "length of a Context"),
        (
            item.content.is_some() || item.content_hash.is_some(),
            "InvalidItemContentException",
            "neither Content nor ContentHash",
        ),
        (bytes <= MAX_ITEM, "ItemSizeLimitExceededException", "rows of more than 200 KB"),
    ];
    rules.into_iter().find(|(kept, ..)| !kept).map(|(_, error, rule)| (error, rule))
}

/// Replaces the rows of each type. A hash alone is enough if it is known.
pub(super) fn put(state: &mut State, body: &[u8]) -> Result<Value, ApiError> {
    let put: Put = serde_json::from_slice(body)
        .map_err(|e| state.broken("SerializationException", &e.to_string()))?;
    if !(1..=30).contains(&put.items.len()) {
        return Err(state.broken("ValidationException", "not 1 to 30 items"));
    }
    if !instance_id_is_good(&put.instance_id) {
        return Err(state.broken("ValidationException", "pattern of InstanceId"));
    }
    if body.len() > MAX_CALL {
        return Err(state.broken("TotalSizeLimitExceededException", "more than 1 MiB"));
    }
    if let Some((error, rule)) = put.items.iter().find_map(rule_broken) {
        return Err(state.broken(error, rule));
    }
    if state.faults.unregistered {
        return Err((400, "InvalidInstanceId", format!("{} is not managed", put.instance_id)));
    }
    for item in put.items {
        put_one(state, &put.instance_id, item)?;
    }
    Ok(json!({}))
}

fn put_one(state: &mut State, instance: &str, item: Item) -> Result<(), ApiError> {
    let types: BTreeSet<_> = state.inventory.keys().map(|(_, t)| t.clone()).collect();
    let key = (instance.to_owned(), item.type_name.clone());
    let known = state.inventory.get(&key).and_then(|t| t.hash.as_ref());
    if known.is_some() && known == item.content_hash.as_ref() {
        state.unchanged(OP);
        return Ok(());
    }
    let Some(rows) = item.content else {
        let what = "the hash is not that of what is here".to_owned();
        return Err((400, "ItemContentMismatchException", what));
    };
    let custom = |t: &String| t.starts_with("Custom:");
    if custom(&item.type_name)
        && !types.contains(&item.type_name)
        && types.iter().filter(|t| custom(t)).count() >= MAX_TYPES
    {
        let what = "20 custom types are there already".to_owned();
        return Err((400, "CustomSchemaCountLimitExceededException", what));
    }
    let table = Table { rows, hash: item.content_hash, captured: item.capture_time };
    state.inventory.insert(key, table);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut item = json!({
            "TypeName": "Custom:PalisadePatch",
            "SchemaVersion": "1.0",
            "CaptureTime": "2026-08-22T15:17:05Z",
            "ContentHash": "1",
            "Content": [{ "Name": "a" }],
        });
        change(&mut item);
        json!({ "InstanceId": "i-0123456789abcdef0", "Items": [item] }).to_string().into_bytes()
    }

    #[test]
    fn each_rule_is_enforced_at_its_edge() {
        let rows = |n: usize, len: usize| Value::from(vec![json!({ "k": "v".repeat(len) }); n]);
        let with = |key: &'static str, value: Value| call(move |v| v[key] = value);
        let wide = |n: usize| {
            let row: BTreeMap<_, _> = (0..n).map(|n| (n.to_string(), "v")).collect();
            with("Content", json!([row]))
        };
        let invalid = Some("ValidationException");
        let cases = [
            (call(|_| {}), None),
            (with("TypeName", "Palisade".into()), invalid),
            (with("SchemaVersion", "1".into()), invalid),
            (with("CaptureTime", "2026-08-22T15:17:05.123Z".into()), invalid),
            (with("Content", rows(10_000, 1)), None),
            (with("Content", rows(10_001, 1)), invalid),
            (with("Content", rows(1, 4096)), None),
            (with("Content", rows(1, 4097)), invalid),
            (with("Content", rows(49, 4096)), None),
            (with("Content", rows(50, 4096)), Some("ItemSizeLimitExceededException")),
            (wide(50), None),
            (wide(51), invalid),
            (with("Content", Value::Null), Some("ItemContentMismatchException")),
        ];
        for (n, (body, expected)) in cases.into_iter().enumerate() {
            let got = put(&mut State::default(), &body).err().map(|e| e.1);
            assert_eq!(got, expected, "case {n}");
        }
    }

    #[test]
    fn a_known_hash_needs_no_rows_and_another_one_does() {
        let mut state = State::default();
        put(&mut state, &call(|_| {})).unwrap();
        put(&mut state, &call(|v| v["Content"] = Value::Null)).unwrap();
        assert_eq!(state.stats.unchanged.get(OP), Some(&1));
        let other = call(|v| {
            v["Content"] = Value::Null;
            v["ContentHash"] = "2".into();
        });
        assert_eq!(put(&mut state, &other).unwrap_err().1, "ItemContentMismatchException");
        assert_eq!(state.inventory.len(), 1);
    }
}
