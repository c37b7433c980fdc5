//! The whole graph without the types that ministack does not know: their resources are left out, and what
//! other resources wanted of them is the model's stand-in. Each stack gets a template of its own, because
//! two stacks of one template have different stand-ins.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use palisade_infra_model::{Estate, Project, render};
use serde_json::{Map, Value, json};

/// A resource that is left out and an attribute of it; none for what `Ref` gives.
type Wanted = (String, Option<String>);

/// Types that are left out, sorted.
pub(crate) fn left_out() -> Vec<String> {
    listed().filter(|l| !l.contains(['.', ' '])).map(str::to_owned).collect()
}

/// Attributes that are left out of types that are not: type and name.
fn left_out_attributes() -> BTreeSet<(String, String)> {
    let split = listed().filter_map(|l| l.split_once('.'));
    split.map(|(kind, name)| (kind.to_owned(), name.to_owned())).collect()
}

/// Properties with which resources of a type are left out.
fn left_out_with() -> impl Iterator<Item = (&'static str, &'static str)> {
    listed().filter_map(|l| l.split_once(" with "))
}

fn listed() -> impl Iterator<Item = &'static str> {
    let list = include_str!("../projection.txt");
    list.lines().filter(|l| !l.starts_with('#') && !l.is_empty())
}

/// What is left out of a template.
struct Gone {
    resources: BTreeSet<String>,
    attributes: BTreeSet<(String, String)>,
}

impl Gone {
    fn of(template: &Value) -> Self {
        let types: BTreeSet<String> = left_out().into_iter().collect();
        let (mut resources, mut attributes) = (BTreeSet::new(), BTreeSet::new());
        for (name, resource) in template["Resources"].as_object().into_iter().flatten() {
            let kind = resource["Type"].as_str().unwrap_or_default();
            let with = |(of, property): (&str, &str)| {
                of == kind && resource["Properties"].get(property).is_some()
            };
            if types.contains(kind) || left_out_with().any(with) {
                resources.insert(name.clone());
            }
            let left = left_out_attributes().into_iter().filter(|(of, _)| of == kind);
            attributes.extend(left.map(|(_, attribute)| (name.clone(), attribute)));
        }
        Self { resources, attributes }
    }

    fn has(&self, (name, attribute): &Wanted) -> bool {
        let of_kept = |a: &String| self.attributes.contains(&(name.clone(), a.clone()));
        self.resources.contains(name) || attribute.as_ref().is_some_and(of_kept)
    }
}

/// Writes the projection of an environment to `to`, as `stacks.yaml`, `params` and `templates`.
/// `parameters` stand in the place of the environment's own.
pub(crate) fn write(from: &Path, to: &Path, env: &str, parameters: &[(&str, &str)]) -> Estate {
    let mut project = Project::load(from).unwrap();
    let environment = project.environments.get_mut(env).unwrap();
    for (name, value) in parameters {
        let at = environment.at.clone();
        environment
            .parameters
            .insert((*name).to_owned(), palisade_infra_model::Value::text(&at, *value));
    }
    let environment = environment.clone();
    let templates: Vec<Value> = project.templates.iter().map(|t| t.root.to_json()).collect();

    // What is wanted of what is left out, as outputs of a project that leaves nothing out.
    let asking = tempfile::tempdir().unwrap();
    let mut wanted: Vec<Vec<Wanted>> = Vec::new();
    for (file, template) in project.templates.iter().map(|t| &t.file).zip(&templates) {
        let gone = Gone::of(template);
        let mut found = BTreeSet::new();
        collect(template, &gone, &mut found);
        let found: Vec<Wanted> = found.into_iter().collect();
        write_json(&asking.path().join(&**file), &with_outputs(template, &found));
        wanted.push(found);
    }
    copy_list(from, asking.path());
    write_params(&asking.path().join("params"), &environment);
    let asked = Project::load(asking.path()).unwrap();
    let answers = render(&asked, &asked.environments[env]).unwrap();

    let mut stacks = Vec::new();
    for stack in &answers.stacks {
        let template = &templates[stack.template];
        let mut standins: BTreeMap<Wanted, Value> = BTreeMap::new();
        for (i, what) in wanted[stack.template].iter().enumerate() {
            let value = stack.outputs.get(&format!("Standin{i}")).map(|o| o.value.to_json());
            standins.insert(what.clone(), value.unwrap_or_else(|| json!("not-there")));
        }
        let entry = project.stacks.iter().find(|s| s.name == stack.name).unwrap();
        let projected = project_one(template, &standins);
        write_json(&to.join(format!("templates/{}.yaml", stack.name)), &projected);
        let feeds: Map<String, Value> = entry
            .feeds
            .iter()
            .map(|(p, f)| (p.clone(), json!(format!("{}.{}", f.stack, f.output))))
            .collect();
        let there = |name: &&String| answers.stacks.iter().any(|s| s.name == **name);
        stacks.push(json!({
            "name": stack.name,
            "template": format!("{}.yaml", stack.name),
            "region": if stack.region == answers.region { "home" } else { "global" },
            "feeds": feeds,
            "after": entry.after.iter().filter(there).collect::<Vec<_>>(),
            "capabilities": entry.capabilities,
            "tags": entry.tags,
        }));
    }
    write_json(&to.join("stacks.yaml"), &json!({"version": 1, "stacks": stacks}));
    // Some only say which stacks there are, which is settled here.
    let declared = |name: &str| templates.iter().any(|t| t["Parameters"].get(name).is_some());
    let mut environment = environment;
    environment.parameters.retain(|name, _| declared(name));
    write_params(&to.join("params"), &environment);
    let projected = Project::load(to).unwrap();
    render(&projected, &projected.environments[env]).unwrap()
}

/// A stand-in exists under the condition of its resource.
fn with_outputs(template: &Value, wanted: &[Wanted]) -> Value {
    let mut template = template.clone();
    for (i, (logical, attribute)) in wanted.iter().enumerate() {
        let value = match attribute {
            None => json!({"Ref": logical}),
            Some(attribute) => json!({"Fn::GetAtt": [logical, attribute]}),
        };
        let mut output = json!({"Value": value});
        if let Some(condition) = template["Resources"][logical].get("Condition") {
            output["Condition"] = condition.clone();
        }
        template["Outputs"][format!("Standin{i}")] = output;
    }
    template
}

fn project_one(template: &Value, standins: &BTreeMap<Wanted, Value>) -> Value {
    let gone = Gone::of(template);
    let mut template = template.clone();
    let resources = template["Resources"].as_object_mut().unwrap();
    resources.retain(|name, _| !gone.resources.contains(name));
    for resource in resources.values_mut() {
        let depends = resource.get("DependsOn").cloned();
        let names: Vec<Value> = match depends {
            Some(Value::Array(names)) => names,
            Some(name) => vec![name],
            None => continue,
        };
        let left: Vec<Value> = names
            .into_iter()
            .filter(|n| !gone.resources.contains(n.as_str().unwrap_or_default()))
            .collect();
        resource["DependsOn"] = Value::Array(left);
    }
    // CloudFormation wants at least one.
    if resources.is_empty() {
        resources.insert("Nothing".to_owned(), json!({"Type": "AWS::SNS::Topic"}));
    }
    put_in(&template, &gone, standins)
}

/// The reference that a value is, if it is one to what is gone.
fn reference(value: &Value, gone: &Gone) -> Option<Wanted> {
    let map = value.as_object().filter(|m| m.len() == 1)?;
    let (key, inside) = map.iter().next()?;
    let wanted = match (key.as_str(), inside) {
        ("Ref", Value::String(name)) => (name.clone(), None),
        ("Fn::GetAtt", Value::Array(parts)) => {
            let attribute = parts.get(1..)?.iter().filter_map(Value::as_str).collect::<Vec<_>>();
            (parts.first()?.as_str()?.to_owned(), Some(attribute.join(".")))
        }
        ("Fn::GetAtt", Value::String(text)) => {
            let (name, attribute) = text.split_once('.')?;
            (name.to_owned(), Some(attribute.to_owned()))
        }
        _ => return None,
    };
    gone.has(&wanted).then_some(wanted)
}

/// What a text with `${...}` wants of what is gone, with the marks.
fn marks(text: &str, gone: &Gone) -> Vec<(String, Wanted)> {
    let mut found = Vec::new();
    for part in text.split("${").skip(1) {
        let Some((inside, _)) = part.split_once('}') else { continue };
        let (name, attribute) = match inside.split_once('.') {
            Some((name, attribute)) => (name, Some(attribute.to_owned())),
            None => (inside, None),
        };
        let wanted = (name.to_owned(), attribute);
        if gone.has(&wanted) {
            found.push((format!("${{{inside}}}"), wanted));
        }
    }
    found
}

fn collect(value: &Value, gone: &Gone, found: &mut BTreeSet<Wanted>) {
    if let Some(wanted) = reference(value, gone) {
        found.insert(wanted);
        return;
    }
    match value {
        Value::Object(map) => map.values().for_each(|v| collect(v, gone, found)),
        Value::Array(items) => items.iter().for_each(|v| collect(v, gone, found)),
        Value::String(text) => found.extend(marks(text, gone).into_iter().map(|(_, w)| w)),
        _ => {}
    }
}

fn put_in(value: &Value, gone: &Gone, standins: &BTreeMap<Wanted, Value>) -> Value {
    if let Some(wanted) = reference(value, gone) {
        return standins[&wanted].clone();
    }
    match value {
        Value::Object(map) => {
            map.iter().map(|(k, v)| (k.clone(), put_in(v, gone, standins))).collect()
        }
        Value::Array(items) => items.iter().map(|v| put_in(v, gone, standins)).collect(),
        Value::String(text) => {
            let mut text = text.clone();
            for (mark, wanted) in marks(&text, gone) {
                text = text.replace(&mark, standins[&wanted].as_str().unwrap_or_default());
            }
            Value::String(text)
        }
        other => other.clone(),
    }
}

fn copy_list(from: &Path, to: &Path) {
    fs::copy(from.join("stacks.yaml"), to.join("stacks.yaml")).unwrap();
}

fn write_params(dir: &Path, environment: &palisade_infra_model::project::Environment) {
    let map = |values: &BTreeMap<String, palisade_infra_model::Value>| -> Value {
        values.iter().map(|(k, v)| (k.clone(), json!(v.scalar().unwrap_or_default()))).collect()
    };
    let stacks: Map<String, Value> =
        environment.stacks.iter().map(|(name, values)| (name.clone(), map(values))).collect();
    let params = json!({
        "project": environment.project,
        "env": environment.name,
        "region": environment.region,
        "account": environment.account,
        "parameters": map(&environment.parameters),
        "stacks": stacks,
        "ssm_values": environment.ssm_values,
    });
    write_json(&dir.join(format!("{}.yaml", environment.name)), &params);
}

/// JSON is YAML.
fn write_json(path: &Path, value: &Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, serde_json::to_string_pretty(value).unwrap()).unwrap();
}
