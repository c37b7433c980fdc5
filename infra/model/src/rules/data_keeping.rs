//! D07: what holds data says what becomes of it when its stack goes or makes it anew; and no secret stands
//! in the open: in parameters, in properties that are passwords, in what hosts are started with, in
//! functions' code, in outputs. Secrets in containers' environments are C02's.

use std::sync::LazyLock;

use regex::Regex;

use super::{Facts, Report};
use crate::{
    estate::{Place, Resource},
    stateful::keeps_data,
    value::{Kind, Value},
};

/// What is only ever a secret.
static KEYS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY|\bgh[pousr]_[A-Za-z0-9]{36}\b",
    )
    .ok()
});
/// A name that gives a secret away, and a value that is written out behind it.
static GIVEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"(?i)(passw(or)?d|passwd|secret|token|api_?key|private_?key|licen[cs]e_?key)["']?\s*[=:]\s*["']?[^\s"'${}<]{6,}"#)
        .ok()
});
/// Names of parameters that would be secrets.
static NAMES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)(passw(or)?d|passwd|secret|token|api_?key|private_?key|licen[cs]e_?key)$").ok()
});
/// Properties that are secrets, by the last part of their path.
const SECRETS: &[&str] =
    &["MasterUserPassword", "AuthToken", "SecretString", "AccessKey", "Passwords"];
/// Text that hosts and services are started with.
const SCRIPTS: &[&str] = &["UserData", "Environment", "CustomData", "Commands"];

pub(super) fn said(facts: &Facts<'_>, report: &mut Report) {
    for (place, resource) in facts.estate.all() {
        if keeps_data(resource) {
            kept(facts, place, resource, report);
        }
        let under = Under { key: "", script: false };
        properties(facts, place, &resource.properties, under, report);
        parameter(facts, place, resource, report);
    }
    declared(facts, report);
    outputs(facts, report);
}

/// What becomes of it.
fn kept(facts: &Facts<'_>, place: Place, resource: &Resource, report: &mut Report) {
    for (name, policy) in [
        ("DeletionPolicy", &resource.deletion_policy),
        ("UpdateReplacePolicy", &resource.update_replace_policy),
    ] {
        match policy.as_deref() {
            None => {
                report.add(facts, place, "", format!("it has no {name}, and holds data"));
            }
            // What is made at random is made again, and its name is free for it.
            Some("Delete") if resource.get("GenerateSecretString").is_some() => {}
            Some("Delete") => {
                report.add(facts, place, "", format!("its {name} throws away what it holds"));
            }
            Some(_) => {}
        }
    }
}

fn finds(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|p| p.is_match(text))
}

/// Whether a text is a reference that is looked up when it is needed.
fn is_reference(text: &str) -> bool {
    text.starts_with("{{resolve:") && text.ends_with("}}")
}

/// Where a text is: the property it is below, and whether something is started with it.
#[derive(Clone, Copy)]
struct Under<'a> {
    key: &'a str,
    script: bool,
}

/// Looks into every text.
fn properties(
    facts: &Facts<'_>,
    place: Place,
    value: &Value,
    under: Under<'_>,
    report: &mut Report,
) {
    match &value.kind {
        Kind::Text(text) => {
            let name = || facts.estate.name(place);
            if SECRETS.contains(&under.key) {
                if !is_reference(text) {
                    let what = format!("{} is written in the open", under.key);
                    report.at(&value.at, name(), what);
                }
            } else if finds(&KEYS, text) {
                report.at(&value.at, name(), "it holds a key in the open");
            } else if under.script && finds(&GIVEN, text) {
                report.at(&value.at, name(), "it is started with a secret in the open");
            }
        }
        Kind::List(items) => {
            items.iter().for_each(|item| properties(facts, place, item, under, report));
        }
        Kind::Map(entries) => {
            let kind = facts.estate.resource(place).map_or("", |r| r.kind.as_str());
            for entry in entries {
                let key = entry.key.as_str();
                // Variables of a function, whose names say what they are.
                let variable = under.key == "Variables" && kind == "AWS::Lambda::Function";
                let given = entry.value.as_str().is_some_and(|v| !is_reference(v) && !v.is_empty());
                if variable && given && finds(&NAMES, key) {
                    let what = format!("{key} is in the environment in the open");
                    report.at(&entry.at, facts.estate.name(place), what);
                }
                let script = under.script || SCRIPTS.contains(&key);
                properties(facts, place, &entry.value, Under { key, script }, report);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => {}
    }
}

/// A plain SSM parameter whose name says that it should not be plain.
fn parameter(facts: &Facts<'_>, place: Place, resource: &Resource, report: &mut Report) {
    if resource.kind != "AWS::SSM::Parameter" {
        return;
    }
    let value = resource.str("Value").unwrap_or_default();
    let name = resource.str("Name").unwrap_or_default();
    if finds(&NAMES, name) && !value.starts_with("arn:") {
        report.add(facts, place, "Value", format!("{name} can be read in the open"));
    }
    if value.contains("{{resolve:secretsmanager") {
        report.add(facts, place, "Value", "it makes a copy in the open of a secret");
    }
}

/// Parameters of templates: whoever may look at a stack reads them, `NoEcho` or not.
fn declared(facts: &Facts<'_>, report: &mut Report) {
    for template in &facts.project.templates {
        let parameters = template.root.get("Parameters").map(Value::entries).unwrap_or_default();
        for parameter in parameters {
            let hidden = parameter.value.get("NoEcho").and_then(Value::as_bool) == Some(true);
            if hidden || finds(&NAMES, &parameter.key) {
                let what = "a secret as a parameter: have it made, or refer to it";
                report.at(&parameter.at, parameter.key.as_str(), what);
            }
        }
    }
    for stack in &facts.estate.stacks {
        for (name, value) in &stack.parameters {
            if value.as_str().is_some_and(|text| finds(&KEYS, text)) {
                report.at(&value.at, format!("{}.{name}", stack.name), "it is a key in the open");
            }
        }
    }
}

fn outputs(facts: &Facts<'_>, report: &mut Report) {
    for stack in &facts.estate.stacks {
        for (name, output) in &stack.outputs {
            let text = output.value.scalar().unwrap_or_default();
            let looked_up = ["{{resolve:secretsmanager", "{{resolve:ssm-secure"]
                .iter()
                .any(|r| text.contains(r));
            if looked_up || finds(&KEYS, &text) {
                let what = "whoever may look at the stack reads this secret";
                report.at(&output.value.at, format!("{}.{name}", stack.name), what);
            }
        }
    }
}
