//! `params/ENV.yaml`: what one environment is.

use std::collections::BTreeMap;

use crate::{
    mistake::{Mistake, Mistakes},
    value::{At, Value},
};

/// An environment.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// The project's name.
    pub project: String,
    /// The home region.
    pub region: String,
    /// The account's number.
    pub account: String,
    /// For every template that declares them.
    pub parameters: BTreeMap<String, Value>,
    /// For one stack, over those above.
    pub stacks: BTreeMap<String, BTreeMap<String, Value>>,
    /// What SSM parameters hold, where AWS is not asked.
    pub ssm_values: BTreeMap<String, String>,
    /// Where it is described.
    pub at: At,
}

pub(super) fn read(name: &str, root: &Value) -> Result<Environment, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut text = |key: &str| {
        let found = root.get(key).and_then(Value::scalar);
        found.unwrap_or_else(|| {
            mistakes.add(&root.at, format!("`{key}` is missing"));
            String::new()
        })
    };
    let environment = Environment {
        name: name.to_owned(),
        project: text("project"),
        region: text("region"),
        account: text("account"),
        parameters: map(root.get("parameters")),
        stacks: root
            .get("stacks")
            .map(Value::entries)
            .unwrap_or_default()
            .iter()
            .map(|e| (e.key.clone(), map(Some(&e.value))))
            .collect(),
        ssm_values: map(root.get("ssm_values"))
            .into_iter()
            .filter_map(|(k, v)| Some((k, v.scalar()?)))
            .collect(),
        at: root.at.clone(),
    };
    if text("env") != name {
        mistakes.add(&root.at, format!("`env` must be {name}, as the file is called"));
    }
    const KEYS: &[&str] =
        &["project", "env", "region", "account", "parameters", "stacks", "ssm_values"];
    for entry in root.entries().iter().filter(|e| !KEYS.contains(&e.key.as_str())) {
        mistakes.0.push(Mistake::new(&entry.at, format!("unknown key {}", entry.key)));
    }
    mistakes.or(environment)
}

/// Values as CloudFormation's parameters: text, lists joined by commas.
fn map(value: Option<&Value>) -> BTreeMap<String, Value> {
    let text = |v: &Value| match v.items() {
        [] => v.scalar().unwrap_or_default(),
        items => items.iter().filter_map(Value::scalar).collect::<Vec<_>>().join(","),
    };
    value
        .map(Value::entries)
        .unwrap_or_default()
        .iter()
        .map(|e| (e.key.clone(), Value::text(&e.value.at, text(&e.value))))
        .collect()
}
