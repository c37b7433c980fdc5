//! What tests of rules share: a small project of a few stacks, rendered, and what rules say about it.

use std::fmt::Write as _;

use super::{Rule, all, findings};
use crate::{
    estate::Estate,
    project::Project,
    trial,
    value::{At, Value},
};

/// The whole of a rendered project.
pub(super) struct World {
    project: Project,
    estate: Estate,
}

/// A project of stacks by name, each a template. One whose name begins with `global` is in us-east-1 and
/// has no stack-level tags; the others are in eu-west-1.
pub(super) fn world(stacks: &[(&str, &str)]) -> World {
    let mut list = String::from("stacks:\n");
    for (name, _) in stacks {
        let place = if name.starts_with("global") { ", region: global, tags: false" } else { "" };
        writeln!(list, "  - {{ name: {name}, template: {name}.yaml{place} }}").unwrap();
    }
    let names: Vec<_> = stacks.iter().map(|(name, _)| format!("templates/{name}.yaml")).collect();
    let templates = names.iter().zip(stacks).map(|(name, (_, text))| (name.as_str(), *text));
    let files: Vec<_> = [("stacks.yaml", list.as_str())].into_iter().chain(templates).collect();
    let dir = trial::project(&files, "{}");
    let (project, estate) = trial::rendered(dir.path());
    World { project, estate }
}

impl World {
    /// The same with a parameter that the environment gives to all.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let at = At::new(&"params/prod.yaml".into(), 1);
        self.estate.parameters.insert(name.to_owned(), Value::text(&at, value));
        self
    }

    /// What rules find: `E01 stack.Logical:line what`, sorted.
    pub(super) fn says(&self, rules: &[Rule]) -> Vec<String> {
        let line =
            |f: &crate::Finding| format!("{} {}:{} {}", f.rule, f.subject, f.at.line, f.what);
        findings(rules, &self.project, &self.estate).iter().map(line).collect()
    }
}

/// A template that keeps these rules breaks exactly one finding's worth of them for each change: the text
/// to change, what it becomes, and a part of the finding (`E01 ... why`).
pub(super) fn each_change_is_found(
    rules: &[Rule],
    name: &str,
    template: &str,
    changes: &[(&str, &str, &str)],
) {
    let says = |text: &str| world(&[(name, text)]).with("Production", "true").says(rules);
    assert_eq!(says(template), [""; 0]);
    for (from, to, why) in changes {
        assert!(template.contains(from), "{from:?} is not in the template");
        let told = says(&template.replacen(from, to, 1));
        let (rule, what) = why.split_once(' ').unwrap();
        assert!(told.iter().any(|t| t.starts_with(rule) && t.contains(what)), "{to:?}: {told:#?}");
        assert!(told.iter().all(|t| t.starts_with(rule)), "{to:?}: not only {rule}: {told:#?}");
    }
}

/// Every rule has another id.
#[test]
fn ids_of_rules_are_unique() {
    let mut ids: Vec<_> = all().iter().map(|r| r.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
