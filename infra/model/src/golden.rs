//! An environment as reviewers see it: every resource with its effective properties, in one JSON that
//! differs exactly where what would be deployed differs.
//!
//! `{stack: {logical: {type, properties, ...}}}`; keys are sorted, so that a moved line is no change.

use serde_json::{Map, Value as Json};

use crate::{Estate, Resource};

/// The whole environment, ending in a new line.
#[must_use]
pub fn golden(estate: &Estate) -> String {
    let stacks: Map<String, Json> = estate
        .stacks
        .iter()
        .map(|stack| {
            let resources = stack.resources.iter().map(|r| (r.logical.clone(), resource(r)));
            (stack.name.clone(), Json::Object(resources.collect()))
        })
        .collect();
    // A tree of maps with text keys can always be written.
    let mut text = serde_json::to_string_pretty(&Json::Object(stacks)).unwrap_or_default();
    text.push('\n');
    text
}

fn resource(resource: &Resource) -> Json {
    let mut all = Map::new();
    all.insert("type".to_owned(), Json::from(resource.kind.as_str()));
    all.insert("properties".to_owned(), resource.properties.to_json());
    let policies = [
        ("deletionPolicy", &resource.deletion_policy),
        ("updateReplacePolicy", &resource.update_replace_policy),
    ];
    for (name, policy) in policies {
        if let Some(policy) = policy {
            all.insert(name.to_owned(), Json::from(policy.as_str()));
        }
    }
    Json::Object(all)
}
