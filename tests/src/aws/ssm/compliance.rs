//! PutComplianceItems and ListComplianceItems.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    rules::{attributes_are_good, compliance_type_is_good, has_length, instance_id_is_good},
    state::State,
};
use crate::aws::http::ApiError;

/// Most bytes of one call.
const MAX_CALL: usize = 1 << 20;
/// Most custom types of an account.
const MAX_TYPES: usize = 10;
const OP: &str = "PutComplianceItems";

/// The present report of one resource and type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// All items, as they came.
    pub items: Vec<Item>,
    /// The hash that came with them.
    pub hash: Option<String>,
    /// The run that they follow.
    pub execution: Option<String>,
    /// When it ran, in seconds since the epoch.
    pub executed: f64,
}

/// One item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Item {
    /// Its id.
    #[serde(default)]
    pub id: String,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// Its severity, in the service's words.
    pub severity: String,
    /// `COMPLIANT` or `NON_COMPLIANT`.
    pub status: String,
    /// Whatever else.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Put {
    resource_id: String,
    resource_type: String,
    compliance_type: String,
    execution_summary: Summary,
    items: Vec<Item>,
    item_content_hash: Option<String>,
    upload_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Summary {
    execution_time: f64,
    execution_id: Option<String>,
    execution_type: Option<String>,
}

/// The first rule that a request breaks: error and rule.
fn rule_broken(put: &Put, bytes: usize) -> Option<(&'static str, &'static str)> {
    const INVALID: &str = "ValidationException";
    const CONTENT: &str = "InvalidItemContentException";
    let severities = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNSPECIFIED"];
    let fits = |text: &Option<String>, max| text.as_ref().is_none_or(|t| has_length(t, 0, max));
    let partial = put.upload_type.as_deref() == Some("PARTIAL");
    let all = |rule: fn(&Item) -> bool| put.items.iter().all(rule);
    let ids: BTreeSet<_> = put.items.iter().map(|i| &i.id).collect();
    let rules = [
        (has_length(&put.resource_id, 1, 100), INVALID, "length of ResourceId"),
        (compliance_type_is_good(&put.compliance_type), INVALID, "pattern of ComplianceType"),
        (put.items.len() <= 10_000, INVALID, "more than 10,000 items"),
        (put.execution_summary.execution_time > 0.0, INVALID, "ExecutionTime"),
        (fits(&put.execution_summary.execution_id, 100), INVALID, "length of ExecutionId"),
        (fits(&put.execution_summary.execution_type, 50), INVALID, "length of ExecutionType"),
        (fits(&put.item_content_hash, 256), INVALID, "length of ItemContentHash"),
        (
            matches!(put.upload_type.as_deref(), None | Some("COMPLETE" | "PARTIAL")),
            INVALID,
            "UploadType",
        ),
        (!partial || put.compliance_type == "Association", CONTENT, "PARTIAL outside Association"),
        (all(|i| has_length(&i.title, 0, 500)), INVALID, "length of a Title"),
        (
            put.items.iter().all(|i| severities.contains(&i.severity.as_str())),
            INVALID,
            "a Severity",
        ),
        (all(|i| matches!(i.status.as_str(), "COMPLIANT" | "NON_COMPLIANT")), INVALID, "a Status"),
        (all(|i| attributes_are_good(&i.details)), INVALID, "length of a name or value in Details"),
        (all(|i| i.details.len() <= 64), CONTENT, "more than 64 Details"),
        (all(|i| !i.id.is_empty()), CONTENT, "an item without an Id"),
        (ids.len() == put.items.len(), CONTENT, "two items with one Id"),
        (bytes <= MAX_CALL, "TotalSizeLimitExceededException", "more than 1 MiB"),
    ];
    rules.into_iter().find(|(kept, ..)| !kept).map(|(_, error, rule)| (error, rule))
}

/// Replaces all items of a type. A known hash leaves them as they are.
pub(super) fn put(state: &mut State, body: &[u8]) -> Result<Value, ApiError> {
    let put: Put = serde_json::from_slice(body)
        .map_err(|e| state.broken("SerializationException", &e.to_string()))?;
    if let Some((error, rule)) = rule_broken(&put, body.len()) {
        return Err(state.broken(error, rule));
    }
    if put.resource_type != "ManagedInstance" {
        return Err((400, "InvalidResourceType", put.resource_type));
    }
    if state.faults.unregistered || !instance_id_is_good(&put.resource_id) {
        return Err((400, "InvalidResourceId", format!("{} is not managed", put.resource_id)));
    }
    let custom = |t: &str| t.starts_with("Custom:");
    let types: BTreeSet<_> = state.compliance.keys().map(|(_, t)| t.clone()).collect();
    if custom(&put.compliance_type)
        && !types.contains(&put.compliance_type)
        && types.iter().filter(|t| custom(t)).count() >= MAX_TYPES
    {
        let what = "10 custom types are there already".to_owned();
        return Err((400, "ComplianceTypeCountLimitExceededException", what));
    }
    let key = (put.resource_id, put.compliance_type);
    let known = state.compliance.get(&key).and_then(|r| r.hash.as_ref());
    if known.is_some() && known == put.item_content_hash.as_ref() {
        state.unchanged(OP);
        return Ok(json!({}));
    }
    let report = Report {
        items: put.items,
        hash: put.item_content_hash,
        execution: put.execution_summary.execution_id,
        executed: put.execution_summary.execution_time,
    };
    state.compliance.insert(key, report);
    Ok(json!({}))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct List {
    #[serde(default)]
    resource_ids: Vec<String>,
    #[serde(default)]
    resource_types: Vec<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

/// The items of resources, at most 50 a page.
pub(super) fn list(state: &mut State, body: &[u8]) -> Result<Value, ApiError> {
    let list: List = serde_json::from_slice(body)
        .map_err(|e| state.broken("SerializationException", &e.to_string()))?;
    let page = list.max_results.unwrap_or(50);
    if !(1..=50).contains(&page) {
        return Err(state.broken("ValidationException", "MaxResults"));
    }
    if list.resource_types.iter().any(|t| t != "ManagedInstance") {
        return Err((400, "InvalidResourceType", list.resource_types.join(", ")));
    }
    let from: usize = match list.next_token.as_deref().map(str::parse).transpose() {
        Ok(from) => from.unwrap_or(0),
        Err(_) => return Err((400, "InvalidNextToken", "not a token of ours".to_owned())),
    };
    let wanted = |id: &String| list.resource_ids.is_empty() || list.resource_ids.contains(id);
    let reports = state.compliance.iter().filter(|((id, _), _)| wanted(id));
    let all = reports.flat_map(|((id, kind), report)| {
        report.items.iter().map(move |i| {
            json!({
                "ComplianceType": kind,
                "ResourceType": "ManagedInstance",
                "ResourceId": id,
                "Id": i.id,
                "Title": i.title,
                "Status": i.status,
                "Severity": i.severity,
                "Details": i.details,
                "ExecutionSummary": {
                    "ExecutionTime": report.executed,
                    "ExecutionId": report.execution,
                },
            })
        })
    });
    let mut rest = all.skip(from);
    let items: Vec<Value> = rest.by_ref().take(page).collect();
    let mut answer = json!({ "ComplianceItems": items });
    if rest.next().is_some() {
        answer["NextToken"] = json!((from + page).to_string());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
