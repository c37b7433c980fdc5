//! What was reviewed: findings that are right as they are, each with the reason. The list can only shrink:
//! one that no longer occurs must go, and a finding that is not in it must be mended or argued for.

use std::collections::{BTreeMap, BTreeSet};

use palisade_infra_model::{Value, yaml};

use super::plain::{FAULTY, Stacks};

/// The least that says why.
const LEAST_REASON: usize = 30;

/// Something that a tool objects to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Opinion {
    pub(crate) rule: String,
    /// What the tool says of it.
    pub(crate) title: String,
    /// The file that it looked at, without the ending.
    pub(crate) file: String,
    /// The name of the resource.
    pub(crate) logical: String,
}

/// A rule that is broken on purpose, and by whom.
#[derive(Debug)]
struct Exception {
    rule: String,
    /// `template.Logical` or a type.
    at: String,
    /// Whether production breaks it too.
    production: bool,
}

/// What there is to say about opinions, given the list; empty if nothing.
pub(crate) fn differences(list: &str, opinions: &BTreeSet<Opinion>, stacks: &Stacks) -> String {
    let (exceptions, mut wrong) = read(list);
    let mut used = vec![(false, false); exceptions.len()];
    let mut unknown: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    let mut control = false;
    for opinion in opinions {
        let shown = &stacks.files[&opinion.file];
        if shown.template == FAULTY {
            control = true;
            continue;
        }
        let subject = format!("{}.{}", shown.template, opinion.logical);
        let kind = shown.types.get(&opinion.logical).map_or("?", String::as_str);
        let mut known = false;
        for (exception, used) in exceptions.iter().zip(&mut used) {
            let here = exception.at == subject || exception.at == kind;
            if exception.rule == opinion.rule && here {
                known |= exception.production || !shown.production;
                if shown.production { used.0 = true } else { used.1 = true }
            }
        }
        if !known {
            let production = if shown.production { " in production" } else { "" };
            let of = unknown.entry((&opinion.rule, &opinion.title)).or_default();
            of.insert(format!("{subject} ({kind}){production}"));
        }
    }
    if !control {
        wrong.push("the fault that is there to be found was not: nothing was looked at".into());
    }
    for (exception, used) in exceptions.iter().zip(&used) {
        let Exception { rule, at, production } = exception;
        match (used, production) {
            ((false, false), _) => wrong.push(format!("{rule}: {at} does not break it: strike it")),
            ((false, true), true) => wrong.push(format!(
                "{rule}: {at} breaks it only outside production: say `production: false`"
            )),
            _ => {}
        }
    }
    for ((rule, title), subjects) in &unknown {
        let subjects: Vec<_> = subjects.iter().map(String::as_str).collect();
        wrong.push(format!("{rule} {title}:\n    {}", subjects.join("\n    ")));
    }
    wrong.join("\n")
}

/// The list, and what is wrong with it.
fn read(list: &str) -> (Vec<Exception>, Vec<String>) {
    let root = yaml::read(&"exceptions".into(), list).unwrap_or_else(|e| panic!("{e}"));
    let (mut exceptions, mut wrong) = (Vec::new(), Vec::new());
    for item in root.items() {
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("reason").len() < LEAST_REASON {
            wrong.push(format!("{}: {} has no reason", item.at, text("rule")));
        }
        let places = item.get("at").map(Value::one_or_more).unwrap_or_default();
        for at in places.iter().filter_map(Value::as_str) {
            let production = item.get("production").and_then(Value::as_bool).unwrap_or(true);
            exceptions.push(Exception { rule: text("rule").into(), at: at.into(), production });
        }
    }
    (exceptions, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(list: &str, opinions: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mut stacks = Stacks::new(dir.path());
        let fault = stacks.files.keys().next().unwrap().clone();
        for (file, production) in [("prod", true), ("dev", false)] {
            let types = [("Bucket".to_owned(), "AWS::S3::Bucket".to_owned())].into();
            let shown = super::super::plain::Shown { template: "t".into(), production, types };
            stacks.files.insert(file.into(), shown);
        }
        let opinion = |(rule, file): &(&str, &str)| Opinion {
            rule: (*rule).into(),
            title: String::new(),
            file: (*file).into(),
            logical: "Bucket".into(),
        };
        let all = opinions.iter().chain(&[("F", fault.as_str())]).map(opinion).collect();
        differences(list, &all, &stacks)
    }

    const LIST: &str =
        "- { rule: A, at: [t.Bucket], reason: it is as it should be for a good reason }";

    #[test]
    fn a_finding_that_is_not_in_the_list_is_told_and_one_that_is_is_not() {
        assert_eq!(told(LIST, &[("A", "prod"), ("A", "dev")]), "");
        let told = told(LIST, &[("A", "prod"), ("B", "prod")]);
        assert!(told.contains("t.Bucket (AWS::S3::Bucket) in production"), "{told}");
    }

    #[test]
    fn an_exception_that_no_longer_occurs_must_go() {
        assert!(told(LIST, &[]).contains("strike it"));
        assert!(told(LIST, &[("A", "dev")]).contains("production: false"));
    }

    #[test]
    fn what_is_right_outside_production_is_not_right_in_it() {
        let list = LIST.replace("rule: A", "rule: A, production: false");
        assert_eq!(told(&list, &[("A", "dev")]), "");
        assert!(told(&list, &[("A", "dev"), ("A", "prod")]).contains("in production"));
    }

    #[test]
    fn an_exception_without_a_reason_is_none() {
        let told = told("- { rule: A, at: [AWS::S3::Bucket], reason: no }", &[("A", "prod")]);
        assert!(told.contains("has no reason"), "{told}");
    }
}
