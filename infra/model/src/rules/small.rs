//! Small projects for tests of rules: one template, or a few, in an environment called `prod`.

use super::{How, Rule};
use crate::trial;

/// `t` is a stack in every environment; its conditions are there so that their parameters are known.
const STACKS: &str = "stacks:\n  - { name: t, template: t.yaml, when: { Production: ['true', 'false'], OriginKind: [ec2, ecs], AuditBaseline: ['true', 'false'] } }\n";

/// What one rule says about one template, `line subject: what` each; the witness follows after ` | `.
/// It is production on EC2 with the audit baseline unless a line `#= Name: value` says otherwise.
pub(super) fn found(rules: Vec<Rule>, id: &str, template: &str) -> Vec<String> {
    let (mut production, mut kind, mut audit) = ("true", "ec2", "true");
    for line in template.lines().filter_map(|l| l.strip_prefix("#= ")) {
        match line.split_once(": ") {
            Some(("Production", value)) => production = value,
            Some(("OriginKind", value)) => kind = value,
            Some(("AuditBaseline", value)) => audit = value,
            other => unreachable!("{other:?}"),
        }
    }
    let params = format!(
        "project: palisade\nenv: prod\nregion: eu-west-1\naccount: '111122223333'\n\
         parameters: {{ Production: '{production}', OriginKind: {kind}, AuditBaseline: '{audit}' }}\n"
    );
    let body: String = template
        .lines()
        .filter(|line| !line.starts_with("#= "))
        .map(|line| format!("{line}\n"))
        .collect();
    let files =
        [("stacks.yaml", STACKS), ("params/prod.yaml", &params), ("templates/t.yaml", &body)];
    found_in(rules, id, &files)
}

/// What one rule says about a project in its environment `prod`.
pub(super) fn found_in(rules: Vec<Rule>, id: &str, files: &[(&str, &str)]) -> Vec<String> {
    let one: Vec<_> = rules.into_iter().filter(|r| r.id == id).collect();
    assert!(matches!(one[..], [Rule { how: How::Check(_), .. }]), "{id} is held by a test");
    let said = |f: &crate::Finding| {
        let witness = f.witness.iter().map(|w| format!(" | {w}")).collect::<String>();
        format!("{} {}: {}{witness}", f.at.line, f.subject, f.what)
    };
    trial::found_in(&one, files, "{}").iter().map(said).collect()
}

/// That a rule says nothing about a template, and exactly one thing, with these words in it, about each
/// that one replacement makes of it.
#[track_caller]
pub(super) fn only_these(
    rules: fn() -> Vec<Rule>,
    id: &str,
    good: &str,
    faults: &[(&str, &str, &str)],
) {
    assert_eq!(found(rules(), id, good), Vec::<String>::new());
    for (from, to, says) in faults {
        assert!(good.contains(from), "{from:?} is not in the template");
        let said = found(rules(), id, &good.replacen(from, to, 1));
        assert!(said.len() == 1 && said[0].contains(says), "{from:?} -> {to:?}: {said:#?}");
    }
}
