//! The map of controls: which requirement of PCI DSS 4.0 is held by which rules, what templates and agent
//! do for it, and what its operator must do. Invariant: every requirement that a rule names is on the
//! map, and every one on the map says what is left to do.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    mistake::Mistakes,
    rules::{How, Rule},
    value::Value,
};

/// Head of the table of a requirement.
const HEAD: &str =
    "| part | templates | agent | left to the operator | rules |\n|---|---|---|---|---|\n";

/// One of the twelve requirements.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// `10`.
    pub id: String,
    /// In a few words.
    pub title: String,
    /// What it asks for that the product bears on.
    pub parts: Vec<Part>,
}

/// A part of a requirement.
#[derive(Clone, Debug)]
pub struct Part {
    /// `10.5.1`.
    pub id: String,
    /// In a few words.
    pub title: String,
    /// What the templates do for it, if they do something.
    pub templates: Option<String>,
    /// What the agent does for it, if it does something.
    pub agent: Option<String>,
    /// What is left to the operator.
    pub operator: String,
}

/// Reads the map and holds it against the rules.
///
/// # Errors
/// All mistakes: of shape, parts that are there twice or stand under another requirement, requirements of
/// rules that are not on the map.
pub fn read(root: &Value, rules: &[Rule]) -> Result<Vec<Requirement>, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut known = BTreeSet::new();
    let mut all = Vec::new();
    for item in root.get("requirements").map(Value::items).unwrap_or_default() {
        let mut requirement = Requirement {
            id: text(item, "id", &mut mistakes),
            title: String::new(),
            parts: vec![],
        };
        requirement.title = text(item, "title", &mut mistakes);
        for value in item.get("parts").map(Value::items).unwrap_or_default() {
            let optional = |key: &str| value.get(key).and_then(Value::scalar);
            let part = Part {
                id: text(value, "id", &mut mistakes),
                title: text(value, "title", &mut mistakes),
                templates: optional("templates"),
                agent: optional("agent"),
                operator: text(value, "operator", &mut mistakes),
            };
            if !part.id.starts_with(&format!("{}.", requirement.id)) {
                mistakes.add(&value.at, format!("{} is no part of {}", part.id, requirement.id));
            }
            if !known.insert(part.id.clone()) {
                mistakes.add(&value.at, format!("{} is there twice", part.id));
            }
            requirement.parts.push(part);
        }
        all.push(requirement);
    }
    for rule in rules {
        for id in rule.pci.iter().filter(|id| !known.contains(**id)) {
            mistakes.add(&root.at, format!("{id}, which {} names, is not on the map", rule.id));
        }
    }
    mistakes.or(all)
}

fn text(value: &Value, key: &str, mistakes: &mut Mistakes) -> String {
    value.get(key).and_then(Value::scalar).unwrap_or_else(|| {
        mistakes.add(&value.at, format!("`{key}` is missing"));
        String::new()
    })
}

/// The map for people.
#[must_use]
pub fn markdown(all: &[Requirement], rules: &[Rule]) -> String {
    let mut out = String::from(
        "# PCI DSS 4.0: what is covered and what is yours\n\n\
         Made from `infra/controls.yaml` and the rules of `palisade-infra check`; do not edit it. Renew it: \
         `PALISADE_RENEW=1 cargo test -p palisade-infra-model --test controls`.\n\n\
         The map is a help for an assessment and no assessment: whether a requirement is met, your assessor \
         decides. Titles are short words of ours; the standard's own text counts. Rules stand at the end.\n",
    );
    for requirement in all {
        // Writing to a text cannot fail.
        let (id, title) = (&requirement.id, &requirement.title);
        write!(out, "\n## {id}. {title}\n\n{HEAD}").unwrap_or_default();
        for part in &requirement.parts {
            let held: Vec<_> =
                rules.iter().filter(|r| r.pci.contains(&part.id.as_str())).map(|r| r.id).collect();
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            writeln!(
                out,
                "| **{}** {} | {} | {} | {} | {} |",
                part.id,
                part.title,
                or_none(&part.templates),
                or_none(&part.agent),
                part.operator,
                if held.is_empty() { "-".to_owned() } else { held.join(" ") },
            )
            .unwrap_or_default();
        }
    }
    out.push_str("\n## Rules\n\n| rule | what must hold | held by |\n|---|---|---|\n");
    for rule in rules {
        let how = match rule.how {
            How::Check(_) => "`palisade-infra check`".to_owned(),
            How::Test(file) => format!("`{file}`"),
        };
        writeln!(out, "| {} | {} | {how} |", rule.id, rule.title).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "
requirements:
  - id: '1'
    title: Networks
    parts:
      - { id: 1.2.3, title: A diagram, templates: one, operator: Keep it }
";

    fn rule(pci: &'static [&'static str]) -> Rule {
        Rule { id: "R01", title: "No hole", pci, how: How::Test("a.rs") }
    }

    #[test]
    fn the_map_shows_who_holds_what() {
        let root = crate::yaml::read(&"controls.yaml".into(), MAP).unwrap();
        let rules = [rule(&["1.2.3"])];
        let page = markdown(&read(&root, &rules).unwrap(), &rules);
        assert!(page.contains("| **1.2.3** A diagram | one | - | Keep it | R01 |"), "{page}");
        assert!(page.contains("| R01 | No hole | `a.rs` |"), "{page}");
    }

    #[test]
    fn what_is_not_on_the_map_is_a_mistake() {
        let says = |text: &str, what: &str| {
            let root = crate::yaml::read(&"controls.yaml".into(), text).unwrap();
            let e = read(&root, &[rule(&["1.2.3"])]).unwrap_err().to_string();
            assert!(e.contains(what), "{e}");
        };
        says(&MAP.replace("1.2.3", "1.2.4"), "1.2.3, which R01 names, is not on the map");
        says(&MAP.replace("id: '1'", "id: '2'"), "controls.yaml:6: 1.2.3 is no part of 2");
        says(&MAP.replace(", operator: Keep it", ""), "`operator` is missing");
        let twice = format!("{MAP}{}", MAP.lines().last().unwrap());
        says(&twice, "controls.yaml:7: 1.2.3 is there twice");
    }
}
