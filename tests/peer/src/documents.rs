//! Command documents of schema 2.2: read strictly, parameters checked, the script rendered.

use std::{collections::BTreeMap, fs, io, path::Path};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::ApiError;

/// Largest document of the service.
const MAX_DOCUMENT: usize = 64 << 10;
const SHELL: &str = "AWS-RunShellScript";

/// All documents by name.
#[derive(Debug, Default)]
pub(crate) struct Documents(BTreeMap<String, Document>);

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Document {
    schema_version: String,
    #[expect(dead_code, reason = "part of the schema, and for people")]
    description: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    main_steps: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parameter {
    #[serde(rename = "type")]
    kind: Kind,
    #[expect(dead_code, reason = "part of the schema, and for people")]
    description: Option<String>,
    default: Option<Value>,
    allowed_pattern: Option<String>,
    #[serde(default)]
    allowed_values: Vec<Value>,
    min_chars: Option<usize>,
    max_chars: Option<usize>,
    #[expect(dead_code, reason = "part of the schema, and for the console")]
    display_type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Kind {
    String,
    StringList,
    Boolean,
    Integer,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Step {
    action: String,
    name: String,
    precondition: Option<Value>,
    inputs: Inputs,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Inputs {
    run_command: Vec<String>,
    working_directory: Option<String>,
    timeout_seconds: Option<Value>,
}

/// A script ready to run on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Name of the step.
    pub(crate) step: String,
    pub(crate) text: String,
    pub(crate) folder: Option<String>,
    pub(crate) timeout_s: u64,
}

impl Documents {
    /// Reads all `Name.json` of a directory, and adds the one of AWS that runs any script.
    pub(crate) fn load(folder: Option<&Path>) -> io::Result<Self> {
        let mut all = BTreeMap::from([(SHELL.to_owned(), shell())]);
        if let Some(folder) = folder {
            let bad = |path: &Path, what: String| {
                io::Error::other(format!("document {}: {what}", path.display()))
            };
            for entry in fs::read_dir(folder).map_err(|e| bad(folder, e.to_string()))? {
                let path = entry?.path();
                if path.extension().is_none_or(|e| e != "json") {
                    continue;
                }
                let name = path.file_stem().map(|s| s.to_string_lossy().into_owned());
                let text = fs::read_to_string(&path)?;
                let document = Document::parse(&text).map_err(|e| bad(&path, e))?;
                all.insert(name.unwrap_or_default(), document);
            }
        }
        Ok(Self(all))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Document> {
        self.0.get(name)
    }
}

fn shell() -> Document {
    let list = |default: Option<Value>| Parameter {
        kind: Kind::StringList,
        description: None,
        default,
        allowed_pattern: None,
        allowed_values: Vec::new(),
        min_chars: None,
        max_chars: None,
        display_type: None,
    };
    let text = |default: &str, pattern: Option<&str>| Parameter {
        kind: Kind::String,
        allowed_pattern: pattern.map(str::to_owned),
        ..list(Some(Value::from(default)))
    };
    let hours = "([1-9][0-9]{0,4})|(1[0-6][0-9]{4})|(17[0-1][0-9]{3})|(172[0-7][0-9]{2})|(172800)";
    let parameters = [
        ("commands", list(None)),
        ("workingDirectory", text("", None)),
        ("executionTimeout", text("3600", Some(hours))),
    ];
    Document {
        schema_version: "2.2".to_owned(),
        description: None,
        parameters: parameters.map(|(n, p)| (n.to_owned(), p)).into(),
        main_steps: vec![Step {
            action: "aws:runShellScript".to_owned(),
            name: SHELL.to_owned(),
            precondition: None,
            inputs: Inputs {
                run_command: vec!["{{ commands }}".to_owned()],
                working_directory: Some("{{ workingDirectory }}".to_owned()),
                timeout_seconds: Some(Value::from("{{ executionTimeout }}")),
            },
        }],
    }
}

impl Document {
    /// Reads a document, and refuses one that the service would refuse.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_DOCUMENT {
            return Err(format!("{} bytes, more than {MAX_DOCUMENT}", text.len()));
        }
        let document: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if document.schema_version != "2.2" {
            return Err(format!("schema version {}", document.schema_version));
        }
        let [step] = &document.main_steps[..] else {
            return Err("only documents with one step are run here".to_owned());
        };
        if step.action != "aws:runShellScript" {
            return Err(format!("action {} is not run here", step.action));
        }
        for (name, parameter) in &document.parameters {
            if !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(format!("parameter name {name:?}"));
            }
            if let Some(pattern) = &parameter.allowed_pattern {
                Regex::new(pattern).map_err(|e| format!("pattern of {name}: {e}"))?;
            }
            if let Some(default) = &parameter.default {
                let values = values(name, parameter, default)?;
                parameter.check(name, &values)?;
            }
        }
        document.names_are_known()?;
        Ok(document)
    }

    /// Every `{{ name }}` of the script names a parameter.
    fn names_are_known(&self) -> Result<(), String> {
        let every = placeholder();
        for line in self.main_steps.iter().flat_map(|s| &s.inputs.run_command) {
            for found in every.iter().flat_map(|r| r.captures_iter(line)) {
                let name = found.get(1).map_or("", |m| m.as_str());
                if !self.parameters.contains_key(name) && !name.contains(':') {
                    return Err(format!("the script names {name}, which is no parameter"));
                }
            }
        }
        Ok(())
    }

    /// The script with these parameters.
    pub(crate) fn render(&self, given: &BTreeMap<String, Vec<String>>) -> Result<Script, ApiError> {
        let bad = |what: String| ApiError::new("InvalidParameters", what);
        if let Some(name) = given.keys().find(|n| !self.parameters.contains_key(*n)) {
            return Err(bad(format!("Parameter '{name}' is not defined in the document.")));
        }
        let mut all = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let values = match (given.get(name), &parameter.default) {
                (Some(values), _) => {
                    parameter.check(name, values).map_err(bad)?;
                    values.clone()
                }
                (None, Some(default)) => values(name, parameter, default).map_err(bad)?,
                (None, None) => {
                    return Err(bad(format!("Parameter '{name}' requires a value.")));
                }
            };
            all.insert(name.as_str(), values);
        }
        let Some(step) = self.main_steps.first() else { return Err(bad("no step".to_owned())) };
        let lines: Vec<_> = step.inputs.run_command.iter().map(|l| filled(l, &all)).collect();
        let field = |v: &Option<Value>| match v {
            Some(Value::String(text)) => Some(filled(text, &all)),
            Some(other) => Some(other.to_string()),
            None => None,
        };
        let folder = step.inputs.working_directory.clone().map(Value::from);
        let timeout = field(&step.inputs.timeout_seconds).and_then(|t| t.parse().ok());
        Ok(Script {
            step: step.name.clone(),
            text: lines.join("\n"),
            folder: field(&folder).filter(|f| !f.is_empty()),
            timeout_s: timeout.unwrap_or(3600),
        })
    }

    /// Whether it runs on Linux. Preconditions on anything else are not read.
    pub(crate) fn runs_on_linux(&self) -> bool {
        let Some(Some(precondition)) = self.main_steps.first().map(|s| &s.precondition) else {
            return true;
        };
        precondition["StringEquals"] == serde_json::json!(["platformType", "Linux"])
    }
}

impl Parameter {
    /// Values as the service takes them: each must match whole.
    fn check(&self, name: &str, values: &[String]) -> Result<(), String> {
        if self.kind != Kind::StringList && values.len() != 1 {
            return Err(format!("Parameter '{name}' takes one value, {} came.", values.len()));
        }
        for value in values {
            let length = value.chars().count();
            if self.min_chars.is_some_and(|n| length < n)
                || self.max_chars.is_some_and(|n| length > n)
            {
                return Err(format!("Parameter '{name}' has {length} characters."));
            }
            let good = match self.kind {
                Kind::Boolean => matches!(value.as_str(), "true" | "false"),
                Kind::Integer => value.parse::<i64>().is_ok(),
                Kind::String | Kind::StringList => true,
            };
            let same =
                |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned) == *value;
            if !good || (!self.allowed_values.is_empty() && !self.allowed_values.iter().any(same)) {
                return Err(format!("Parameter '{name}' has a value that is not allowed."));
            }
            if let Some(pattern) = &self.allowed_pattern {
                let whole = Regex::new(&format!("^(?:{pattern})\\z")).map_err(|e| e.to_string())?;
                if !whole.is_match(value) {
                    return Err(format!(
                        "Parameter '{name}' has a value that does not match pattern '{pattern}'."
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A default as the values that a caller would give.
fn values(name: &str, parameter: &Parameter, default: &Value) -> Result<Vec<String>, String> {
    let one = |v: &Value| match v {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(v.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(format!("default of {name}")),
    };
    match (default, parameter.kind) {
        (Value::Array(list), Kind::StringList) => list.iter().map(one).collect(),
        (other, _) => Ok(vec![one(other)?]),
    }
}

fn placeholder() -> Option<Regex> {
    Regex::new(r"\{\{\s*([A-Za-z0-9_:.\-]+)\s*\}\}").ok()
}

/// A line with its placeholders replaced, in one pass: what a value contains is not looked at.
fn filled(line: &str, all: &BTreeMap<&str, Vec<String>>) -> String {
    let Some(every) = placeholder() else { return line.to_owned() };
    let value = |found: &regex::Captures<'_>| {
        let name = found.get(1).map_or("", |m| m.as_str());
        let kept = found.get(0).map_or("", |m| m.as_str());
        all.get(name).map_or_else(|| kept.to_owned(), |v| v.join("\n"))
    };
    every.replace_all(line, value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"schemaVersion":"2.2","description":"d","parameters":{
        "Name":{"type":"String","allowedPattern":"^[a-z]{1,8}$"},
        "Mode":{"type":"String","default":"plan","allowedValues":["plan","run"]}},
        "mainSteps":[{"action":"aws:runShellScript","name":"go","inputs":{
            "timeoutSeconds":"60","runCommand":["echo '{{ Name }}' {{Mode}}","echo {{ Name }}"]}}]}"#;

    fn given(list: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        list.iter().map(|(n, v)| ((*n).to_owned(), vec![(*v).to_owned()])).collect()
    }

    #[test]
    fn parameters_are_rendered_with_defaults() {
        let document = Document::parse(DOCUMENT).unwrap();
        let script = document.render(&given(&[("Name", "web")])).unwrap();
        assert_eq!(script.text, "echo 'web' plan\necho web");
        assert_eq!(script.timeout_s, 60);
    }

    #[test]
    fn unknown_missing_and_unfitting_parameters_are_refused() {
        let document = Document::parse(DOCUMENT).unwrap();
        let refused = |list: &[(&str, &str)]| document.render(&given(list)).unwrap_err().message;
        assert!(refused(&[]).contains("requires a value"));
        assert!(refused(&[("Name", "web"), ("X", "y")]).contains("not defined"));
        assert!(refused(&[("Name", "web"), ("Mode", "no")]).contains("not allowed"));
        for bad in ["Web", "a'; id #", "web\n", "{{ Mode }}"] {
            assert!(refused(&[("Name", bad)]).contains("does not match"), "{bad:?}");
        }
    }

    #[test]
    fn a_document_with_a_default_outside_its_pattern_or_an_unknown_name_is_refused() {
        let bad = DOCUMENT.replace(r#""default":"plan""#, r#""default":"x""#);
        assert!(Document::parse(&bad).is_err());
        let bad = DOCUMENT.replace("{{Mode}}", "{{Mood}}");
        assert!(Document::parse(&bad).unwrap_err().contains("Mood"));
        let bad = DOCUMENT.replace("mainSteps", "steps");
        assert!(Document::parse(&bad).is_err());
    }

    #[test]
    fn any_script_runs_by_the_document_of_aws() {
        let all = Documents::load(None).unwrap();
        let lines = vec!["echo a".to_owned(), "echo b".to_owned()];
        let given = BTreeMap::from([("commands".to_owned(), lines)]);
        let script = all.get(SHELL).unwrap().render(&given).unwrap();
        assert_eq!((script.text.as_str(), script.timeout_s), ("echo a\necho b", 3600));
    }
}
