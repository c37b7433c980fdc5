//! G01 and the rules that tests hold: templates that CloudFormation takes as they are, in which
//! everything that is declared is used and said.

use std::collections::HashSet;

use super::{Facts, How, Report, Rule};
use crate::{
    project::{MAX_BODY, Template},
    value::{Entry, Kind, Value},
};

pub(super) fn rules() -> Vec<Rule> {
    let test = |id, title, pci, file| Rule { id, title, pci, how: How::Test(file) };
    vec![
        Rule {
            id: "G01",
            title: "Templates fit into one request; parameters are described, narrow and used; \
                    conditions and mappings are used",
            pci: &["6.2.1"],
            how: How::Check(templates),
        },
        test(
            "G03",
            "What is released replaces nothing that holds data",
            &["6.5.1", "6.5.2"],
            "infra/model/tests/goldens.rs",
        ),
        test(
            "G04",
            "All environments and variants render; what was reviewed is what is rendered, and the pages \
             made from it are current",
            &["1.2.3", "1.2.4", "6.5.1", "6.5.2"],
            "infra/model/tests/goldens.rs",
        ),
        test(
            "G05",
            "The whole graph is deployed to an emulator, again without change, updated and destroyed",
            &["6.5.1"],
            "infra/tests/graph.rs",
        ),
        test(
            "G06",
            "Each rule finds the faults that it is there for, and most random ones are found",
            &["6.2.3", "6.2.4"],
            "infra/model/tests/mutations/main.rs",
        ),
    ]
}

/// From so many parameters on, the console shows them in groups.
const GROUPED_FROM: usize = 6;

fn templates(facts: &Facts<'_>, report: &mut Report) {
    for template in &facts.project.templates {
        let root = &template.root;
        let size = template.body().len();
        if size > MAX_BODY {
            let what = format!("has {size} bytes; CloudFormation takes {MAX_BODY}");
            report.at(&root.at, &*template.file, what);
        }
        if root.get("Description").is_none() {
            report.at(&root.at, &*template.file, "does not say what it is for");
        }
        let used = Used::of(root);
        let section = |name: &str| root.get(name).map(Value::entries).unwrap_or_default();
        for (name, used) in [
            ("Parameters", &used.references),
            ("Conditions", &used.conditions),
            ("Mappings", &used.mappings),
        ] {
            for entry in section(name).iter().filter(|e| !used.contains(e.key.as_str())) {
                let what = format!("{} is used by nothing", entry.key);
                report.at(&entry.at, &*template.file, what);
            }
        }
        parameters(template, section("Parameters"), report);
        for output in section("Outputs").iter().filter(|o| o.value.get("Description").is_none()) {
            let what = format!("output {} does not say what it is", output.key);
            report.at(&output.at, &*template.file, what);
        }
    }
}

fn parameters(template: &Template, all: &[Entry], report: &mut Report) {
    let groups = template.root.path("Metadata.AWS::CloudFormation::Interface.ParameterGroups");
    let grouped: HashSet<&str> = groups
        .map(Value::items)
        .unwrap_or_default()
        .iter()
        .flat_map(|g| g.get("Parameters").map(Value::items).unwrap_or_default())
        .filter_map(Value::as_str)
        .collect();
    for parameter in all {
        let mut say = |what: &str| {
            let what = format!("parameter {} {what}", parameter.key);
            report.at(&parameter.at, &*template.file, what);
        };
        let has = |key: &str| parameter.value.get(key).is_some();
        if !has("Description") {
            say("does not say what it is for");
        }
        let kind = parameter.value.get("Type").and_then(Value::as_str).unwrap_or_default();
        let bounded = match kind {
            "Number" => has("AllowedValues") || has("MinValue"),
            "String" | "CommaDelimitedList" => has("AllowedValues") || has("AllowedPattern"),
            // AWS itself looks whether there is such a thing.
            _ => true,
        };
        if !bounded {
            say("takes anything: it has neither a pattern nor a list of values");
        } else if !has("ConstraintDescription") && matches!(kind, "String" | "Number") {
            say("does not say in words what it takes");
        }
        if all.len() >= GROUPED_FROM && !grouped.contains(parameter.key.as_str()) {
            say("is in no group of AWS::CloudFormation::Interface");
        }
    }
}

/// What a template's body refers to.
#[derive(Default)]
struct Used<'a> {
    references: HashSet<&'a str>,
    conditions: HashSet<&'a str>,
    mappings: HashSet<&'a str>,
}

impl<'a> Used<'a> {
    fn of(root: &'a Value) -> Self {
        let mut used = Self::default();
        for section in ["Conditions", "Rules", "Resources", "Outputs"] {
            if let Some(value) = root.get(section) {
                value.walk(&mut |v| used.add(v));
            }
        }
        used
    }

    fn add(&mut self, value: &'a Value) {
        let Kind::Map(entries) = &value.kind else { return };
        for Entry { key, value, .. } in entries {
            let first = || value.items().first().and_then(Value::as_str);
            match key.as_str() {
                "Ref" => self.references.extend(value.as_str()),
                "Fn::Sub" => self
                    .references
                    .extend(value.as_str().or_else(first).map(names).into_iter().flatten()),
                "Fn::If" => self.conditions.extend(first()),
                "Condition" => self.conditions.extend(value.as_str()),
                "Fn::FindInMap" => self.mappings.extend(first()),
                _ => {}
            }
        }
    }
}

/// The names in `${...}` of a text.
fn names(text: &str) -> Vec<&str> {
    let parts = text.split("${").skip(1).filter_map(|part| part.split_once('}'));
    parts.map(|(name, _)| name.trim()).filter(|n| !n.starts_with('!')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::small::only_these;

    const TEMPLATE: &str = "
Description: A test.
Parameters:
  Name: { Type: String, Description: A name., AllowedPattern: '^[a-z]+$', ConstraintDescription: Letters., Default: a }
  Zone: { Type: 'AWS::EC2::AvailabilityZone::Name', Description: A zone., Default: a }
  Count: { Type: Number, Description: How many., MinValue: 1, MaxValue: 2, ConstraintDescription: 1 or 2., Default: 1 }
Mappings:
  M: { a: { b: c } }
Conditions:
  One: !Equals [!Ref Count, 1]
Resources:
  T:
    Type: AWS::SNS::Topic
    Condition: One
    Properties: { TopicName: !Sub '${Name}-${!Zone}-${Zone}', DisplayName: !FindInMap [M, a, b] }
Outputs:
  X: { Description: A thing., Value: x }
";

    #[test]
    fn templates_are_held_to_their_rule() {
        only_these(
            rules,
            "G01",
            TEMPLATE,
            &[
                ("Description: A test.\n", "", "templates/t.yaml: does not say what it is for"),
                ("${Name}-", "", "4 templates/t.yaml: Name is used by nothing"),
                ("-${Zone}", "", "Zone is used by nothing"),
                ("!FindInMap [M, a, b]", "m", "M is used by nothing"),
                ("    Condition: One\n", "", "One is used by nothing"),
                ("Description: A name., ", "", "does not say what it is for"),
                ("AllowedPattern: '^[a-z]+$', ", "", "takes anything"),
                ("MinValue: 1, ", "", "takes anything"),
                ("ConstraintDescription: Letters., ", "", "in words"),
                ("Description: A thing., ", "", "output X"),
            ],
        );
        let large = format!("AccessLog{}", "x".repeat(MAX_BODY));
        only_these(
            rules,
            "G01",
            TEMPLATE,
            &[("'${Name}-", &format!("'{large}${{Name}}-"), "bytes; Cl")],
        );
    }

    #[test]
    fn parameters_are_shown_in_groups_once_there_are_many() {
        let more: String = (0..3)
            .map(|i| format!("  P{i}: {{ Type: Number, Description: A., AllowedValues: [1], ConstraintDescription: 1., Default: 1 }}\n"))
            .collect();
        let groups = "Metadata:\n  AWS::CloudFormation::Interface:\n    ParameterGroups: [{ Parameters: [Name, Zone, Count, P0, P1, P2] }]\nParameters:\n";
        let good = TEMPLATE
            .replace("Parameters:\n", &format!("{groups}{more}"))
            .replace("'${Name}", "'${P0}${P1}${P2}${Name}");
        only_these(
            rules,
            "G01",
            &good,
            &[("Count, P0, P1, P2]", "Count, P0, P2]", "P1 is in no group")],
        );
    }

    #[test]
    fn no_rule_is_listed_twice_and_the_tests_that_hold_rules_are_there() {
        let all = crate::rules::all();
        let mut ids = HashSet::new();
        for rule in all {
            assert!(ids.insert(rule.id), "{} is listed twice", rule.id);
            if let How::Test(file) = rule.how {
                let path =
                    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
                assert!(path.is_file(), "{}: no test {file}", rule.id);
            }
        }
    }
}
