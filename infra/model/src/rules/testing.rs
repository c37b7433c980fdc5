//! What tests of rules share: a small project of a few stacks, rendered, and what rules say about it.

use std::{fmt::Write as _, fs};

use super::{Facts, How, Report, Rule, all};
use crate::{
    estate::Estate,
    project::Project,
    render,
    value::{At, Value},
};

/// The whole of a rendered project.
pub(super) struct World {
    project: Project,
    estate: Estate,
}

/// A project of stacks by name, each a template. One whose name begins with `global` is in us-east-1 and
/// has no stack-level tags; the others are in eu-west-1.
#[expect(clippy::disallowed_methods, reason = "files of a test, in a directory of its own")]
pub(super) fn world(stacks: &[(&str, &str)]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let mut list = String::from("stacks:\n");
    for (name, template) in stacks {
        write(&format!("templates/{name}.yaml"), template);
        let place = if name.starts_with("global") { ", region: global, tags: false" } else { "" };
        writeln!(list, "  - {{ name: {name}, template: {name}.yaml{place} }}").unwrap();
    }
    write("stacks.yaml", &list);
    let params = "project: pal\nenv: dev\nregion: eu-west-1\naccount: '111122223333'\n";
    write("params/dev.yaml", params);
    let project = Project::load(dir.path()).unwrap();
    let estate = render(&project, &project.environments["dev"]).unwrap_or_else(|e| panic!("{e}"));
    World { project, estate }
}

impl World {
    /// The same with a parameter that the environment gives to all.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let at = At::new(&"params/dev.yaml".into(), 1);
        self.estate.parameters.insert(name.to_owned(), Value::text(&at, value));
        self
    }

    /// What rules find: `E01 stack.Logical:line what`, sorted.
    pub(super) fn says(&self, rules: &[Rule]) -> Vec<String> {
        let mut report = Report::default();
        let net = crate::net::Network::of(&self.estate);
        for rule in rules {
            if let How::Check(check) = rule.how {
                report.rule = rule.id;
                let facts = Facts { project: &self.project, estate: &self.estate, net: &net };
                check(&facts, &mut report);
            }
        }
        report.findings.sort();
        report.findings.dedup();
        let line =
            |f: &crate::Finding| format!("{} {}:{} {}", f.rule, f.subject, f.at.line, f.what);
        report.findings.iter().map(line).collect()
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
