//! What is to be deployed: the stacks of one environment as CloudFormation is told of them. Pure.
//! Invariant: `needs` and `feeds` point at units of the same list.

use std::collections::{BTreeMap, BTreeSet};

use palisade_infra_model::{
    Estate, Project, Value,
    estate::Stack,
    project::{MAX_BODY, Template},
    stateful::keeps_data,
};

use crate::{
    failed::{Failed, Outcome},
    find,
};

/// One stack.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Its name in `stacks.yaml`.
    pub(crate) name: String,
    /// Its name in AWS.
    pub(crate) full_name: String,
    pub(crate) region: String,
    pub(crate) body: String,
    /// What the environment says; the rest is the template's default.
    pub(crate) parameters: BTreeMap<String, String>,
    /// What other stacks' outputs say.
    pub(crate) feeds: Vec<Feed>,
    /// Positions of the units that come before.
    pub(crate) needs: Vec<usize>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
    /// Name and type of what it makes, in the template's order.
    pub(crate) resources: Vec<(String, String)>,
    /// `infra/templates/network.yaml:12` of every name in the template.
    pub(crate) places: BTreeMap<String, String>,
    /// Whether it is protected against deletion.
    pub(crate) protect: bool,
}

/// A parameter that another stack's output gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Feed {
    pub(crate) parameter: String,
    pub(crate) unit: usize,
    pub(crate) output: String,
}

/// The units of an environment, each after all that it needs.
///
/// # Errors
/// When a template is too long, or a stack is fed by one that the environment does not have.
pub(crate) fn units(project: &Project, estate: &Estate) -> Outcome<Vec<Unit>> {
    estate.stacks.iter().map(|stack| unit(project, estate, stack)).collect()
}

fn unit(project: &Project, estate: &Estate, stack: &Stack) -> Outcome<Unit> {
    let missing = |what: &str| Failed::usage(format!("{}: no {what} is known", stack.name));
    let template = project.templates.get(stack.template).ok_or_else(|| missing("template"))?;
    let body = template.body();
    if body.len() > MAX_BODY {
        return Err(Failed::usage(format!(
            "{}: {} bytes as JSON; CloudFormation takes {MAX_BODY}",
            template.file,
            body.len()
        ))
        .hint("move a concern into a stack of its own"));
    }
    let mut feeds = Vec::new();
    for (parameter, (from, output)) in &stack.feeds {
        let unit = estate.stacks.iter().position(|s| s.name == *from);
        let unit = unit.ok_or_else(|| missing(&format!("stack {from}")))?;
        feeds.push(Feed { parameter: parameter.clone(), unit, output: output.clone() });
    }
    let mut needs: BTreeSet<usize> = stack.needs.iter().copied().collect();
    needs.extend(feeds.iter().map(|f| f.unit));
    Ok(Unit {
        name: stack.name.clone(),
        full_name: stack.full_name.clone(),
        region: stack.region.clone(),
        parameters: parameters(project, estate, stack, template),
        feeds,
        needs: needs.into_iter().collect(),
        capabilities: stack.capabilities.clone(),
        tags: if stack.tags { tags(estate, stack) } else { Vec::new() },
        resources: stack.resources.iter().map(|r| (r.logical.clone(), r.kind.clone())).collect(),
        places: places(project, template),
        protect: estate.is_production() && stack.resources.iter().any(keeps_data),
        body,
    })
}

/// Only what somebody said: a parameter of an SSM type is told by its name, which the rendered value
/// no longer has, and defaults are CloudFormation's to fill in.
fn parameters(
    project: &Project,
    estate: &Estate,
    stack: &Stack,
    template: &Template,
) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    said.insert("Project".to_owned(), estate.project.clone());
    said.insert("Env".to_owned(), estate.env.clone());
    if let Some(environment) = project.environments.get(&estate.env) {
        let own = environment.stacks.get(&stack.name);
        for (name, value) in environment.parameters.iter().chain(own.into_iter().flatten()) {
            said.insert(name.clone(), value.scalar().unwrap_or_default());
        }
    }
    let declared = template.root.get("Parameters").map(Value::entries).unwrap_or_default();
    let declared: BTreeSet<&str> = declared.iter().map(|e| e.key.as_str()).collect();
    said.retain(|name, _| declared.contains(name.as_str()) && !stack.feeds.contains_key(name));
    said
}

fn tags(estate: &Estate, stack: &Stack) -> Vec<(String, String)> {
    let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    vec![tag("Project", &estate.project), tag("Env", &estate.env), tag("Stack", &stack.name)]
}

fn places(project: &Project, template: &Template) -> BTreeMap<String, String> {
    let resources = template.root.get("Resources").map(Value::entries).unwrap_or_default();
    resources.iter().map(|e| (e.key.clone(), find::path(project, &e.at))).collect()
}
