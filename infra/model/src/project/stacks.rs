//! `stacks.yaml`: which stacks there are, of which templates, where and when.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    mistake::{Mistake, Mistakes},
    value::{At, Value},
};

/// One stack of the list.
#[derive(Clone, Debug)]
pub struct StackEntry {
    /// Its name; `${Project}-${Env}-<name>` in AWS.
    pub name: String,
    /// `templates/network.yaml`.
    pub template: Arc<str>,
    /// Where it is made.
    pub region: Region,
    /// Parameters of the environment that must have one of these values.
    pub when: BTreeMap<String, Vec<String>>,
    /// Only where the home region is another than the global one.
    pub unless_home_is_global: bool,
    /// Parameter, and the stack and the output that give it.
    pub feeds: BTreeMap<String, Feed>,
    /// Stacks that come before, though nothing of theirs is needed.
    pub after: Vec<String>,
    /// Capabilities that CloudFormation wants to be told.
    pub capabilities: Vec<String>,
    /// Whether it gets stack-level tags.
    pub tags: bool,
    /// Where it is listed.
    pub at: At,
}

/// Where a parameter comes from.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The stack.
    pub stack: String,
    /// Its output.
    pub output: String,
    /// Where that is written.
    pub at: At,
}

/// Where a stack is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// In the environment's region.
    Home,
    /// In us-east-1.
    Global,
}

pub(super) fn read(root: &Value) -> Result<Vec<StackEntry>, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut stacks: Vec<StackEntry> = Vec::new();
    let list = root.get("stacks").map(Value::items).unwrap_or_default();
    if list.is_empty() {
        mistakes.add(&root.at, "no list of `stacks`");
    }
    for item in list {
        match entry(item) {
            Ok(stack) if stacks.iter().any(|s| s.name == stack.name) => {
                mistakes.add(&item.at, format!("{} is listed twice", stack.name));
            }
            Ok(stack) => stacks.push(stack),
            Err(e) => mistakes.0.push(e),
        }
    }
    for stack in &stacks {
        let known = |name: &String| stacks.iter().any(|s| s.name == *name);
        for feed in stack.feeds.values().filter(|f| !known(&f.stack)) {
            mistakes.add(&feed.at, format!("no stack {} is listed", feed.stack));
        }
        for name in stack.after.iter().filter(|n| !known(n)) {
            mistakes.add(&stack.at, format!("{}: after: no stack {name} is listed", stack.name));
        }
    }
    mistakes.or(stacks)
}

fn entry(item: &Value) -> Result<StackEntry, Mistake> {
    let text = |key: &str| {
        let value = item.get(key).and_then(Value::as_str);
        value.ok_or_else(|| Mistake::new(&item.at, format!("a stack without `{key}`")))
    };
    let name = text("name")?;
    let mut stack = StackEntry {
        name: name.to_owned(),
        template: format!("templates/{}", text("template")?).into(),
        region: Region::Home,
        when: BTreeMap::new(),
        unless_home_is_global: false,
        feeds: BTreeMap::new(),
        after: Vec::new(),
        capabilities: Vec::new(),
        tags: true,
        at: item.at.clone(),
    };
    for entry in item.entries() {
        let value = &entry.value;
        let bad =
            |wants: &str| Mistake::new(&entry.at, format!("{name}: {} wants {wants}", entry.key));
        let truth = || value.as_bool().ok_or_else(|| bad("true or false"));
        match entry.key.as_str() {
            "name" | "template" => {}
            "region" => match value.as_str() {
                Some("home") => stack.region = Region::Home,
                Some("global") => stack.region = Region::Global,
                _ => return Err(bad("home or global")),
            },
            "when" => {
                for condition in value.entries() {
                    let values = texts(&condition.value);
                    stack.when.insert(condition.key.clone(), values);
                }
            }
            "unless_home_is_global" => stack.unless_home_is_global = truth()?,
            "tags" => stack.tags = truth()?,
            "after" => stack.after = texts(value),
            "capabilities" => stack.capabilities = texts(value),
            "feeds" => {
                for feed in value.entries() {
                    let from = feed.value.as_str().and_then(|t| t.split_once('.'));
                    let Some((from, output)) = from else {
                        return Err(bad("Parameter: stack.Output"));
                    };
                    let feed_from = Feed {
                        stack: from.to_owned(),
                        output: output.to_owned(),
                        at: feed.at.clone(),
                    };
                    stack.feeds.insert(feed.key.clone(), feed_from);
                }
            }
            _ => return Err(Mistake::new(&entry.at, format!("{name}: unknown key {}", entry.key))),
        }
    }
    Ok(stack)
}

fn texts(value: &Value) -> Vec<String> {
    value.one_or_more().iter().filter_map(Value::scalar).collect()
}
