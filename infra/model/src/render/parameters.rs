//! What each parameter of a template is: from the environment, from another stack, or its default; held
//! against what the template says about it.

use std::collections::{BTreeMap, HashMap};

use regex::Regex;

use crate::{
    mistake::{Mistake, Mistakes},
    project::{Environment, Project},
    value::{At, Entry, Kind, Value},
};

/// Parameters of the environment that no template declares: somebody believes they do something.
pub(super) fn unknown(project: &Project, env: &Environment) -> Mistakes {
    let mut mistakes = Mistakes::default();
    let declares = |file: &str, name: &str| {
        let template = project.template(file).and_then(|i| project.templates.get(i));
        template.and_then(|t| t.root.get("Parameters")).is_some_and(|p| p.get(name).is_some())
    };
    for (name, value) in &env.parameters {
        let in_when = project.stacks.iter().any(|s| s.when.contains_key(name));
        if !in_when && !project.stacks.iter().any(|s| declares(&s.template, name)) {
            mistakes.add(&value.at, format!("no template has a parameter {name}"));
        }
    }
    for (stack, parameters) in &env.stacks {
        let entry = project.stacks.iter().find(|s| s.name == *stack);
        for (name, value) in parameters {
            match entry {
                None => mistakes.add(&value.at, format!("no stack {stack} is listed")),
                Some(e) if !declares(&e.template, name) => {
                    mistakes.add(&value.at, format!("{} has no parameter {name}", e.template));
                }
                Some(_) => {}
            }
        }
    }
    mistakes
}

/// Patterns that were compiled already: every template has the same for the same parameters.
pub(super) type Patterns = HashMap<String, Regex>;

/// The value that `Ref` gives for a parameter, from the text that is handed to CloudFormation.
pub(super) fn value(
    declared: &Entry,
    given: &Value,
    ssm: &BTreeMap<String, String>,
    patterns: &mut Patterns,
) -> Result<Value, Mistake> {
    let name = &declared.key;
    let kind = declared.value.get("Type").and_then(Value::as_str).unwrap_or_default();
    let text = given.scalar().unwrap_or_default();
    fits(declared, &text, &given.at, patterns)?;
    let (text, kind) = match kind.strip_prefix("AWS::SSM::Parameter::Value<") {
        None => (text, kind),
        Some(inner) => {
            let held = ssm.get(&text).cloned().ok_or_else(|| {
                let what = format!("{name}: `ssm_values` of the environment has no {text}");
                Mistake::new(&given.at, what)
            })?;
            (held, inner.strip_suffix('>').unwrap_or(inner))
        }
    };
    if kind != "CommaDelimitedList" && !kind.starts_with("List<") {
        return Ok(Value::text(&given.at, text));
    }
    let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    let items = parts.map(|part| Value::text(&given.at, part)).collect();
    Ok(Value::new(&given.at, Kind::List(items)))
}

/// Whether a text is what the template allows.
fn fits(declared: &Entry, text: &str, at: &At, patterns: &mut Patterns) -> Result<(), Mistake> {
    let name = &declared.key;
    let rule = |key: &str| declared.value.get(key);
    let number = |key: &str| rule(key).and_then(Value::as_int);
    let refuse = |why: String| {
        let said = rule("ConstraintDescription").and_then(Value::as_str);
        let said = said.map(|s| format!(": {s}")).unwrap_or_default();
        Err(Mistake::new(at, format!("{name}: {text:?} {why}{said}")))
    };
    if let Some(allowed) = rule("AllowedValues") {
        let allowed: Vec<_> = allowed.items().iter().filter_map(Value::scalar).collect();
        if !allowed.iter().any(|a| a == text) {
            return refuse(format!("is none of {}", allowed.join(", ")));
        }
    }
    if let Some(pattern) = rule("AllowedPattern") {
        let source = pattern.scalar().unwrap_or_default();
        if !patterns.contains_key(&source) {
            let whole = Regex::new(&format!("^(?:{source})$"))
                .map_err(|e| Mistake::new(&pattern.at, format!("{name}: AllowedPattern: {e}")))?;
            patterns.insert(source.clone(), whole);
        }
        let fits = |item: &str| patterns.get(&source).is_some_and(|whole| whole.is_match(item));
        // Of a list, CloudFormation holds each item against the pattern.
        let lists = rule("Type").is_some_and(|t| t.is("CommaDelimitedList"));
        let items: Vec<_> =
            if lists { text.split(',').map(str::trim).collect() } else { vec![text] };
        if !items.iter().all(|item| fits(item)) {
            return refuse(format!("does not match {source}"));
        }
    }
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if number("MinLength").is_some_and(|least| length < least) {
        return refuse("is too short".into());
    }
    if number("MaxLength").is_some_and(|most| length > most) {
        return refuse("is too long".into());
    }
    if rule("Type").is_some_and(|t| t.is("Number")) {
        let Ok(n) = text.parse::<f64>() else { return refuse("is no number".into()) };
        let bound =
            |key: &str| rule(key).and_then(Value::scalar).and_then(|b| b.parse::<f64>().ok());
        if bound("MinValue").is_some_and(|least| n < least) {
            return refuse("is too small".into());
        }
        if bound("MaxValue").is_some_and(|most| n > most) {
            return refuse("is too large".into());
        }
    }
    Ok(())
}
