//! cfn-guard with the rules of AWS Control Tower, on rendered stacks.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value as Json;

use super::{
    reviewed::Opinion,
    tools::{Tools, said},
};

/// What does not comply.
pub(crate) fn opinions(tools: &Tools, dir: &Path) -> BTreeSet<Opinion> {
    let mut command = Command::new(tools.guard());
    command.args(["validate", "--structured", "--output-format", "json", "--show-summary", "none"]);
    command.arg("--rules").arg(tools.guard_rules()).arg("--data").arg(dir);
    let mut opinions = BTreeSet::new();
    for file in said(&mut command).as_array().into_iter().flatten() {
        let path = Path::new(file["name"].as_str().unwrap_or("?"));
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or("?");
        for rule in file["not_compliant"].as_array().into_iter().flatten() {
            let (rule, title, resources) = broken(rule);
            opinions.extend(resources.into_iter().map(|logical| Opinion {
                rule: rule.clone(),
                title: title.clone(),
                file: name.into(),
                logical,
            }));
        }
    }
    opinions
}

/// A rule's id, what it asks for, and the resources that it looked at in vain.
fn broken(rule: &Json) -> (String, String, BTreeSet<String>) {
    let own = rule["Rule"]["name"].as_str().unwrap_or("?");
    let (mut id, mut title) = (own.to_owned(), String::new());
    let mut resources = BTreeSet::new();
    texts(rule, &mut |key, text| {
        if key == "path"
            && let Some(below) = text.strip_prefix("/Resources/")
        {
            resources.extend(below.split('/').next().map(str::to_owned));
        }
        // `[CT.RDS.PR.3]: Require ...`, then `[FIX]: ...`.
        let head = text.trim_start().strip_prefix('[').and_then(|t| t.split_once("]: "));
        if key == "custom_message"
            && let Some((told, asks)) = head
        {
            told.clone_into(&mut id);
            asks.lines().next().unwrap_or_default().clone_into(&mut title);
        }
    });
    if resources.is_empty() {
        resources.insert("?".into());
    }
    (id, title, resources)
}

/// Every text below a key, with the key.
fn texts(value: &Json, each: &mut impl FnMut(&str, &str)) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                match value {
                    Json::String(text) => each(key, text),
                    _ => texts(value, each),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| texts(item, each)),
        _ => {}
    }
}
