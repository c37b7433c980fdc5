//! What the tools are shown: templates as CloudFormation takes them, and stacks as they are rendered, in
//! files of a temporary directory. Among them one with a known fault: a tool that does not find that one
//! has looked at nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use palisade_infra_model::{Project, Resource, Stack};
use serde_json::{Map, Value as Json, json};

/// What every tool objects to: a database that is open to the world and not encrypted.
pub(crate) const FAULTY: &str = "faulty";

/// Mappings whose values are texts.
const TEXTS: [&str; 3] = ["Parameters", "Variables", "KeyPolicy"];

/// The fault that is there to be found.
fn faulty() -> Json {
    let properties = json!({
        "Engine": "mysql", "DBInstanceClass": "db.m6g.large", "AllocatedStorage": "20",
        "PubliclyAccessible": true, "StorageEncrypted": false, "NoSuchProperty": true,
    });
    let database = json!({ "Type": "AWS::RDS::DBInstance", "Properties": properties });
    json!({ "AWSTemplateFormatVersion": "2010-09-09", "Resources": { "Database": database } })
}

/// Names of files, without the ending, by the regions in which their templates are used.
pub(crate) type Places = BTreeMap<String, BTreeSet<String>>;

/// Writes each template as it is sent to CloudFormation.
pub(crate) fn templates(project: &Project, dir: &Path) -> Places {
    let mut places = Places::new();
    for stack in &project.stacks {
        let template = project.template(&stack.template).map(|i| &project.templates[i]).unwrap();
        let name = stem(&stack.template);
        let regions = places.entry(name.to_owned()).or_default();
        if regions.is_empty() {
            fs::write(dir.join(format!("{name}.json")), template.body()).unwrap();
        }
        regions.extend(project.environments.values().map(|env| match stack.region {
            palisade_infra_model::project::Region::Home => env.region.clone(),
            palisade_infra_model::project::Region::Global => {
                palisade_infra_model::project::GLOBAL_REGION.to_owned()
            }
        }));
    }
    fs::write(dir.join(format!("{FAULTY}.json")), faulty().to_string()).unwrap();
    let all = places.values().flatten().cloned().collect();
    places.insert(FAULTY.to_owned(), all);
    places
}

/// A stack that is rendered, and whether in production.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shown {
    pub(crate) template: String,
    pub(crate) production: bool,
    pub(crate) types: BTreeMap<String, String>,
}

impl Shown {
    pub(crate) fn new(project: &Project, stack: &Stack, production: bool) -> Self {
        let file = &project.templates[stack.template].file;
        let types = stack.resources.iter().map(|r| (r.logical.clone(), r.kind.clone())).collect();
        Self { template: stem(file).to_owned(), production, types }
    }
}

/// Stacks that were written, by the name of the file, each once however many estates have it.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    pub(crate) files: BTreeMap<String, Shown>,
    /// The file that has a body.
    bodies: BTreeMap<String, String>,
}

impl Stacks {
    /// With the one that has the known fault.
    pub(crate) fn new(dir: &Path) -> Self {
        let mut stacks = Self::default();
        let types = [("Database".to_owned(), "AWS::RDS::DBInstance".to_owned())].into();
        let shown = Shown { template: FAULTY.to_owned(), production: true, types };
        stacks.write(dir, shown, &faulty());
        stacks
    }

    /// Writes a stack, unless the same was written already.
    pub(crate) fn add(&mut self, dir: &Path, project: &Project, stack: &Stack, production: bool) {
        self.write(dir, Shown::new(project, stack, production), &body(stack));
    }

    /// The name of the file.
    pub(crate) fn write(&mut self, dir: &Path, shown: Shown, body: &Json) -> String {
        let body = body.to_string();
        let known = self.bodies.entry(format!("{} {} {body}", shown.template, shown.production));
        let count = self.files.len();
        let name = known.or_insert_with(|| {
            let name = format!("{count:03}-{}", shown.template);
            fs::write(dir.join(format!("{name}.json")), body).unwrap();
            self.files.insert(name.clone(), shown);
            name
        });
        name.clone()
    }
}

/// A stack as a template in which nothing is left to carry out.
pub(crate) fn body(stack: &Stack) -> Json {
    let resources: Map<_, _> =
        stack.resources.iter().map(|r| (r.logical.clone(), resource(r))).collect();
    json!({ "AWSTemplateFormatVersion": "2010-09-09", "Resources": resources })
}

fn resource(resource: &Resource) -> Json {
    let mut all = Map::new();
    all.insert("Type".into(), json!(resource.kind));
    for (key, policy) in [
        ("DeletionPolicy", &resource.deletion_policy),
        ("UpdateReplacePolicy", &resource.update_replace_policy),
    ] {
        if let Some(policy) = policy {
            all.insert(key.into(), json!(policy));
        }
    }
    all.extend(resource.extra.iter().map(|(k, v)| (k.clone(), v.to_json())));
    all.insert("Properties".into(), typed("Properties", resource.properties.to_json()));
    Json::Object(all)
}

/// Parameters are texts; where a property is a truth value, CloudFormation makes one of them. Settings
/// that are texts by their type, and conditions of policies, stay what they are.
fn typed(key: &str, value: Json) -> Json {
    match value {
        Json::String(text) if key != "Value" && !key.contains(':') => match text.as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => Json::String(text),
        },
        Json::Array(items) => Json::Array(items.into_iter().map(|v| typed(key, v)).collect()),
        Json::Object(map) if !TEXTS.contains(&key) => {
            Json::Object(map.into_iter().map(|(k, v)| (k.clone(), typed(&k, v))).collect())
        }
        other => other,
    }
}

/// `network` of `templates/network.yaml`.
pub(crate) fn stem(file: &str) -> &str {
    Path::new(file).file_stem().and_then(|s| s.to_str()).unwrap()
}
